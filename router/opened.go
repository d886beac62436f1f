package router

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/router/ingress"
	"viaduct/router/intercept"
	"viaduct/upstream"
	"viaduct/upstream/http1"
)

// opened is a tunnel that is looked into: its rule says that TLS ends here (terminate, intercept). What its requests are measured by is
// here; they themselves are flows of their own, see serveInside.
type opened struct {
	rec      *connmodel.Recorder // of the tunnel; its record is written when the session ends
	target   connmodel.Address   // that the client asked for
	address  connmodel.Address   // where that is, if no rule names another server: the target, or the address that the kernel told
	proto    connmodel.Protocol  // by which it did
	user     string
	proved   proved                 // for proxies that are shown it
	first    bool                   // nothing was asked for on the connection before
	held     atomic.Bool            // the target's name was held against the address (VerifyName)
	scheme   string                 // of the requests: "https", or "http" when the client spoke no TLS
	name     string                 // the server name that the client's TLS asked for; "" = none
	hello    *connmodel.ClientHello // nil without TLS
	offers   []string               // protocols that servers are offered: those of the client that are known here
	alpn     string                 // agreed with the client; "" = none
	timeouts connmodel.Timeouts

	by      *session        // of the tunnel; with HTTP/2 each stream has one of its own beside it
	streams places          // of HTTP/2
	own     *forward.Server // the tunnel's own connection to the server, while it is one for requests
	mu      sync.Mutex
	fars    map[upstream.Key]*far // connections to servers that speak HTTP/2
	over    atomic.Bool           // no further request is taken

	fault    *connmodel.ConnError // why the server could not be reached; requests for it are told
	faultKey upstream.Key         // whom that is about

	end      *connmodel.ConnError // how the tunnel itself ended, if badly
	up, down atomic.Int64         // bytes of content of the requests in it
}

// owns reports whether srv is the tunnel's own connection, which is nobody else's. o may be nil.
func (o *opened) owns(srv *forward.Server) bool { return o != nil && o.own == srv }

// like reports whether a request for a is one for what the tunnel leads to. A tunnel to an address has the name that its TLS asked for,
// or else any.
func (o *opened) like(a connmodel.Address) bool {
	if a == o.target {
		return true
	}
	return o.target.IP().IsValid() && a.Port == o.target.Port && (o.name == "" || a.Host == o.name)
}

// serveOpened is the way of a tunnel whose TLS ends here. The client is told yes first, because before that it sends nothing; then come
// the server's handshake, the client's, and the requests.
func (s *session) serveOpened(p *pin, rec *connmodel.Recorder, proto connmodel.Protocol, f *connmodel.Facts, pl *plan) {
	o := &opened{rec: rec, target: f.Target, address: Destination(f, pl.d), proto: proto, user: f.User, proved: s.proved, scheme: "https", timeouts: pl.timeouts, by: s, first: !s.kept}
	o.held.Store(pl.d.VerifyName && f.NamedInside())
	s.inner = o
	s.inside.Store(o)
	if err := s.yesEarly(rec, proto); err != nil {
		s.endOpened(clientError(connmodel.PhaseConnect, err))
		return
	}
	if e := s.greet(p, rec, f); e != nil {
		s.endOpened(e)
		return
	}
	s.peek = peek{} // what is inside is answered inside
	switch {
	case f.Hello != nil:
		o.name, o.hello = f.Hello.SNI, f.Hello
		if !s.openTLS(p, o, f, pl) {
			return
		}
		s.r.stats.opened.Add(1)
	case http1.IsToken(string(s.in.Buffered()[0])):
		o.scheme = "http"
	default:
		s.endOpened(&connmodel.ConnError{
			Phase: connmodel.PhaseTLS, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Blame: connmodel.BlameClient,
			Message: "the client speaks neither TLS nor HTTP in the tunnel, and the rule that took it opens TLS: it is not passed through",
		})
		return
	}
	s.serveInner(p)
}

