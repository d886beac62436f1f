package upstream

import (
	"crypto/tls"
	"slices"
	"sync"

	"viaduct/connmodel"
)

// hopTLS makes the TLS configuration for an https proxy. The session cache is the hop's own, and with it the table's:
// sessions are never resumed under another identity or configuration.
//
// older is the same without HTTP/2; nil where that is not offered.
func hopTLS(s *Spec) (config, older *tls.Config, verified string) {
	c := new(tls.Config)
	if s.TLS != nil {
		c = s.TLS.Clone()
	}
	c.ServerName = s.ServerName
	if c.ServerName == "" {
		c.ServerName = s.Address.Host
	}
	if len(c.NextProtos) == 0 {
		c.NextProtos = ALPN()
	}
	if s.NoHTTP2 {
		c.NextProtos = protosBut(c.NextProtos, protoHTTP2)
	}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	if !c.InsecureSkipVerify {
		verified = c.ServerName
	}
	if slices.Contains(c.NextProtos, protoHTTP2) {
		older = c.Clone()
		older.NextProtos = protosBut(c.NextProtos, protoHTTP2)
		older.ClientSessionCache = tls.NewLRUClientSessionCache(8) // a session is of one protocol
	}
	return c, older, verified
}

// protoHTTP2 is the ALPN name of HTTP/2.
const protoHTTP2 = "h2"

// protosBut returns protocols without one; never none at all, since that would offer nothing.
func protosBut(protos []string, one string) []string {
	out := slices.DeleteFunc(slices.Clone(protos), func(p string) bool { return p == one })
	if len(out) == 0 {
		out = []string{"http/1.1"}
	}
	return out
}

// maxPlans bounds how many TLS plans have a session cache; plans are few, unless a hook makes one per flow.
const maxPlans = 1024

// sessionCaches holds the session cache of each TLS plan, so that upgrades to servers can resume.
type sessionCaches struct {
	mu    sync.Mutex
	plans map[*connmodel.TLSPlan]tls.ClientSessionCache
}

func (s *sessionCaches) of(p *connmodel.TLSPlan) tls.ClientSessionCache {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.plans[p]
	if c == nil {
		if len(s.plans) >= maxPlans {
			return nil
		}
		if s.plans == nil {
			s.plans = make(map[*connmodel.TLSPlan]tls.ClientSessionCache)
		}
		c = tls.NewLRUClientSessionCache(64)
		s.plans[p] = c
	}
	return c
}

// serverTLS makes the configuration for the server of q.
func (t *Table) serverTLS(q *Request) (config *tls.Config, verified string) {
	c := new(tls.Config)
	if q.TLS.Config != nil {
		c = q.TLS.Config.Clone()
	}
	c.ServerName = q.TLS.ServerName
	if o := q.Offer; o != nil {
		c.NextProtos = o.ALPN
		if c.ServerName == "" {
			c.ServerName = o.SNI
		}
	}
	if c.ServerName == "" {
		c.ServerName = q.Target.Host
	}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = t.sessions.of(q.TLS)
	}
	if !c.InsecureSkipVerify {
		verified = c.ServerName
	}
	return c, verified
}
