package admin

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Listen opens the socket for address: "unix:/path", or host:port of loopback. A Unix socket gets mode (0 = 0600) before
// anybody can see it, and replaces one that nobody listens on any more.
func Listen(address string, mode fs.FileMode) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path, mode)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("control door: %q is neither unix:/path nor an address and a port", address)
	}
	if !ap.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("control door: %s is not an address of loopback", address)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("control door: %w", err)
	}
	return ln, nil
}

// maxPath is what fits into sockaddr_un with the name it is made under.
const maxPath = 100

func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if mode == 0 {
		mode = 0o600
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("control door: the path %s is longer than %d bytes, which the kernel does not take", path, maxPath)
	}
	if err := checkFree(path); err != nil {
		return nil, fmt.Errorf("control door: %w", err)
	}
	// Made under a name that nobody knows, given its mode, and then renamed: at no moment is there a socket that more people
	// may open than should.
	var b [3]byte
	rand.Read(b[:])
	private := filepath.Join(filepath.Dir(path), "."+hex.EncodeToString(b[:]))
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control door: cannot make %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	err = os.Chmod(private, mode)
	if err == nil {
		err = os.Rename(private, path)
	}
	if err != nil {
		ln.Close()
		os.Remove(private)
		return nil, fmt.Errorf("control door: %w", err)
	}
	made, err := os.Lstat(path)
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("control door: %w", err)
	}
	return &unixListener{UnixListener: ln, path: path, made: made}, nil
}

// checkFree says why path cannot be taken.
func checkFree(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is a file that is not a socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf(`another gateway has its door at %s; give this one its own with gateway { admin { address = "unix:/path" } }`, path)
	}
	return nil
}

// unixListener removes its file when it is closed, unless another one has taken the place.
type unixListener struct {
	*net.UnixListener
	path  string
	made  fs.FileInfo
	close sync.Once
}

// Addr names the path people know.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	l.close.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
			os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}
