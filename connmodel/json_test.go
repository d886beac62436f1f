package connmodel

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files anew")

// equal compares what a record keeps: not causes, and times to the instant.
var equal = cmp.Options{
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmpopts.IgnoreFields(ConnError{}, "Cause"),
	cmpopts.EquateEmpty(),
}

func at(ms int) time.Time {
	return time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC).Add(time.Duration(ms) * time.Millisecond)
}

func testID(n byte) ID { return ID{0x01, 0x9c, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, n} }

// typical is the record of a usual tunnel through one proxy.
func typical() *Flow {
	return &Flow{
		ID: testID(1), Session: testID(2), Generation: 7, Target: hostA, Protocol: ProtocolConnect,
		Client: &Client{
			Connection: Connection{ID: testID(2), Address: Address{"10.0.0.1", 1234}, Peer: client, Local: local, Start: at(0), TCPSetup: at(0), End: at(900)},
			Listener:   "desk", Protocol: ProtocolConnect, User: "alice", Session: testID(2),
		},
		Server: &Server{
			Connection: Connection{ID: testID(3), Address: hostA, Peer: peer, Local: local, Start: at(1), TCPSetup: at(42), End: at(900)},
			Via:        "pool.corp", Route: "corp_a", ResolvedBy: "upstream",
			Attempts: []Attempt{{Number: 1, Route: "corp_a", Start: at(1), End: at(42), Hops: []HopResult{
				{Index: 1, Upstream: "corp_a", Protocol: "http", Address: proxyA, Peer: peer, Local: local, Start: at(1), DNS: 1234567, TCP: 10 * time.Millisecond, Connect: 30 * time.Millisecond, Total: 41 * time.Millisecond, Credential: "corp"},
				{Index: 2, Protocol: "tcp", Address: hostA, Start: at(42), Total: 700},
			}}},
		},
		Decision: &Decision{Generation: 7, Policy: "default", Rule: "partner api", File: "/etc/viaduct/viaduct.hcl", Line: 81, Outcome: OutcomeVia, Route: "pool.corp"},
		Reply:    &Reply{Code: 200, Time: at(42)},
		Start:    at(0), Decided: at(1), End: at(900), Up: 517, Down: 4096, First: SideClient, Reason: CloseClient,
	}
}

