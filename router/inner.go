package router

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/upstream/http1"
)

// serveInner is the life of an opened tunnel: its requests, or, where it does not carry HTTP, its bytes.
func (s *session) serveInner(p *pin) {
	o := s.inner
	if o.alpn == "h2" {
		s.serveStreamsInside(p.l)
		return
	}
	s.life.enter(stateIdle)
	if o.scheme == "https" && o.alpn == "" { // what the client speaks was not agreed on
		if speaks, err := s.listen(p); err != nil {
			s.notHeard(err)
			return
		} else if speaks != speaksHTTP {
			s.relayInside(speaks)
			return
		}
	} else if !s.nextRequest(p.l) {
		s.notHeard(nil)
		return
	}
	s.serveRequests()
}

// serveRequests reads requests until the client has enough, an answer says close, or one of them turns the tunnel into another protocol.
// Each is decided by the configuration of its moment.
func (s *session) serveRequests() {
	for {
		err := s.in.ReadRequest(&s.req)
		p := s.door.pin.Load()
		if err != nil {
			s.badRequest(p, err)
			return
		}
		if !s.serveInside(p) || !s.nextRequest(p.l) {
			return
		}
	}
}

// notHeard is the end of an opened tunnel in which nothing was said. A client may still reject our certificate with its first record.
func (s *session) notHeard(err error) {
	if err == nil {
		err = s.in.Fill() // what nextRequest met, again
	}
	if a, ok := connmodel.PeerAlert(err); ok && certificateAlert(a) {
		e := clientError(connmodel.PhaseTLS, err)
		(&opening{s: s, p: s.door.pin.Load(), o: s.inner}).rejected(e, "says "+a.Error())
		e.Code, e.CodeOf = int(a), "tls"
		s.endOpened(e)
	}
}

// serveInside carries one request in an opened tunnel and reports whether the client may ask again.
func (s *session) serveInside(p *pin) bool {
	now := time.Now()
	o, req := s.inner, &s.req
	target, err := o.whom(req)
	if err != nil {
		s.reject(p, connmodel.ProtocolHTTP, true, badTarget(err))
		return false
	}
	rec := s.begin(o.proto, target, now)
	rec.Requested(connmodel.Request{Method: req.Method, Scheme: o.scheme, Host: target.Host, Path: req.Target.Path, Tunnel: o.rec.ID(), Within: o.target, Start: now})
	rec.Inside(o.user, o.hello)
	span := s.trace(p, rec, &req.Header)
	s.life.enter(stateDial)
	f := s.newFacts(p, o.proto, target, o.user, rec.Start())
	o.facts(f)
	f.Request = &connmodel.RequestFacts{Method: req.Method, Path: req.Target.Path, Header: (*headerFacts)(&req.Header)}
	d, refused := s.decide(p, rec, f)
	rec.Decided(d, nil)
	s.r.opt.Log.Decision(FlowLine{Flow: rec.ID(), Facts: f, Decision: d})
	s.r.watched(rec)
	if !o.like(target) && d != nil && (refused != nil || !d.NamesHost) {
		refused = o.misdirected(target, refused)
	}
	if refused != nil {
		return s.noPlain(p, rec, refused)
	}
	pl, refused := s.newPlan(p, rec, f, d)
	if refused != nil {
		return s.noPlain(p, rec, refused)
	}
	tellTrace(&req.Header, span)
	return s.carry(p, rec, &pl, f)
}

var (
	errConnectInside = errors.New("CONNECT inside an opened tunnel: there is no proxy in it")
	errOtherScheme   = errors.New("the request is for another scheme than that of its connection")
)

// whom returns what a request in the tunnel is for: what its Host field, or its absolute-form, says. An HTTP/1.0 client that says nothing
// means the tunnel's target.
func (o *opened) whom(req *http1.Request) (connmodel.Address, error) {
	switch {
	case req.Method == "CONNECT":
		return connmodel.Address{}, errConnectInside
	case req.Target.Form == http1.AbsoluteForm && req.Target.Scheme != o.scheme:
		return connmodel.Address{}, errOtherScheme
	}
	a := req.Authority()
	if a.Host == "" {
		req.Host = authorityOf(o.target)
		return o.target, nil
	}
	port := a.Port
	if port == 0 {
		port = 443
		if o.scheme == "http" {
			port = 80
		}
	}
	to, err := connmodel.MakeAddress(a.Host, port)
	if err == nil && a.Port == 0 && !o.like(to) {
		if here := (connmodel.Address{Host: to.Host, Port: o.target.Port}); o.like(here) {
			return here, nil // a client that leaves out a port means that of its connection
		}
	}
	return to, err
}

