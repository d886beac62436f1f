package upstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/net/proxy"

	"viaduct/connmodel"
)

// Dialer returns a way to connect through h, on top of a way to connect to h: forward is asked for the proxy's own address
// with network "tcp". It is what Table.Dial does for each hop, without limits, health and record. A name that the proxy's
// protocol cannot carry is looked up by the table's resolver. Errors are *HopError, with Hop 1.
func (h *Hop) Dialer(forward proxy.ContextDialer) proxy.ContextDialer { return &hopDialer{h, forward} }

// Hop returns the hop of a declared upstream, by name.
func (t *Table) Hop(name string) (*Hop, bool) {
	h := t.hop(name)
	return h, h != nil
}

type hopDialer struct {
	hop     *Hop
	forward proxy.ContextDialer
}

// Dial implements proxy.Dialer.
func (d *hopDialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext implements proxy.ContextDialer.
func (d *hopDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := connmodel.ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	dl := &dialing{t: &Table{resolver: d.hop.resolver}, ctx: ctx, q: &Request{Target: to}, target: to.IP(), deadline: time.Now().Add(defaultDeadline)}
	if at, ok := ctx.Deadline(); ok && at.Before(dl.deadline) {
		dl.deadline = at
	}
	a := &dl.attempt
	*a = attempt{d: dl, hops: []*Hop{d.hop}, given: d.forward}
	conn, he := a.reach(1, to)
	if conn, he = a.finish(conn, he); he != nil {
		return nil, he
	}
	return a.withEarly(conn), nil
}

// foreign goes through hop n by the dialer that the program registered for its scheme, on top of the hops before it.
func (a *attempt) foreign(n int, to connmodel.Address) (net.Conn, *HopError) {
	h := a.hops[n-1]
	f := &forward{a: a, n: n - 1}
	a.d.lent = true
	d, err := h.dialer(f)
	if err != nil {
		return nil, a.failure(n, connmodel.PhaseConnect, err)
	}
	start := time.Now()
	ctx, cancel := context.WithDeadline(a.d.ctx, a.until(start, h.spec.Timeouts.Dial+h.spec.Timeouts.Handshake))
	defer cancel()
	conn, err := dialContext(ctx, d, to.String())
	f.end()
	rec := a.element1(n, h.spec.Address)
	switch {
	case err != nil && f.failed != nil: // it passes on what happened before it
		return nil, f.failed
	case err != nil:
		return nil, a.failure(n, connmodel.PhaseConnect, h.scrub(err))
	}
	if h.credential != "" {
		rec.UsedCredential(h.credential)
	}
	rec.Took(connmodel.PartConnect, time.Since(start))
	rec.Done()
	if a.base == nil { // it did not use the way it was given
		a.base = conn
	}
	a.element1(n+1, a.address(n+1))
	return conn, nil
}

// dialContext uses DialContext where there is one. A dialer without it runs on a goroutine of its own, which ends when
// the dialer does: a connection that comes too late is closed.
func dialContext(ctx context.Context, d proxy.Dialer, addr string) (net.Conn, error) {
	if c, ok := d.(proxy.ContextDialer); ok {
		return c.DialContext(ctx, "tcp", addr)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		c, err := d.Dial("tcp", addr)
		done <- result{c, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.conn != nil {
				r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// forward is the first n hops of an attempt as a dialer, for a registered scheme to build on. The dialer may use it from a
// goroutine of its own, and too late: after end it connects no more.
type forward struct {
	a *attempt
	n int

	mu     sync.Mutex
	failed *HopError // of the last dial
	over   bool
}

// end waits for a dial under way, which its deadlines bound, and refuses later ones.
func (f *forward) end() {
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
}

var (
	errWhileMade = errors.New("upstream: a dialer connects while it is being made")
	errTooLate   = errors.New("upstream: the attempt is over")
)

// Dial implements proxy.Dialer.
func (f *forward) Dial(network, addr string) (net.Conn, error) {
	return f.DialContext(context.Background(), network, addr)
}

// DialContext implements proxy.ContextDialer. Of contexts it is the attempt's own that counts.
func (f *forward) DialContext(_ context.Context, _, addr string) (net.Conn, error) {
	if f.a == nil {
		return nil, errWhileMade
	}
	to, err := connmodel.ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return nil, errTooLate
	}
	conn, he := f.a.reach(f.n, to)
	if f.failed = he; he != nil {
		f.a.drop()
		return nil, he
	}
	if err := f.a.arm(time.Now(), f.a.hops[f.n].spec.Timeouts.Handshake); err != nil {
		return nil, err
	}
	return f.a.withEarly(conn), nil
}

var _ proxy.ContextDialer = (*forward)(nil)
