package resolve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Client is a Resolver with name servers of its own. It has no goroutine while nobody asks, but for connections to servers in their last
// ten seconds.
type Client struct {
	o      Config
	groups []*group // the longest suffix first
	way    atomic.Pointer[Ways]
	cache  cache
	now    func() time.Time // for tests

	mu      sync.Mutex
	flights map[string]*search

	lookups, hits, stale, written, failures atomic.Uint64
}

// Defaults.
const (
	defaultTimeout  = 2 * time.Second
	defaultAttempts = 2
	defaultInFlight = 1024
	defaultEntries  = 10_000
	defaultMaxTTL   = time.Hour
	defaultNegative = 30 * time.Second
)

const (
	wholeTime    = 10 * time.Second       // for a name, all servers and aliases together
	secondFamily = 300 * time.Millisecond // that addresses of one family wait for those of the other
	partTTL      = 30 * time.Second       // addresses are good for at most that when those of the other family are not known
	unsaidTTL    = 5 * time.Second        // "no such name" where the server does not say for how long
	failureTTL   = time.Second            // that nothing could be found out (RFC 9520)
	staleAnswer  = 1800 * time.Millisecond
	staleTTL     = 30 * time.Second // both of RFC 8767, section 5
)

// NewClient makes a Client. Until SetWays is called servers are reached straight.
func NewClient(o Config) (*Client, error) {
	if len(o.Groups) == 0 || o.Groups[0].Suffix != "" {
		return nil, errors.New("resolver " + o.Name + ": the first group of servers is for all names")
	}
	o.Timeout = orDefault(o.Timeout, defaultTimeout)
	o.Attempts = orDefault(o.Attempts, defaultAttempts)
	o.InFlight = orDefault(o.InFlight, defaultInFlight)
	o.CacheSize = orDefault(o.CacheSize, defaultEntries)
	o.MaxTTL = max(orDefault(o.MaxTTL, defaultMaxTTL), o.MinTTL)
	if o.Negative == 0 {
		o.Negative = defaultNegative
	}
	c := &Client{o: o, now: time.Now, flights: make(map[string]*search), cache: cache{entries: make(map[string]*entry), size: o.CacheSize}}
	for i := range o.Groups {
		c.groups = append(c.groups, c.newGroup(&o.Groups[i]))
	}
	slices.SortStableFunc(c.groups, func(a, b *group) int { return len(b.suffix) - len(a.suffix) })
	var w Ways = &straight{net.Dialer{Timeout: streamConnect}}
	c.way.Store(&w)
	return c, nil
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

func (c *Client) newGroup(g *Group) *group {
	out := &group{suffix: g.Suffix, system: g.System}
	for _, spec := range g.Servers {
		s := &server{c: c, spec: spec, via: g.Via, label: spec.String()}
		for n := 2; slices.ContainsFunc(out.servers, func(o *server) bool { return o.label == s.label }); n++ { // they differ in their paths
			s.label = fmt.Sprintf("%s#%d", spec.String(), n)
		}
		conf := &tls.Config{MinVersion: tls.VersionTLS12}
		if g.TLS != nil {
			conf = g.TLS.Clone()
		}
		if conf.ServerName == "" {
			conf.ServerName = spec.Host
		}
		conf.NextProtos, conf.ClientSessionCache = nil, tls.NewLRUClientSessionCache(maxStreams)
		switch spec.Scheme {
		case "udp", "tcp":
			s.stream = &streams{s: s}
		case "tls":
			s.stream = &streams{s: s, tls: conf}
		case "https":
			s.doh = newDoH(s, conf)
		}
		out.servers = append(out.servers, s)
	}
	return out
}

// Name returns the name of the resolver.
func (c *Client) Name() string { return c.o.Name }

// SetWays says how servers are reached from now on. Connections that are there go on.
func (c *Client) SetWays(w Ways) { c.way.Store(&w) }

func (c *Client) ways() Ways { return *c.way.Load() }

// NetworkChanged forgets what was not found, which servers did not answer, and the connections to them, and takes no kept answer for good
// any more: other name servers may say otherwise. What is being asked goes on for those who wait, and is neither kept nor waited for by others.
func (c *Client) NetworkChanged() {
	c.cache.flush(c.now())
	c.mu.Lock()
	clear(c.flights)
	c.mu.Unlock()
	for _, g := range c.groups {
		for _, s := range g.servers {
			s.forget()
		}
	}
}

// Close closes the connections to servers. Lookups under way fail over to new ones, and those to come work: a configuration that has been
// replaced may be in use by flows for a while.
func (c *Client) Close() {
	for _, g := range c.groups {
		for _, s := range g.servers {
			s.hangUp()
		}
	}
}

// Lookup implements Resolver.
func (c *Client) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	a, err := c.Find(ctx, host)
	return a.Addrs, err
}

