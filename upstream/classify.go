package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"viaduct/connmodel"
	"viaduct/upstream/resolve"
	"viaduct/upstream/socks5"
)

// whose says whose end of the journey a failure belongs to.
type whose uint8

const (
	peers   whose = iota // the hop, or the server, that was being spoken to
	nexts                // what the hop was asked to connect to: the next hop or the server
	ours                 // Viaduct itself, or the machine it runs on
	nobody               // the caller gave up, or a rule said no
	clients              // the client, whose own login a hop was to be shown
)

// verdict is what a wire error means.
type verdict struct {
	whose  whose
	kind   connmodel.Kind
	code   int
	codeOf string
	retry  bool
	chain  connmodel.ChainVerdict
	text   string // one sentence that says what to do, where something can be done
}

// row is one line of the table from wire errors to what they mean.
type row struct {
	name  string
	match func(e *HopError) (verdict, bool)
}

// rows is the table. The first row that matches counts.
var rows = []row{
	{"check", checkRow},
	{"guard", guardRow},
	{"client's login", loginRow},
	{"canceled", canceledRow},
	{"limit", limitRow},
	{"drained", drainedRow},
	{"address family", familyRow},
	{"unsayable host", hostRow},
	{"datagrams", datagramRow},
	{"credentials", credentialsRow},
	{"http status", statusRow},
	{"socks5 reply", socks5Row},
	{"socks5 auth", socks5AuthRow},
	{"socks4 reply", socks4Row},
	{"wire format", formatRow},
	{"http/2", h2Row},
	{"dns", dnsRow},
	{"certificate", certificateRow},
	{"tls alert", alertRow},
	{"not tls", recordRow},
	{"timeout", timeoutRow},
	{"errno", errnoRow},
	{"eof", eofRow},
	{"tls", tlsRow},
}

// classify says what a failure means.
func classify(e *HopError) *connmodel.ConnError {
	v := verdict{kind: connmodel.KindProtocol, retry: true, text: e.peer() + " failed: " + e.Err.Error()}
	for i := range rows {
		if m, ok := rows[i].match(e); ok {
			v = m
			break
		}
	}
	c := &connmodel.ConnError{Phase: e.Phase, Hop: e.Hop, HopName: e.Upstream, Kind: v.kind, Code: v.code, CodeOf: v.codeOf,
		Retryable: v.retry, Verdict: v.chain, Message: v.text, Cause: e}
	at, name := e.Hop, e.Upstream
	if v.whose == nexts {
		at, name = e.Hop+1, e.Next
	}
	switch {
	case v.whose == ours:
		c.Side, c.Blame = connmodel.SideViaduct, connmodel.BlameLocal
	case v.whose == clients: // the hop is as well as before: other clients go on
		c.Side, c.Blame = connmodel.SideHop, connmodel.BlameClient
	case v.whose == nobody:
		c.Side, c.Blame = connmodel.SideViaduct, connmodel.BlameNobody
	case at > e.Hops: // Hop and HopName keep naming the proxy that said so
		c.Side, c.Blame = connmodel.SideServer, connmodel.BlameTarget
	default:
		c.Side, c.Blame, c.Hop, c.HopName = connmodel.SideHop, connmodel.BlameProxy, at, name
	}
	if c.HopName == "" {
		c.Hop = 0
	}
	if v.kind == connmodel.KindDenied && c.Side == connmodel.SideHop {
		if e.Next == "" {
			c.Blame = connmodel.BlameTarget // its rules are about this target: the proxy is well
		} else {
			c.Retryable = true // proxies that do not let each other in: another way may do
		}
	}
	if v.kind == connmodel.KindTimeout && e.hasty {
		c.Blame = connmodel.BlameNobody
	}
	return c
}

// peer names who was being spoken to, with the address.
func (e *HopError) peer() string {
	if e.server() {
		return "the server " + e.Address.String()
	}
	return "the proxy " + e.Address.String()
}

// beyond names what the proxy was asked to connect to.
func (e *HopError) beyond() string {
	if e.Next != "" {
		return "the next proxy " + e.Next + " (" + e.Beyond.String() + ")"
	}
	return e.Beyond.String()
}

