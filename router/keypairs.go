package router

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/certcheck"
)

// keyPairs are the certificates of a listener as they are in their files now. Handshakes look at the files, at most one a second; so a
// certificate that is renewed is used without a reload, and a listener that nobody connects to costs nothing.
type keyPairs struct {
	listener string
	log      Log
	warn     func(*connmodel.CertificateWarning)
	before   time.Duration
	now      atomic.Pointer[[]*tls.Certificate]
	due      atomic.Int64 // when to look again, in nanoseconds since epoch
	mu       sync.Mutex   // held while looking
	files    []pairFiles
}

// pairFiles is what was last seen of a pair.
type pairFiles struct {
	certificate, key string // names; "" = not from files
	seen             [2]os.FileInfo
	young            bool   // written so shortly before it was read that a second writing may look the same
	problem          string // why the last reading failed; "" = it did not
	warned           time.Time
}

const (
	lookAtPairs  = time.Second     // between two looks
	stillWritten = 2 * time.Second // a file younger than this is read again
	maxPairFile  = 4 << 20         // bytes
	warnEvery    = time.Hour       // of one that ends soon
)

var epoch = time.Now()

// newKeyPairs begins with the pairs as they were loaded. warn is told of one that ends within before, now and every hour.
func newKeyPairs(listener string, pairs []KeyPair, log Log, warn func(*connmodel.CertificateWarning), before time.Duration) *keyPairs {
	if before <= 0 {
		before = certcheck.DefaultWarnBefore
	}
	k := &keyPairs{listener: listener, log: log, warn: warn, before: before}
	list := make([]*tls.Certificate, len(pairs))
	for i := range pairs {
		c := pairs[i].Certificate
		if c.Leaf == nil {
			c.Leaf, _ = x509.ParseCertificate(c.Certificate[0])
		}
		list[i] = &c
		k.files = append(k.files, pairFiles{certificate: pairs[i].CertificateFile, key: pairs[i].KeyFile})
	}
	k.now.Store(&list)
	k.warnOfEnds(list, time.Now())
	return k
}

// warnOfEnds warns of certificates that end soon or have ended: ours are renewed by somebody who might not know that it did not work.
func (k *keyPairs) warnOfEnds(list []*tls.Certificate, now time.Time) {
	for i, c := range list {
		f := &k.files[i]
		if c.Leaf == nil || c.Leaf.NotAfter.Sub(now) >= k.before || now.Sub(f.warned) < warnEvery {
			continue
		}
		f.warned = now
		w := &connmodel.CertificateWarning{Reason: connmodel.ChainExpiringSoon, Side: connmodel.SideViaduct}
		verb := "ends"
		if now.After(c.Leaf.NotAfter) {
			w.Reason, verb = connmodel.ChainExpired, "has ended"
		}
		w.Message = fmt.Sprintf("the certificate of listener %q for %s %s: it is valid until %s", k.listener, leafNames(c.Leaf), verb, c.Leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
		w.Certificate, _ = connmodel.NewCertificate(c.Leaf)
		w.Certificate.Verdict = w.Certificate.VerdictAt(now)
		k.warn(w)
	}
}

// current returns the certificates, never none.
func (k *keyPairs) current() []*tls.Certificate {
	now := int64(time.Since(epoch))
	if due := k.due.Load(); now >= due && k.due.CompareAndSwap(due, now+int64(lookAtPairs)) && k.mu.TryLock() {
		k.look(time.Now())
		k.mu.Unlock()
	}
	return *k.now.Load()
}

// look reads what has changed. A pair that cannot be used, because only one of its files is written yet, say, leaves the one before in
// force; that is told once, and tried again until it works.
func (k *keyPairs) look(now time.Time) {
	old := *k.now.Load()
	list := old
	for i := range k.files {
		f := &k.files[i]
		if f.certificate == "" || f.key == "" {
			continue
		}
		c, changed, err := f.read(now)
		switch {
		case err != nil:
			if text := err.Error(); text != f.problem {
				f.problem = text
				k.log.Event(LevelWarn, "a changed certificate cannot be used: the one before stays in force", "listener", k.listener, "certificate", f.certificate, "error", text)
			}
		case changed:
			f.problem = ""
			if sameChain(c, old[i]) {
				continue
			}
			list = slices.Clone(list)
			list[i], f.warned = c, time.Time{}
			k.log.Event(LevelInfo, "certificate changed", "listener", k.listener, "certificate", f.certificate, "names", leafNames(c.Leaf), "valid_until", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if len(list) > 0 && &list[0] != &old[0] {
		k.now.Store(&list)
	}
	k.warnOfEnds(list, now)
}

// read returns the pair if its files have changed since they were last read well.
func (f *pairFiles) read(now time.Time) (c *tls.Certificate, changed bool, err error) {
	seen, err := f.stat()
	if err != nil {
		return nil, false, err
	}
	if !f.young && f.problem == "" && sameFile(seen[0], f.seen[0]) && sameFile(seen[1], f.seen[1]) {
		return nil, false, nil
	}
	f.seen = seen
	f.young = now.Sub(seen[0].ModTime()) < stillWritten || now.Sub(seen[1].ModTime()) < stillWritten
	chain, err := readPairFile(f.certificate)
	if err != nil {
		return nil, false, err
	}
	key, err := readPairFile(f.key)
	if err != nil {
		return nil, false, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, false, err
	}
	if pair.Leaf == nil {
		return nil, false, errors.New("the certificate cannot be read")
	}
	return &pair, true, nil
}

func (f *pairFiles) stat() (seen [2]os.FileInfo, err error) {
	for i, name := range [...]string{f.certificate, f.key} {
		if seen[i], err = os.Stat(name); err != nil {
			return seen, err
		}
		if !seen[i].Mode().IsRegular() { // reading a pipe could take for ever
			return seen, fmt.Errorf("%s is not a regular file", name)
		}
	}
	return seen, nil
}

func sameFile(a, b os.FileInfo) bool {
	return b != nil && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

func readPairFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPairFile+1))
	if err == nil && len(b) > maxPairFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxPairFile)
	}
	return b, err
}

func sameChain(a, b *tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// leafNames is what a certificate is for, in words.
func leafNames(c *x509.Certificate) string {
	const most = 5
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "none"
	}
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// FollowCertificate returns what shows the certificate of a door that is not the router's, as it is in its files now. What changes, and what
// ends soon, is told as for a listener of that name.
func (r *Router) FollowCertificate(name string, p KeyPair, warnBefore time.Duration) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k := newKeyPairs(name, []KeyPair{p}, r.opt.Log, r.CertificateWarning, warnBefore)
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.current()[0], nil }
}
