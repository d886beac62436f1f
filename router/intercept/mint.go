package intercept

import (
	"container/list"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"sync"
	"time"
)

// Minter makes certificates and keeps them for a while. The zero Minter works; one per process is meant, because the key of all
// certificates that it makes is its own and is in no file. Its methods may be called from any goroutine.
type Minter struct {
	Most int              // certificates that are kept; 0 = 1024
	Now  func() time.Time // nil = time.Now

	mu     sync.Mutex
	key    *ecdsa.PrivateKey
	kept   map[mintKey]*list.Element // of *minted
	recent list.List                 // newest first
	made   uint64
}

const defaultKept = 1024

// mintKey is what a certificate is made from: the authority, the server's certificate, and what the client asked for.
type mintKey struct {
	ca, server [sha256.Size]byte
	name       string
	asked      bool
}

// minted is a certificate that is kept, or being made.
type minted struct {
	key  mintKey
	mu   sync.Mutex // held while it is made: others who want it wait
	cert *tls.Certificate
}

// Mint returns a certificate as w wants it, signed by ca. It is made once and kept until it is close to its end, whichever way the clock
// has moved; who asks for one that is being made waits for it.
func (m *Minter) Mint(ca *CA, w Wanted) (*tls.Certificate, error) {
	k := mintKey{ca: ca.id, name: w.Name, asked: w.Asked}
	if w.Server != nil {
		k.server = sha256.Sum256(w.Server.Raw)
	}
	e, key, err := m.entry(k)
	if err != nil {
		return nil, err
	}
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cert != nil && fresh(e.cert, now()) {
		return e.cert, nil
	}
	cert, err := ca.leaf(w, &key.PublicKey, now())
	if err != nil {
		m.forget(e)
		return nil, err
	}
	cert.PrivateKey = key
	e.cert = cert
	m.mu.Lock()
	m.made++
	m.mu.Unlock()
	return cert, nil
}

// fresh reports whether a certificate is valid and has a tenth of its life left.
func fresh(c *tls.Certificate, now time.Time) bool {
	l := c.Leaf
	return !now.Before(l.NotBefore) && now.Before(l.NotAfter.Add(-l.NotAfter.Sub(l.NotBefore)/10))
}

// entry finds or begins the entry of k, and makes the key with the first one.
func (m *Minter) entry(k mintKey) (*minted, *ecdsa.PrivateKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		m.key, m.kept = key, make(map[mintKey]*list.Element)
	}
	if at := m.kept[k]; at != nil {
		m.recent.MoveToFront(at)
		return at.Value.(*minted), m.key, nil
	}
	most := m.Most
	if most <= 0 {
		most = defaultKept
	}
	for m.recent.Len() >= most {
		m.drop(m.recent.Back())
	}
	e := &minted{key: k}
	m.kept[k] = m.recent.PushFront(e)
	return e, m.key, nil
}

func (m *Minter) drop(at *list.Element) {
	delete(m.kept, at.Value.(*minted).key)
	m.recent.Remove(at)
}

// forget takes out an entry that could not be made.
func (m *Minter) forget(e *minted) {
	m.mu.Lock()
	if at := m.kept[e.key]; at != nil && at.Value.(*minted) == e {
		m.drop(at)
	}
	m.mu.Unlock()
}

// Stats says how many certificates were made since the start, and how many are kept.
func (m *Minter) Stats() (made uint64, kept int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made, m.recent.Len()
}