// Find implements Finder.
func (c *Client) Find(ctx context.Context, host string) (Answer, error) {
	if ip, ok := literal(host); ok {
		return Answer{Addrs: []netip.Addr{ip}, From: FromLiteral}, nil
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	host = strings.ToLower(host) // itself, if it is lower already
	c.lookups.Add(1)
	if addrs, ok := c.o.Hosts[host]; ok {
		c.written.Add(1)
		return c.ofHosts(host, addrs)
	}
	now := c.now()
	e := c.cache.get(host)
	if e != nil && e.until.After(now) {
		c.hits.Add(1)
		return c.known(host, e, FromCache)
	}
	if addrs, special, err := c.special(host); special {
		return Answer{Addrs: addrs, Resolver: c.o.Name, From: FromSpecial}, err
	}
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	if e != nil && (e.err != nil || !e.stale.After(now)) {
		c.cache.remove(host, e)
		e = nil
	}
	return c.wait(ctx, host, e)
}

// known returns what is in an entry.
func (c *Client) known(host string, e *entry, from string) (Answer, error) {
	if e.err != nil {
		err := *e.err
		err.Cached = from == FromCache
		return Answer{Resolver: c.o.Name, From: from, Server: e.server}, err.finish()
	}
	if e.from == FromStale || e.from != FromServer && from == FromServer {
		from = e.from
	}
	return Answer{Addrs: e.addrs, Resolver: c.o.Name, From: from, Server: e.server}, nil
}

func (c *Client) ofHosts(host string, addrs []netip.Addr) (Answer, error) {
	a := Answer{Addrs: addrs, Resolver: c.o.Name, From: FromHosts}
	if c.o.Family != Any {
		a.Addrs = c.order(context.Background(), addrs)
	}
	if len(a.Addrs) == 0 {
		return a, (&Error{Name: host, Resolver: c.o.Name, Result: NoData, Reason: "the hosts of the policy give it no address of that family"}).finish()
	}
	return a, nil
}

var localhost = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// special answers for names that no server is asked for: localhost (RFC 6761, section 6.3), invalid (6.4), onion (RFC 7686).
func (c *Client) special(host string) (addrs []netip.Addr, special bool, err error) {
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch last {
	case "localhost":
		return c.order(context.Background(), localhost), true, nil
	case "invalid", "onion":
		return nil, true, (&Error{Name: host, Resolver: c.o.Name, Result: NXDomain, Reason: "no server is asked for names that end in ." + last}).finish()
	}
	return nil, false, nil
}

// search is one name that is being looked up, and those who wait for it.
type search struct {
	done    chan struct{} // closed when e is set
	e       *entry
	of      uint64 // state of the cache when it was begun
	stale   bool   // e is past its time, because nobody answered
	waiters int
	cancel  context.CancelFunc
}

// wait finds the search for a name or begins it. old, which may be nil, stands in when it takes too long or fails. A caller whose context
// ends stops waiting; the search goes on for the others, and is given up when the last one has left.
func (c *Client) wait(ctx context.Context, host string, old *entry) (Answer, error) {
	f, err := c.join(host, old)
	if err != nil {
		return Answer{Resolver: c.o.Name}, err
	}
	var late <-chan time.Time
	if old != nil {
		t := time.NewTimer(staleAnswer)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-f.done:
		from := FromServer
		if f.stale {
			from = FromStale
			c.stale.Add(1)
		}
		if f.e.err != nil {
			c.failures.Add(1)
		}
		return c.known(host, f.e, from)
	case <-late: // the search goes on for the next one: nobody leaves it
		c.stale.Add(1)
		return c.known(host, old, FromStale)
	case <-ctx.Done():
		c.leave(host, f)
		return Answer{Resolver: c.o.Name}, ctx.Err()
	}
}

func (c *Client) join(host string, old *entry) (*search, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[host]; f != nil {
		f.waiters++
		return f, nil
	}
	if len(c.flights) >= c.o.InFlight {
		return nil, (&Error{Name: host, Resolver: c.o.Name, Result: Failed, Reason: "too many names are being looked up"}).finish()
	}
	ctx, cancel := context.WithTimeout(context.Background(), wholeTime)
	f := &search{done: make(chan struct{}), of: c.cache.state(), waiters: 1, cancel: cancel}
	c.flights[host] = f
	go c.fly(ctx, host, f, old)
	return f, nil
}

func (c *Client) leave(host string, f *search) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		if c.flights[host] == f { // whoever comes now must not join a search that was given up
			delete(c.flights, host)
		}
	}
}

