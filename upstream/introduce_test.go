package upstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/proxyproto"
	"viaduct/upstream/upstreamtest"
)

// told is a server that wants a PROXY protocol header first, then perhaps TLS, and says in front of everything what it was told.
func told(t *testing.T, config *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveTold(c, config)
		}
	}()
	return ln.Addr().String()
}

func serveTold(c net.Conn, config *tls.Config) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	var b []byte
	var h proxyproto.Header
	for {
		x, err := in.ReadByte()
		if err != nil {
			return
		}
		b = append(b, x)
		if h, _, err = proxyproto.Parse(b); err == nil {
			break
		} else if err != proxyproto.ErrIncomplete {
			io.WriteString(c, err.Error()+"\n")
			return
		}
	}
	conn := net.Conn(&buffered{c, in})
	if config != nil {
		conn = tls.Server(conn, config)
	}
	io.WriteString(conn, h.Source.String()+"\n")
	io.Copy(conn, conn)
}

type buffered struct {
	net.Conn
	in *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.in.Read(p) }

// TestIntroduce: whatever the way, the header is the first that the server gets, before TLS, and the record says that it was sent.
func TestIntroduce(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	_, a := startProxy(t, ca, "a", "https", upstreamtest.Options{})
	_, b := startProxy(t, ca, "b", "socks5", upstreamtest.Options{})
	_, c := startProxy(t, ca, "c", "http", upstreamtest.Options{})
	tab := table(t, Config{Upstreams: []Spec{a, b, c}, Chains: []ChainSpec{{"abc", []string{"upstream.a", "upstream.b", "upstream.c"}}}})
	plain, secure := told(t, nil), told(t, ca.ServerTLS(t, "127.0.0.1"))
	upgrade := &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: &tls.Config{RootCAs: ca.Pool()}}
	src, dst := netip.MustParseAddrPort("192.0.2.7:51000"), netip.MustParseAddrPort("127.0.0.1:3128")
	for _, tt := range []struct {
		name string
		q    Request
		hops int
	}{
		{"direct, v1", Request{Route: "direct", Target: addr(t, plain), Header: &proxyproto.Header{Version: 1, Source: src, Destination: dst}}, 0},
		{"direct, v2", Request{Route: "direct", Target: addr(t, plain), Header: &proxyproto.Header{Version: 2, Source: src, Destination: dst}}, 0},
		{"direct, v2, TLS", Request{Route: "direct", Target: addr(t, secure), TLS: upgrade, Header: &proxyproto.Header{Version: 2, Source: src, Destination: dst}}, 0},
		{"a chain, v1", Request{Route: "chain.abc", Target: addr(t, plain), Header: &proxyproto.Header{Version: 1, Source: src, Destination: dst}}, 3},
		{"a chain, v2, TLS", Request{Route: "chain.abc", Target: addr(t, secure), TLS: upgrade, Header: &proxyproto.Header{Version: 2, Source: src, Destination: dst}}, 3},
		{"a plain request through an HTTP proxy", Request{Route: "upstream.c", Target: addr(t, plain), Plain: true, Header: &proxyproto.Header{Version: 2, Source: src, Destination: dst}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := recorder(tt.q.Target)
			conn, err := tab.Dial(t.Context(), &tt.q, r)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if conn.Absolute {
				t.Fatal("the proxy was left to fetch")
			}
			in := bufio.NewReader(io.MultiReader(bytes.NewReader(conn.Early), conn))
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			if line, err := in.ReadString('\n'); line != src.String()+"\n" {
				t.Fatalf("the server was told %q, %v", line, err)
			}
			io.WriteString(conn, "and on\n")
			if line, err := in.ReadString('\n'); line != "and on\n" {
				t.Errorf("%q, %v", line, err)
			}
			at := r.Snapshot().Server.Attempts[0]
			for i, h := range at.Hops {
				if want := map[bool]int16{true: int16(tt.q.Header.Version)}[i == tt.hops]; h.ProxyProto != want {
					t.Errorf("element %d: version %d, want %d", i+1, h.ProxyProto, want)
				}
			}
			// Nobody else may have this connection.
			other := tt.q
			other.Header = &proxyproto.Header{Version: tt.q.Header.Version, Source: netip.MustParseAddrPort("192.0.2.7:51001"), Destination: dst}
			if k := tab.Key(&other, false); k == conn.Key {
				t.Error("another client has the same key")
			}
			if other.Header = nil; tab.Key(&other, false) == conn.Key {
				t.Error("a client without a header has the same key")
			}
			if tab.Key(&tt.q, false) != conn.Key {
				t.Error("the key is not that of its own request")
			}
		})
	}
}