func authorityOf(a connmodel.Address) http1.Authority {
	ip := a.IP()
	return http1.Authority{Host: a.Host, Port: a.Port, IPLiteral: ip.IsValid() && ip.Is6()}
}

// facts adds what rules may know of a request because of the tunnel it came in.
func (o *opened) facts(f *connmodel.Facts) {
	f.Scheme, f.Tunnel, f.Hello = o.scheme, o.target, o.hello
	f.Have |= connmodel.NeedHello
	if ip := o.address.IP(); ip.IsValid() && o.like(f.Target) {
		f.TargetIP = ip // whatever its name: that is where it goes
	}
}

// misdirected refuses a request for another host than the tunnel was asked for (RFC 9110, section 15.5.20). Only a rule that names that
// host allows it: what lets the tunnel through says nothing of the hosts that share its server.
func (o *opened) misdirected(target connmodel.Address, denied *connmodel.ConnError) *connmodel.ConnError {
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Code: 421, CodeOf: "http", Blame: connmodel.BlameClient,
		Message: "the request is for " + target.String() + " in a tunnel to " + o.target.String() + ", and no rule that names that host allows it",
	}
	if denied != nil {
		if denied.Kind != connmodel.KindDenied {
			return denied
		}
		e.Message = "the request is for " + target.String() + " in a tunnel to " + o.target.String() + ": " + denied.Message
	}
	return e
}

// inside makes a plan one for a request in the tunnel. A rule that says nothing of TLS does not take it away: what came by TLS goes on by
// TLS, unless the rule terminates it.
func (o *opened) inside(f *connmodel.Facts, pl *plan) {
	if pl.d.Server.IsZero() {
		if pl.to.Address = f.Target; o.like(f.Target) && !(pl.d.SendName && f.NamedInside()) {
			pl.to.Address = o.address
		}
	}
	switch t := pl.to.TLS; {
	case o.scheme == "http":
		if t.Opens() {
			pl.to.TLS = nil
		}
	case t == nil, t.Mode == connmodel.TLSPassthrough:
		pl.to.TLS = innerTLS
	case t.Mode == connmodel.TLSTerminate:
		pl.to.TLS = nil
	}
}

// carried counts the bytes of a request for its tunnel.
func (o *opened) carried(end *connmodel.FlowEnd) {
	o.up.Add(end.Up)
	o.down.Add(end.Down)
}

// told returns what the tunnel's server, which could not be reached, is to blame for, if key leads to it.
func (o *opened) told(key any) *connmodel.ConnError {
	if o.fault == nil || key != any(o.faultKey) {
		return nil
	}
	o.over.Store(true) // another tunnel may have more luck
	o.by.drainStreams()
	return o.fault
}

// innerTLS is how servers are reached for requests in opened tunnels whose rules say nothing of TLS.
var innerTLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: &tls.Config{MinVersion: tls.VersionTLS12}}

// spoken is what an opened tunnel carries.
type spoken uint8

const (
	speaksHTTP  spoken = iota
	speaksOther        // bytes that are no HTTP
	serverFirst        // a protocol in which the server begins
)

// listen waits for the first bytes of a client that has agreed on no protocol, or for those of its server.
func (s *session) listen(p *pin) (spoken, error) {
	keep := p.l.KeepAliveTimeout
	if keep <= 0 {
		keep = defaultKeepAlive
	}
	if !s.idle(keep) {
		return 0, net.ErrClosed
	}
	w := s.hearServer()
	err := s.in.Fill()
	first, server := w.stop()
	if s.life.enter(stateHead) != "" {
		return 0, net.ErrClosed
	}
	if err != nil {
		if first && isTimeout(err) {
			return serverFirst, nil
		}
		return 0, err
	}
	if server != nil { // it has said something, or gone: it is not one for requests any more
		s.bind(nil)
	}
	s.handshakeDeadline(p.l, time.Now())
	for {
		switch verdict := looksHTTP(s.in.Buffered()); verdict {
		case yesHTTP:
			return speaksHTTP, nil
		case noHTTP:
			return speaksOther, nil
		}
		if err := s.in.Fill(); err != nil {
			return 0, err
		}
	}
}

