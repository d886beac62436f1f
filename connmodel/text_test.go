package connmodel

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestStringForms(t *testing.T) {
	h2, none := "h2", ""
	for want, v := range map[string]any{
		"Server(host.example:443, active, tls, alpn=h2)":          Server{Connection: Connection{Address: hostA, State: Active, TLS: true, TLSInfo: &TLSInfo{ALPN: &h2}, TLSSetup: at(1)}},
		"Client(10.0.0.1:1234, open|can_read)":                    Client{Connection: Connection{Address: Address{"10.0.0.1", 1234}, State: Open | CanRead}},
		"Server(host.example:443, open, tls wanted)":              &Server{Connection: Connection{Address: hostA, State: Open, TLS: true, TLSInfo: &TLSInfo{ALPN: &none}}},
		"Server([2001:db8::1]:8443, closed, error=refused)":       &Server{Connection: Connection{Address: Address{"2001:db8::1", 8443}, Error: refused}},
		"Client(none, closed)":                                    &Client{},
		"Client(client:0, active)":                                DummyClient(Address{}),
		"Server(server:0, closed)":                                DummyServer(Address{}),
		"Server(other.example:8443, closed)":                      DummyServer(hostB),
		"hop 2 (jump): socks5: connection not allowed by ruleset": full().Error,
		"server_connect attempt=1":                                Event{Kind: EventServerConnect, Attempt: 1},
	} {
		if got := fmt.Sprint(v); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestGoString(t *testing.T) {
	f := full()
	for want, v := range map[string]any{
		`Client{id=00000002, address=10.0.0.1:1234, peername=[fe80::1%eth0]:1234, sockname=10.0.0.2:40000, state=open|can_read, start=2026-03-04T05:06:07.123456Z, tcp_setup=2026-03-04T05:06:07.123456Z, listener=desk, protocol=connect, user=alice}`:                                                                                                                                                                                                                                                                  f.Client,
		`Server{id=00000003, address=[2001:db8::1]:8443, peername=192.0.2.1:443, sockname=10.0.0.2:40000, state=active, error="hop 2 (jump): socks5: connection not allowed by ruleset", tls=true, tls_version="TLS 1.3", cipher=TLS_AES_128_GCM_SHA256, sni=host.example, alpn="h2", verdict=expired, unverified=true, certificates=2, start=2026-03-04T05:06:07.124456Z, tcp_setup=2026-03-04T05:06:07.165456Z, tls_setup=2026-03-04T05:06:07.173456Z, via=pool.corp, route=corp_a, resolved_by=upstream, attempts=2}`: f.Server,
		`Client{state=closed}`: &Client{},
	} {
		if got := fmt.Sprintf("%#v", v); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestFlowOnOneLine(t *testing.T) {
	f := typical()
	want := `00000001 10.0.0.1:1234 connect host.example:443 rule="partner api" route=corp_a 1.0/41.0/-/900.0ms up=517 down=4096 attempts=1 client_closed by=client`
	if f.String() != want {
		t.Errorf("got  %s\nwant %s", f, want)
	}
	f = full()
	f.End = time.Time{}
	f.Server.Route = "corp_a > jump"
	want = `00000001 10.0.0.1:1234 http host.example:443 rule="no games" route=corp_a>jump 1.0/41.0/8.0/-ms up=517 down=4096 attempts=2 open by=client phase=connect kind=denied error="hop 2 (jump): socks5: connection not allowed by ruleset"`
	if f.String() != want {
		t.Errorf("got  %s\nwant %s", f, want)
	}
	if got := (*Flow)(nil).String() + (&Flow{}).String(); strings.Contains(got, "\n") {
		t.Error(got)
	}
}

// No form for people lets text from the network act on a terminal or begin a new line.
func TestTextFormsAreSafe(t *testing.T) {
	evil := "a\x1b[2J\n\u202e\u009b b" + strings.Repeat("x", 1<<16)
	e := &ConnError{Side: SideServer, Message: evil, Phase: Phase(evil), Kind: KindProtocol}
	c := Connection{Address: Address{evil, 1}, Error: e, TLSInfo: &TLSInfo{ALPN: &evil, SNI: evil, Cipher: evil, Version: evil}, TLS: true, TLSSetup: at(1)}
	f := &Flow{Client: &Client{Connection: c, User: evil, Listener: evil, Protocol: Protocol(evil)}, Server: &Server{Connection: c, Via: evil, Route: evil, ResolvedBy: evil}, Target: c.Address, Protocol: Protocol(evil), Decision: &Decision{Rule: evil}, Error: e, Reason: CloseReason(evil), First: Side(evil), End: at(1)}
	for _, s := range []string{f.String(), f.Client.String(), f.Client.GoString(), f.Server.String(), f.Server.GoString(), Event{Kind: EventError, Error: e}.String()} {
		if strings.ContainsAny(s, "\x1b\n\u202e\u009b") || len(s) > 8<<10 {
			t.Errorf("%d octets: %q", len(s), s[:min(len(s), 200)])
		}
	}
}

func TestDummies(t *testing.T) {
	f := DummyFlow(hostA)
	if f.Client.State != Active || f.Server.State != Closed || f.Server.Address != hostA || f.Session != f.Client.ID || f.Server.TLSEstablished() || f.ID == f.Session {
		t.Errorf("%v", f)
	}
	if err := consistent(f); err != nil {
		t.Error(err)
	}
}
