package admin

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxToken bounds a file of a token.
const maxToken = 4096

// LoadToken reads the token in path. When there is no such file and create is set, it makes one that only this user can read.
func LoadToken(path string, create bool) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		return createToken(path)
	}
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || len(b) > maxToken {
		return "", fmt.Errorf("%s: a token is at least %d bytes long, on one line", path, minToken)
	}
	return token, nil
}

// createToken writes the file under another name first, so that nobody reads half a token; of two that do this at once, the
// first one's token counts for both.
func createToken(path string) (string, error) {
	var b [32]byte
	rand.Read(b[:])
	token := base64.RawURLEncoding.EncodeToString(b[:])
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(token + "\n")
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		return LoadToken(path, false)
	}
	return token, err
}
