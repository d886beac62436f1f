package router

import (
	"bytes"
	"errors"
	"io"
	"time"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/upstream"
	"viaduct/upstream/http1"
)

// serveHTTP reads requests until the client has enough, asks for a tunnel, or an answer says close. Every request is a flow of its
// own, decided by the configuration of its moment.
func (s *session) serveHTTP() {
	for {
		err := s.in.ReadRequest(&s.req)
		p := s.door.pin.Load()
		if err != nil {
			s.badRequest(p, err)
			return
		}
		s.understood()
		if s.req.Method == "CONNECT" {
			s.serveConnect(p)
			return
		}
		if !s.servePlain(p) || !s.nextRequest(p.l) {
			return
		}
	}
}

// nextRequest waits for the first byte of a further request. It holds no buffer meanwhile, and a drain may end it.
func (s *session) nextRequest(l *Listener) bool {
	s.proved = proved{}
	if len(s.in.Buffered()) == 0 {
		if !s.idle(l.keepAlive()) || s.in.Fill() != nil {
			return false
		}
	}
	// The deadline comes after the state: a drain that saw the connection idle has set its own before.
	if s.life.enter(stateHead) != "" {
		return false
	}
	s.handshakeDeadline(l, time.Now())
	return true
}

// badRequest answers what is no request: with the status the parser gave, then the connection ends, because where the next
// request would begin is not known (RFC 9112, section 9.3).
func (s *session) badRequest(p *pin, err error) {
	var bad *http1.Error
	switch {
	case err == io.EOF:
		s.silent(err)
	case bytes.HasPrefix(s.in.Buffered(), prefaceH2):
		s.h2NotTaken(p)
	case errors.As(err, &bad):
		s.reject(p, connmodel.ProtocolHTTP, true, badRequestError(bad))
	default:
		e := clientError(connmodel.PhaseHandshake, err)
		if e.Kind == connmodel.KindTimeout {
			e.Code, e.CodeOf = 408, "http"
			s.reject(p, connmodel.ProtocolHTTP, true, e)
			return
		}
		s.reject(p, connmodel.ProtocolHTTP, false, e)
	}
}

// prefaceH2 begins the first line of a client that speaks HTTP/2 without having been offered it (RFC 9113, section 3.4).
var prefaceH2 = []byte("PRI * HTTP/2.0\r\n")

// goAwayH2 is what such a client understands: an empty SETTINGS frame, and GOAWAY with the error HTTP_1_1_REQUIRED and a word to people.
var goAwayH2 = func() []byte {
	const why = "this listener speaks HTTP/1.1; HTTP/2 needs TLS and ALPN"
	b := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	b = append(b, 0, 0, byte(8+len(why)), 7, 0, 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0xd)
	return append(b, why...)
}()

// h2NotTaken refuses HTTP/2 by prior knowledge.
func (s *session) h2NotTaken(p *pin) {
	e := notTaken("the client speaks HTTP/2 with prior knowledge, which is not taken: HTTP/2 is agreed on by ALPN, on a listener with TLS")
	e.Code, e.CodeOf = 505, "http"
	s.conn.Write(goAwayH2)
	s.reject(p, connmodel.ProtocolHTTP, false, e)
}

func badRequestError(bad *http1.Error) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Code: bad.Status, CodeOf: "http",
		Message: "bad request: " + bad.Error(), Blame: connmodel.BlameClient, Cause: bad,
	}
}

// badTarget is the refusal of a target that cannot be made canonical.
func badTarget(err error) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Code: 400, CodeOf: "http",
		Message: "bad target: " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
	}
}

// serveConnect opens a tunnel (RFC 9110, section 9.3.6).
func (s *session) serveConnect(p *pin) {
	target, err := connmodel.MakeAddress(s.req.Target.Host, s.req.Target.Port)
	if err != nil {
		s.reject(p, connmodel.ProtocolConnect, true, badTarget(err))
		return
	}
	if s.req.Body.HasBody() {
		s.reject(p, connmodel.ProtocolConnect, true, badTarget(errors.New("CONNECT with a body")))
		return
	}
	rec := s.begin(connmodel.ProtocolConnect, target, time.Now())
	s.trace(p, rec, &s.req.Header)
	user, refused := s.authenticate(p)
	if refused != nil {
		s.no(p, rec, connmodel.ProtocolConnect, refused)
		return
	}
	via, looped := s.connectVia(p, s.req.Header)
	if looped != nil {
		s.no(p, rec, connmodel.ProtocolConnect, looped)
		return
	}
	s.via = via
	s.serveTunnel(p, rec, connmodel.ProtocolConnect, target, user)
}

