package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/certcheck"
)

// hopTLS makes the TLS handshake with an https proxy.
func (a *attempt) hopTLS(n int, conn net.Conn) (net.Conn, *HopError) {
	h := a.hops[n-1]
	if h.tls == nil {
		return conn, nil
	}
	return a.hopTLSWith(n, conn, h.tls)
}

func (a *attempt) hopTLSWith(n int, conn net.Conn, config *tls.Config) (net.Conn, *HopError) {
	h := a.hops[n-1]
	return a.handshakeTLS(n, conn, &tlsClient{config: config, verified: h.verified, offers: config.NextProtos, wait: h.spec.Timeouts.TLS})
}

// upgrade makes the TLS handshake with the server.
func (a *attempt) upgrade(conn net.Conn) (net.Conn, *HopError) {
	config, verified := a.d.t.serverTLS(a.d.q)
	return a.handshakeTLS(len(a.hops)+1, conn, &tlsClient{config: config, verified: verified, offers: config.NextProtos, wait: a.d.t.tlsTime})
}

// tlsClient is one handshake that we make, and what was seen in it.
type tlsClient struct {
	config   *tls.Config // not changed
	verified string      // name that the certificate is checked against; "" = it is not checked
	offers   []string
	wait     time.Duration

	clientAuth connmodel.ClientAuth
}

// handshakeTLS makes a TLS handshake with element n and writes down what was seen, also when it fails.
func (a *attempt) handshakeTLS(n int, conn net.Conn, t *tlsClient) (net.Conn, *HopError) {
	start := time.Now()
	rec := a.element1(n, a.address(n))
	rec.TLSStarted()
	c := tls.Client(a.withEarly(conn), t.watched())
	err := a.arm(start, t.wait)
	if err == nil {
		err = c.Handshake()
	}
	cs := c.ConnectionState()
	var he *HopError
	if err != nil {
		he = a.failure(n, connmodel.PhaseTLS, err)
		he.clientAuth = t.clientAuth
		if cs.PeerCertificates == nil {
			cs.PeerCertificates = certcheck.Sent(err)
		}
		he.sent = cs.PeerCertificates
	}
	found := t.judge(&cs, err)
	if a.rec.Recorder() != nil || a.trunk {
		info := t.info(&cs, found)
		if err == nil {
			a.shown[n-1] = info
		}
		if took := time.Since(start); err != nil {
			rec.TLSFailed(classify(he), info, took)
		} else {
			rec.TLSEstablished(info, took)
		}
	}
	a.warnOf(n, rec, &cs, found)
	if err != nil {
		return nil, he
	}
	return c, nil
}

// TLSFailure says what a handshake came to that the caller made with the server by itself, on a connection of Dial's.
func TLSFailure(server connmodel.Address, err error) *connmodel.ConnError {
	return classify(&HopError{Hop: 1, Address: server, Phase: connmodel.PhaseTLS, Err: err, sent: certcheck.Sent(err)})
}

// watched returns the configuration with a note of whether a client certificate is asked for, and which is sent.
func (t *tlsClient) watched() *tls.Config {
	c := t.config.Clone()
	given := c.GetClientCertificate
	c.GetClientCertificate = func(q *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		t.clientAuth = connmodel.ClientAuthNone
		cert, err := new(tls.Certificate), error(nil)
		if given != nil {
			cert, err = given(q)
		} else {
			for i := range t.config.Certificates {
				if q.SupportsCertificate(&t.config.Certificates[i]) == nil {
					cert = &t.config.Certificates[i]
					break
				}
			}
		}
		if err == nil && cert != nil && len(cert.Certificate) > 0 {
			t.clientAuth = connmodel.ClientAuthSent
		}
		return cert, err
	}
	return c
}

// judge says what is to be said of the peer's certificates. Where nothing was verified, it is what would have been found.
func (t *tlsClient) judge(cs *tls.ConnectionState, err error) certcheck.Finding {
	switch {
	case err != nil:
		f, _ := certcheck.Judge(err, cs.PeerCertificates)
		return f
	case len(cs.PeerCertificates) == 0:
		return certcheck.Finding{}
	case !t.config.InsecureSkipVerify:
		return certcheck.OK
	}
	now := time.Now()
	if t.config.Time != nil {
		now = t.config.Time()
	}
	_, err = certcheck.Verify(cs.PeerCertificates, t.config.RootCAs, t.config.ServerName, now)
	f, _ := certcheck.Judge(err, cs.PeerCertificates)
	return f
}

func (t *tlsClient) info(cs *tls.ConnectionState, f certcheck.Finding) *connmodel.TLSInfo {
	info := connmodel.NewTLSInfo(cs, t.offers, false)
	if cs.HandshakeComplete {
		info.VerifiedName = t.verified // crypto/tls keeps no name for an IP address
	}
	info.Verdict, info.ClientAuth, info.Unverified = f.Verdict, t.clientAuth, t.config.InsecureSkipVerify
	if f.Text != "" {
		info.Problem = "the certificate " + f.Text
	}
	return info
}

// warnOf raises what there is to warn of.
func (a *attempt) warnOf(n int, rec connmodel.HopRecorder, cs *tls.ConnectionState, f certcheck.Finding) {
	if len(cs.PeerCertificates) == 0 {
		return
	}
	p := certcheck.Peer{Side: connmodel.SideServer, Address: a.address(n)}
	if n <= len(a.hops) {
		p.Side, p.Upstream = connmodel.SideHop, a.hops[n-1].spec.Name
	}
	for _, w := range a.d.t.certs.warnings(&p, f, cs.PeerCertificates, cs.VerifiedChains) {
		rec.CertificateWarning(w)
	}
}

// certWatch is what a table does about certificates that want attention.
type certWatch struct {
	before time.Duration
	warn   func(*connmodel.CertificateWarning) // nil = nobody is told but observers of the flow
}

func (w *certWatch) warnings(p *certcheck.Peer, f certcheck.Finding, sent []*x509.Certificate, verified [][]*x509.Certificate) []*connmodel.CertificateWarning {
	all := certcheck.Warnings(p, f, sent, verified, time.Now(), w.before)
	if w.warn != nil {
		for _, x := range all {
			w.warn(x)
		}
	}
	return all
}
