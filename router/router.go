package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/upstream/resolve"
)

// Router carries connections: it owns the listeners' sockets and every session, across generations of the configuration.
// Its methods may be called from any goroutine.
type Router struct {
	opt  Options
	name string // for Via and Proxy-Status

	ctx    context.Context // ends when draining is over: dials are given up
	cancel context.CancelFunc

	mu      sync.Mutex // guards doors and closing; held by Apply and Shutdown alone
	doors   map[doorKey]*door
	closing bool

	current  atomic.Pointer[generation]
	draining atomic.Bool
	gate     gate
	sessions registry
	stats    stats
	kept     forward.Pool // server connections between plain requests
}

// generation is one configuration and what was computed from it at load. It is immutable.
type generation struct {
	cfg      *Config
	own      ownAddresses
	resolver resolve.Resolver
}

// New returns a router that listens nowhere until Apply gives it a configuration.
func New(o Options) *Router {
	r := &Router{opt: o, doors: make(map[doorKey]*door)}
	var b [8]byte
	rand.Read(b[:])
	r.name = "viaduct-" + hex.EncodeToString(b[:])
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.gate.init()
	r.sessions.init()
	if r.opt.Log == nil {
		r.opt.Log = noLog{}
	}
	if r.opt.Meter == nil {
		r.opt.Meter = noMeter{}
	}
	return r
}

// ErrClosed is returned by Apply after Shutdown.
var ErrClosed = errors.New("router: shut down")

// Apply makes c the configuration of every flow that begins from now on. It binds what is new before anything changes: when it
// returns an error, nothing has changed. Listeners that c no longer has stop accepting; sessions that live on keep what they
// were given, but the next plain request on a kept connection is decided by c.
func (r *Router) Apply(c *Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return ErrClosed
	}
	gen := &generation{cfg: c, resolver: c.Resolver}
	if gen.resolver == nil {
		gen.resolver = resolve.System()
	}
	fresh, err := r.bindNew(c)
	if err != nil {
		return err
	}
	keep := make(map[doorKey]bool, len(c.Listeners))
	for i := range c.Listeners {
		l := &c.Listeners[i]
		k := keyOf(l)
		keep[k] = true
		d := r.doors[k]
		if d == nil {
			d = fresh[k]
			r.doors[k] = d
		}
		d.pin.Store(&pin{gen: gen, l: l})
		gen.own.addListener(d.ln.Addr())
	}
	for _, ap := range c.OwnAddresses {
		gen.own.add(ap)
	}
	r.gate.setMax(connectionLimit(c.Limits.Connections, len(c.Listeners)))
	r.current.Store(gen)
	r.kept.Clear() // keys of another table are never asked for again
	for k, d := range r.doors {
		if !keep[k] {
			delete(r.doors, k)
			d.close()
			r.opt.Log.Event(LevelInfo, "listener closed", "listener", d.name(), "address", d.ln.Addr().String())
		}
	}
	for _, d := range fresh {
		r.opt.Log.Event(LevelInfo, "listening", "listener", d.name(), "address", d.ln.Addr().String())
		d.start()
	}
	return nil
}

// bindNew opens the sockets that c has and the router has not. On error everything opened is closed again.
func (r *Router) bindNew(c *Config) (map[doorKey]*door, error) {
	fresh := make(map[doorKey]*door)
	var errs []error
	for i := range c.Listeners {
		l := &c.Listeners[i]
		k := keyOf(l)
		if r.doors[k] != nil {
			continue
		}
		if fresh[k] != nil {
			errs = append(errs, fmt.Errorf("listener %q: %s is already the address of listener %q", l.Name, l.Address, fresh[k].name()))
			continue
		}
		ln, err := bind(l)
		if err != nil {
			errs = append(errs, fmt.Errorf("listener %q: %w", l.Name, err))
			continue
		}
		d := &door{r: r, ln: ln}
		d.pin.Store(&pin{l: l})
		fresh[k] = d
	}
	if len(errs) > 0 {
		for _, d := range fresh {
			d.ln.Close()
		}
		return nil, errors.Join(errs...)
	}
	return fresh, nil
}

// Addrs returns the addresses that are listened on, by the listeners' names.
func (r *Router) Addrs() map[string]net.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := make(map[string]net.Addr, len(r.doors))
	for _, d := range r.doors {
		m[d.name()] = d.ln.Addr()
	}
	return m
}

// Shutdown stops accepting at once, ends kept connections that are idle, lets tunnels and requests in flight go on until ctx is
// done, and then closes them. It returns how many were cut, after every session has ended.
func (r *Router) Shutdown(ctx context.Context) (cut int) {
	r.mu.Lock()
	r.closing = true
	r.draining.Store(true)
	for k, d := range r.doors {
		d.close()
		delete(r.doors, k)
	}
	r.mu.Unlock()
	r.gate.close()
	r.sessions.each(func(s *session) { s.drain() })
	select {
	case <-r.sessions.empty():
	case <-ctx.Done():
		r.cancel()
		r.sessions.each(func(s *session) { cut++; s.abort(connmodel.CloseDrained) })
		<-r.sessions.empty()
	}
	r.cancel()
	r.kept.Close()
	return cut
}

// Config returns the current generation, or nil before the first Apply.
func (r *Router) Config() *Config {
	if g := r.current.Load(); g != nil {
		return g.cfg
	}
	return nil
}

// Each calls f with a snapshot of every open flow; sessions that are between flows are left out.
func (r *Router) Each(f func(*connmodel.Flow)) {
	var open []*connmodel.Recorder
	r.sessions.each(func(s *session) {
		if rec := s.flow.Load(); rec != nil {
			open = append(open, rec)
		}
	})
	for _, rec := range open {
		f(rec.Snapshot())
	}
}
