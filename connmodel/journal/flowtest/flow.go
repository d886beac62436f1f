// Package flowtest makes records for tests: flows of every kind with values from small pools, so that two of them often agree, and among these
// values such as people with bad intent would choose. It is for tests alone.
package flowtest

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"viaduct/connmodel"
)

// Epoch is about when the flows are.
var Epoch = time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)

// Texts are values that texts of a flow have.
var Texts = []string{"", "anna", "otto", "corp_a", "jump", "desk", "partner api", "ANNA", "a'b", `a"b`, "a%b_c", `back\slash`, "'; DROP TABLE flows; --", "=1+1", "-x", "@x", "\x1b[31mred", "zero\x00byte",
	"ünïcode", "\u202egnp.exe", "line\nbreak", "tab\tthere", "<script>", strings.Repeat("long", 20), "😀", "%", "_", "*", "[a-z]"}

// Hosts are the names and addresses that flows ask for.
var Hosts = []string{"api.partner.example", "partner.example", "www.example", "intranet", "10.1.2.3", "192.0.2.7", "2001:db8::1", "xn--bcher-kva.example", "a_b.example", "notpartner.example"}

// Addresses are those of clients and servers.
var Addresses = []string{"10.1.2.3", "10.1.2.4", "192.0.2.7", "2001:db8::1", "127.0.0.1", "::1"}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// Text is one of Texts.
func Text(r *rand.Rand) string { return pick(r, Texts) }

func half(r *rand.Rand) bool { return r.IntN(2) == 0 }

// Address is one of Addresses with a port; sometimes there is none.
func Address(r *rand.Rand) netip.AddrPort {
	if r.IntN(8) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.MustParseAddr(pick(r, Addresses)), uint16(r.IntN(4)))
}

// Flow makes a flow. It keeps no invariant of recorders: whoever reads records has to bear all that can be in one.
func Flow(r *rand.Rand) *connmodel.Flow {
	start := Epoch.Add(time.Duration(r.IntN(4)) * time.Minute).Add(time.Duration(r.IntN(3)) * 1500 * time.Nanosecond)
	f := &connmodel.Flow{
		ID: connmodel.NewID(start), Session: connmodel.NewID(start), Generation: uint64(r.IntN(3)), Start: start,
		Protocol: pick(r, []connmodel.Protocol{connmodel.ProtocolHTTP, connmodel.ProtocolConnect, connmodel.ProtocolSOCKS5, connmodel.ProtocolRedirect, connmodel.ProtocolTProxy, connmodel.ProtocolUDP, connmodel.ProtocolForward}),
		Up:       int64(r.IntN(3)) * 1000, Down: int64(r.IntN(3)) << 20, Truncated: r.IntN(10) == 0, Panicked: r.IntN(20) == 0,
	}
	if r.IntN(20) > 0 {
		f.Target = connmodel.Address{Host: pick(r, Hosts), Port: pick(r, []uint16{80, 443, 22})}
	}
	if r.IntN(10) > 0 {
		f.End = start.Add(time.Duration(r.IntN(5)) * 1234567 * time.Microsecond)
		f.Reason = pick(r, []connmodel.CloseReason{connmodel.CloseClient, connmodel.CloseServer, connmodel.CloseFailed, connmodel.CloseDenied})
		f.First = pick(r, []connmodel.Side{"", connmodel.SideClient, connmodel.SideServer})
	}
	if r.IntN(20) > 0 {
		client(r, f)
	}
	if r.IntN(10) > 0 {
		decision(r, f)
	}
	if half(r) {
		server(r, f)
	}
	if f.Protocol == connmodel.ProtocolHTTP && r.IntN(10) > 0 || r.IntN(6) == 0 {
		f.Request = &connmodel.Request{Method: pick(r, []string{"GET", "POST", "get"}), Scheme: pick(r, []string{"http", "https", ""}), Host: pick(r, Hosts), Path: pick(r, []string{"/", "/a?b=c", "/%61dmin/../x?q", "*", "/long" + strings.Repeat("x", 100)}), Start: start}
		if f.Protocol != connmodel.ProtocolHTTP && half(r) {
			f.Request.Tunnel = connmodel.NewID(start)
		}
		if half(r) {
			f.Response = &connmodel.Response{Status: pick(r, []int{0, 200, 404, 502}), Start: start}
		}
	}
	if half(r) {
		f.Error = Error(r)
	}
	if half(r) {
		f.Reply = &connmodel.Reply{Code: pick(r, []int32{0, 200, 403, 502}), Time: start}
	}
	if half(r) {
		f.Metadata = map[string]string{pick(r, []string{"tls", "note", "a.b"}): Text(r)}
	}
	return f
}

