package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"viaduct/connmodel"
	"viaduct/router/forward"
	"viaduct/router/intercept"
	"viaduct/upstream/resolve"
)

// Router carries connections: it owns the listeners' sockets and every session, across generations of the configuration.
// Its methods may be called from any goroutine.
type Router struct {
	opt  Options
	name string // for Via and Proxy-Status

	mu      sync.Mutex // guards doors and closing; held by Apply and Shutdown alone
	doors   map[doorKey]*door
	closing bool

	current  atomic.Pointer[generation]
	draining atomic.Bool
	gate     gate
	sessions registry
	stats    stats
	kept     forward.Pool // server connections between plain requests
	minter   intercept.Minter
	rejects  rejects

	packets    packetPorts // sockets of associations: never a target
	handshakes handshakes  // sessions that have not said yet what they want
	dials      dials       // sessions whose server is being reached
	loops      loops       // connections of our own that come back to transparent listeners

	warned warnedCertificates
}

// generation is one configuration and what was computed from it at load. It is immutable.
type generation struct {
	cfg      *Config
	own      ownAddresses
	resolver resolve.Resolver
	kernel   bool // a listener takes what the kernel sends here: connections of our own may come back
}

// New returns a router that listens nowhere until Apply gives it a configuration.
func New(o Options) *Router {
	r := &Router{opt: o, doors: make(map[doorKey]*door)}
	var b [8]byte
	rand.Read(b[:])
	r.name = "viaduct-" + hex.EncodeToString(b[:])
	r.gate.init()
	r.sessions.init()
	r.handshakes.q.init()
	r.dials.q.init()
	r.kept.Total = keptLimit()
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

// Apply makes c the configuration of every flow that begins from now on; c must not be changed any more. It binds what is new before
// anything changes: when it returns an error, nothing has changed. Listeners that c no longer has stop accepting, and connections on
// them end after the request they are at. Tunnels and requests under way keep what they were given, but the next plain request on a
// kept connection is decided by c.
func (r *Router) Apply(c *Config) error {
	if err := c.check(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return ErrClosed
	}
	fresh, err := r.bindNew(c)
	if err != nil {
		return err
	}
	r.swap(c, fresh)
	for _, d := range fresh {
		r.opt.Log.Event(LevelInfo, "listening", "listener", d.name(), "address", d.ln.Addr().String())
		d.start()
	}
	return nil
}

// check finds what a configuration cannot be without.
func (c *Config) check() error {
	var errs []error
	if c.Routes == nil {
		errs = append(errs, errors.New("router: Config.Routes is nil"))
	}
	for i := range c.Listeners {
		if c.Listeners[i].Decider == nil {
			errs = append(errs, fmt.Errorf("router: listener %q has no Decider", c.Listeners[i].Name))
		}
		switch l := &c.Listeners[i]; {
		case l.Protocols&(AllProtocols|targeted) == 0:
			errs = append(errs, fmt.Errorf("router: listener %q takes no protocol", l.Name))
		case l.Protocols&targeted != 0 && l.Protocols&(l.Protocols-1) != 0:
			errs = append(errs, fmt.Errorf("router: listener %q mixes protocols that cannot be told apart", l.Name))
		case (l.Protocols == Forward) == l.Target.IsZero():
			errs = append(errs, fmt.Errorf("router: listener %q: a target goes with Forward, and with nothing else", l.Name))
		}
		if t := c.Listeners[i].TLS; t != nil {
			if err := t.check(); err != nil {
				errs = append(errs, fmt.Errorf("router: listener %q: %w", c.Listeners[i].Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// swap puts c in force: nothing in it can fail. The generation is complete before anybody sees it.
func (r *Router) swap(c *Config, fresh map[doorKey]*door) {
	gen := &generation{cfg: c, resolver: c.Resolver}
	if gen.resolver == nil {
		gen.resolver = resolve.System()
	}
	for _, ap := range c.OwnAddresses {
		gen.own.add(ap)
	}
	next := make(map[doorKey]*door, len(c.Listeners))
	for i := range c.Listeners {
		k := keyOf(&c.Listeners[i])
		d := r.doors[k]
		if d == nil {
			d = fresh[k]
		}
		next[k] = d
		gen.own.addListener(d.ln.Addr())
		gen.kernel = gen.kernel || c.Listeners[i].Protocols&fromKernel != 0
	}
	connections := connectionLimit(c.Limits.Connections, len(c.Listeners))
	r.gate.setMax(connections)
	r.handshakes.setMax(connections)
	for i := range c.Listeners {
		l := &c.Listeners[i]
		next[keyOf(l)].pin.Store(&pin{gen: gen, l: l, tls: r.newDoorTLS(l, c.WarnBefore)})
	}
	r.current.Store(gen)
	old := r.doors
	r.doors = next
	r.kept.Clear() // keys of another table are never asked for again
	for k, d := range old {
		if next[k] == nil {
			r.drop(d)
		}
	}
}

// drop closes a listener that the configuration does not have any more. What is under way on its connections goes on.
func (r *Router) drop(d *door) {
	d.close()
	r.sessions.each(func(s *session) {
		if s.door == d {
			s.drain()
		}
	})
	r.opt.Log.Event(LevelInfo, "listener closed", "listener", d.name(), "address", d.ln.Addr().String())
}

// bindNew opens the sockets that c has and the router has not. On error everything opened is closed again.
func (r *Router) bindNew(c *Config) (map[doorKey]*door, error) {
	fresh := make(map[doorKey]*door)
	var errs []error
	fail := func(l *Listener, err error) { errs = append(errs, fmt.Errorf("listener %q: %w", l.Name, err)) }
	wanted := make(map[doorKey]*Listener, len(c.Listeners))
	for i := range c.Listeners {
		l := &c.Listeners[i]
		if other := wanted[keyOf(l)]; other != nil {
			fail(l, fmt.Errorf("%s is already the address of listener %q", l.Address, other.Name))
			continue
		}
		wanted[keyOf(l)] = l
	}
	var staying, leaving []*door
	for k, d := range r.doors {
		if wanted[k] != nil {
			staying = append(staying, d)
		} else {
			leaving = append(leaving, d)
		}
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		k := keyOf(l)
		if r.doors[k] != nil || wanted[k] != l {
			continue
		}
		ln, err := bind(l, leaving)
		if errors.Is(err, errInUse) {
			if over := overlapping(l.Address, staying); over != nil {
				err = fmt.Errorf("%s overlaps with %s of listener %q", l.Address, over[0].ln.Addr(), over[0].name())
			}
		}
		if err != nil {
			fail(l, err)
			continue
		}
		fresh[k] = newDoor(r, ln, l)
		staying = append(staying, fresh[k])
	}
	if len(errs) == 0 {
		errs = r.changeModes(wanted)
	}
	if len(errs) == 0 {
		errs = r.makeTransparent(wanted)
	}
	if len(errs) > 0 {
		for _, d := range fresh {
			d.ln.Close()
		}
		return nil, errors.Join(errs...)
	}
	return fresh, nil
}

// changeModes gives Unix sockets that stay the file modes that they shall have now.
func (r *Router) changeModes(wanted map[doorKey]*Listener) (errs []error) {
	for k, d := range r.doors {
		if l := wanted[k]; l != nil && l.Network == "unix" && l.fileMode() != d.pin.Load().l.fileMode() {
			if err := os.Chmod(l.Address, l.fileMode()); err != nil {
				errs = append(errs, fmt.Errorf("listener %q: %w", l.Name, err))
			}
		}
	}
	return errs
}

// makeTransparent lets sockets that stay take connections for addresses that are not this machine's, where that is what they are for now.
// One that was made so stays so: with other protocols it makes no difference.
func (r *Router) makeTransparent(wanted map[doorKey]*Listener) (errs []error) {
	for k, d := range r.doors {
		if l := wanted[k]; l != nil && l.Protocols&TProxy != 0 && d.pin.Load().l.Protocols&TProxy == 0 {
			if err := makeTransparent(d.ln); err != nil {
				errs = append(errs, fmt.Errorf("listener %q: %w", l.Name, err))
			}
		}
	}
	return errs
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

// Drain stops accepting for good and ends connections that idle; what is under way goes on. The channel is closed when nothing is left.
func (r *Router) Drain() (empty <-chan struct{}) {
	r.mu.Lock()
	r.closing = true
	r.draining.Store(true)
	for k, d := range r.doors {
		d.close()
		delete(r.doors, k)
	}
	r.mu.Unlock()
	r.sessions.each(func(s *session) { s.drain() })
	return r.sessions.empty()
}

// Shutdown stops accepting at once, ends connections that idle, lets tunnels and requests in flight go on until ctx is done, and then
// closes them. It returns how many were cut, after every session has ended; those that have their answer already are not cut, and end
// within a second. Calling it again does the same for what is left.
func (r *Router) Shutdown(ctx context.Context) (cut int) {
	select {
	case <-r.Drain():
	case <-ctx.Done():
		r.sessions.each(func(s *session) {
			if s.abort(connmodel.CloseDrained) {
				cut++
			}
		})
		<-r.sessions.empty()
	}
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

// Carried says how many flows are open, and how many bytes of payload tunnels and associations among them have carried so far: of plain
// requests it is known when they have ended. It holds up who connects for some 100 ns for each session.
func (r *Router) Carried() (open int, up, down uint64) {
	r.sessions.each(func(s *session) {
		o, rec := s.inside.Load(), s.flow.Load()
		if rec != nil {
			up += uint64(s.tunnel.Up())
			down += uint64(s.tunnel.Down())
		}
		if rec != nil && (o == nil || rec != o.rec) {
			open++
		}
		if o != nil {
			open++
			up += uint64(o.up.Load())
			down += uint64(o.down.Load())
		}
		if a := s.assoc.Load(); a != nil {
			a.each(func(t *target) {
				open++
				up += uint64(t.up.Load())
				down += uint64(t.down.Load())
			})
		}
	})
	return open, up, down
}
