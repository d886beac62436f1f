package intercept

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Files are where an authority is kept.
type Files struct {
	Cert string // PEM: the authority first, then what goes to clients behind the leaf
	Key  string // PEM, for its owner alone
}

// The names of the files in a directory of an authority.
const (
	certName = "ca.pem"
	keyName  = "ca.key"
	oldName  = "ca-old-%s.pem"
)

// In is the files of an authority in a directory of its own.
func In(dir string) Files { return Files{filepath.Join(dir, certName), filepath.Join(dir, keyName)} }

// maxFile bounds what is read of one file.
const maxFile = 1 << 20

// ErrNone is wrapped when there is no authority where one is looked for.
var ErrNone = errors.New("there is no certificate authority")

// Load reads an authority, and refuses one whose key others may read.
func Load(f Files) (*CA, error) {
	certs, err := LoadCerts(f)
	if err != nil {
		return nil, err
	}
	if err := checkKeyFile(f.Key); err != nil {
		return nil, err
	}
	b, err := readFile(f.Key)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Key, err)
	}
	ca, err := newCA(certs, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Cert, err)
	}
	return ca, nil
}

// LoadCerts reads the certificates of an authority without its key.
func LoadCerts(f Files) ([]*x509.Certificate, error) {
	b, err := readFile(f.Cert)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrNone, f.Cert)
	}
	if err != nil {
		return nil, err
	}
	certs, err := parseCerts(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Cert, err)
	}
	return certs, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: it is longer than %d bytes", path, maxFile)
	}
	return b, err
}

// checkKeyFile refuses a key that anybody but its owner can use: who has it can be every server for every client that trusts us.
func checkKeyFile(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be read or written by others (mode %04o): chmod 600 %s, and make a new authority if others may have read it", path, st.Mode().Perm(), path)
	}
	return nil
}

// maxCerts bounds the certificates of one file.
const maxCerts = 10

func parseCerts(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %q, and is for certificates alone", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(certs)+1, err)
		}
		if certs = append(certs, c); len(certs) > maxCerts {
			return nil, fmt.Errorf("it holds more than %d certificates", maxCerts)
		}
	}
	if certs == nil {
		return nil, errors.New("it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
	}
	return certs, nil
}

func parseKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("it holds no key in PEM form (-----BEGIN PRIVATE KEY-----)")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted, and a service has nobody to ask for the password")
	default:
		return nil, fmt.Errorf("it holds a %q and no private key", block.Type)
	}
	if err != nil {
		return nil, errors.New("the key cannot be read") // err might show parts of it
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		return k, nil
	case *rsa.PrivateKey:
		return k, nil
	case crypto.Signer: // Ed25519: few clients take it in a certificate
		return nil, errors.New("the key must be ECDSA or RSA")
	}
	return nil, errors.New("the key cannot sign")
}

// Write keeps a new authority in files. It overwrites nothing.
func (c *CA) Write(f Files) error {
	key, err := c.keyPEM()
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(f.Cert), filepath.Dir(f.Key)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := writeNew(f.Key, key, 0o600); err != nil {
		return err
	}
	if err := writeNew(f.Cert, c.PEM(), 0o644); err != nil {
		os.Remove(f.Key)
		return err
	}
	return nil
}

// PEM is the certificates, as they stand in the file. There is no secret in it.
func (c *CA) PEM() []byte {
	certs := []*x509.Certificate{c.Cert}
	for _, other := range c.Chain {
		if other != c.Cert {
			certs = append(certs, other)
		}
	}
	return PEM(certs...)
}

// PEM writes certificates one after the other.
func PEM(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func (c *CA) keyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// writeNew writes a file that is not there yet, to the disk.
func writeNew(path string, b []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and is not overwritten: %w", path, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask says
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// Rotate puts a new authority, made as o says, in the place of the one in f, whose certificate is kept beside it as old. The old one signs the new
// one: clients that trust only the old one go on trusting what the new one signs, for as long as the old one lives. The old key is
// gone then.
func Rotate(f Files, o CreateOptions) (ca *CA, old string, err error) {
	before, err := Load(f)
	if err != nil {
		return nil, "", err
	}
	if ca, err = Create(o); err != nil {
		return nil, "", err
	}
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	if err := ca.vouch(before, now); err != nil {
		return nil, "", err
	}
	key, err := ca.keyPEM()
	if err != nil {
		return nil, "", err
	}
	old = filepath.Join(filepath.Dir(f.Cert), fmt.Sprintf(oldName, strings.ToLower(strings.ReplaceAll(before.Fingerprint()[:11], ":", ""))))
	if err := writeNew(old, PEM(before.Cert), 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, "", err
	}
	newKey, newCert := f.Key+".new", f.Cert+".new"
	os.Remove(newKey) // of a rotation that was cut off
	os.Remove(newCert)
	if err := writeNew(newKey, key, 0o600); err != nil {
		return nil, "", err
	}
	if err := writeNew(newCert, ca.PEM(), 0o644); err != nil {
		os.Remove(newKey)
		return nil, "", err
	}
	if err := os.Rename(newKey, f.Key); err != nil {
		return nil, "", err
	}
	return ca, old, os.Rename(newCert, f.Cert)
}

// vouch gives ca a certificate signed by the authority before it, if that can still sign and may have another one below it.
func (c *CA) vouch(before *CA, now time.Time) error {
	limited := before.Cert.MaxPathLen == 0 && before.Cert.MaxPathLenZero
	if before.Usable(now) != nil || limited {
		return nil
	}
	t := *c.Cert
	serial, err := newSerial()
	if err != nil {
		return err
	}
	t.SerialNumber, t.MaxPathLen, t.MaxPathLenZero = serial, 0, true
	t.NotBefore = later(t.NotBefore, before.Cert.NotBefore)
	t.NotAfter = earlier(t.NotAfter, before.Cert.NotAfter)
	t.AuthorityKeyId = before.Cert.SubjectKeyId // said also where both have the same name, which else looks self-signed
	cross, err := sign(&t, before.Cert, c.key.Public(), before.key)
	if err != nil {
		return err
	}
	c.Chain = append(c.Chain, cross)
	return nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
