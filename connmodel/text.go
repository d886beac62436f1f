package connmodel

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Forms for people. What comes from the network is quoted where it holds anything but plain text, so that a line stays one
// line and no terminal obeys it.

// safe returns s when it is plain text without spaces, else s quoted.
func safe(s string) string {
	for i := 0; i < len(s); i++ {
		if !plain[s[i]] || s[i] == ' ' {
			return strconv.QuoteToASCII(bound(s, maxQuoted))
		}
	}
	return bound(s, maxQuoted)
}

// String returns for instance "Client(10.0.0.1:1234, open|can_read)".
func (c Client) String() string { return "Client(" + c.Connection.short() + ")" }

// String returns for instance "Server(host:443, active, tls, alpn=h2)".
func (s Server) String() string { return "Server(" + s.Connection.short() + ")" }

func (c *Connection) short() string {
	var b strings.Builder
	if c.Address.IsZero() {
		b.WriteString("none")
	} else {
		b.WriteString(safe(c.Address.String()))
	}
	b.WriteString(", " + c.State.String())
	switch {
	case c.TLSEstablished():
		b.WriteString(", tls")
	case c.TLS:
		b.WriteString(", tls wanted")
	}
	if t := c.TLSInfo; t != nil && t.ALPN != nil && *t.ALPN != "" {
		b.WriteString(", alpn=" + safe(*t.ALPN))
	}
	if c.Error != nil {
		b.WriteString(", error=" + string(c.Error.Kind))
	}
	return b.String()
}

// fields collects the parts of a debug form; what is zero is left out.
type fields struct{ b strings.Builder }

func (f *fields) add(name, value string) {
	if value != "" {
		if f.b.Len() > 0 {
			f.b.WriteString(", ")
		}
		f.b.WriteString(name + "=" + value)
	}
}

func (f *fields) text(name, value string) {
	if value != "" {
		f.add(name, safe(value))
	}
}

func (f *fields) time(name string, t time.Time) {
	if !t.IsZero() {
		f.add(name, t.UTC().Format("2006-01-02T15:04:05.000000Z"))
	}
}

func (f *fields) flag(name string, v bool) {
	if v {
		f.add(name, "true")
	}
}

func (f *fields) socket(name string, ap netip.AddrPort) {
	if ap.IsValid() {
		f.text(name, ap.String())
	}
}

func (f *fields) connection(c *Connection) {
	f.add("id", c.ID.Short())
	f.text("address", c.Address.String())
	f.socket("peername", c.Peer)
	f.socket("sockname", c.Local)
	f.add("state", c.State.String())
	if c.Error != nil {
		f.add("error", strconv.QuoteToASCII(bound(c.Error.Error(), maxQuoted)))
	}
	f.flag("tls", c.TLS)
	if t := c.TLSInfo; t != nil {
		f.text("tls_version", t.Version)
		f.text("cipher", t.Cipher)
		f.text("sni", t.SNI)
		if t.ALPN != nil {
			f.add("alpn", strconv.QuoteToASCII(bound(*t.ALPN, maxQuoted)))
		}
		f.text("verdict", string(t.Verdict))
		f.flag("unverified", t.Unverified)
		if n := len(t.Certificates); n > 0 {
			f.add("certificates", strconv.Itoa(n))
		}
	}
	f.time("start", c.Start)
	f.time("tcp_setup", c.TCPSetup)
	f.time("tls_setup", c.TLSSetup)
	f.time("end", c.End)
}

// GoString returns the debug form: every field that is not zero, with the end of the id.
func (c Client) GoString() string {
	var f fields
	f.connection(&c.Connection)
	f.text("listener", c.Listener)
	f.text("protocol", string(c.Protocol))
	f.text("user", c.User)
	return "Client{" + f.b.String() + "}"
}

// GoString returns the debug form: every field that is not zero, with the end of the id.
func (s Server) GoString() string {
	var f fields
	f.connection(&s.Connection)
	f.text("via", s.Via)
	f.text("route", s.Route)
	f.text("resolved_by", s.ResolvedBy)
	f.flag("reused", s.Reused)
	if n := len(s.Attempts); n > 0 {
		f.add("attempts", strconv.Itoa(n))
	}
	return "Server{" + f.b.String() + "}"
}

// String returns the flow on one line, in the manner of HAProxy's log: who, what for, by which rule and route, how long it
// took, how much went each way, and who ended it and why:
//
//	1f2e3d4c 10.0.0.1:1234 connect host.example:443 rule="partner api" route=corp_a>jump 0.1/42.7/0.0/1200.5ms up=517 down=4096 attempts=1 client_closed by=client
//
// The times are: until the decision, from there until the server was up, TLS with the server, everything. A dash stands for
// what did not happen.
func (f *Flow) String() string {
	if f == nil {
		return "Flow(none)"
	}
	var b strings.Builder
	b.WriteString(f.ID.Short())
	client := "-"
	if f.Client != nil && !f.Client.Address.IsZero() {
		client = safe(f.Client.Address.String())
	}
	fmt.Fprintf(&b, " %s %s %s", client, safe(string(f.Protocol)), safe(f.Target.String()))
	if d := f.Decision; d != nil {
		b.WriteString(" rule=" + safe(d.Rule))
	}
	attempts, tcp, tls := 0, time.Duration(0), time.Duration(0)
	if s := f.Server; s != nil {
		attempts = len(s.Attempts)
		route := s.Route
		if route == "" {
			route = s.Via
		}
		b.WriteString(" route=" + safe(strings.ReplaceAll(route, " > ", ">")))
		if !s.Reused {
			tcp, tls = between(f.Decided, s.TCPSetup), between(s.TCPSetup, s.TLSSetup)
		}
	}
	fmt.Fprintf(&b, " %s/%s/%s/%sms up=%d down=%d attempts=%d", timer(between(f.Start, f.Decided)), timer(tcp), timer(tls), timer(between(f.Start, f.End)), f.Up, f.Down, attempts)
	switch {
	case f.End.IsZero():
		b.WriteString(" open")
	case f.Reason != "":
		b.WriteString(" " + safe(string(f.Reason)))
	}
	if f.First != "" {
		b.WriteString(" by=" + safe(string(f.First)))
	}
	if f.Error != nil {
		fmt.Fprintf(&b, " phase=%s kind=%s error=%s", safe(string(f.Error.Phase)), safe(string(f.Error.Kind)), strconv.QuoteToASCII(bound(f.Error.Error(), maxQuoted)))
	}
	return b.String()
}

func timer(d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64)
}

// String returns for instance `server_connect_error attempt=1 hop=2 side=hop: "hop 2 (jump): connection refused"`.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(string(e.Kind))
	if e.Attempt > 0 {
		fmt.Fprintf(&b, " attempt=%d", e.Attempt)
	}
	if e.Hop > 0 {
		fmt.Fprintf(&b, " hop=%d", e.Hop)
	}
	if e.Side != "" {
		b.WriteString(" side=" + string(e.Side))
	}
	if e.Error != nil {
		b.WriteString(": " + strconv.QuoteToASCII(bound(e.Error.Error(), maxQuoted)))
	}
	if e.Certificate != nil {
		b.WriteString(": " + strconv.QuoteToASCII(bound(e.Certificate.Message, maxQuoted)))
	}
	return b.String()
}