// greet waits for the client's ClientHello, or for what it says instead. A client that a rule has been waiting for in vain, because it was
// silent, has all the time of a handshake here: without its word there is nothing to open.
func (s *session) greet(p *pin, rec *connmodel.Recorder, f *connmodel.Facts) *connmodel.ConnError {
	if f.Hello != nil {
		return nil
	}
	s.life.enter(stateHead)
	s.handshakeDeadline(p.l, time.Now())
	if len(s.in.Buffered()) == 0 {
		if err := s.in.Fill(); err != nil {
			return noHello(err)
		}
	}
	s.peek.hello = ingress.HelloScan{}
	f.Have &^= connmodel.NeedHello
	if e := s.gatherFirst(p, rec, f, connmodel.NeedHello); e != nil {
		return e
	}
	switch {
	case f.HelloUnread:
		e := *s.peek.err
		e.Phase, e.Message = connmodel.PhaseTLS, strings.Replace(e.Message, "a rule asks for the client's ClientHello, and", "the client begins TLS in the tunnel, and", 1)
		return &e
	case f.Hello != nil && f.Hello.SNIError != "":
		return &connmodel.ConnError{
			Phase: connmodel.PhaseTLS, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Blame: connmodel.BlameClient,
			Message: "the server name that the client's TLS asks for " + f.Hello.SNIError,
		}
	}
	return nil
}

// noHello is what became of a client that sent no ClientHello.
func noHello(err error) *connmodel.ConnError {
	e := clientError(connmodel.PhaseTLS, err)
	switch e.Kind {
	case connmodel.KindEOF:
		e.Message = "the client closed the tunnel without a word"
	case connmodel.KindTimeout:
		e.Message = "the client said nothing in the tunnel, in which the rule awaits TLS; where a server speaks first, the rule must leave TLS alone"
	}
	return e
}

// endOpened notes how an opened tunnel ends badly. Its record follows with the end of the session.
func (s *session) endOpened(e *connmodel.ConnError) {
	s.inner.end = s.outside(e)
	s.inner.rec.Fail(s.inner.end)
	s.life.enter(stateLinger)
}

// finishOpened makes the record of an opened tunnel.
func (s *session) finishOpened() {
	o := s.inner
	end := connmodel.FlowEnd{Reason: connmodel.CloseClient, First: connmodel.SideClient}
	switch why := s.life.ended(); {
	case o.end != nil:
		end = s.flowEnd(o.end)
	case why != "":
		end = connmodel.FlowEnd{Reason: why}
	}
	o.closeFars()
	end.Up, end.Down = o.up.Load(), o.down.Load()
	s.inside.Store(nil)
	s.finish(o.rec, end)
}

// openTLS makes both handshakes, and reports whether the client's is done. Its connection is then the session's.
func (s *session) openTLS(p *pin, o *opened, f *connmodel.Facts, pl *plan) bool {
	under := &firstFlight{Conn: s.conn, early: append([]byte(nil), s.in.Buffered()...), left: maxFlight}
	s.in.Release()
	s.conn.SetDeadline(s.handshakeEnd(p.l, time.Now())) // what we write can be left unread
	if s.tls == nil {
		s.live.TLSStarted()
	}
	h := &opening{s: s, p: p, o: o, f: f, pl: pl}
	c := tls.Server(under, &tls.Config{GetConfigForClient: h.answer})
	if err := c.Handshake(); err != nil {
		s.notOpened(h, under, err)
		return false
	}
	under.done()
	s.conn.SetDeadline(time.Time{})
	cs := c.ConnectionState()
	o.alpn = cs.NegotiatedProtocol
	if s.tls == nil {
		s.live.TLSEstablished(h.shown(&cs))
	} else { // the client of the record has TLS already, with the listener
		o.rec.SetMetadata("tls_inside", insideText(&cs))
	}
	s.life.mu.Lock()
	s.conn = c
	s.life.mu.Unlock()
	s.in.Reset(c, http1.Limits{HeadBytes: p.l.MaxHeadBytes})
	return true
}

// opening is the client's handshake of an opened tunnel, with the server's in the middle.
type opening struct {
	s    *session
	p    *pin
	o    *opened
	f    *connmodel.Facts
	pl   *plan
	sni  string   // as sent
	alpn []string // as offered
	cert *tls.Certificate
	err  *connmodel.ConnError // why there is no certificate to show
}

