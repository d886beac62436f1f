package upstream

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/proxyproto"
	"viaduct/upstream/resolve"
)

// Request is what Dial is asked for.
type Request struct {
	Route  string            // "direct", "upstream.NAME", "pool.NAME", "chain.NAME"
	Target connmodel.Address // the server to reach

	// Addrs are the target's addresses when the decision resolved it already: a name is never resolved twice. They are used
	// where Viaduct itself needs an address; a hop that takes names still gets the name, unless LocalResolve.
	Addrs        []netip.Addr
	LocalResolve bool // give an address even to hops that take names

	Resolver resolve.Resolver      // for the target's name; nil = the table's
	Resolved *connmodel.Resolution // where Addrs are from; nil = the machine's resolver, or not said

	// Plain says that one plain HTTP request follows: an http or https proxy as last hop is handed back as it is, without
	// CONNECT, for absolute-form (Conn.Absolute).
	Plain        bool
	Path         string // of the plain request, for a route that is chosen by it; "" = of none
	PlainConnect bool   // ... but not for this request
	Switches     bool   // ... and it asks to go on in another protocol (Upgrade): such a proxy is then asked over HTTP/1.1, on a connection of its own

	// Login says that the plain request has a body that can be sent once only: the proxy must have accepted us before.
	Login bool

	// Proved is who the client has proved to be, by a password; nil = it has not. It is shown to proxies that ask for it (Auth.FromClient).
	Proved *ClientLogin

	// Datagrams says that the way is for datagrams: see Conn.Datagrams. For the route "direct" it returns the socket that will send
	// them, to IPv6 addresses or to IPv4 addresses; it may be asked again for the same.
	Datagrams func(v6 bool) (*net.UDPConn, error)

	TLS      *connmodel.TLSPlan // Mode upgrade or intercept: TLS to the server is made here, and is part of the attempt
	Offer    *TLSOffer          // what the client of an intercepted tunnel asks the server for; nil = what the plan says
	Retry    *connmodel.Retry   // instead of the pool's; nil = the pool's
	Deadline time.Time          // for everything, all attempts; zero = 60 s from now
	Client   netip.Addr         // for hash by client

	// Via is the value of the Via field of CONNECT requests to proxies on the way (RFC 9110, section 7.6.3), by which loops are found;
	// "" = none is sent.
	Via string

	// Connected is told of the first TCP connection of each attempt before anything is sent on it; nil = nobody wants to know. An error
	// refuses it, as one of Check does.
	Connected func(*net.TCPConn) error

	// Header is the PROXY protocol header that is written to the server, before TLS and all else; nil = none. It forces
	// CONNECT for plain requests: a proxy that fetches by itself could not pass it on.
	Header *proxyproto.Header

	// Check is asked for every address of the target, literal or resolved here, before a socket to it is made or a proxy is
	// told of it. It is not asked for the addresses of proxies. An error refuses the address.
	Check func(netip.Addr) error

	check bool // it is a check and no flow: see Table.Check

	// Tried holds the pool members that failed this flow, so that a second Dial goes on to others; nil = nobody cares.
	Tried *Tried

	// Watch is told what each proxy answers, on the goroutine that dials, before the next thing is done; nil = nobody looks on. It is for
	// people who try a way.
	Watch func(Said)

	// Pin names the member that each pool on the way is to take, in the order in which the way meets the pools, by the name of its route
	// ("upstream.corp_a"); nil = the pools choose. It is for people who try one way after the other: health and limits are not asked.
	Pin []string

	// Choices keeps what choosers said of the flow, so that they are asked once for several requests about the same; nil = each request asks.
	Choices *Choices
}

// upgrade reports whether TLS to the server is made here.
func (q *Request) upgrade() bool { return q.TLS.ToServer() }

// TLSOffer is what a TLS client asks for, to be asked for in its place. It is not changed once made.
type TLSOffer struct {
	SNI  string   // name; the plan's own goes before it. "" = the server dialled for
	ALPN []string // protocols, in the client's order; nil = none
}

