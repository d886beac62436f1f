package forward

import (
	"net"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// Server is one connection that plain requests can be sent on: to the server itself (perhaps through hops), or, when Absolute,
// to the proxy that fetches from it. It belongs to one exchange at a time.
type Server struct {
	Conn net.Conn
	In   http1.Reader // what was read of it and not yet used

	Absolute bool  // a proxy: speak absolute-form
	Login    Login // proves to that proxy, and to no other, who we are; nil = it is shown nothing
	Hop      int   // index of that proxy in the chain, for blame; 0 = none
	HopName  string

	Key    any  // who it leads to; comparable. Connections of equal keys may stand in for each other
	Reused bool // it served a request before, or is a stream on a connection that did: it may be dead without our knowing

	// Personal says that it is of one client: a Pool does not take it.
	Personal bool

	// Record is what the record of the flow that opened it said of it.
	Record *connmodel.Server
	// Answered is told of each answer: its status and nil, or the error of a proxy that answers 407, which is for it or our credentials to
	// account for, not for the client; nil = nobody is told.
	Answered func(status int, err *connmodel.ConnError)
	// Outdated reports whether the connection, kept from before, leads by a way that would not be chosen any more; nil = never.
	Outdated func() bool
	// Drained reports whether it leads through something that was taken out of service; nil = never.
	Drained func() bool
	// Close closes the connection and gives back what it counts for. It must be safe to call twice.
	Close func() error

	idleSince time.Time
	bound     bool
	look      *glance
	pool      links
}

// Login proves to a proxy who we are.
type Login interface {
	// Authorize returns the field that a request is to carry; empty = none. uri is the target as it stands in the request line.
	Authorize(method, uri string) (name, value string, err *connmodel.ConnError)
	// Challenged tells of a 407 to a request, with the values of its Proxy-Authenticate fields, and reports whether the same request is worth
	// another try, here if this connection can go on, else on another one. All results are empty where nothing is known of it.
	Challenged(method, uri string, challenges []string) (again, here bool, err *connmodel.ConnError)
}

// Bound reports whether the connection carries, or is about to carry, a login that belongs to the connection rather than to each
// request (NTLM, and Negotiate as it is used), or is Personal. It may serve the client that logged in and nobody else: a Pool does not take it.
func (s *Server) Bound() bool { return s.bound || s.Personal }

// Wake reports whether a connection that was kept outside of a Pool can serve another request: it is open and silent.
func (s *Server) Wake() bool {
	s.Reused = true
	return len(s.In.Buffered()) == 0 && silent(s.Conn) && s.alive()
}
