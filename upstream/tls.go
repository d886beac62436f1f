package upstream

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

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

// tlsInfo takes down a finished handshake.
func tlsInfo(c *tls.Conn, offers []string, verified string) *connmodel.TLSInfo {
	cs := c.ConnectionState()
	info := connmodel.NewTLSInfo(&cs, offers, verified != "")
	info.VerifiedName = verified // crypto/tls keeps no name for an IP address
	return info
}

// hopTLS makes the TLS handshake with an https proxy.
func (a *attempt) hopTLS(n int, conn net.Conn) (net.Conn, *HopError) {
	h := a.hops[n-1]
	if h.tls == nil {
		return conn, nil
	}
	rec := a.element1(n, h.spec.Address)
	c, info, took, err := a.handshakeTLS(n, rec, conn, h.tls, h.verified, h.offers, h.spec.Timeouts.TLS)
	if err == nil && info != nil {
		rec.TLSEstablished(info, took)
	}
	return c, err
}

// upgrade makes the TLS handshake with the server.
func (a *attempt) upgrade(conn net.Conn) (net.Conn, *HopError) {
	n := len(a.hops) + 1
	config, verified := a.d.t.serverTLS(a.d.q)
	rec := a.element1(n, a.d.q.Target)
	c, info, took, err := a.handshakeTLS(n, rec, conn, config, verified, config.NextProtos, a.d.t.tlsTime)
	if err == nil && info != nil {
		rec.TLSEstablished(info, took)
	}
	return c, err
}

func (a *attempt) handshakeTLS(n int, rec connmodel.HopRecorder, conn net.Conn, config *tls.Config, verified string,
	offers []string, wait time.Duration) (net.Conn, *connmodel.TLSInfo, time.Duration, *HopError) {
	start := time.Now()
	rec.TLSStarted()
	c := tls.Client(a.withEarly(conn), config)
	err := a.arm(start, wait)
	if err == nil {
		err = c.Handshake()
	}
	if err != nil {
		he := a.failure(n, connmodel.PhaseTLS, err)
		if a.rec.Recorder() != nil {
			rec.TLSFailed(classify(he))
		}
		return nil, nil, 0, he
	}
	if a.rec.Recorder() == nil {
		return c, nil, 0, nil
	}
	return c, tlsInfo(c, offers, verified), time.Since(start), nil
}
