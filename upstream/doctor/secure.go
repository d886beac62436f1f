package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/certcheck"
)

// tls makes the handshake with an https proxy whatever it shows, and says what the gateway makes of it.
func (x *exam) tls(s *Step) {
	c, err := x.dial()
	if err != nil {
		s.fail(netCode("tcp", err), "%s", plain(err))
		return
	}
	defer c.Close()
	want := x.hop.ClientTLS(false)
	asked := false
	cs, err := handshake(c, want, &asked)
	if err != nil {
		if f, ok := certcheck.Judge(err, cs.PeerCertificates); ok {
			chainFacts(s, cs)
			s.fail(certCode(f.Verdict), "the certificate %s", f.Text)
			return
		}
		x.tlsFailed(s, err, asked)
		return
	}
	x.tlsFacts(s, cs)
	problems := judge(s, cs, want, want.ServerName)
	switch {
	case len(problems) > 0 && want.InsecureSkipVerify && want.VerifyConnection == nil:
		s.warn("tls_unverified", "%s; any certificate is taken, and this one %s", s.Says, problems[0].Text)
	case len(problems) > 0:
		s.fail(certCode(problems[0].Verdict), "%s; the certificate %s", s.Says, problems[0].Text)
	case want.InsecureSkipVerify && want.VerifyConnection == nil:
		s.warn("tls_unverified", "%s; any certificate is taken", s.Says)
	default:
		if w := ending(s, cs, want.RootCAs, want.ServerName, x.Spec.Address); w != "" {
			s.warn("cert_expires_soon", "%s; %s", s.Says, w)
		}
	}
	if asked && s.Status != Fail && len(want.Certificates) == 0 && want.GetClientCertificate == nil {
		s.detail("it asks for a client certificate, and the policy has none")
		if refusedLate(c) {
			s.fail("client_certificate", "%s; it wants a client certificate and ended the connection without one", s.Says)
		}
	}
}

// handshake takes any certificate.
func handshake(c net.Conn, want *tls.Config, asked *bool) (*tls.ConnectionState, error) {
	config := want.Clone()
	config.InsecureSkipVerify, config.VerifyConnection, config.VerifyPeerCertificate, config.ClientSessionCache = true, nil, nil, nil
	if asked != nil {
		given := config.GetClientCertificate
		config.GetClientCertificate = func(q *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			*asked = true
			if given != nil {
				return given(q)
			}
			for i := range want.Certificates {
				if q.SupportsCertificate(&want.Certificates[i]) == nil {
					return &want.Certificates[i], nil
				}
			}
			return new(tls.Certificate), nil
		}
	}
	t := tls.Client(c, config)
	err := t.Handshake()
	cs := t.ConnectionState() // it has the certificates also where their key is another
	return &cs, err
}

// refusedLate reports whether the other end goes away: with TLS 1.3 its alert comes after the handshake.
func refusedLate(c net.Conn) bool {
	c.SetReadDeadline(time.Now().Add(silence))
	var b [64]byte
	n, err := c.Read(b[:])
	return n > 0 && b[0] == 21 || err != nil && !timedOut(err)
}

func (x *exam) tlsFacts(s *Step, cs *tls.ConnectionState) {
	alpn := "no ALPN"
	if cs.NegotiatedProtocol != "" {
		alpn = "ALPN " + clean(cs.NegotiatedProtocol)
	}
	s.ok("%s, %s, %s", tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite), alpn)
	s.fact("version", tls.VersionName(cs.Version))
	s.fact("cipher", tls.CipherSuiteName(cs.CipherSuite))
	s.fact("alpn", cs.NegotiatedProtocol)
	chainFacts(s, cs)
}

