package auth

import (
	"fmt"
	"strings"
	"sync"

	"github.com/icholy/digest"
)

// digester is Digest (RFC 7616). A nonce is used by one session at a time and then lent to the next: proxies take a count that is behind one
// they have seen for a replay.
type digester struct {
	c *Config

	mu   sync.Mutex
	free []*nonce // the last one used is last
}

// maxNonces bounds those that are kept.
const maxNonces = 256

// nonce is a challenge that is being used.
type nonce struct {
	c     digest.Challenge
	count int // of the last use
}

// digestState is what a session remembers of what it sent.
type digestState struct {
	n     *nonce
	stale int
}

// maxStale is how often in a row a proxy may say that its own nonce is too old.
const maxStale = 2

func (*digester) bound() bool { return false }

func (d *digester) first(s *Session, r *Request, c *Challenge) (message, error) {
	var n *nonce
	if c != nil {
		var err error
		if n, err = readDigest(c); err != nil {
			return message{}, err
		}
	} else if n = d.take(s); n == nil {
		return message{}, nil
	}
	return d.answer(s, r, n, 0)
}

// take returns a nonce that was used before; nil = there is none.
func (d *digester) take(s *Session) *nonce {
	if st, ok := s.state.(*digestState); ok && st.n != nil {
		return st.n
	}
	if s.anew {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.free) - 1
	if last < 0 {
		return nil
	}
	n := d.free[last]
	d.free[last] = nil
	d.free = d.free[:last]
	return n
}

// give lends the nonce of a session to the next one. unused says that the last use of it was not sent.
func (d *digester) give(s *Session, unused bool) {
	st, ok := s.state.(*digestState)
	if !ok || st.n == nil {
		return
	}
	if unused {
		st.n.count--
	}
	if s.anew { // it stays with the connection
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.free) < maxNonces {
		d.free = append(d.free, st.n)
	}
	st.n = nil
}

func (d *digester) answer(s *Session, r *Request, n *nonce, stale int) (message, error) {
	n.count++
	cred, err := digest.Digest(&n.c, digest.Options{Method: r.Method, URI: r.URI, Count: n.count, Username: d.c.Username, Password: d.c.Password()})
	if err != nil {
		return message{}, cannot("%w", err)
	}
	s.state = &digestState{n: n, stale: stale}
	return message{written(cred), true}, nil
}

// written is the field value. Of what is in it only names and the target were ours: the rest was checked when the challenge was read.
func written(c *digest.Credentials) string {
	var b strings.Builder
	b.WriteString("Digest ")
	quoted := func(name, value string) {
		b.WriteString(name)
		b.WriteString(`="`)
		for i := range len(value) {
			if value[i] == '"' || value[i] == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(value[i])
		}
		b.WriteString(`", `)
	}
	quoted("username", c.Username)
	quoted("realm", c.Realm)
	quoted("nonce", c.Nonce)
	quoted("uri", c.URI)
	if c.Algorithm != "" {
		b.WriteString("algorithm=" + c.Algorithm + ", ")
	}
	if c.Opaque != "" {
		quoted("opaque", c.Opaque)
	}
	if c.QOP != "" {
		fmt.Fprintf(&b, "qop=%s, nc=%08x, ", c.QOP, c.Nc)
		quoted("cnonce", c.Cnonce)
	}
	if c.Userhash {
		b.WriteString("userhash=true, ")
	}
	b.WriteString(`response="` + c.Response + `"`)
	return b.String()
}

// next answers a 407 to an answer of ours: no, unless the nonce was too old. One that had been used before may be one that the proxy knows
// no more, because it was started anew: then it is not the password that is wrong.
func (d *digester) next(s *Session, r *Request, c *Challenge) (message, error) {
	st, _ := s.state.(*digestState)
	if c == nil || st == nil || st.n == nil {
		return message{}, errRejected
	}
	n, err := readDigest(c)
	if err != nil {
		return message{}, errRejected
	}
	said, _ := c.Get("stale")
	stale := strings.EqualFold(said, "true")
	if st.stale >= maxStale || n.c.Nonce == st.n.c.Nonce || st.n.count == 1 && !stale {
		return message{}, errRejected
	}
	return d.answer(s, r, n, st.stale+1)
}

// strength orders challenges; 0 = it cannot be answered.
func strength(c *Challenge) int {
	alg, _ := c.Get("algorithm")
	switch strings.ToUpper(alg) {
	case "", "MD5":
		return 1
	case "SHA-256":
		return 2
	case "SHA-512-256":
		return 3
	}
	return 0
}

// readDigest checks a challenge.
func readDigest(c *Challenge) (*nonce, error) {
	get := func(name string) string { v, _ := c.Get(name); return v }
	if strength(c) == 0 {
		return nil, cannot("the proxy wants the algorithm %s, which is not spoken here", plainly(get("algorithm")))
	}
	if get("nonce") == "" {
		return nil, cannot("the proxy gives no nonce")
	}
	n := &nonce{c: digest.Challenge{
		Realm: get("realm"), Nonce: get("nonce"), Opaque: get("opaque"), Algorithm: get("algorithm"),
		Charset: get("charset"), Userhash: strings.EqualFold(get("userhash"), "true"),
	}}
	if qop, ok := c.Get("qop"); ok {
		for q := range strings.SplitSeq(qop, ",") {
			if q = strings.ToLower(strings.Trim(q, " \t")); q == "auth" {
				n.c.QOP = []string{q}
			}
		}
		if n.c.QOP == nil {
			return nil, cannot("the proxy wants qop=%s, and only auth is spoken here", plainly(qop))
		}
	}
	return n, nil
}
