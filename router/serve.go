package router

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/router/relay"
)

// serveConn is the journey of one connection; the table in doc.go reads the same way.
//
//	accept     acceptLoop, admit          the socket is here, the configuration is pinned
//	handshake  secure                     TLS with the client, where the listener wants it
//	           serveHTTP, serveSOCKS      what does the client ask for?
//	           serveTargeted              ... or where does it go without asking?
//	decide     decide                     which rule takes it?
//	dial       newPlan, dial              the hooks' word, the check, the chain
//	answer     yes, no                    in the client's own protocol
//	           serveOpened                ... or both handshakes of a tunnel that is looked into, and its requests
//	relay      relay, forward.Carry       the bytes
//	record     finish                     one record, always
func (s *session) serveConn() {
	p := s.door.pin.Load()
	if p.l.Protocols&targeted != 0 {
		s.serveTargeted(p)
		return
	}
	s.handshakeDeadline(p.l, s.started)
	if s.closing() {
		s.drain()
	}
	if len(s.in.Buffered()) == 0 { // else it came right behind what a balancer said
		if err := s.in.Fill(); err != nil {
			s.silent(err)
			return
		}
	}
	if s.life.enter(stateHead) == "" && s.closing() {
		s.handshakeDeadline(p.l, s.started) // the drain came first: it has shortened the wait for what is here now
	}
	switch first := s.in.Buffered()[0]; {
	case first == 5 && p.l.Protocols&SOCKS5 != 0:
		s.serveSOCKS5(p)
	case first == 4 && p.l.Protocols&SOCKS4 != 0:
		s.serveSOCKS4(p)
	case first == 5:
		s.endSOCKS(socks5NoMethod, connmodel.ProtocolSOCKS5, notTaken("the client speaks SOCKS5, which this listener does not take"))
	case first == 4:
		s.endSOCKS(appendSOCKS4Reply(nil, 0x5b, netip.AddrPort{}), connmodel.ProtocolSOCKS4, notTaken("the client speaks SOCKS4, which this listener does not take"))
	case first == recordHandshake:
		s.tlsNotTaken(p)
	case p.l.Protocols&HTTP != 0:
		s.serveHTTP()
	default:
		s.reject(p, "", false, notTaken("the client does not speak SOCKS, and this listener takes nothing else"))
	}
}

// socks5NoMethod is the answer to a SOCKS5 client whose every method is refused (RFC 1928, section 3).
var socks5NoMethod = []byte{5, 0xff}

// notTaken is the refusal of a client that speaks what its listener does not take.
func notTaken(message string) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseHandshake, Side: connmodel.SideClient, Kind: connmodel.KindProtocol,
		Message: message, Blame: connmodel.BlameClient,
	}
}

// serveTunnel is the way of a CONNECT or SOCKS request once its target and user are known.
func (s *session) serveTunnel(p *pin, rec *connmodel.Recorder, proto connmodel.Protocol, target connmodel.Address, user string) {
	rec.Identified(proto, user)
	s.understood()
	s.life.enter(stateDial)
	f := s.newFacts(p, proto, target, user, rec.Start())
	d, err := s.decide(p, rec, f)
	rec.Decided(d, nil)
	s.r.opt.Log.Decision(FlowLine{Flow: rec.ID(), Facts: f, Decision: d})
	s.r.watched(rec)
	if err != nil {
		s.noteRequest(rec, f)
		s.no(p, rec, proto, err)
		return
	}
	if f.Request != nil {
		s.serveSeen(p, rec, proto, f, d)
		return
	}
	pl, err := s.newPlan(p, rec, f, d)
	if err != nil {
		s.no(p, rec, proto, err)
		return
	}
	if pl.to.TLS.Opens() && !s.passes(p, rec, f, &pl) {
		s.serveOpened(p, rec, proto, f, &pl)
		return
	}
	c, err := s.dial(p, rec, &pl, f)
	if err != nil {
		s.no(p, rec, proto, err)
		return
	}
	if err := s.yes(rec, proto, c); err != nil {
		c.Close()
		e := clientError(connmodel.PhaseConnect, err)
		rec.Fail(e)
		s.finish(rec, s.flowEnd(e))
		return
	}
	s.prepareRelay(c.Conn, c.Early, c, &pl.timeouts)
}

