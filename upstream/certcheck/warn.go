package certcheck

import (
	"crypto/x509"
	"strconv"
	"time"

	"viaduct/connmodel"
)

// DefaultWarnBefore is how long before its end a certificate raises a warning where nobody says otherwise.
const DefaultWarnBefore = 14 * 24 * time.Hour

// Peer is whose certificates were seen.
type Peer struct {
	Side     connmodel.Side
	Upstream string // name; "" for servers and clients
	Address  connmodel.Address
}

// who names the peer, with the address.
func (p *Peer) who() string {
	switch {
	case p.Side == connmodel.SideHop && p.Upstream != "":
		return "the upstream " + p.Upstream + " (" + p.Address.String() + ")"
	case p.Side == connmodel.SideHop:
		return "the proxy " + p.Address.String()
	case p.Side == connmodel.SideClient:
		return "the client " + p.Address.String()
	}
	return "the server " + p.Address.String()
}

// Warnings returns what there is to warn of after a handshake: what was found, or, where all is well, what ends within before (0 =
// DefaultWarnBefore) or has a key that is too short. sent is the chain as the peer sent it, verified are the chains that were found. Most often it is nil,
// and costs nothing.
func Warnings(p *Peer, f Finding, sent []*x509.Certificate, verified [][]*x509.Certificate, now time.Time, before time.Duration) []*connmodel.CertificateWarning {
	if len(sent) == 0 {
		return nil
	}
	if f.Verdict != "" && f.Verdict != connmodel.ChainOK {
		return []*connmodel.CertificateWarning{p.warning(f.Verdict, f.Text, sent[0])}
	}
	if before <= 0 {
		before = DefaultWarnBefore
	}
	var all []*connmodel.CertificateWarning
	if c := firstToEnd(sent, verified); c.NotAfter.Sub(now) < before {
		text := "ends " + inTime(c.NotAfter.Sub(now)) + ", at " + day(c.NotAfter)
		if c != sent[0] {
			text = "hangs on one of " + issued(c) + " that " + text
		}
		all = append(all, p.warning(connmodel.ChainExpiringSoon, text, c))
	}
	if shortKey(sent[0]) {
		k, _ := connmodel.NewCertificate(sent[0])
		all = append(all, p.warning(connmodel.ChainWeakKey, "has a key that is too short to be safe ("+k.KeyType+")", sent[0]))
	}
	return all
}

func (p *Peer) warning(reason connmodel.ChainVerdict, text string, c *x509.Certificate) *connmodel.CertificateWarning {
	w := &connmodel.CertificateWarning{Reason: reason, Message: "the certificate of " + p.who() + " " + text, Side: p.Side, Upstream: p.Upstream, Address: p.Address}
	w.Certificate, _ = connmodel.NewCertificate(c)
	w.Certificate.Verdict = w.Certificate.VerdictAt(time.Now())
	return w
}

// firstToEnd returns the certificate whose end makes the chain invalid: of the verified chain that lasts longest, roots aside, which are
// renewed with the system; else the peer's own.
func firstToEnd(sent []*x509.Certificate, verified [][]*x509.Certificate) *x509.Certificate {
	var best *x509.Certificate
	for _, chain := range verified {
		first := chain[0]
		for _, c := range chain[1:max(1, len(chain)-1)] {
			if c.NotAfter.Before(first.NotAfter) {
				first = c
			}
		}
		if best == nil || first.NotAfter.After(best.NotAfter) {
			best = first
		}
	}
	if best == nil {
		return sent[0]
	}
	return best
}

func inTime(d time.Duration) string {
	switch days := int(d / (24 * time.Hour)); {
	case days >= 2:
		return "in " + strconv.Itoa(days) + " days"
	case d >= 2*time.Hour:
		return "in " + strconv.Itoa(int(d/time.Hour)) + " hours"
	case d > 0:
		return "in " + strconv.Itoa(int(d/time.Minute)) + " minutes"
	}
	return "now"
}
