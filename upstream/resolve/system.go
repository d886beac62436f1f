package resolve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Options of New; the zero value is the system's resolver with the defaults named here.
type Options struct {
	// Lookup asks the name servers; nil = net.DefaultResolver.
	Lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
	Timeout  time.Duration // of one query; 0 = 5 s
	Negative time.Duration // how long "no such name" is remembered; 0 = 10 s, at most 30 s, negative = not at all
	InFlight int           // names asked for at the same time; 0 = 1024
}

// negativeEntries bounds the memory of the negative cache.
const negativeEntries = 4096

// New returns a Resolver with one query in flight per name, shared by all who wait for it.
func New(o Options) Resolver {
	if o.Lookup == nil {
		o.Lookup = lookupSystem
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Negative == 0 {
		o.Negative = 10 * time.Second
	}
	o.Negative = min(o.Negative, 30*time.Second)
	if o.InFlight <= 0 {
		o.InFlight = 1024
	}
	return &resolver{o: o, flights: make(map[string]*flight), missing: make(map[string]time.Time)}
}

var system = sync.OnceValue(func() Resolver { return New(Options{}) })

// System returns the resolver of the machine, one for the whole process.
func System() Resolver { return system() }

func lookupSystem(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

type resolver struct {
	o       Options
	mu      sync.Mutex
	flights map[string]*flight
	missing map[string]time.Time // name -> until when it is known not to exist
}

// flight is one query and those who wait for it.
type flight struct {
	done    chan struct{} // closed when addrs and err are set
	addrs   []netip.Addr  // shared by all waiters: nobody changes it
	err     error
	waiters int
	cancel  context.CancelFunc
}

// Lookup implements Resolver. A caller whose context ends stops waiting; the query goes on for the others, and is given up
// when the last one has left.
func (r *resolver) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := r.join(host)
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f.addrs, f.err
	case <-ctx.Done():
		r.leave(host, f)
		return nil, ctx.Err()
	}
}

// join finds the query in flight for host or starts one.
func (r *resolver) join(host string) (*flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[host]; f != nil {
		f.waiters++
		return f, nil
	}
	if until, known := r.missing[host]; known {
		if time.Now().Before(until) {
			return nil, &net.DNSError{Err: "no such host (remembered)", Name: host, IsNotFound: true}
		}
		delete(r.missing, host)
	}
	if len(r.flights) >= r.o.InFlight {
		return nil, &net.DNSError{Err: "too many names are being looked up", Name: host, IsTemporary: true}
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.o.Timeout)
	f := &flight{done: make(chan struct{}), waiters: 1, cancel: cancel}
	r.flights[host] = f
	go r.fly(ctx, host, f)
	return f, nil
}

// NetworkChanged forgets which names do not exist: other name servers may know them.
func (r *resolver) NetworkChanged() {
	r.mu.Lock()
	clear(r.missing)
	r.mu.Unlock()
}

func (r *resolver) leave(host string, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		if r.flights[host] == f { // whoever comes now must not join a query that was given up
			delete(r.flights, host)
		}
	}
}

func (r *resolver) fly(ctx context.Context, host string, f *flight) {
	defer f.cancel()
	addrs, err := r.o.Lookup(ctx, host)
	f.addrs, f.err = unique(addrs), err
	var de *net.DNSError
	switch {
	case err == nil && len(f.addrs) == 0:
		f.err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case err != nil && ctx.Err() != nil && !errors.As(err, &de):
		f.err = &net.DNSError{Err: "no answer from the name servers", Name: host, IsTimeout: true}
	}
	r.mu.Lock()
	if r.flights[host] == f {
		delete(r.flights, host)
	}
	if errors.As(f.err, &de) && de.IsNotFound && r.o.Negative > 0 {
		r.remember(host)
	}
	r.mu.Unlock()
	close(f.done)
}

func (r *resolver) remember(host string) {
	now := time.Now()
	if len(r.missing) >= negativeEntries {
		for name, until := range r.missing {
			if now.After(until) {
				delete(r.missing, name)
			}
		}
		for name := range r.missing { // still full: any may go
			if len(r.missing) < negativeEntries {
				break
			}
			delete(r.missing, name)
		}
	}
	r.missing[host] = now.Add(r.o.Negative)
}

// unique unmaps addresses and drops repeats, in place of a new slice: lists are short.
func unique(addrs []netip.Addr) []netip.Addr {
	out := addrs[:0]
next:
	for _, a := range addrs {
		a = a.Unmap()
		for _, have := range out {
			if have == a {
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}