func client(r *rand.Rand, f *connmodel.Flow) {
	c := &connmodel.Client{Connection: connmodel.Connection{ID: f.Session, Peer: Address(r)}, Listener: pick(r, []string{"desk", "lab", ""}), User: Text(r), Session: f.Session, Protocol: f.Protocol}
	c.Address = connmodel.AddressFrom(c.Peer)
	if r.IntN(6) == 0 {
		c.Proxied = &connmodel.ProxyHeader{Version: 2, Source: Address(r)}
	}
	if r.IntN(3) == 0 {
		c.Hello = &connmodel.ClientHello{SNI: pick(r, []string{"", "www.example", "api.partner.example"}), ALPN: pick(r, [][]string{nil, {"h2", "http/1.1"}, {"h2"}}), JA4: pick(r, []string{"", "t13d1516h2_8daaf6152771_b186095e22b6"}), ECH: half(r)}
	}
	f.Client = c
}

func decision(r *rand.Rand, f *connmodel.Flow) {
	d := &connmodel.Decision{Policy: "default", Rule: Text(r), File: "viaduct.hcl", Line: r.IntN(3), Outcome: connmodel.OutcomeVia, Route: pick(r, []string{"direct", "pool.corp", "upstream.jump"}), Tags: pick(r, [][]string{nil, {"audit"}, {"audit", "a'b"}})}
	if r.IntN(4) == 0 {
		d.Outcome, d.Route, d.Denial = connmodel.OutcomeDeny, "", &connmodel.Denial{Status: 403, Reason: Text(r)}
	}
	if r.IntN(4) == 0 {
		d.Shadow = []connmodel.ShadowVerdict{{Rule: Text(r), Outcome: pick(r, []connmodel.Outcome{connmodel.OutcomeVia, connmodel.OutcomeDeny}), Route: pick(r, []string{"direct", ""})}}
	}
	if r.IntN(6) == 0 {
		d.ShadowPolicy = &connmodel.ShadowDecision{Policy: "next", Rule: Text(r), Outcome: pick(r, []connmodel.Outcome{connmodel.OutcomeVia, connmodel.OutcomeDeny}), Route: pick(r, []string{"direct", ""})}
	}
	f.Decision, f.Decided = d, f.Start.Add(time.Duration(r.IntN(3))*time.Millisecond)
}

func server(r *rand.Rand, f *connmodel.Flow) {
	s := &connmodel.Server{Connection: connmodel.Connection{ID: connmodel.NewID(f.Start), Address: f.Target, Peer: Address(r), Start: f.Start}, Via: "pool.corp", Reused: r.IntN(4) == 0}
	for i := range r.IntN(3) {
		a := connmodel.Attempt{Number: i + 1, Route: "corp_a > jump", Start: f.Start, End: f.Start.Add(time.Second)}
		for j := range r.IntN(3) {
			a.Hops = append(a.Hops, connmodel.HopResult{Index: int16(j + 1), Upstream: pick(r, []string{"corp_a", "jump", ""}), Protocol: "http", Start: f.Start, TCP: time.Millisecond, Total: 2 * time.Millisecond})
		}
		if half(r) {
			a.Error = Error(r)
		}
		s.Attempts = append(s.Attempts, a)
	}
	if half(r) {
		s.Route, s.TCPSetup = pick(r, []string{"direct", "corp_a > jump"}), f.Start.Add(time.Duration(r.IntN(3))*time.Second)
	}
	if r.IntN(3) == 0 {
		s.TLS, s.TLSInfo = true, &connmodel.TLSInfo{Version: "TLS 1.3", Verdict: pick(r, []connmodel.ChainVerdict{connmodel.ChainOK, connmodel.ChainExpired, ""})}
		if half(r) {
			s.TLSInfo.Certificates = []connmodel.Certificate{{Subject: "CN=" + Text(r), Issuer: Text(r), NotBefore: Epoch, NotAfter: Epoch.Add(time.Duration(r.IntN(3)) * 24 * time.Hour)}}
		}
	}
	f.Server = s
}

// Error makes a failure.
func Error(r *rand.Rand) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: pick(r, []connmodel.Phase{connmodel.PhaseDial, connmodel.PhaseConnect, connmodel.PhaseTLS}), Side: pick(r, []connmodel.Side{connmodel.SideHop, connmodel.SideServer}),
		Hop: r.IntN(3), HopName: pick(r, []string{"corp_a", "jump", ""}), Kind: pick(r, []connmodel.Kind{connmodel.KindRefused, connmodel.KindTimeout, connmodel.KindDenied}),
		Message: Text(r), Code: pick(r, []int{0, 403, 5}), Blame: pick(r, []connmodel.Blame{connmodel.BlameNobody, connmodel.BlameProxy, connmodel.BlameTarget}),
	}
}
