package upstream

import (
	"crypto/x509"
	"errors"
	"strconv"

	"viaduct/connmodel"
)

// HopError says where on the way something failed. Wire errors stay below it: *net.OpError, *net.DNSError, tls.AlertError,
// socks5.ReplyError, httpconnect.StatusError and the like are found with errors.As.
type HopError struct {
	Hop      int               // 1-based index of the hop that was being spoken to; Hops+1 = the server itself
	Upstream string            // name of that hop; "" = the server
	Scheme   string            // of that hop; "" = the server
	Address  connmodel.Address // of that hop, or the server
	Hops     int               // proxies on the way
	Next     string            // name of the hop behind it; "" = the server
	Beyond   connmodel.Address // what it was asked to connect to
	Phase    connmodel.Phase
	Err      error

	sent       []*x509.Certificate  // by the TLS peer
	clientAuth connmodel.ClientAuth // whether the TLS peer asked for a certificate of ours

	hint      string // a word of an HTTP proxy's about its refusal: see hintOf
	associate bool   // the hop was asked to relay datagrams
	shown     bool   // our credentials had been shown to the hop
	client    bool   // ... which are those of the client
	hasty     bool   // so little of the flow's deadline was left that its end says nothing about the hop
}

// Error names the place and says what the wire said.
func (e *HopError) Error() string {
	where := "server"
	if !e.server() {
		where = "hop " + strconv.Itoa(e.Hop) + " (" + e.Upstream + ")"
	}
	return where + ": " + string(e.Phase) + ": " + e.Err.Error()
}

// Unwrap returns what the wire said.
func (e *HopError) Unwrap() error { return e.Err }

// server reports whether it was the server that was being spoken to, not a proxy.
func (e *HopError) server() bool { return e.Hop > e.Hops }

// guardError says that the destination guard refused an address.
type guardError struct{ err error }

func (e *guardError) Error() string { return e.err.Error() }
func (e *guardError) Unwrap() error { return e.err }

// limitError says that a hop has as many connections as it may.
type limitError struct{ most int }

func (e *limitError) Error() string {
	return "the limit of " + strconv.Itoa(e.most) + " connections is reached"
}

// errDrained says that an operator took a hop out of service.
var errDrained = errors.New("it is drained")

// canceledError says that the caller gave up; during is what the wire said then.
type canceledError struct{ cause, during error }

func (e *canceledError) Error() string { return e.cause.Error() }
func (e *canceledError) Unwrap() error { return e.cause }