// full is a record with everything in it.
func full() *Flow {
	f := typical()
	h2 := "h2"
	none := ""
	cert := Certificate{
		Subject: "CN=host.example", Issuer: "CN=Test CA,O=Exämple", SANs: SANs{DNS: []string{"host.example", "*.host.example"}, IP: []string{"192.0.2.1"}, URI: []string{"spiffe://host"}},
		NotBefore: at(-1000).Truncate(time.Second), NotAfter: at(1000).Truncate(time.Second), Serial: "1f", KeyType: "ECDSA P-256", SHA256: strings.Repeat("ab", 32), IsCA: false,
		Pin: "sha256/" + strings.Repeat("A", 43) + "=", Signature: "ECDSA-SHA256", Verdict: CertExpired,
	}
	tls := &TLSInfo{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: "host.example", VerifiedName: "host.example", ALPN: &h2, ALPNOffers: []string{"h2", "http/1.1"}, Certificates: []Certificate{cert, {Subject: "CN=Test CA", IsCA: true}}, Resumed: true,
		Verdict: ChainExpired, Problem: "the certificate is not valid now", Unverified: true, ClientAuth: ClientAuthNone}
	f.Protocol = ProtocolHTTP
	f.Client.State = Open | CanRead
	f.Client.End = time.Time{}
	f.Client.Peer = netip.MustParseAddrPort("[fe80::1%eth0]:1234")
	f.Client.Proxied = &ProxyHeader{Version: 2, Source: netip.MustParseAddrPort("192.0.2.7:51000"), Destination: netip.MustParseAddrPort("[2001:db8::1]:443")}
	f.Server.State = Active
	f.Server.End = time.Time{}
	f.Server.TLS, f.Server.TLSInfo, f.Server.TLSSetup = true, tls, at(50)
	f.Server.Address = Address{"2001:db8::1", 8443}
	choices := []Choice{{Route: "pac.corp", Ways: []string{"upstream.corp_b", "http://10.0.0.9:8080", "direct"}}, {Route: "pac.far", To: proxyA, Error: "the script \x1b failed", OnError: "direct"}}
	f.Server.Attempts = append([]Attempt{{Number: 1, Route: "corp_b > jump", Start: at(1), End: at(2), Error: refused, Hops: []HopResult{
		{Index: 1, Upstream: "corp_b", Protocol: "https", Address: proxyA, Start: at(1), TLS: time.Millisecond, TLSInfo: &TLSInfo{ALPN: &none, Truncated: true}, AuthRounds: 2, ProxyProto: 1, Reused: true, Auth: time.Millisecond, Greeting: time.Microsecond, BoundAddr: "10.0.0.9:1", Resolved: &Resolution{Resolver: "corp", From: "cache", Server: "tls://192.0.2.53:853", Took: time.Millisecond}, Error: refused},
	}}}, f.Server.Attempts...)
	f.Server.Attempts[1].Number = 2
	f.Error = &ConnError{Phase: PhaseConnect, Side: SideHop, Hop: 2, HopName: "jump", Kind: KindDenied, Message: "socks5: connection not allowed by ruleset", Code: 2, CodeOf: "socks5", Blame: BlameTarget, Retryable: true, Verdict: ChainName}
	f.Server.Error = f.Error
	f.Decision = &Decision{Generation: 7, Policy: "default", Rule: "no games", File: "a.hcl", Line: 3, Outcome: OutcomeDeny, Server: hostB, Denial: &Denial{451, "not \"here\""}, Tags: []string{"a", "b"},
		Choices: choices, Shadow: []ShadowVerdict{{Rule: "s", File: "b.hcl", Line: 9, Outcome: OutcomeVia, Route: "direct"}}}
	f.Trace = &Trace{Steps: []TraceStep{{Rule: "intranet", File: "a.hcl", Line: 1, Reason: "host host.example is not below corp.example"}, {Rule: "no games", File: "a.hcl", Line: 3, Matched: true, Shadow: true}}}
	f.Client.Hello = &ClientHello{SNI: "host.example", ALPN: []string{"h2", "\x1b\n"}, Versions: []uint16{0x0304, 0x0303, 0x0399}, CipherSuites: []uint16{0x1301, 0xc02b}, ECH: true,
		JA4: "t13d1516h2_8daaf6152771_e5627efa2ab1", Truncated: true, SNIError: "is an address"}
	f.Request = &Request{Method: "GET", Scheme: "http", Host: "host.example", Path: "/api?q=\x1b[31m\"\\\u0000", Tunnel: testID(9), Start: at(0), End: at(60)}
	f.Request.Within = hostA
	f.Decision.TLS = &TLSPlan{Mode: TLSIntercept}
	f.Decision.ShadowPolicy = &ShadowDecision{Policy: "next", Rule: "partners", File: "b.hcl", Line: 12, Route: "pool.corp", Server: hostB, TLS: TLSUpgrade, Undecided: "addresses"}
	f.Gathered = &Gathered{
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, MoreAddresses: true, Name: "host.example", TargetIP: netip.MustParseAddr("192.0.2.1"),
		Looked: NeedHello | NeedRequest, Unread: NeedRequest, First: &Request{Method: "GET", Path: "/\x1b"},
		Headers: []HeaderSample{{"user-agent", []string{"curl/8 \x1b[31m\u202e", "two"}}, {"x-none", nil}},
	}
	f.Response = &Response{Status: 200, Start: at(70), End: at(80)}
	f.Metadata = map[string]string{"zeta": "1", "alpha": "two\nlines\u2028\u202e", "🚀": "\U000e0041"}
	f.Panicked = true
	f.Span = &Span{Trace: TraceID{0x4b, 0xf9, 0x2f, 15: 1}, ID: SpanID{7: 2}, Parent: SpanID{0: 3}, Sampled: true}
	return f
}

func TestGolden(t *testing.T) {
	for name, f := range map[string]*Flow{"tunnel": typical(), "full": full()} {
		line := f.AppendJSON(nil)
		if bytes.ContainsAny(line, "\n\x1b\x00") {
			t.Errorf("%s: %q", name, line)
		}
		var got bytes.Buffer
		if err := json.Indent(&got, line, "", "  "); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, line)
		}
		got.WriteByte('\n')
		path := "testdata/" + name + ".golden.json"
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got.String()); d != "" {
			t.Errorf("%s (go test -update writes it anew):\n%s", name, d)
		}
		var back Flow
		if err := json.Unmarshal(want, &back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again := back.AppendJSON(nil); string(again) != string(line) {
			t.Errorf("%s does not come back:\n%s", name, cmp.Diff(string(line), string(again)))
		}
	}
}