// prepareRelay notes the tunnel that is to be relayed when the handshake's goroutine has ended. c gives the server connection back.
func (s *session) prepareRelay(server net.Conn, fromServer []byte, c io.Closer, t *connmodel.Timeouts) {
	s.job = &job{
		client: relay.Side{Conn: s.conn}, server: relay.Side{Conn: server, Early: fromServer},
		options: relay.Options{Idle: t.Idle, HalfClosed: t.HalfClosed, Observer: (*tunnelObserver)(s)},
	}
	s.lease = c
	if b := s.in.Buffered(); len(b) > 0 {
		s.job.client.Early = append([]byte(nil), b...)
	}
	s.life.enter(stateTunnel)
	s.life.settle()
}

// closeTunnel writes down how a tunnel ended.
func (s *session) closeTunnel() {
	rec, res := s.flow.Load(), &s.result
	reason, e := closeReasons[res.End], tunnelError(res)
	if e != nil && s.stream && unneeded(res.Err) {
		reason, e = connmodel.CloseClient, nil
	}
	rec.Fail(e)
	s.finish(rec, connmodel.FlowEnd{Reason: reason, First: sideOf(res.First), Up: res.Up, Down: res.Down})
}

var closeReasons = map[relay.End]connmodel.CloseReason{
	relay.Open:              connmodel.CloseInternal,
	relay.ClientClosed:      connmodel.CloseClient,
	relay.ServerClosed:      connmodel.CloseServer,
	relay.ClientReset:       connmodel.CloseClientReset,
	relay.ClientFailed:      connmodel.CloseClientReset,
	relay.ServerReset:       connmodel.CloseServerReset,
	relay.ServerFailed:      connmodel.CloseServerReset,
	relay.IdleTimeout:       connmodel.CloseIdle,
	relay.HalfClosedTimeout: connmodel.CloseHalfIdle,
	relay.Drained:           connmodel.CloseDrained,
	relay.Canceled:          connmodel.CloseAdmin,
}

func sideOf(p relay.Peer) connmodel.Side {
	switch p {
	case relay.Client:
		return connmodel.SideClient
	case relay.Server:
		return connmodel.SideServer
	}
	return ""
}

// tunnelError turns an end that nobody wished into an error; orderly ends, timeouts and our own closing are none.
func tunnelError(res *relay.Result) *connmodel.ConnError {
	side := sideOf(res.End.Peer())
	if res.End.Orderly() || side == "" {
		return nil
	}
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseRelay, Side: side, Kind: connmodel.KindReset,
		Message: "the connection was reset in the open tunnel", Cause: res.Err,
	}
	switch res.End {
	case relay.ClientFailed, relay.ServerFailed:
		e.Message = "the connection broke in the open tunnel"
		if res.Err != nil {
			e.Message += ": " + res.Err.Error()
		}
		if a, ok := connmodel.PeerAlert(res.Err); ok {
			e.Kind, e.Code, e.CodeOf = connmodel.KindTLS, int(a), "tls"
			if side == connmodel.SideServer {
				e.Message = forward.AlertText(a, false)
			}
		} else if errors.Is(res.Err, syscall.ETIMEDOUT) {
			e.Kind = connmodel.KindTimeout
		} else if errors.Is(res.Err, io.ErrUnexpectedEOF) {
			e.Kind = connmodel.KindEOF
		}
	}
	if side == connmodel.SideClient {
		e.Blame = connmodel.BlameClient
	} else {
		e.Blame = connmodel.BlameTarget
	}
	return e
}

// tunnelObserver notes half-closes in the record as they happen.
type tunnelObserver session

func (o *tunnelObserver) ReadClosed(p relay.Peer, at time.Time) {
	if rec := o.flow.Load(); rec != nil {
		rec.ReadClosed(sideOf(p))
	}
}

func (o *tunnelObserver) WriteClosed(p relay.Peer, at time.Time) {
	if rec := o.flow.Load(); rec != nil {
		rec.WriteClosed(sideOf(p))
	}
}

// silent notes why nothing came from a client that had asked for nothing yet.
func (s *session) silent(err error) {
	if err != io.EOF && s.life.ended() == "" && !s.closing() {
		s.live.Fail(clientError(connmodel.PhaseHandshake, err))
	}
}

// clientError is a failure of the client's connection.
func clientError(phase connmodel.Phase, err error) *connmodel.ConnError {
	e := &connmodel.ConnError{Phase: phase, Side: connmodel.SideClient, Blame: connmodel.BlameClient, Cause: err}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Message = connmodel.KindEOF, "the client closed the connection before its request was complete"
	case isTimeout(err):
		e.Kind, e.Message = connmodel.KindTimeout, "the client did not complete its request in time"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.Kind, e.Message = connmodel.KindReset, "the client reset the connection"
	default:
		e.Kind, e.Message = connmodel.KindProtocol, err.Error()
	}
	return e
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