// serverWord waits for what a server says before its client does.
type serverWord struct {
	s    *session
	srv  *forward.Server
	done chan struct{}
	n    int
	err  error
	buf  [4 << 10]byte
}

// hearServer begins to listen to the tunnel's own server. It returns nil when there is none.
func (s *session) hearServer() *serverWord {
	if s.bound == nil || len(s.bound.In.Buffered()) > 0 {
		return nil
	}
	w := &serverWord{s: s, srv: s.bound, done: make(chan struct{})}
	go w.run()
	return w
}

func (w *serverWord) run() {
	defer close(w.done)
	if w.n, w.err = w.srv.Conn.Read(w.buf[:]); w.n > 0 {
		w.s.life.mu.Lock()
		w.s.conn.SetReadDeadline(longAgo) // nobody waits for the client any more
		w.s.life.mu.Unlock()
	}
}

// stop ends the listening. first says that the server has spoken, gone that it said something, or is not there, and is no good for requests.
func (w *serverWord) stop() (first bool, gone error) {
	if w == nil {
		return false, nil
	}
	w.srv.Conn.SetReadDeadline(longAgo)
	<-w.done
	w.srv.Conn.SetReadDeadline(time.Time{})
	if w.n > 0 {
		w.srv.In.Prepend(w.buf[:w.n])
		return true, io.ErrUnexpectedEOF
	}
	if isTimeout(w.err) {
		return false, nil
	}
	return false, w.err
}

var longAgo = time.Unix(1, 0)

// relayInside relays an opened tunnel that does not carry HTTP, between the two TLS connections.
func (s *session) relayInside(speaks spoken) {
	o, srv := s.inner, s.bound
	if srv == nil {
		e := o.fault
		if e == nil {
			e = &connmodel.ConnError{
				Phase: connmodel.PhaseRelay, Side: connmodel.SideServer, Kind: connmodel.KindEOF, Blame: connmodel.BlameTarget,
				Message: "closed the connection before the client, which does not speak HTTP, had said anything",
			}
		}
		s.endOpened(e)
		return
	}
	s.bound = nil
	s.conn.SetDeadline(time.Time{})
	early := append([]byte(nil), srv.In.Buffered()...)
	srv.In.Release()
	s.flow.Store(o.rec)
	s.prepareRelay(srv.Conn, early, closer(srv.Close), &o.timeouts)
}

// looks is what the first bytes of a connection look like.
type looks uint8

const (
	moreHTTP looks = iota // more bytes are needed
	yesHTTP
	noHTTP
)

const (
	maxMethodLooked = 24
	maxLineLooked   = 8 << 10
)

// looksHTTP says whether b begins an HTTP/1 request. What begins with a method that is known and a blank is one, however it goes on: it must
// not pass as something else because it is a bad one. Other words need a whole line that ends as a request line does.
func looksHTTP(b []byte) looks {
	b = bytes.TrimLeft(b, "\r\n") // RFC 9112, section 2.2: empty lines before it
	if len(b) == 0 {
		return moreHTTP
	}
	i := 0
	for i < len(b) && i <= maxMethodLooked && http1.IsToken(string(b[i])) {
		i++
	}
	switch {
	case i == len(b) && i <= maxMethodLooked:
		return moreHTTP
	case i == 0 || i > maxMethodLooked:
		return noHTTP
	case knownMethods[string(b[:i])] && (b[i] == ' ' || b[i] == '\t'):
		return yesHTTP
	case b[i] != ' ':
		return noHTTP
	}
	line, _, whole := bytes.Cut(b, []byte("\n"))
	switch {
	case !whole && len(line) < maxLineLooked:
		return moreHTTP
	case !whole:
		return noHTTP
	}
	line = bytes.TrimRight(line, "\r")
	if j := bytes.LastIndexByte(line, ' '); bytes.HasPrefix(line[j+1:], []byte("HTTP/")) {
		return yesHTTP
	}
	return noHTTP
}

var knownMethods = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range []string{
		"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI", "QUERY", // RFC 9110, 5789, 9113
		"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "MERGE", "CHECKOUT", "MKACTIVITY", // WebDAV and its kin
	} {
		m[name] = true
	}
	return m
}()