func TestRoundTripKeepsValues(t *testing.T) {
	f := full()
	f.Server.Attempts[1].Hops[1].Total = time.Microsecond // less is rounded up to it
	f.Server.Attempts[1].Hops[0].DNS = 1235 * time.Microsecond
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var back Flow
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, &back, equal); d != "" {
		t.Error(d)
	}
}

// Every type has a form of its own, comes back from it, and refuses keys it does not know.
func TestEveryTypeRoundTrips(t *testing.T) {
	f := full()
	s := f.Server
	warning := &CertificateWarning{Reason: ChainExpiringSoon, Message: "ends soon", Side: SideHop, Upstream: "corp_a", Address: proxyA, Certificate: f.Server.TLSInfo.Certificates[0]}
	e := Event{Certificate: warning, Kind: EventServerConnectError, Time: at(1), Session: testID(2), Flow: testID(1), Side: SideHop, Hop: 1, Attempt: 2, Error: refused}
	for _, v := range []any{f, f.Client, s, &s.Attempts[0], &s.Attempts[0].Hops[0], s.TLSInfo, &s.TLSInfo.Certificates[0], f.Error, f.Decision, f.Request, f.Response, f.Reply, &e,
		DummyFlow(Address{}), DummyClient(Address{}), DummyServer(Address{}), &Flow{}, &Client{}, &Server{}, &Attempt{}, &HopResult{}, &TLSInfo{}, &Certificate{}, &ConnError{}, &Decision{}, &Request{}, &Response{}, &Reply{}, &Event{}} {
		name := fmt.Sprintf("%T", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		byValue, err := json.Marshal(reflect.ValueOf(v).Elem().Interface())
		if err != nil || string(byValue) != string(b) {
			t.Errorf("%s as a value: %s, %v", name, byValue, err)
		}
		back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if err := json.Unmarshal(b, back); err != nil {
			t.Errorf("%s: %v\n%s", name, err, b)
			continue
		}
		if again, _ := json.Marshal(back); string(again) != string(b) {
			t.Errorf("%s:\n%s\n%s", name, b, again)
		}
		extra := append([]byte(`{"nosuch":1,`), b[1:]...)
		if err := json.Unmarshal(extra, back); err == nil || !strings.Contains(err.Error(), "nosuch") {
			t.Errorf("%s takes an unknown key: %v", name, err)
		}
	}
}

func TestUnknownKeysAreRefusedAtAnyDepth(t *testing.T) {
	line := string(full().AppendJSON(nil))
	for i := 0; i < len(line); i++ {
		if line[i] != '{' || strings.HasPrefix(line[i:], `{"alpha"`) || strings.HasPrefix(line[i:], `{"user-agent"`) { // metadata and header fields are free
			continue
		}
		if err := new(Flow).UnmarshalJSON([]byte(line[:i+1] + `"nosuch":null,` + line[i+1:])); err == nil {
			t.Errorf("unknown key taken at %s", line[max(0, i-30):i+20])
		}
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	for _, s := range []string{
		`{"state":2}`, `{"state":8}`, `{"state":-1}`, `{"state":"open"}`, `{"state":7,"state_text":"closed"}`,
		`{"tls_established":true}`, `{"tls_established":false,"timestamp_tls_setup":"2026-01-01T00:00:00Z"}`,
		`{"attempts":[{"connected":true}]}`, `{"attempts":[{"hops":[{"dns_ms":-1}]}]}`, `{"attempts":[{"hops":[{"dns_ms":1e300}]}]}`, `{"attempts":[{"hops":[{"dns_ms":"1"}]}]}`,
		`{"timestamp_start":"yesterday"}`, `{"timestamp_start":0}`, `{"id":"x"}`, `{"address":"host"}`, `{"address":"a b:1"}`, `{"address":":0"}`, `{"peername":"host:1"}`, `[]`, `1`, `"x"`, `{`, ``,
	} {
		if err := new(Server).UnmarshalJSON([]byte(s)); err == nil {
			t.Errorf("%s is taken", s)
		}
	}
}

// Hostile text from the network stays text: valid JSON, nothing a terminal obeys.
func TestTextIsSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      `"plain"`,
		"":                           `""`,
		"q\"b\\":                     `"q\"b\\"`,
		"\x00\x1b[2J\x7f\n\t\r":      `"\u0000\u001b[2J\u007f\n\t\u000d"`,
		"\xff\xc3(":                  `"\ufffd\ufffd("`,
		"\xed\xa0\x80":               `"\ufffd\ufffd\ufffd"`,
		"\u009b31m":                  `"\u009b31m"`,
		"ü例🚀":                        `"ü例🚀"`,
		"a\u202eb\u2028\ufeff\u200f": `"a\u202eb\u2028\ufeff\u200f"`,
		"\U000e0041":                 `"\udb40\udc41"`,
		"\ufffd":                     "\"\ufffd\"",
	} {
		w := jsonWriter{max: 1 << 10}
		w.str(in)
		if string(w.b) != want || w.cut {
			t.Errorf("%q: %s, want %s", in, w.b, want)
		}
		var back string
		if err := json.Unmarshal(w.b, &back); err != nil || utf8.ValidString(in) && back != in {
			t.Errorf("%q comes back as %q, %v", in, back, err)
		}
	}
}