// fly searches, and keeps what is found.
func (c *Client) fly(ctx context.Context, host string, f *search, old *entry) {
	defer f.cancel()
	e, ttl := c.find(ctx, host)
	now := c.now()
	switch {
	case ctx.Err() == context.Canceled: // nobody waits, and nothing was learnt of the servers: what is there does not become any better
	case e.err != nil && e.err.Result >= ServFail && old != nil && old.stale.After(now):
		e = &entry{addrs: old.addrs, server: old.server, from: FromStale, until: now.Add(staleTTL), stale: old.stale}
		if !e.stale.After(e.until) {
			e.until = e.stale
		}
		f.e, f.stale = old, true
	case e.err == nil:
		e.until = now.Add(ttl)
		if c.o.ServeStale > 0 {
			e.stale = e.until.Add(c.o.ServeStale)
		}
	default:
		e.until = now.Add(ttl)
	}
	if e.until.After(now) || e.stale.After(now) {
		c.cache.put(host, e, f.of, now)
	}
	if f.e == nil {
		f.e = e
	}
	c.mu.Lock()
	if c.flights[host] == f {
		delete(c.flights, host)
	}
	c.mu.Unlock()
	close(f.done)
}

// find asks for a name, and where it has no dot for what it may stand for. ttl is how long the entry is good.
func (c *Client) find(ctx context.Context, host string) (e *entry, ttl time.Duration) {
	if len(c.o.Search) > 0 && strings.IndexByte(host, '.') < 0 {
		for _, suffix := range c.o.Search {
			e, ttl = c.findName(ctx, host+"."+suffix)
			if e.err == nil || e.err.Result != NXDomain && e.err.Result != NoData {
				return e, ttl
			}
		}
	}
	return c.findName(ctx, host)
}

// part is what was found of one family.
type part struct {
	r   reply
	by  string
	err *Error
}