// during says in words what was going on.
func (e *HopError) during() string {
	switch e.Phase {
	case connmodel.PhaseResolve:
		return "while its name was looked up"
	case connmodel.PhaseDial:
		return "while it was being connected to"
	case connmodel.PhaseTLS:
		return "during the TLS handshake"
	case connmodel.PhaseGreeting:
		return "during the SOCKS greeting"
	case connmodel.PhaseAuth:
		return "while it checked our credentials"
	}
	return "when it was asked to connect to " + e.beyond()
}

// checkRow is what ends checks and no flows.
func checkRow(e *HopError) (verdict, bool) {
	var turn *turnError
	switch {
	case errors.Is(e.Err, errNotShown):
		return verdict{whose: nobody, kind: connmodel.KindAuth, text: "the proxy " + e.Upstream + " is there; " + errNotShown.Error()}, true
	case errors.As(e.Err, &turn):
		return verdict{whose: ours, kind: connmodel.KindLimit, text: "the check of " + e.Upstream + " had no time left: " + turn.Error()}, true
	}
	return verdict{}, false
}

func guardRow(e *HopError) (verdict, bool) {
	var g *guardError
	if !errors.As(e.Err, &g) {
		return verdict{}, false
	}
	v := verdict{whose: nobody, kind: connmodel.KindDenied, retry: !e.server(), text: "refused: " + g.Error()}
	var c *connmodel.ConnError
	if errors.As(g.err, &c) { // the guard has found the words itself
		v.kind, v.code, v.codeOf, v.text = c.Kind, c.Code, c.CodeOf, c.Message
	}
	return v, true
}

func canceledRow(e *HopError) (verdict, bool) {
	if !errors.Is(e.Err, context.Canceled) {
		return verdict{}, false
	}
	return verdict{whose: nobody, kind: connmodel.KindCanceled, text: "given up before the connection was made"}, true
}

func limitRow(e *HopError) (verdict, bool) {
	var l *limitError
	if !errors.As(e.Err, &l) {
		return verdict{}, false
	}
	return verdict{whose: ours, kind: connmodel.KindLimit, retry: true, text: "upstream " + e.Upstream + " has as many connections as its max_connections allows (" +
		strconv.Itoa(l.most) + ")"}, true
}

func drainedRow(e *HopError) (verdict, bool) {
	if !errors.Is(e.Err, errDrained) {
		return verdict{}, false
	}
	return verdict{whose: ours, kind: connmodel.KindUnreachable, retry: true, text: "upstream " + e.Upstream +
		" is drained: an operator took it out of service, and nothing else leads there"}, true
}

func familyRow(e *HopError) (verdict, bool) {
	switch {
	case errors.Is(e.Err, errNoIPv4):
		return verdict{whose: ours, kind: connmodel.KindUnreachable, retry: true,
			text: e.Address.String() + " has no IPv4 address, and SOCKS4 carries no other; use socks5 or socks5h"}, true
	case errors.Is(e.Err, errNoFamily):
		return verdict{whose: ours, kind: connmodel.KindUnreachable, retry: true,
			text: e.Address.String() + " has no address of the family of source_address"}, true
	}
	return verdict{}, false
}

// datagramRow is a way that carries connections and no datagrams: nobody's fault, and no reason to think ill of a proxy.
func datagramRow(e *HopError) (verdict, bool) {
	var reply *socks5.ReplyError
	var relay *relayError
	switch {
	case errors.Is(e.Err, errNoDatagrams):
		return verdict{whose: ours, kind: connmodel.KindProtocol, retry: true, text: "this way carries no datagrams: " + errNoDatagrams.Error()}, true
	case errors.As(e.Err, &relay):
		return verdict{whose: peers, kind: connmodel.KindProtocol, retry: true, text: relay.text}, true
	case e.associate && errors.As(e.Err, &reply):
		return verdict{whose: nobody, kind: connmodel.KindProtocol, retry: true, code: int(reply.Code), codeOf: "socks5",
			text: "upstream " + e.Upstream + " relays no datagrams for us (socks5: " + reply.Code.String() + ")"}, true
	}
	return verdict{}, false
}