// authenticate proves the user of an HTTP request: by the client's certificate, or by Basic credentials (RFC 7617). Where nothing is asked
// for, everybody is nobody.
func (s *session) authenticate(p *pin) (user string, refused *connmodel.ConnError) {
	s.proved = proved{}
	user, byPassword, refused := s.prove(p)
	if refused != nil || !byPassword {
		return user, refused
	}
	h := &s.req.Header
	user, password, ok := http1.ParseBasic(h.Get("Proxy-Authorization"))
	if !ok || !p.l.Auth.Verify(user, password) {
		return "", authRequired(h.Has("Proxy-Authorization"))
	}
	s.proved = proved{user, password}
	return user, nil
}

// prove returns the user that is known by now, and whether a password is to prove who it is. A client that has shown a certificate is asked
// for one only where every client must have a certificate: then it takes both.
func (s *session) prove(p *pin) (user string, byPassword bool, refused *connmodel.ConnError) {
	user, refused = s.certified(p)
	if refused != nil || p.l.Auth == nil {
		return user, false, refused
	}
	return user, user == "" || !p.l.TLS.ClientOptional, nil
}

func authRequired(wrong bool) *connmodel.ConnError {
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseAuth, Side: connmodel.SideClient, Kind: connmodel.KindAuth, Code: 407, CodeOf: "http",
		Message: "this gateway asks for a user name and password", Blame: connmodel.BlameClient,
	}
	if wrong {
		e.Message = "the user name or password is wrong"
	}
	return e
}

