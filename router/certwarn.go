package router

import (
	"crypto/tls"
	"sync"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/certcheck"
)

// CertificateWarning logs and counts a certificate that wants attention: it is meant for upstream.Config.CertificateWarning. Every
// handshake is counted; a certificate is logged once a day for each thing that is wrong with it.
func (r *Router) CertificateWarning(w *connmodel.CertificateWarning) {
	r.opt.Meter.CertificateWarned(w.Side, w.Upstream, w.Reason)
	if r.warned.first(w, time.Now()) {
		r.opt.Log.Event(LevelWarn, w.Message, "reason", string(w.Reason), "side", string(w.Side), "subject", w.Certificate.Subject,
			"not_after", w.Certificate.NotAfter.UTC().Format(time.RFC3339), "sha256", w.Certificate.SHA256)
	}
}

// Bounds of the memory of what was logged.
const (
	maxWarned    = 4096
	warnedPeriod = 24 * time.Hour
)

// warnedKey is what one log line a day is about. The same certificate at many addresses is one.
type warnedKey struct {
	sha256   string
	upstream string
	reason   connmodel.ChainVerdict
}

// warnedCertificates remembers what was logged lately. When it is full, what is new is logged no more until some of the old has passed: a
// server that shows another bad certificate each time must not fill the log.
type warnedCertificates struct {
	mu    sync.Mutex
	at    map[warnedKey]time.Time
	sweep time.Time // no entry is older than a day before that
}

// first reports whether w is to be logged now.
func (c *warnedCertificates) first(w *connmodel.CertificateWarning, now time.Time) bool {
	k := warnedKey{w.Certificate.SHA256, w.Upstream, w.Reason}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.at[k]; ok && now.Sub(at) < warnedPeriod {
		return false
	}
	if len(c.at) >= maxWarned && now.Sub(c.sweep) >= time.Minute {
		c.sweep = now
		for k, at := range c.at {
			if now.Sub(at) >= warnedPeriod {
				delete(c.at, k)
			}
		}
	}
	if _, again := c.at[k]; !again && len(c.at) >= maxWarned {
		return false
	}
	if c.at == nil {
		c.at = make(map[warnedKey]time.Time)
	}
	c.at[k] = now
	return true
}

// clientCertificate looks at the certificate that a client has shown, and that was verified where the listener wants it so.
func (s *session) clientCertificate(p *pin, cs *tls.ConnectionState, info *connmodel.TLSInfo) {
	if len(cs.PeerCertificates) == 0 {
		return
	}
	peer := certcheck.Peer{Side: connmodel.SideClient}
	if a := s.live.Client().Peer; a.IsValid() {
		peer.Address = connmodel.Address{Host: a.Addr().String(), Port: a.Port()}
	}
	var found certcheck.Finding
	if len(cs.VerifiedChains) > 0 {
		found = certcheck.OK
	}
	info.Verdict = found.Verdict
	for _, w := range certcheck.Warnings(&peer, found, cs.PeerCertificates, cs.VerifiedChains, time.Now(), p.gen.cfg.WarnBefore) {
		s.live.CertificateWarning(w)
		s.r.CertificateWarning(w)
	}
}
