package router

import (
	"context"
	"strings"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/upstream"
	"viaduct/upstream/h2"
	"viaduct/upstream/http1"
)

// serveStreamsInside is the life of an opened tunnel whose client and server have agreed on HTTP/2: each stream is a connection of its own
// that speaks HTTP/1.1 (package h2), with a session of its own.
func (s *session) serveStreamsInside(l *Listener) {
	s.leaveDesk()
	s.live.Multiplexed()
	o := s.inner
	o.rec.Inside(o.user, o.hello) // its client is not shared with the requests
	s.multiplex(h2.ServerOptions{
		ExtendedConnect: true, Admit: func() bool { return s.admitStream(&o.streams) },
		MaxStreams: l.MaxStreams, HeaderBytes: l.MaxHeadBytes, HandshakeTimeout: l.handshake(), IdleTimeout: l.keepAlive(),
	}, func(st *h2.Stream) {
		c := s.r.newStream(s, st, &o.streams)
		c.inner = o
		s.streamLife(c, (*session).serveRequests)
	})
}

// drainStreams lets a connection of streams take no further one.
func (s *session) drainStreams() {
	s.life.mu.Lock()
	multi := s.multi
	s.life.mu.Unlock()
	if multi != nil {
		multi.Shutdown()
	}
}

// far is a connection to a server that speaks HTTP/2: each request has a stream of it. It is the tunnel's, and ends with it.
type far struct {
	client *h2.Client
	conn   *upstream.Conn
	record *connmodel.Server // of the flow that opened it
}

// maxFars bounds the HTTP/2 connections of one tunnel: requests may be sent to other servers, by rules.
const maxFars = 8

// keepFar begins HTTP/2 on c, which the tunnel owns from now on. One that it replaces ends with its last stream.
func (o *opened) keepFar(c *upstream.Conn, rec *connmodel.Recorder) *connmodel.ConnError {
	client, err := h2.NewClient(c.Conn, h2.ClientOptions{})
	if err != nil {
		c.Close()
		return &connmodel.ConnError{
			Phase: connmodel.PhaseDial, Side: connmodel.SideServer, Kind: connmodel.KindProtocol, Blame: connmodel.BlameTarget,
			Message: "HTTP/2 with the server cannot begin: " + err.Error(), Cause: err,
		}
	}
	f := &far{client, c, rec.Snapshot().Server}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fars == nil {
		o.fars = make(map[upstream.Key]*far)
	}
	if old := o.fars[c.Key]; old != nil {
		old.retire()
	}
	for k, other := range o.fars {
		if len(o.fars) < maxFars {
			break
		}
		delete(o.fars, k)
		other.retire()
	}
	o.fars[c.Key] = f
	return nil
}

// retire closes the connection when its last stream has ended, and gives back what it counts for.
func (f *far) retire() {
	f.client.CloseWhenDone()
	go func() {
		<-f.client.Done()
		f.conn.Close()
	}()
}

// closeFars ends the connections. Their streams have ended with those of the client.
func (o *opened) closeFars() {
	o.mu.Lock()
	list := o.fars
	o.fars = nil
	o.mu.Unlock()
	for _, f := range list {
		f.client.Close()
		<-f.client.Done()
		f.conn.Close()
	}
}

// far returns a connection by that key that takes requests, or nil.
func (o *opened) far(key upstream.Key) *far {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.fars[key]
	if f == nil {
		return nil
	}
	if !f.client.Usable() {
		delete(o.fars, key)
		f.retire()
		return nil
	}
	return f
}

// open returns a stream for one request. A server that takes no more of them at present is waited for.
func (f *far) open(ctx context.Context) (*forward.Server, error) {
	st, err := f.client.Open(ctx)
	if err != nil {
		return nil, err
	}
	srv := &forward.Server{Conn: st, Reused: true, Record: f.record, Close: st.Close}
	srv.In.Reset(st, http1.Limits{})
	return srv, nil
}

// reachInside finds a connection for a request in an opened tunnel: a stream of one that speaks HTTP/2, or nil when another is to be found or
// made. A protocol that is upgraded to goes by HTTP/1.1, unless the server takes WebSockets over HTTP/2.
func (s *session) reachInside(p *pin, rec *connmodel.Recorder, pl *plan, f *connmodel.Facts) (*forward.Server, *connmodel.ConnError) {
	o := s.inner
	q := pl.request(p, f)
	key := p.gen.cfg.Routes.Key(&q, false)
	if err := o.told(key); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(&s.life, pl.timeouts.Connect)
	defer cancel()
	far := o.far(key)
	if own := s.bound != nil && s.bound.Key == any(key); s.req.Upgrade != "" && !own && !far.upgrades(ctx, s.req.Upgrade) {
		pl.offer = &upstream.TLSOffer{SNI: pl.offer.SNI, ALPN: []string{"http/1.1"}}
		return nil, nil
	}
	if far == nil {
		return nil, nil
	}
	srv, err := far.open(ctx)
	if err != nil {
		return nil, nil // it ends just now
	}
	rec.ReuseServer(far.record)
	return srv, nil
}

// upgrades reports whether the server takes that protocol by HTTP/2. f may be nil.
func (f *far) upgrades(ctx context.Context, protocol string) bool {
	if f == nil || !strings.EqualFold(protocol, "websocket") {
		return false
	}
	return f.client.ExtendedConnect(ctx)
}

// firstStream makes a new connection to a server that has chosen HTTP/2 one of the tunnel, and returns a stream of it.
func (o *opened) firstStream(ctx context.Context, c *upstream.Conn, rec *connmodel.Recorder) (*forward.Server, *connmodel.ConnError) {
	if err := o.keepFar(c, rec); err != nil {
		return nil, err
	}
	f := o.far(c.Key)
	if f != nil {
		if srv, err := f.open(ctx); err == nil {
			srv.Reused = false
			return srv, nil
		}
	}
	return nil, &connmodel.ConnError{
		Phase: connmodel.PhaseRequest, Side: connmodel.SideServer, Kind: connmodel.KindReset, Blame: connmodel.BlameTarget,
		Message: "ended the HTTP/2 connection before it had taken the request",
	}
}