// key is the offer as part of a Key.
func (o *TLSOffer) key() string {
	if o == nil {
		return ""
	}
	return o.SNI + "/" + strings.Join(o.ALPN, ",")
}

// Key names what a connection leads to, for keeping connections of plain HTTP. Equal keys may stand in for each other.
type Key struct {
	table  uint64 // connections do not outlive the configuration they were made by
	Route  string
	Target connmodel.Address // zero where the connection is to a proxy that takes any target
	TLS    *connmodel.TLSPlan
	Header string // PROXY protocol header that the server was sent: the connection is of that client and no other
	Offer  string // TLSOffer, where there is TLS

	client [16]byte // of Request.Proved, where the route has a proxy that is shown it
}

// Conn is a connection that leads to the server, or, when Absolute, to the proxy that fetches from it.
type Conn struct {
	net.Conn        // the *net.TCPConn itself wherever nothing wraps it
	Early    []byte // what the far side sent right behind the last handshake: the first bytes of the tunnel

	Absolute bool // speak absolute-form HTTP, each request with the field that Authorize gives for it

	// Datagrams is the way of datagrams, where the request was for one; then the net.Conn is the control connection of the proxy's
	// association, whose end ends it, or nil when the way is direct.
	Datagrams *Datagrams

	// Kept says that it is a stream on a connection to a proxy that was there before: that may turn out to be dead.
	Kept bool

	Key Key

	closed  atomic.Bool
	lease   lease
	hop     *Hop                // the proxy that wants to know who we are; nil = it does not, or nothing is to be said any more
	session *auth.Session       // of the request under way, or of the connection
	auth    *auth.Authenticator // of hop; nil between two requests where it is the client's
}

// Outdated reports whether the pools on the way of c would not choose that way now: another member is to be used again, or this one is out, or drained.
// For a connection that waits to be used again.
func (c *Conn) Outdated() bool {
	if c.Drained() {
		return true
	}
	if len(c.lease.picks) == 0 {
		return false
	}
	now := time.Now()
	for i := range c.lease.picks {
		if p := &c.lease.picks[i]; p.pool.outdated(p.member, now) {
			return true
		}
	}
	return false
}

// Drained reports whether a proxy on the way of c was taken out of service.
func (c *Conn) Drained() bool {
	for _, h := range c.lease.hops {
		if h.out.Load() {
			return true
		}
	}
	return false
}

// Close closes the connection and gives back its place in limits and pools. Calls after the first do nothing.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.lease.release()
	if c.session != nil {
		c.session.Broken()
	}
	if d := c.Datagrams; d != nil {
		if d.Relay == nil {
			return nil
		}
		d.Relay.Close()
	}
	return c.Conn.Close()
}

// Answered tells what the proxy that fetches plain requests (Absolute) made of one: its status and nil, or the error that it wants other credentials than
// we show. That is known only when the connection is long up, and is a fault of the proxy's as if a tunnel had been refused: its failures
// and its places in pools count it, and while nothing better is known of it, connecting alone is no success. Other connections
// have nothing to tell.
func (c *Conn) Answered(status int, err *connmodel.ConnError) {
	n := len(c.lease.hops)
	if !c.Absolute || n == 0 || err != nil && err.Blame == connmodel.BlameClient {
		return
	}
	if err == nil && c.session != nil {
		c.session.Answered(status)
	}
	s := c.lease.hops[n-1].state
	if err == nil && !s.rejects.Load() && s.worked.Load() {
		return
	}
	now := time.Now()
	s.rejects.Store(err != nil)
	if err == nil {
		s.well()
	} else {
		s.failures.Add(1)
		s.row.Add(1)
		s.last.Store(&failure{now, err})
	}
	for i := len(c.lease.picks) - 1; i >= 0; i-- { // the innermost that holds it
		switch p := &c.lease.picks[i]; {
		case p.last != n || p.first == n:
		case err == nil:
			p.member.succeeded(now, 0, p.probe)
			return
		default:
			p.member.failed(now, err, p.probe)
			return
		}
	}
}

// String names the route and the target.
func (c *Conn) String() string {
	return "upstream.Conn(" + c.Key.Route + " to " + c.Key.Target.String() + ")"
}
