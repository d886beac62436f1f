package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream/h2"
)

// lane returns a connection to hop n, an https proxy that is offered h2: a stream on a trunk, or, when the proxy wants HTTP/1.1, a connection
// of its own.
func (a *attempt) lane(n int) (net.Conn, *HopError) {
	h := a.hops[n-1]
	var l *lane
	if a.given == nil && !personal(a.hops[:n]) && !(a.d.q.Switches && n == len(a.hops) && a.absolute()) {
		l = a.d.t.lanes.of(a.hops[:n])
	}
	if l == nil { // nobody else would find it, or it must be HTTP/1.1
		conn, err := a.reach(n-1, h.spec.Address)
		if err != nil {
			return nil, err
		}
		return a.hopTLSWith(n, conn, h.older)
	}
	for {
		s, t, wait, own := l.board()
		switch {
		case s != nil:
			a.ride(n, t, s)
			return s, nil
		case wait == nil:
			return a.lay(n, l, own)
		}
		if err := a.await(n, wait); err != nil {
			return nil, err
		}
	}
}

// ride makes a stream on a trunk that was there the attempt's connection.
func (a *attempt) ride(n int, t *trunk, s *h2.Stream) {
	t.client.Probe(trunkSilence)
	a.kept = t
	a.base, a.local, a.peer = s, t.local, t.peer
	copy(a.shown[:n], t.shown)
	for i := 1; i <= n; i++ {
		local, peer := t.local, t.peer
		if i > 1 {
			local, peer = netip.AddrPort{}, netip.AddrPort{}
		}
		rec := a.element1(i, a.address(i))
		rec.Reused(t.shown[i-1], local, peer)
		if i < n {
			rec.Done()
		}
	}
}

// await waits until somebody else has made a trunk, or has failed to; then that is the failure of this attempt, too: a proxy that
// is down is not tried once for each who waits. A failure that was the other's own, such as having no time left, is not.
func (a *attempt) await(n int, f *flight) *HopError {
	h := a.hops[n-1]
	start := time.Now()
	timer := time.NewTimer(time.Until(a.until(start, h.spec.Timeouts.Dial+h.spec.Timeouts.TLS)))
	defer timer.Stop()
	select {
	case <-f.done:
	case <-a.d.ctx.Done():
		return a.failure(n, connmodel.PhaseDial, context.Canceled)
	case <-timer.C:
		return a.failure(n, connmodel.PhaseDial, os.ErrDeadlineExceeded)
	}
	if f.fail == nil {
		return nil
	}
	for i := 1; i <= f.fail.Hop; i++ {
		a.element1(i, a.address(i))
	}
	a.hasty = f.fail.hasty
	e := a.failure(f.fail.Hop, f.fail.Phase, f.fail.Err)
	e.clientAuth, e.hint, e.shown = f.fail.clientAuth, f.fail.hint, f.fail.shown
	return e
}

// lay makes a connection to hop n, and a trunk of it if the proxy takes up h2. f is the flight that others wait for; nil = nobody does.
func (a *attempt) lay(n int, l *lane, f *flight) (conn net.Conn, err *HopError) {
	landed := false
	land := func(fail *HopError) {
		landed = true
		l.land(f, fail)
	}
	defer func() {
		if !landed { // a panic on the way
			land(nil)
		}
	}()
	h := a.hops[n-1]
	config := h.tls
	if !l.offersH2() {
		config = h.older
	}
	before := a.trunk
	a.trunk = true
	if conn, err = a.reach(n-1, h.spec.Address); err == nil {
		conn, err = a.hopTLSWith(n, conn, config)
	}
	a.trunk = before
	if err != nil {
		if a.d.ctx.Err() != nil || err.hasty {
			land(nil)
		} else {
			land(err)
		}
		return nil, err
	}
	if conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != protoHTTP2 {
		l.learn(speaksHTTP1)
		land(nil)
		return conn, nil
	}
	s, t, err := a.detach(n, conn)
	if err != nil {
		land(nil)
		return nil, err
	}
	l.learn(speaksH2)
	landed = true
	go l.keep(t, f)
	return s, nil
}

// detach makes a trunk of the attempt's connection, which is then the trunk's alone, and a stream on it the attempt's connection.
func (a *attempt) detach(n int, conn net.Conn) (*h2.Stream, *trunk, *HopError) {
	if a.stop != nil && !a.stop() { // ctx has ended: the past deadline may come any moment
		a.stop = nil
		conn.Close()
		return nil, nil, a.failure(n, connmodel.PhaseTLS, context.Canceled)
	}
	a.stop = nil
	if !a.local.IsValid() {
		a.local, a.peer = ends(a.base)
	}
	a.base.SetDeadline(time.Time{})
	t := &trunk{local: a.local, peer: a.peer, shown: append([]*connmodel.TLSInfo(nil), a.shown[:n]...)}
	var err error
	t.client, err = h2.NewClient(conn, h2.ClientOptions{IdleTimeout: trunkIdle, PingInterval: trunkPing, PingTimeout: trunkAnswer})
	if err != nil {
		return nil, nil, a.failure(n, connmodel.PhaseTLS, err)
	}
	s, err := t.client.TryOpen()
	if err != nil {
		t.client.Close()
		return nil, nil, a.failure(n, connmodel.PhaseConnect, err)
	}
	a.base, a.armed, a.kept = s, false, nil
	return s, t, nil
}

// unseenTries is how often a request is made that the proxy says it has not looked at.
const unseenTries = 3

// another reports whether hop n is to be asked once more, on another connection, after so many tries: the trunk was found dead or took no
// more streams, or the proxy wants HTTP/1.1, or speaks nothing else in spite of what was agreed on (TLS is ended by something before it). The
// proxy has done nothing then that anybody would notice: at most it connected to the target.
func (a *attempt) another(n, tries int, he *HopError) bool {
	if he.Hop != n || a.hops[n-1].older == nil || a.given != nil || a.d.ctx.Err() != nil {
		return false
	}
	s, ok := a.base.(*h2.Stream)
	if !ok {
		return false
	}
	l := a.d.t.lanes.of(a.hops[:n])
	if l == nil {
		return false
	}
	var se *h2.StreamError
	var ce *h2.ConnError
	switch {
	case errors.As(he.Err, &se) && se.Code == http2.ErrCodeHTTP11Required,
		errors.As(he.Err, &ce) && (ce.Code == http2.ErrCodeHTTP11Required || ce.NotHTTP2):
		l.learn(wantsHTTP1)
	case h2.Unprocessed(he.Err): // GOAWAY came, or it has as many streams as it wants: the client will ask for fewer
		if tries >= unseenTries {
			return false
		}
	case a.kept == nil || tries > 1 || ce == nil && !errors.Is(he.Err, h2.ErrClosing):
		return false
	}
	if a.kept != nil && ce != nil {
		l.drop(a.kept)
	}
	a.unwatch()
	s.Close()
	for i := 1; i <= n; i++ {
		a.rec0(i).NotReused()
	}
	a.base, a.armed, a.early, a.kept = nil, false, nil, nil
	a.local, a.peer = netip.AddrPort{}, netip.AddrPort{}
	return true
}