// A record is bounded whatever is put into it, also past the verbs, and says that it was cut.
func TestHugeRecordsAreCut(t *testing.T) {
	for name, fill := range map[string]string{"plain": "x", "escaped": "\x00", "wide": "🚀", "tags": "\U000e0041", "broken": "\xff"} {
		big := strings.Repeat(fill, 1<<20)
		e := &ConnError{Message: big, HopName: big, Phase: Phase(big), Side: Side(big), Kind: Kind(big), CodeOf: big, Blame: Blame(big), Verdict: ChainVerdict(big)}
		list := make([]string, 500)
		for i := range list {
			list[i] = big
		}
		cert := Certificate{Subject: big, Issuer: big, SANs: SANs{list, list, list}, Serial: big, KeyType: big, SHA256: big, Pin: big, Signature: big, Verdict: Verdict(big)}
		tls := &TLSInfo{Version: big, Cipher: big, SNI: big, VerifiedName: big, ALPN: &big, ALPNOffers: list, Verdict: ChainVerdict(big), Problem: big, ClientAuth: ClientAuth(big)}
		for range 100 {
			tls.Certificates = append(tls.Certificates, cert)
		}
		c := Connection{Address: Address{big, 1}, Error: e, TLSInfo: tls, Peer: netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone(big), 1)}
		a := Attempt{Route: big, Error: e}
		for range 100 {
			a.Hops = append(a.Hops, HopResult{Upstream: big, Protocol: big, Address: c.Address, Peer: c.Peer, Local: c.Peer, Credential: big, BoundAddr: big, TLSInfo: tls, Error: e})
		}
		s := Server{Connection: c, Via: big, Route: big, ResolvedBy: big}
		for range 100 {
			s.Attempts = append(s.Attempts, a)
		}
		f := &Flow{
			Client: &Client{Connection: c, Listener: big, Protocol: Protocol(big), User: big,
				Hello: &ClientHello{SNI: big, SNIError: big, ALPN: list, Versions: make([]uint16, 1000), CipherSuites: make([]uint16, 1000), JA4: big}}, Server: &s, Target: c.Address, Protocol: Protocol(big), Error: e, Trace: &Trace{},
			Decision: &Decision{Policy: big, Rule: big, File: big, Outcome: Outcome(big), Route: big, Server: c.Address, Denial: &Denial{Reason: big}, Tags: list},
			Request:  &Request{big, big, big, big, testID(9), c.Address, at(0), at(1)}, Metadata: map[string]string{}, First: Side(big), Reason: CloseReason(big),
		}
		f.Gathered = &Gathered{Addresses: make([]netip.Addr, 1000), Name: big, First: f.Request, TargetIP: c.Peer.Addr()}
		f.Decision.ShadowPolicy = &ShadowDecision{Policy: big, Rule: big, File: big, Outcome: Outcome(big), Route: big, Server: c.Address, TLS: TLSMode(big), Undecided: big}
		for i := range 100 {
			f.Gathered.Headers = append(f.Gathered.Headers, HeaderSample{fmt.Sprint(i) + big, list})
			f.Trace.Steps = append(f.Trace.Steps, TraceStep{Rule: big, File: big, Reason: big})
			f.Decision.Shadow = append(f.Decision.Shadow, ShadowVerdict{Rule: big, File: big, Outcome: Outcome(big), Route: big})
			f.Metadata[fmt.Sprint(i)+big] = big
		}
		b := f.AppendJSON(nil)
		if len(b) > MaxRecord || !json.Valid(b) || !bytes.HasSuffix(b, []byte(`"truncated":true}`)) {
			t.Errorf("%s: %d octets, valid %v, ends in %s", name, len(b), json.Valid(b), b[max(0, len(b)-40):])
		}
		for _, part := range []json.Marshaler{*f.Client, *f.Server, a, a.Hops[0], *tls, cert, *e, *f.Decision, *f.Request} {
			if b, _ := part.MarshalJSON(); len(b) > MaxRecord || !json.Valid(b) {
				t.Errorf("%s: %T of %d octets, valid %v", name, part, len(b), json.Valid(b))
			}
		}
	}
}