// servePlain carries one plain request and reports whether the connection can take another.
func (s *session) servePlain(p *pin) bool {
	now := time.Now()
	req := &s.req
	if s.asksPAC(p) {
		s.servePAC(p)
		return false
	}
	target, scheme, err := plainTarget(req)
	if err != nil {
		s.reject(p, connmodel.ProtocolHTTP, true, badTarget(err))
		return false
	}
	rec := s.begin(connmodel.ProtocolHTTP, target, now)
	rec.Requested(connmodel.Request{Method: req.Method, Scheme: scheme, Host: target.Host, Path: req.Target.Path, Start: now})
	span := s.trace(p, rec, &req.Header)
	user, refused := s.authenticate(p)
	if refused != nil {
		return s.noPlain(p, rec, refused)
	}
	rec.Identified(connmodel.ProtocolHTTP, user)
	s.life.enter(stateDial)
	f := s.newFacts(p, connmodel.ProtocolHTTP, target, user, rec.Start())
	f.Scheme = scheme
	f.Request = &connmodel.RequestFacts{Method: req.Method, Path: req.Target.Path, Header: (*headerFacts)(&req.Header)}
	d, refused := s.decide(p, rec, f)
	rec.Decided(d, nil)
	s.r.opt.Log.Decision(FlowLine{Flow: rec.ID(), Facts: f, Decision: d})
	s.r.watched(rec)
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

// plainTarget returns where a plain request wants to go. Only absolute-form is proxied: a request in origin-form was meant for
// a server, and guessing one from its Host field would make us an open relay for whatever points at us.
func plainTarget(req *http1.Request) (connmodel.Address, string, error) {
	if req.Target.Form != http1.AbsoluteForm {
		return connmodel.Address{}, "", errors.New("this is a proxy: the request target must be absolute (http://host/path) or a CONNECT")
	}
	if req.Target.Scheme != "http" {
		return connmodel.Address{}, "", errors.New("https is reached through CONNECT, not as an absolute https:// target")
	}
	a, err := connmodel.MakeAddress(req.Target.Host, req.Target.EffectivePort())
	return a, req.Target.Scheme, err
}

// headerFacts lets rules look at the fields of a request.
type headerFacts http1.Header

// Lookup implements connmodel.HeaderLookup.
func (h *headerFacts) Lookup(name string, i int) (string, bool) {
	for v := range http1.Header(*h).Values(name) {
		if i == 0 {
			return v, true
		}
		i--
	}
	return "", false
}

// noPlain refuses a plain request. The connection goes on only if nothing of the request is left to read.
func (s *session) noPlain(p *pin, rec *connmodel.Recorder, e *connmodel.ConnError) bool {
	e = s.outside(e)
	keep := s.req.KeepAlive && !s.req.Body.HasBody() && !s.closing() && s.life.ended() == "" && (e.Side != connmodel.SideClient || e.Code == 407)
	rec.Fail(e)
	keep = s.writeNo(p, rec, connmodel.ProtocolHTTP, e, s.req.Method == "HEAD", !keep) == nil && keep
	return s.answered(rec, s.flowEnd(e), keep)
}

// answered ends the flow of a plain request that was answered by ourselves, and reports whether the connection can take another.
func (s *session) answered(rec *connmodel.Recorder, end connmodel.FlowEnd, keep bool) bool {
	end.KeepClient = keep
	s.finish(rec, end)
	s.kept = true
	if !keep {
		s.lingeringClose()
	}
	return keep
}

// carry takes the request to the server and the response back, and reports whether the client may ask again.
func (s *session) carry(p *pin, rec *connmodel.Recorder, pl *plan, f *connmodel.Facts) bool {
	res := forward.Carry(&forward.Params{
		Client: s.conn, In: &s.in, Req: &s.req, Rec: rec, Decision: pl.d, Via: s.r.proxyName(p), HTTP2: s.stream, Timeouts: pl.timeouts,
		Dial:    func(reuse bool) (*forward.Server, *connmodel.ConnError) { return s.server(p, rec, pl, f, reuse) },
		Closing: s.lastRequest, Cancel: &s.plain,
	})
	if res.Err != nil {
		res.Err = s.outside(res.Err)
	}
	if res.Upgraded {
		c := res.Server
		early := append([]byte(nil), c.In.Buffered()...)
		c.In.Release()
		s.prepareRelay(c.Conn, early, closer(c.Close), &pl.timeouts)
		return false
	}
	if res.Err != nil {
		rec.Fail(res.Err)
	}
	if !res.Responded {
		return s.notCarried(p, rec, &res)
	}
	end := connmodel.FlowEnd{Reason: connmodel.CloseDone}
	if res.Err != nil {
		end = s.brokenEnd(res.Err)
	}
	end.Up, end.Down, end.KeepClient, end.KeepServer = res.Up, res.Down, res.KeepClient, res.KeepServer
	s.finish(rec, end)
	s.kept = true
	s.keep(&res)
	if !res.KeepClient && res.Err == nil {
		s.lingeringClose()
	}
	return res.KeepClient
}

// lastRequest reports whether the client's connection ends with the response that is due.
func (s *session) lastRequest() bool { return s.closing() || s.inner != nil && s.inner.over.Load() }

// closer makes a function an io.Closer.
type closer func() error

// Close implements io.Closer.
func (f closer) Close() error { return f() }

// brokenEnd says how an exchange ended that broke after its response had begun.
func (s *session) brokenEnd(e *connmodel.ConnError) connmodel.FlowEnd {
	end := s.flowEnd(e)
	if end.Reason != connmodel.CloseFailed {
		return end
	}
	switch e.Kind {
	case connmodel.KindTimeout:
		end.Reason = connmodel.CloseIdle
	case connmodel.KindReset, connmodel.KindEOF:
		if end.Reason, end.First = connmodel.CloseServerReset, connmodel.SideServer; e.Side == connmodel.SideClient {
			end.Reason, end.First = connmodel.CloseClientReset, connmodel.SideClient
		}
	}
	return end
}

// notCarried answers a request that no server answered.
func (s *session) notCarried(p *pin, rec *connmodel.Recorder, res *forward.Result) bool {
	keep := res.KeepClient && s.life.ended() == ""
	keep = s.writeNo(p, rec, connmodel.ProtocolHTTP, res.Err, s.req.Method == "HEAD", !keep) == nil && keep
	end := s.flowEnd(res.Err)
	end.Up = res.Up
	return s.answered(rec, end, keep)
}

// keep puts the server connection back for the next request, whoever's it is. One that this client has logged in on stays its own
// (NTLM and Negotiate take several requests on one connection).
func (s *session) keep(res *forward.Result) {
	switch {
	case !res.KeepServer:
	case res.KeepClient && (res.Server.Bound() || s.inner.owns(res.Server)):
		if c, ok := res.Server.Login.(*upstream.Conn); ok {
			c.Forget()
		}
		s.bind(res.Server)
	default:
		s.r.kept.Put(res.Server)
	}
}

// bind makes srv the session's own; nil lets go of the one it has.
func (s *session) bind(srv *forward.Server) {
	if s.bound != nil && s.bound != srv {
		s.bound.Close()
	}
	s.bound = srv
}

// takeBound returns the connection that is the session's own, if it leads to key.
func (s *session) takeBound(key any) *forward.Server {
	k := s.bound
	if k == nil || k.Key != key {
		return nil
	}
	s.bound = nil
	if !k.Wake() || k.Drained != nil && k.Drained() {
		k.Close()
		return nil
	}
	return k
}

// server gives a connection for a plain request.
func (s *session) server(p *pin, rec *connmodel.Recorder, pl *plan, f *connmodel.Facts, reuse bool) (*forward.Server, *connmodel.ConnError) {
	s.life.enter(stateDial)
	srv, err := s.reach(p, rec, pl, f, reuse)
	if why := s.life.enter(stateExchange); why != "" && err == nil {
		srv.Close()
		return nil, s.outside(nil)
	}
	return srv, err
}

// reach finds a connection kept from before that leads to the same place, or makes a new one.
func (s *session) reach(p *pin, rec *connmodel.Recorder, pl *plan, f *connmodel.Facts, reuse bool) (*forward.Server, *connmodel.ConnError) {
	if s.inner != nil {
		if srv, err := s.reachInside(p, rec, pl, f); srv != nil || err != nil {
			return srv, err
		}
	}
	pl.login = s.sentOnce()
	if reuse {
		q := pl.request(p, f)
		for _, absolute := range [...]bool{true, false} {
			if absolute && !q.Plain {
				continue
			}
			key := any(p.gen.cfg.Routes.Key(&q, absolute))
			k := s.takeBound(key)
			if k == nil {
				k = s.r.keptFor(key)
			}
			if k == nil {
				continue
			}
			if c, ok := k.Login.(*upstream.Conn); ok {
				if err := c.Renew(pl.proved); err != nil {
					k.Close()
					return nil, err
				}
				if pl.login && c.Fickle() {
					s.r.kept.Put(k)
					continue
				}
			}
			p.gen.cfg.Routes.Chose(&q, rec)
			rec.ReuseServer(k.Record)
			return k, nil
		}
	}
	c, err := s.dial(p, rec, pl, f)
	if err != nil {
		return nil, err
	}
	if cs := tlsState(c); s.inner != nil && cs != nil && cs.NegotiatedProtocol == "h2" {
		return s.inner.firstStream(&s.life, c, rec)
	}
	return newServer(c, rec), nil
}

// keptFor returns a connection kept for key by a way that would still be chosen, or nil. Others that it meets are closed: or plain requests
// would stay with a pool's second member as long as they come often enough.
func (r *Router) keptFor(key any) *forward.Server {
	for {
		k := r.kept.Get(key)
		if k == nil || k.Outdated == nil || !k.Outdated() {
			return k
		}
		k.Close()
	}
}

// sentOnce reports whether the request has a body that is not all here: a proxy cannot be sent it a second time.
func (s *session) sentOnce() bool {
	f := s.req.Body
	return f.HasBody() && !(f.Kind == http1.BodyLength && f.Length <= int64(len(s.in.Buffered())))
}

// lastProxy names the proxy that an absolute-form request is sent to, for blame.
func lastProxy(s *connmodel.Server) (int, string) {
	if s == nil || len(s.Attempts) == 0 {
		return 0, ""
	}
	hops := s.Attempts[len(s.Attempts)-1].Hops
	for i := len(hops) - 1; i >= 0; i-- {
		if hops[i].Upstream != "" {
			return int(hops[i].Index), hops[i].Upstream
		}
	}
	return 0, ""
}