// findName asks for both families at once.
func (c *Client) findName(ctx context.Context, name string) (*entry, time.Duration) {
	if addrs, ok := c.o.Hosts[name]; ok {
		if addrs = c.order(ctx, addrs); len(addrs) > 0 {
			return &entry{addrs: addrs, from: FromHosts}, c.o.MaxTTL
		}
	}
	if c.groupOf(name).system {
		return c.ofSystem(ctx, name)
	}
	if err := checkName(name); err != nil {
		return &entry{err: &Error{Name: name, Resolver: c.o.Name, Result: Failed, Reason: err.Error()}}, 0
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var four, six *part
	answers := make(chan *part, 2)
	wanted := 0
	start := func(qtype dnsmessage.Type, to **part) {
		wanted++
		p := new(part)
		*to = p
		go func() {
			c.chase(ctx, name, qtype, p)
			answers <- p
		}()
	}
	if c.o.Family != OnlyV6 {
		start(dnsmessage.TypeA, &four)
	}
	if c.o.Family != OnlyV4 {
		start(dnsmessage.TypeAAAA, &six)
	}
	var parts []*part
	var enough <-chan time.Time
	for len(parts) < wanted {
		select {
		case p := <-answers:
			parts = append(parts, p)
			if len(p.r.addrs) > 0 && len(parts) < wanted {
				t := time.NewTimer(secondFamily)
				defer t.Stop()
				enough = t.C
			}
			if p.r.missing { // whatever the kind
				wanted = len(parts)
			}
		case <-enough:
			return c.merge(ctx, name, parts, true)
		}
	}
	return c.merge(ctx, name, parts, false)
}

// merge makes one entry of what was found of each family. half says that one of them did not come.
func (c *Client) merge(ctx context.Context, name string, parts []*part, half bool) (*entry, time.Duration) {
	e := &entry{from: FromServer}
	var ttl time.Duration
	var failed *Error
	var missing *part
	for _, p := range parts {
		switch own := time.Duration(p.r.ttl) * time.Second; {
		case p.err != nil:
			if half = true; failed == nil {
				failed = p.err
			} else {
				failed = worse(failed, p.err)
			}
		case len(p.r.addrs) > 0:
			if len(e.addrs) == 0 || own < ttl {
				ttl = own
			}
			e.addrs, e.server = append(e.addrs, p.r.addrs...), p.by
		case missing == nil || p.r.missing && !missing.r.missing:
			missing = p
		}
	}
	switch {
	case len(e.addrs) > 0:
		e.addrs = c.order(ctx, unique(e.addrs))
		if ttl = min(max(ttl, c.o.MinTTL), c.o.MaxTTL); half {
			ttl = min(ttl, partTTL)
		}
		return e, ttl
	case failed != nil && (missing == nil || !missing.r.missing):
		e.err, e.addrs = failed, nil
		return e, failureTTL
	}
	e.server = missing.by
	e.err = &Error{Name: name, Resolver: c.o.Name, Result: NoData, Said: []Said{{missing.by, "the name is there, and has no address"}}}
	if missing.r.missing {
		e.err.Result, e.err.Said[0].What = NXDomain, "NXDOMAIN"
	}
	if ttl = unsaidTTL; missing.r.ttlKnown {
		ttl = time.Duration(missing.r.ttl) * time.Second
	}
	return e, min(ttl, max(c.o.Negative, 0))
}

// worse picks of two failures the one that says more.
func worse(a, b *Error) *Error {
	if a.Result == Timeout && b.Result != Timeout {
		return b
	}
	return a
}

// maxRestarts bounds how often an alias whose address the server did not send along is asked for.
const maxRestarts = 8

// chase asks for the addresses of one family, and goes after aliases.
func (c *Client) chase(ctx context.Context, name string, qtype dnsmessage.Type, p *part) {
	ttl, known := uint32(0), false
	for n := 0; ; n++ {
		r, by, err := c.groupOf(name).ask(ctx, c, name, qtype)
		if err != nil {
			p.err = err
			return
		}
		p.by = by.label
		if known && (!r.ttlKnown || ttl < r.ttl) {
			r.ttl, r.ttlKnown = ttl, true
		}
		p.r = r
		if r.alias == "" || r.missing {
			return
		}
		ttl, known, name = r.ttl, true, r.alias
		if n == maxRestarts {
			p.err = &Error{Name: name, Resolver: c.o.Name, Result: Failed, Said: []Said{{by.label, "a chain of too many aliases"}}}
			return
		}
		if c.groupOf(name).system {
			e, _ := c.ofSystem(ctx, name)
			if p.err = e.err; e.err == nil {
				for _, a := range e.addrs {
					if a.Is4() == (qtype == dnsmessage.TypeA) {
						p.r.addrs = append(p.r.addrs, a)
					}
				}
				p.r.alias = ""
			}
			return
		}
	}
}

// groupOf returns who is asked for a name.
func (c *Client) groupOf(name string) *group {
	for _, g := range c.groups {
		if g.suffix == "" || name == g.suffix || strings.HasSuffix(name, g.suffix) && name[len(name)-len(g.suffix)-1] == '.' {
			return g
		}
	}
	return c.groups[len(c.groups)-1] // not reached: the last one takes all
}

// ofSystem asks the machine's resolver, which does not say how long its answers are good.
func (c *Client) ofSystem(ctx context.Context, name string) (*entry, time.Duration) {
	addrs, err := System().Lookup(ctx, name)
	e := &entry{from: FromSystem}
	if err == nil {
		if e.addrs = c.order(ctx, addrs); len(e.addrs) > 0 {
			return e, c.o.MinTTL
		}
		err = &net.DNSError{Err: "no address of that family", Name: name, IsNotFound: true}
	}
	e.err = &Error{Name: name, Resolver: c.o.Name, Result: Failed, Reason: "the machine's resolver: " + err.Error()}
	var de *net.DNSError
	if errors.As(err, &de) {
		switch e.err.Reason = "the machine's resolver: " + de.Err; {
		case de.IsNotFound:
			e.err.Result = NXDomain
		case de.IsTimeout:
			e.err.Result = Timeout
		}
	}
	return e, 0
}

// order returns the addresses that are wanted, in the order to try them.
func (c *Client) order(ctx context.Context, addrs []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	switch c.o.Family {
	case OnlyV4:
		return four
	case OnlyV6:
		return six
	case PreferV4:
		return append(four, six...)
	case PreferV6:
		return append(six, four...)
	}
	if len(four) == 0 || len(six) == 0 {
		return addrs
	}
	if reaches6(ctx, six[0]) {
		return append(six, four...)
	}
	return append(four, six...)
}

// reaches6 reports whether this machine has a way to an address, from one of its own of the same reach (RFC 6724, rules 1 and 2).
// Nothing is sent for that.
func reaches6(ctx context.Context, a netip.Addr) bool {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp6", netip.AddrPortFrom(a, 53).String())
	if err != nil {
		return false
	}
	defer conn.Close()
	own, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return false
	}
	from := own.AddrPort().Addr()
	return from.IsLoopback() == a.IsLoopback() && from.IsPrivate() == a.IsPrivate() && from.IsLinkLocalUnicast() == a.IsLinkLocalUnicast()
}