// What is cut is the middle of long stories: the last attempts and hops are there.
func TestCutKeepsTheEnd(t *testing.T) {
	f := typical()
	f.Server.Attempts = nil
	for i := range maxAttempts {
		a := Attempt{Number: i + 1, Route: strings.Repeat("r", 1000), Start: at(i), End: at(i), Error: &ConnError{Message: strings.Repeat("m", 1000)}}
		f.Server.Attempts = append(f.Server.Attempts, a)
	}
	var back Flow
	if err := json.Unmarshal(f.AppendJSON(nil), &back); err != nil {
		t.Fatal(err)
	}
	if n := len(back.Server.Attempts); !back.Truncated || n < 2 || back.Server.Attempts[n-1].Number != maxAttempts {
		t.Errorf("%d attempts, truncated %v", n, back.Truncated)
	}
}

func TestTimesAsText(t *testing.T) {
	for in, want := range map[time.Time]string{
		{}: "null",
		time.Date(2026, 11, 3, 4, 5, 6, 7, time.FixedZone("", 3600)): `"2026-11-03T03:05:06.000000007Z"`,
		time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC):     `"1969-12-31T23:59:59.999999999Z"`,
		time.Unix(0, 0): `"1970-01-01T00:00:00.000000000Z"`,
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC): `"9999-12-31T23:59:59.000000000Z"`,
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC):     "null",
		time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC):        "null",
	} {
		w := jsonWriter{}
		w.time(in)
		w.time(in)
		if string(w.b) != want+want {
			t.Errorf("%v: %s, want %s", in, w.b, want)
		}
	}
	for in, want := range map[time.Duration]string{0: "null", -1: "null", 1: "0.001", 499: "0.001", 1500: "0.002", time.Millisecond: "1.000", 1234567 * time.Nanosecond: "1.235", time.Hour: "3600000.000"} {
		w := jsonWriter{}
		w.ms(in)
		if string(w.b) != want {
			t.Errorf("%v: %s, want %s", in, w.b, want)
		}
	}
}

func FuzzFlowJSON(f *testing.F) {
	f.Add(typical().AppendJSON(nil))
	f.Add(full().AppendJSON(nil))
	f.Add([]byte(`{"target":"[::1]:0","server_conn":{"state":5,"attempts":[{"hops":[{"tls":{},"dns_ms":0.0004}]}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v Flow
		if v.UnmarshalJSON(b) != nil {
			return
		}
		one := v.AppendJSON(nil)
		if !json.Valid(one) || len(one) > MaxRecord || !utf8.Valid(one) {
			t.Fatalf("%d octets: %q", len(one), one)
		}
		for _, c := range one {
			if c < ' ' || c == 0x7f {
				t.Fatalf("control octet in %q", one)
			}
		}
		var back Flow
		if err := back.UnmarshalJSON(one); err != nil {
			t.Fatalf("%v\n%s", err, one)
		}
		if two := back.AppendJSON(nil); string(two) != string(one) {
			t.Fatalf("%s\n%s", one, two)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add("a\"\\\x00ü\u202e🚀\xff", 20)
	f.Fuzz(func(t *testing.T, s string, most int) {
		w := jsonWriter{max: 1 + max(most, 0)%5000}
		w.str(s)
		var back string
		if err := json.Unmarshal(w.b, &back); err != nil {
			t.Fatalf("%q: %v", w.b, err)
		}
		if len(w.b) > w.max+2+12 || !w.cut && utf8.ValidString(s) && back != s {
			t.Fatalf("%q comes back as %q (cut %v)", s, back, w.cut)
		}
	})
}

func BenchmarkRecordJSON(b *testing.B) {
	for name, f := range map[string]*Flow{"tunnel": typical(), "full": full()} {
		b.Run(name, func(b *testing.B) {
			buf := f.AppendJSON(nil)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				buf = f.AppendJSON(buf[:0])
			}
		})
	}
}