// chainFacts tells of each certificate.
func chainFacts(s *Step, cs *tls.ConnectionState) {
	var all []connmodel.Certificate
	now := time.Now()
	for i, c := range cs.PeerCertificates {
		if i == maxAddresses {
			break
		}
		k, _ := connmodel.NewCertificate(c)
		k.Verdict = k.VerdictAt(now)
		all = append(all, k)
		names := ""
		if n := certcheck.Names(c); len(n) > 0 {
			names = ", for " + clean(short(n))
		}
		s.detail("%d. %s%s, by %s, valid until %s", i+1, clean(k.Subject), names, clean(k.Issuer), c.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
	}
	s.fact("certificates", all)
}

// judge returns what the gateway has against a chain.
func judge(s *Step, cs *tls.ConnectionState, want *tls.Config, name string) []certcheck.Finding {
	found, chains := certcheck.Findings(cs.PeerCertificates, want.RootCAs, name, time.Now())
	if want.VerifyConnection != nil && (len(found) == 0 || want.InsecureSkipVerify) {
		state := *cs
		state.VerifiedChains = chains
		if want.InsecureSkipVerify {
			state.VerifiedChains, found = nil, nil
		}
		if err := want.VerifyConnection(state); err != nil {
			if f, ok := certcheck.Judge(err, cs.PeerCertificates); ok {
				found = append(found, f)
			} else {
				found = append(found, certcheck.Finding{Verdict: connmodel.ChainInvalid, Text: "was not accepted: " + clean(err.Error())})
			}
		}
	}
	if len(found) == 0 {
		s.fact("verdict", connmodel.ChainOK)
	} else {
		s.fact("verdict", found[0].Verdict)
	}
	for _, f := range found[min(1, len(found)):] {
		s.detail("the certificate %s", f.Text)
	}
	return found
}

// ending says of a chain that it ends soon.
func ending(_ *Step, cs *tls.ConnectionState, roots *x509.CertPool, name string, a connmodel.Address) string {
	_, chains := certcheck.Findings(cs.PeerCertificates, roots, name, time.Now())
	for _, w := range certcheck.Warnings(&certcheck.Peer{Side: connmodel.SideHop, Address: a}, certcheck.OK, cs.PeerCertificates, chains, time.Now(), 0) {
		return w.Message
	}
	return ""
}

// certCode names a verdict.
func certCode(v connmodel.ChainVerdict) string { return "cert_" + string(v) }

// tlsFailed is for handshakes that could not be made.
func (x *exam) tlsFailed(s *Step, err error, asked bool) {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		what := "what answers is no TLS"
		if string(record.RecordHeader[:]) == "HTTP/" {
			what = "it answers with plain HTTP"
		}
		s.fail("tls_not_spoken", "%s", what)
		return
	}
	if a, ok := connmodel.PeerAlert(err); ok {
		s.fact("alert", int(a))
		code := "tls_alert"
		switch a {
		case 70:
			code = "tls_version"
		case 112:
			code = "tls_name"
		case 40, 42, 43, 44, 45, 46, 48, 49, 116:
			if asked {
				code = "client_certificate"
			}
		}
		s.fail(code, "it ended the handshake: %s", clean(a.Error()))
		return
	}
	text := err.Error()
	if strings.Contains(text, "unsupported protocol version") {
		s.fail("tls_version", "it answers with a version of TLS that is not allowed")
		return
	}
	s.fail(netCode("tls", err), "the handshake could not be made: %s", plain(err))
}

// target makes TLS with the target, through a tunnel.
func (x *exam) target(s *Step, c *upstream.Conn) {
	conn := x.hold(upstream.WithEarly(c.Conn, c.Early, c))
	defer conn.stop()
	want := &tls.Config{ServerName: x.Target.Host, RootCAs: x.Roots, NextProtos: []string{"h2", "http/1.1"}}
	cs, err := handshake(conn, want, nil)
	if err != nil {
		x.tlsFailed(s, err, false)
		if s.Code != "" {
			as := Warn // the tunnel is there, and who asked for no particular target need not care
			if x.Asked {
				as = Fail
			}
			s.wrong(as, strings.Replace(s.Code, "tls_", "target_", 1), "TLS with %s through the tunnel: %s", x.Target, s.Says)
		}
		return
	}
	x.secured = true
	x.tlsFacts(s, cs)
	if len(cs.PeerCertificates) == 0 {
		return
	}
	issuer := clean(cs.PeerCertificates[0].Issuer.String())
	s.fact("issuer", issuer)
	found := judge(s, cs, want, x.Target.Host)
	if len(found) == 0 {
		s.Says = fmt.Sprintf("%s; the certificate of %s is good, issued by %s", s.Says, x.Target.Host, issuer)
		return
	}
	code := "target_certificate"
	switch found[0].Verdict {
	case connmodel.ChainAuthority, connmodel.ChainSelfSigned:
		code = "target_intercepted"
	}
	s.warn(code, "%s; the certificate %s", s.Says, found[0].Text)
}
