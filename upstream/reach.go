package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/resolve"
)

const (
	reachEvery   = 15 * time.Second // between two tries, give or take a tenth
	reachTimeout = 2 * time.Second  // of one try, the name included
	reachAgain   = time.Second      // after a try that failed where the one before did not
)

// ReachWait is how long the first tries take at most.
const ReachWait = reachTimeout + 500*time.Millisecond

// ReachSpec says what a Reach tries.
type ReachSpec struct {
	Addresses []connmodel.Address
	Direct    DirectSpec       // the sockets are like those of the route direct
	Resolver  resolve.Resolver // nil = the system's
	// Ways says otherwise for some addresses: those of upstreams are reached as flows would reach them.
	Ways map[connmodel.Address]ReachWay
	Owns func(netip.AddrPort) bool // reports whether this gateway listens there, which says nothing about the network; nil = nowhere
	// Changed is told when an address can be reached that could not, or the other way round, from any goroutine; nil = nobody is.
	Changed func(ReachStatus)
}

// ReachWay is how one address is tried.
type ReachWay struct {
	Direct   DirectSpec
	Resolver resolve.Resolver // nil = that of the ReachSpec
}

// ReachStatus is what is known of one address.
type ReachStatus struct {
	Address   connmodel.Address
	Reachable bool
	Known     bool          // it was tried
	Since     time.Time     // it is so
	At        time.Time     // of the last try; zero = there was none
	Took      time.Duration // of the last try
	Error     string        // of the last try; "" = it went well
	Tries     uint64
}

// Reach tries in the background whether addresses can be reached by TCP, and remembers the last result of each. It implements
// connmodel.Reach: asking it costs no I/O. An address is reachable from the first try that went well on, and not any more when two in a row
// have failed: one lost packet does not send a laptop's flows past its proxy.
type Reach struct {
	probes map[connmodel.Address]*reachProbe
	once   sync.Once
}

// reachProbe is one address. Reaches of later configurations share it while what it does stays the same.
type reachProbe struct {
	to      connmodel.Address
	way     ReachWay
	socket  *socket
	owns    func(netip.AddrPort) bool
	changed func(ReachStatus)

	yes   atomic.Bool
	again chan struct{}
	known chan struct{} // closed with the first result
	stop  context.CancelFunc
	over  chan struct{}

	mu     sync.Mutex
	users  int
	status ReachStatus
}

// NewReach begins to try. Addresses that prev, which may be nil, tries the same way go on with what is known of them; closing prev is the
// caller's.
func NewReach(s ReachSpec, prev *Reach) *Reach {
	if s.Resolver == nil {
		s.Resolver = resolve.System()
	}
	r := &Reach{probes: make(map[connmodel.Address]*reachProbe, len(s.Addresses))}
	for _, to := range s.Addresses {
		if r.probes[to] != nil {
			continue
		}
		way, own := s.Ways[to]
		if !own {
			way.Direct = s.Direct
		}
		if way.Resolver == nil {
			way.Resolver = s.Resolver
		}
		if prev != nil {
			if p := prev.probes[to]; p != nil && p.way == way && p.join() {
				r.probes[to] = p
				continue
			}
		}
		ctx, stop := context.WithCancel(context.Background())
		p := &reachProbe{to: to, way: way, owns: s.Owns, changed: s.Changed, users: 1, stop: stop, status: ReachStatus{Address: to},
			socket: newSocket(way.Direct.SourceAddress, way.Direct.Interface, way.Direct.KeepAlive, way.Direct.Mark),
			again:  make(chan struct{}, 1), known: make(chan struct{}), over: make(chan struct{})}
		r.probes[to] = p
		go p.run(ctx)
	}
	return r
}

// join makes one more use it; false = it has ended.
func (p *reachProbe) join() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 {
		return false
	}
	p.users++
	return true
}

// Reachable implements connmodel.Reach.
func (r *Reach) Reachable(to connmodel.Address) bool {
	p := r.probes[to]
	return p != nil && p.yes.Load()
}