// answer is called with the ClientHello: before the client is answered, the server is.
func (h *opening) answer(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	s, o := h.s, h.o
	h.sni, h.alpn = hello.ServerName, hello.SupportedProtos
	for _, offer := range h.alpn { // what is known here; and a plain server knows HTTP/1.1 alone
		if (offer == "http/1.1" || offer == "h2" && h.pl.to.TLS.Mode == connmodel.TLSIntercept) && !slices.Contains(o.offers, offer) {
			o.offers = append(o.offers, offer)
		}
	}
	s.conn.SetDeadline(time.Time{}) // now it is the server's time, which has limits of its own
	w := intercept.Wanted{Name: o.name}
	if w.Name == "" {
		w.Name = o.target.Host
	}
	alpn := ""
	if cs := h.reachServer(); cs != nil {
		alpn = cs.NegotiatedProtocol
		if len(cs.PeerCertificates) > 0 {
			w.Server = cs.PeerCertificates[0]
			w.Asked = len(cs.VerifiedChains) > 0 && verifiedName(h.pl) != w.Name
		}
	} else if slices.Contains(o.offers, "http/1.1") {
		alpn = "http/1.1" // a plain server, or none
	} else if len(o.offers) > 0 {
		alpn = o.offers[0]
	}
	if why := s.life.enter(stateHead); why != "" {
		h.err = s.outside(nil)
		return nil, errors.New("the session has ended")
	}
	cert, err := h.certificate(w)
	if err != nil {
		h.err = &connmodel.ConnError{
			Phase: connmodel.PhaseTLS, Side: connmodel.SideViaduct, Kind: connmodel.KindTLS, Blame: connmodel.BlameLocal,
			Message: "no certificate can be shown to the client: " + err.Error(), Cause: err,
		}
		return nil, err
	}
	h.cert = cert
	s.conn.SetDeadline(s.handshakeEnd(h.p.l, time.Now()))
	conf := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	if alpn != "" {
		conf.NextProtos = []string{alpn}
	}
	return conf, nil
}

// reachServer makes the way to the server and, where the rule wants it, TLS with it. The connection becomes the session's own. It returns what
// is known of TLS; nil without, and when it failed, which is then noted.
func (h *opening) reachServer() *tls.ConnectionState {
	s, o, pl := h.s, h.o, h.pl
	s.life.enter(stateDial)
	pl.offer = o.offer(h.f, pl)
	c, err := s.dial(h.p, o.rec, pl, h.f)
	if err != nil {
		q := pl.request(h.p, h.f)
		o.fault, o.faultKey = err, h.p.gen.cfg.Routes.Key(&q, false)
		return nil
	}
	cs := tlsState(c)
	if cs != nil && cs.NegotiatedProtocol == "h2" {
		if err := o.keepFar(c, o.rec); err != nil {
			o.fault, o.faultKey = err, c.Key
			return nil
		}
		return cs
	}
	o.own = newServer(c, o.rec)
	s.bind(o.own)
	return cs
}

// tlsState is what is known of TLS with the server; nil without.
func tlsState(c *upstream.Conn) *tls.ConnectionState {
	t, ok := c.Conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	cs := t.ConnectionState()
	return &cs
}

// verifiedName is the name that the server's certificate was verified by.
func verifiedName(pl *plan) string {
	if pl.to.TLS.ServerName != "" {
		return pl.to.TLS.ServerName
	}
	return pl.offer.SNI
}

// certificate is what the client is shown.
func (h *opening) certificate(w intercept.Wanted) (*tls.Certificate, error) {
	if c := h.pl.to.TLS.Certificate; c != nil {
		return c, nil
	}
	ca := h.p.gen.cfg.CA
	if ca == nil {
		return nil, errors.New(`there is no certificate authority: "viaduct ca init" makes one`)
	}
	return h.s.r.minter.Mint(ca, w)
}

// shown is what the record says of the client's TLS: its certificates are those that the client was shown.
func (h *opening) shown(cs *tls.ConnectionState) *connmodel.TLSInfo {
	seen := tls.ConnectionState{
		Version: cs.Version, CipherSuite: cs.CipherSuite, NegotiatedProtocol: cs.NegotiatedProtocol, ServerName: cs.ServerName,
	}
	if h.cert != nil {
		for _, der := range h.cert.Certificate {
			if c, err := x509.ParseCertificate(der); err == nil {
				seen.PeerCertificates = append(seen.PeerCertificates, c)
			}
		}
	}
	return connmodel.NewTLSInfo(&seen, h.alpn, false)
}

// insideText says what was agreed on with a client whose connection has TLS around that.
func insideText(cs *tls.ConnectionState) string {
	text := tls.VersionName(cs.Version) + ", " + tls.CipherSuiteName(cs.CipherSuite)
	if cs.NegotiatedProtocol != "" {
		text += ", ALPN " + cs.NegotiatedProtocol
	}
	if cs.ServerName != "" {
		text += ", for " + short(strconv.QuoteToASCII(cs.ServerName))
	}
	return text
}

