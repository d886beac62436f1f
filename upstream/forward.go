package upstream

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/net/proxy"

	"viaduct/connmodel"
)

// foreign goes through hop n by the dialer that the program registered for its scheme, on top of the hops before it.
func (a *attempt) foreign(n int, to connmodel.Address) (net.Conn, *HopError) {
	h := a.hops[n-1]
	f := &forward{a: a, n: n - 1}
	d, err := h.dialer(f)
	if err != nil {
		return nil, a.failure(n, connmodel.PhaseConnect, err)
	}
	start := time.Now()
	deadline := a.until(start, h.spec.Timeouts.Dial+h.spec.Timeouts.Handshake)
	ctx, cancel := context.WithDeadline(a.d.ctx, deadline)
	defer cancel()
	conn, err := dialContext(ctx, d, to.String())
	rec := a.element1(n, h.spec.Address)
	if f.failed != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, f.failed
	}
	if err != nil {
		return nil, a.failure(n, connmodel.PhaseConnect, h.scrub(err))
	}
	rec.UsedCredential(h.credential)
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

// forward is the first n hops of an attempt as a dialer, for a registered scheme to build on.
type forward struct {
	a      *attempt
	n      int
	failed *HopError // of the last dial
}

var errNotConnected = errors.New("upstream: a dialer connected while it was being made")

// Dial implements proxy.Dialer.
func (f *forward) Dial(network, addr string) (net.Conn, error) {
	return f.DialContext(context.Background(), network, addr)
}

// DialContext implements proxy.ContextDialer. Of the context it is the attempt's own that counts.
func (f *forward) DialContext(_ context.Context, _, addr string) (net.Conn, error) {
	if f.a == nil {
		return nil, errNotConnected
	}
	to, err := connmodel.ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	conn, he := f.a.reach(f.n, to)
	if f.failed = he; he != nil {
		return nil, he
	}
	if err := f.a.arm(time.Now(), f.a.hops[f.n].spec.Timeouts.Handshake); err != nil {
		return nil, err
	}
	return f.a.withEarly(conn), nil
}