func dnsRow(e *HopError) (verdict, bool) {
	var d *net.DNSError
	if !errors.As(e.Err, &d) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindDNS, retry: true}
	var own *resolve.Error
	switch {
	case errors.As(e.Err, &own): // one of the policy, which can say more
		if v.text = own.Error(); d.IsTimeout {
			v.kind = connmodel.KindTimeout
		}
		if !e.server() {
			v.text += "; it is the name of upstream " + e.Upstream
		}
	case d.IsNotFound:
		v.text = "there is no host named " + e.Address.Host + ", or it has no address"
		if !e.server() {
			v.text += "; check the url of upstream " + e.Upstream
		}
	case d.IsTimeout:
		v.kind = connmodel.KindTimeout
		v.text = "the name servers did not answer for " + e.Address.Host + " in time; check the resolver of this machine"
	default:
		v.text = "the name servers could not look up " + e.Address.Host + " (" + d.Err + ")"
	}
	return v, true
}

func timeoutRow(e *HopError) (verdict, bool) {
	var ne net.Error
	if !errors.Is(e.Err, os.ErrDeadlineExceeded) && !errors.Is(e.Err, context.DeadlineExceeded) && !(errors.As(e.Err, &ne) && ne.Timeout()) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindTimeout, retry: true, text: e.peer() + " did not answer in time " + e.during()}
	if e.Phase == connmodel.PhaseDial {
		v.text = "no answer from " + e.Address.String() + " in time; is it up, or does a firewall drop the packets?"
	}
	return v, true
}

// errnoRow is what the kernel says of sockets.
func errnoRow(e *HopError) (verdict, bool) {
	var n syscall.Errno
	if !errors.As(e.Err, &n) {
		return verdict{}, false
	}
	v := verdict{whose: peers, retry: true}
	switch n {
	case syscall.ECONNREFUSED:
		v.kind, v.text = connmodel.KindRefused, "connection refused: nothing listens at "+e.Address.String()
		if !e.server() {
			v.text += "; is the proxy running there?"
		}
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN:
		v.kind, v.text = connmodel.KindUnreachable, "there is no way from this machine to "+e.Address.String()+" ("+n.Error()+")"
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		v.kind, v.text = connmodel.KindReset, e.peer()+" reset the connection "+e.during()
	case syscall.EMFILE, syscall.ENFILE:
		v.whose, v.kind, v.retry = ours, connmodel.KindLimit, false
		v.text = "the gateway has no file descriptors left; raise its limit (LimitNOFILE)"
	case syscall.EADDRNOTAVAIL:
		v.whose, v.kind = ours, connmodel.KindLimit
		v.text = "there is no local address or port to reach " + e.Address.String() + " from; check source_address, and net.ipv4.ip_local_port_range"
	case syscall.EACCES, syscall.EPERM:
		v.whose, v.kind, v.retry = ours, connmodel.KindDenied, false
		v.text = "this machine does not let the gateway connect to " + e.Address.String() + " (firewall, or rights)"
	case syscall.ENODEV:
		v.whose, v.kind, v.retry = ours, connmodel.KindInternal, false
		v.text = "the interface to send from does not exist; check interface"
	case syscall.ENOBUFS, syscall.ENOMEM:
		v.whose, v.kind, v.retry = ours, connmodel.KindLimit, false
		v.text = "the machine has no memory left for sockets"
	default:
		v.whose, v.kind = ours, connmodel.KindInternal
		v.text = "connecting to " + e.Address.String() + " failed: " + n.Error()
	}
	return v, true
}

func eofRow(e *HopError) (verdict, bool) {
	v := verdict{whose: peers, kind: connmodel.KindEOF, retry: true}
	switch {
	case errors.Is(e.Err, io.ErrUnexpectedEOF):
		v.text = e.peer() + " closed the connection in the middle of its answer, " + e.during()
	case errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrClosedPipe), errors.Is(e.Err, net.ErrClosed):
		v.text = e.peer() + " closed the connection instead of answering, " + e.during()
	default:
		return verdict{}, false
	}
	return v, true
}