// offer is what a server is asked for on behalf of the client: the name that the client's TLS asked for, or that of the request, unless the
// rule sends it to another server that has a name itself.
func (o *opened) offer(f *connmodel.Facts, pl *plan) *upstream.TLSOffer {
	name := f.Target.Host
	if o.name != "" && o.like(f.Target) {
		name = o.name
	}
	if to := pl.to.Address; to != f.Target && to != o.address && !to.IP().IsValid() {
		name = to.Host
	}
	return &upstream.TLSOffer{SNI: name, ALPN: o.offers}
}

// newServer makes a connection ready for requests. rec is the flow that opened it.
func newServer(c *upstream.Conn, rec *connmodel.Recorder) *forward.Server {
	srv := &forward.Server{
		Conn: c.Conn, Absolute: c.Absolute, Key: c.Key,
		Record: rec.Snapshot().Server, Close: c.Close, Reused: c.Kept, Answered: c.Answered, Outdated: c.Outdated, Drained: c.Drained,
	}
	if srv.Personal = c.Personal(); c.Credential() != "" {
		srv.Login = c
	}
	srv.In.Reset(c.Conn, http1.Limits{})
	srv.In.Prepend(c.Early)
	if c.Absolute {
		srv.Hop, srv.HopName = lastProxy(srv.Record)
	}
	return srv
}

// notOpened is the end of a client's handshake that failed.
func (s *session) notOpened(h *opening, under *firstFlight, err error) {
	e := h.err
	if e == nil {
		e = h.fault(under, err)
	}
	e = s.outside(e)
	info := h.shown(&tls.ConnectionState{ServerName: h.sni})
	info.Version, info.Cipher, info.ALPN = "", "", nil
	if s.tls == nil {
		s.live.TLSFailed(e, info)
	}
	s.endOpened(e)
}

// fault says what the failure of a client's handshake means. A client that does not accept what it was shown says so by an alert, or just
// leaves.
func (h *opening) fault(under *firstFlight, err error) *connmodel.ConnError {
	e := clientError(connmodel.PhaseTLS, err)
	a, alert := connmodel.PeerAlert(err)
	if clear, ok := under.plainAlert(); ok && !alert && h.cert != nil {
		a, alert = clear, true
	}
	gone := e.Kind == connmodel.KindEOF || e.Kind == connmodel.KindReset
	switch {
	case alert && certificateAlert(a):
		h.rejected(e, "says "+a.Error())
		e.Code, e.CodeOf = int(a), "tls"
	case alert:
		e.Kind, e.Code, e.CodeOf = connmodel.KindTLS, int(a), "tls"
		e.Message = "the client ended the TLS handshake: " + a.Error()
	case gone && h.cert != nil:
		h.rejected(e, "closed the connection when it was shown it")
	case gone:
		e.Message = "the client closed the connection in its TLS handshake"
	case e.Kind == connmodel.KindTimeout:
		e.Message = "the client did not complete its TLS handshake in time"
	default:
		e.Kind, e.Message = connmodel.KindTLS, "the TLS handshake with the client failed: "+inWords(err)
	}
	return e
}

// certificateAlert reports whether a client that sends a did not like the certificate it was shown (RFC 8446, section 6.2).
func certificateAlert(a tls.AlertError) bool {
	switch a {
	case 42, 43, 44, 45, 46, 48, 49, 113, 115: // bad_certificate to unknown_ca, access_denied, bad_certificate_status_response, unknown_psk_identity
		return true
	}
	return false
}

// rejected makes e the rejection of our certificate, and learns from it if the rule says so.
func (h *opening) rejected(e *connmodel.ConnError, how string) {
	s, o := h.s, h.o
	who := "the policy's certificate"
	if ca := h.p.gen.cfg.CA; h.pl.to.TLS.Certificate == nil && ca != nil {
		who = "a certificate of " + strconv.Quote(ca.Cert.Subject.CommonName)
	}
	e.Kind, e.Message = connmodel.KindTLS, "the client does not accept "+who+", it "+how+
		`; it has to be told to trust the authority ("viaduct ca show"), or it pins the server's certificate, and the rule must leave this host closed`
	s.r.stats.rejected.Add(1)
	if !h.pl.to.TLS.LearnRejects {
		return
	}
	e.Message += ` (on_client_reject = "passthrough": its next tunnel to this target is passed through unopened)`
	s.r.rejects.learn(rejectKey{clientKey(s.client.Addr().WithZone("")), o.target}, time.Now())
	s.r.opt.Log.Event(LevelWarn, "client rejects our certificate: passed through from now on", "listener", h.p.l.Name,
		"client", s.client.String(), "target", o.target.String(), "for", rejectTime.String())
}
