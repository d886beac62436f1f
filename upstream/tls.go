package upstream

import (
	"crypto/tls"
	"sync"

	"viaduct/connmodel"
)

// hopTLS makes the TLS configuration for an https proxy. The session cache is the hop's own, and with it the table's:
// sessions are never resumed under another identity or configuration.
func hopTLS(s *Spec) (config *tls.Config, verified string, offers []string) {
	c := new(tls.Config)
	if s.TLS != nil {
		c = s.TLS.Clone()
	}
	c.ServerName = s.ServerName
	if c.ServerName == "" {
		c.ServerName = s.Address.Host
	}
	if len(c.NextProtos) == 0 {
		c.NextProtos = []string{"http/1.1"}
	}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	if !c.InsecureSkipVerify {
		verified = c.ServerName
	}
	return c, verified, c.NextProtos
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