// Close ends the tries that no other Reach shares. What is known stays.
func (r *Reach) Close() {
	if r == nil {
		return
	}
	r.once.Do(func() {
		for _, p := range r.probes {
			p.mu.Lock()
			p.users--
			last := p.users == 0
			p.mu.Unlock()
			if last {
				p.stop()
				<-p.over
			}
		}
	})
}

// Await waits until each address was tried, or ctx ends.
func (r *Reach) Await(ctx context.Context) {
	for _, p := range r.probes {
		select {
		case <-p.known:
		case <-ctx.Done():
			return
		}
	}
}

// NetworkChanged makes the next tries come at once.
func (r *Reach) NetworkChanged() {
	if r == nil {
		return
	}
	for _, p := range r.probes {
		select {
		case p.again <- struct{}{}:
		default:
		}
	}
}

// Status returns what is known, in the order of the addresses.
func (r *Reach) Status() []ReachStatus {
	if r == nil {
		return nil
	}
	var all []ReachStatus
	for _, p := range r.probes {
		p.mu.Lock()
		all = append(all, p.status)
		p.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b ReachStatus) int {
		if a.Address.String() < b.Address.String() {
			return -1
		}
		return 1
	})
	return all
}

// run tries again and again.
func (p *reachProbe) run(ctx context.Context) {
	defer close(p.over)
	timer := time.NewTimer(0)
	defer timer.Stop()
	doubted := false // the last try failed, and the one before did not
	for {
		select {
		case <-timer.C:
		case <-p.again:
			doubted = false
		case <-ctx.Done():
			return
		}
		start := time.Now()
		err := p.try(ctx)
		if ctx.Err() != nil {
			return
		}
		doubted = err != nil && p.yes.Load() && !doubted
		p.note(start, err, doubted)
		if doubted {
			timer.Reset(reachAgain)
			continue
		}
		timer.Reset(reachEvery - reachEvery/10 + rand.N(reachEvery/5))
	}
}

// try connects once.
func (p *reachProbe) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	addrs := []netip.Addr{p.to.IP()}
	if !addrs[0].IsValid() {
		var err error
		if addrs, err = p.way.Resolver.Lookup(ctx, p.to.Host); err != nil {
			return err
		}
	}
	c, err := p.socket.connect(ctx, addrs, p.to.Port, p.permit)
	if err != nil {
		return err
	}
	return c.Close()
}

func (p *reachProbe) permit(ip netip.Addr) error {
	if at := netip.AddrPortFrom(ip, p.to.Port); p.owns != nil && p.owns(at) {
		return fmt.Errorf("%s is an address of this gateway itself", at)
	}
	return nil
}

// note keeps a result.
func (p *reachProbe) note(start time.Time, err error, doubted bool) {
	now := time.Now()
	p.mu.Lock()
	s := &p.status
	first := !s.Known
	s.Known, s.At, s.Took, s.Error = true, now, now.Sub(start), ""
	s.Tries++
	if err != nil {
		s.Error = p.words(err)
	}
	yes := err == nil || doubted
	changed := first || yes != s.Reachable
	if changed {
		s.Reachable, s.Since = yes, now
	}
	p.yes.Store(yes)
	said := *s
	p.mu.Unlock()
	if first {
		close(p.known)
	}
	if changed && p.changed != nil {
		p.changed(said)
	}
}

// words says why an address cannot be reached, as of a server that is dialled.
func (p *reachProbe) words(err error) string {
	phase := connmodel.PhaseDial
	if _, isDNS := err.(*net.DNSError); isDNS {
		phase = connmodel.PhaseResolve
	}
	return classify(&HopError{Hop: 1, Address: p.to, Phase: phase, Err: err}).Message
}

// TryReach tries one address once, for somebody who explains.
func TryReach(ctx context.Context, s ReachSpec, to connmodel.Address) ReachStatus {
	s.Addresses, s.Changed = []connmodel.Address{to}, nil
	r := NewReach(s, nil)
	defer r.Close()
	r.Await(ctx)
	return r.Status()[0]
}
