package router

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// tlsGateway is a gateway whose only listener speaks TLS, and whoever trusts its certificate.
type tlsGateway struct {
	*gateway
	ca    *upstreamtest.CA
	trust *tls.Config // of clients
}

func startTLS(t *testing.T, change func(*Options, *Config, *upstreamtest.CA)) *tlsGateway {
	t.Helper()
	ca := upstreamtest.MustCA(t)
	g := start(t, func(o *Options, c *Config) {
		c.Listeners[0].TLS = &ListenerTLS{Pairs: []KeyPair{{Certificate: ca.MustIssue(t, upstreamtest.CertOptions{}, "gate.example", "127.0.0.1")}}}
		if change != nil {
			change(o, c, ca)
		}
	})
	return &tlsGateway{g, ca, &tls.Config{RootCAs: ca.Pool(), ServerName: "gate.example"}}
}

// with is the clients' configuration, changed.
func (g *tlsGateway) with(change func(*tls.Config)) *tls.Config {
	c := g.trust.Clone()
	change(c)
	return c
}

func (g *tlsGateway) dialTLS(t testing.TB, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	tc := tls.Client(nc, c)
	return tc, tc.Handshake()
}

func (g *tlsGateway) mustDialTLS(t testing.TB, c *tls.Config) *tls.Conn {
	t.Helper()
	tc, err := g.dialTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return tc
}

func TestPlainRequestsAndTunnelsOverTLS(t *testing.T) {
	origin := okOrigin(t)
	target := echo(t)
	g := startTLS(t, nil)
	c := g.mustDialTLS(t, g.trust)
	br := bufio.NewReader(c)
	for i := range 3 { // keep-alive over TLS
		fmt.Fprintf(c, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.URL)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(i, resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		f := g.records.next(t)
		if cl := f.Client; !cl.TLS || !cl.TLSEstablished() || cl.TLSInfo == nil || cl.TLSInfo.Version != "TLS 1.3" || cl.TLSInfo.SNI != "gate.example" ||
			cl.TLSInfo.ALPN == nil || *cl.TLSInfo.ALPN != "" || cl.TLSSetup.Before(cl.TCPSetup) || f.Start.Before(cl.TLSSetup) {
			t.Errorf("the record says of TLS: %+v %+v", cl.Connection, cl.TLSInfo)
		}
	}
	c.Close()

	c = g.mustDialTLS(t, g.with(func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }))
	if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("agreed on %q", p)
	}
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nearly", target)
	want := string(connectOK) + "early"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q %v", got, err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB each way
	go func() {
		c.Write(big)
		c.CloseWrite()
	}()
	back, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(back, big) {
		t.Fatalf("%d bytes back, %v", len(back), err)
	}
	f := g.records.next(t)
	if f.Error != nil || f.Up != int64(5+len(big)) || f.Down != f.Up || f.First != connmodel.SideClient {
		t.Errorf("record: %v, %d up, %d down, first %s", f.Error, f.Up, f.Down, f.First)
	}
	if off := f.Client.TLSInfo.ALPNOffers; len(off) != 2 || *f.Client.TLSInfo.ALPN != "http/1.1" {
		t.Errorf("ALPN: %v %v", off, f.Client.TLSInfo.ALPN)
	}
}

func TestSOCKSOverTLS(t *testing.T) {
	target := echo(t)
	g := startTLS(t, nil)
	addr, _ := net.ResolveTCPAddr("tcp", target)
	port := []byte{byte(addr.Port >> 8), byte(addr.Port)}
	for _, row := range []struct {
		name, send, want string
		proto            connmodel.Protocol
	}{
		{"SOCKS5", "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + string(port), "\x05\x00\x05\x00\x00\x01", connmodel.ProtocolSOCKS5},
		{"SOCKS4", "\x04\x01" + string(port) + "\x7f\x00\x00\x01me\x00", "\x00\x5a", connmodel.ProtocolSOCKS4},
	} {
		c := g.mustDialTLS(t, g.trust)
		for i := range len(row.send) { // a TLS record for each byte
			io.WriteString(c, row.send[i:i+1])
		}
		io.WriteString(c, "hello")
		c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(got), row.want) || !strings.HasSuffix(string(got), "hello") {
			t.Errorf("%s: %q %v", row.name, got, err)
		}
		if f := g.records.next(t); f.Protocol != row.proto || f.Error != nil || !f.Client.TLSEstablished() {
			t.Errorf("%s: record %s %v", row.name, f.Protocol, f.Error)
		}
	}
}

// TestPlaintextOnATLSPort: a client that forgot TLS is told so, in its own protocol where that has words for it.
func TestPlaintextOnATLSPort(t *testing.T) {
	g := startTLS(t, nil)
	for _, row := range []struct {
		name, send, want, says string
		kind                   connmodel.Kind
	}{
		{"GET", "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ", "use https://", connmodel.KindProtocol},
		{"CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ", "use https://", connmodel.KindProtocol},
		{"one letter", "G", "HTTP/1.1 400 ", "use https://", connmodel.KindProtocol},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 ", "use https://", connmodel.KindProtocol},
		{"SOCKS5", "\x05\x01\x00", "", "SOCKS5", connmodel.KindProtocol},
		{"SOCKS4", "\x04\x01\x00\x50\x01\x02\x03\x04\x00", "", "SOCKS4", connmodel.KindProtocol},
		{"noise", "\x00\x01\x02", string(alertUnexpected), "does not speak TLS", connmodel.KindProtocol},
		{"half a record", "\x16\x03\x01\x40\x01" + strings.Repeat("x", 20<<10), "\x15\x03", "no TLS handshake", connmodel.KindProtocol},
		{"a handshake that is none", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\x15\x03", "no TLS handshake", connmodel.KindProtocol},
		{"a hello of 128 KiB", "\x16\x03\x01\x40\x00\x01\x02\x00\x00" + strings.Repeat("x", 16<<10-4), "\x15\x03", "no TLS handshake", connmodel.KindProtocol},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := g.exchange(t, row.send)
			if !strings.HasPrefix(got, row.want) || row.want == "" && got != "" {
				t.Errorf("got %.200q, want %q", got, row.want)
			}
			f := g.records.next(t)
			if f.Error == nil || f.Error.Phase != connmodel.PhaseTLS || f.Error.Side != connmodel.SideClient || f.Error.Kind != row.kind || !strings.Contains(f.Error.Message, row.says) {
				t.Errorf("record: %+v", f.Error)
			}
			if f.Client.TLSEstablished() || !f.Client.TLS {
				t.Errorf("TLS is said to be established: %+v", f.Client.Connection)
			}
			if row.want == "HTTP/1.1 400 " && !strings.Contains(got, "use https:// in the URL of the proxy") {
				t.Errorf("the page says %q", got)
			}
		})
	}
}

// TestTLSOnAPlainPort: a TLS client of a listener without TLS gets an alert, and the record says what it was.
func TestTLSOnAPlainPort(t *testing.T) {
	for _, protocols := range []Protocols{AllProtocols, HTTP, SOCKS5} {
		g := start(t, func(o *Options, c *Config) { c.Listeners[0].Protocols = protocols })
		c := tls.Client(g.dial(t), &tls.Config{ServerName: "gate.example"})
		var alert tls.AlertError
		if err := c.Handshake(); !errors.As(err, &alert) && !strings.Contains(fmt.Sprint(err), "handshake failure") {
			t.Errorf("the client got %v", err)
		}
		if f := g.records.next(t); f.Error == nil || !strings.Contains(f.Error.Message, "the client speaks TLS, which this listener does not") || f.Error.Kind != connmodel.KindTLS {
			t.Errorf("record: %+v", f.Error)
		}
	}
}

func TestPriorKnowledgeH2IsRefused(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	g := start(t, nil)
	if got := g.exchange(t, preface); got != string(goAwayH2) {
		t.Errorf("got %q", got)
	}
	if f := g.records.next(t); f.Error == nil || f.Error.Code != 505 || !strings.Contains(f.Error.Message, "prior knowledge") {
		t.Errorf("record: %+v", f.Error)
	}
}

func TestFailedHandshakesSayWhy(t *testing.T) {
	other := upstreamtest.MustCA(t)
	required := func(o *Options, c *Config, ca *upstreamtest.CA) { c.Listeners[0].TLS.ClientCAs = ca.Pool() }
	for _, row := range []struct {
		name   string
		listen func(*Options, *Config, *upstreamtest.CA)
		client func(*testing.T, *tls.Config, *upstreamtest.CA)
		kind   connmodel.Kind
		says   string
		code   int
	}{
		{"client trusts another CA", nil, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) { c.RootCAs = other.Pool() }, connmodel.KindTLS, "the client ended the TLS handshake: it does not accept the certificate", 42},
		{"client wants another name", nil, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) { c.ServerName = "else.example" }, connmodel.KindTLS, `for the name "else.example"`, 42},
		{"old version", nil, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, connmodel.KindTLS, "the client speaks TLS 1.1, TLS 1.0, and this listener asks for TLS 1.2 or later (min_version)", 0},
		{"min_version 1.3", func(o *Options, c *Config, ca *upstreamtest.CA) { c.Listeners[0].TLS.MinVersion = tls.VersionTLS13 },
			func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) { c.MaxVersion = tls.VersionTLS12 }, connmodel.KindTLS, "the client speaks TLS 1.2, and this listener asks for TLS 1.3", 0},
		{"no cipher", nil, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}, connmodel.KindTLS, "no cipher suite supported by both", 0},
		{"no protocol", nil, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) { c.NextProtos = []string{"imap\r\n\x1b[31m"} }, connmodel.KindTLS, "unsupported application protocols", 0},
		{"no client certificate", required, nil, connmodel.KindAuth, "the client has no certificate, and this listener asks for one", 0},
		{"no client certificate, TLS 1.2", required, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) { c.MaxVersion = tls.VersionTLS12 }, connmodel.KindAuth, "the client has no certificate", 0},
		{"certificate of another CA", required, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) {
			c.Certificates = []tls.Certificate{other.MustIssue(t, upstreamtest.CertOptions{Client: true}, "mallory")}
			cert := c.Certificates[0]
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}, connmodel.KindTLS, "signed by an authority that client_ca does not hold", 0},
		{"expired certificate", required, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) {
			o := upstreamtest.Expired()
			o.Client = true
			c.Certificates = []tls.Certificate{ca.MustIssue(t, o, "old")}
		}, connmodel.KindTLS, "the client's certificate is not valid now", 0},
		{"server certificate for a client", required, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) {
			c.Certificates = []tls.Certificate{ca.MustIssue(t, upstreamtest.CertOptions{}, "server")}
		}, connmodel.KindTLS, "is not one for clients", 0},
		{"certificate without the name", func(o *Options, c *Config, ca *upstreamtest.CA) {
			required(o, c, ca)
			c.Listeners[0].TLS.UserFrom = UserFromSANEmail
		}, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) {
			c.Certificates = []tls.Certificate{ca.MustIssue(t, upstreamtest.CertOptions{Client: true}, "anna")}
		}, connmodel.KindAuth, "has no email address to know its user by", 0},
		{"name with control characters", required, func(t *testing.T, c *tls.Config, ca *upstreamtest.CA) {
			c.Certificates = []tls.Certificate{ca.MustIssue(t, upstreamtest.CertOptions{Client: true, CommonName: "an\r\nna"})}
		}, connmodel.KindAuth, "is no user name", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			events := make(chan connmodel.Event, 100)
			g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
				o.Hooks = &connmodel.Hooks{Observe: func(e connmodel.Event, _ func() *connmodel.Flow, _ *connmodel.Client) { events <- e }}
				if row.listen != nil {
					row.listen(o, c, ca)
				}
			})
			c := g.trust.Clone()
			if row.client != nil {
				row.client(t, c, g.ca)
			}
			tc, err := g.dialTLS(t, c)
			if err == nil { // in TLS 1.3 the client is done before the server has seen its certificate
				_, err = tc.Read(make([]byte, 1))
			}
			if err == nil || err == io.EOF {
				t.Errorf("the client noticed nothing: %v", err)
			}
			f := g.records.next(t)
			if e := f.Error; e == nil || e.Phase != connmodel.PhaseTLS || e.Kind != row.kind || !strings.Contains(e.Message, row.says) || e.Code != row.code || e.Blame != connmodel.BlameClient {
				t.Fatalf("record: %+v", f.Error)
			}
			if f.Client.TLSEstablished() || f.Client.TLSInfo == nil || f.Client.TLSInfo.SNI != c.ServerName {
				t.Errorf("TLS: %+v", f.Client.TLSInfo)
			}
			if wants := strings.Contains(row.name, "expired") || strings.Contains(row.name, "another CA") && row.kind == connmodel.KindTLS && row.listen != nil; wants && len(f.Client.TLSInfo.Certificates) == 0 {
				t.Error("the certificate that was refused is not in the record")
			}
			var kinds []connmodel.EventKind
			for len(events) > 0 {
				kinds = append(kinds, (<-events).Kind)
			}
			want := []connmodel.EventKind{connmodel.EventClientConnected, connmodel.EventTLSStart, connmodel.EventTLSFailed, connmodel.EventError}
			if len(kinds) < 4 || fmt.Sprint(kinds[:4]) != fmt.Sprint(want) {
				t.Errorf("events %v, want %v first", kinds, want)
			}
		})
	}
}

// TestSlowHandshakesOverTLS: TLS buys no time, whatever part of it is slow, and nobody waits for others.
func TestSlowHandshakesOverTLS(t *testing.T) {
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
		c.Listeners[0].HandshakeTimeout = 400 * time.Millisecond
	})
	hello := clientHello(t)
	for _, row := range []struct {
		name string
		send func(c net.Conn) net.Conn
		says string // "": no record
	}{
		{"nothing", func(c net.Conn) net.Conn { return c }, ""},
		{"one byte", func(c net.Conn) net.Conn { c.Write(hello[:1]); return c }, "did not complete its TLS handshake in time"},
		{"half a hello", func(c net.Conn) net.Conn { c.Write(hello[:len(hello)/2]); return c }, "did not complete its TLS handshake in time"},
		{"a hello and no more", func(c net.Conn) net.Conn { c.Write(hello); return c }, "did not complete its TLS handshake in time"},
		{"no request behind the handshake", func(c net.Conn) net.Conn {
			tc := tls.Client(c, g.trust)
			tc.Handshake()
			return tc
		}, ""},
		{"half a request behind it", func(c net.Conn) net.Conn {
			tc := tls.Client(c, g.trust)
			io.WriteString(tc, "GET http://x/ HT")
			return tc
		}, "did not complete its request in time"},
	} {
		t.Run(row.name, func(t *testing.T) {
			began := time.Now()
			c := row.send(g.dial(t))
			io.Copy(io.Discard, c)
			if took := time.Since(began); took < 300*time.Millisecond || took > 5*time.Second {
				t.Errorf("cut after %v", took)
			}
			if row.says == "" {
				return
			}
			if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindTimeout || !strings.Contains(f.Error.Message, row.says) {
				t.Errorf("record: %+v", f.Error)
			}
		})
	}
}

// clientHello is the first flight of a Go client.
func clientHello(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tls.Client(b, &tls.Config{ServerName: "gate.example"}).Handshake()
	}()
	buf := make([]byte, 16<<10)
	n, err := a.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	<-done
	return buf[:n]
}

// TestHelloInPieces: a ClientHello may come in any number of segments, and in TLS records of one byte.
func TestHelloInPieces(t *testing.T) {
	target := echo(t)
	g := startTLS(t, nil)
	for _, size := range []int{1, 7, 300} {
		nc := g.dial(t)
		c := tls.Client(&inPieces{Conn: nc, size: size}, g.trust)
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nping", target)
		want := string(connectOK) + "ping"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Errorf("pieces of %d: %q %v", size, got, err)
		}
		c.Close()
	}
	hello := clientHello(t)
	nc := g.dial(t)
	for _, b := range hello[5:] {
		nc.Write([]byte{22, 3, 1, 0, 1, b})
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(nc, got); err != nil || got[0] != 22 || got[5] != 2 {
		t.Errorf("records of one byte: got %v %v, want a ServerHello", got, err)
	}
}

type inPieces struct {
	net.Conn
	size int
}

func (p *inPieces) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		m := 0
		m, err = p.Conn.Write(b[:min(p.size, len(b))])
		n += m
		b = b[m:]
	}
	return n, err
}

// TestClientCertificates: who a client with a certificate is, with passwords and without.
func TestClientCertificates(t *testing.T) {
	origin := okOrigin(t)
	basic := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("bert:pw")) + "\r\n"
	for _, row := range []struct {
		name           string
		optional, auth bool
		from           UserFrom
		cert, password bool
		status         int
		user           string
	}{
		{"required", false, false, "", true, false, 200, "anna"},
		{"required, by DNS name", false, false, UserFromSANDNS, true, false, 200, "anna.example"},
		{"required, by subject", false, false, UserFromSubject, true, false, 200, "CN=anna"},
		{"optional, with", true, false, "", true, false, 200, "anna"},
		{"optional, without", true, false, "", false, false, 200, ""},
		{"optional or password, with certificate", true, true, "", true, false, 200, "anna"},
		{"optional or password, with password", true, true, "", false, true, 200, "bert"},
		{"optional or password, with both", true, true, "", true, true, 200, "anna"},
		{"optional or password, with neither", true, true, "", false, false, 407, ""},
		{"required and password, with both", false, true, "", true, true, 200, "bert"},
		{"required and password, certificate alone", false, true, "", true, false, 407, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var seen string
			g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
				l := &c.Listeners[0]
				l.TLS.ClientCAs, l.TLS.ClientOptional, l.TLS.UserFrom = ca.Pool(), row.optional, row.from
				if row.auth {
					l.Auth = oneUser{"bert", "pw"}
				}
				l.Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
					seen = f.User
					return loopbackOpen(), 0
				})
			})
			c := g.trust
			if row.cert {
				c = g.with(func(c *tls.Config) {
					c.Certificates = []tls.Certificate{g.ca.MustIssue(t, upstreamtest.CertOptions{Client: true, CommonName: "anna"}, "anna.example")}
				})
			}
			tc := g.mustDialTLS(t, c)
			field := ""
			if row.password {
				field = basic
			}
			fmt.Fprintf(tc, "GET %s/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", origin.URL, field)
			resp, err := http.ReadResponse(bufio.NewReader(tc), nil)
			if err != nil || resp.StatusCode != row.status {
				t.Fatal(resp, err)
			}
			f := g.records.next(t)
			if f.Client.User != row.user || row.status == 200 && seen != row.user {
				t.Errorf("the user is %q, to rules %q, want %q", f.Client.User, seen, row.user)
			}
			if certs := f.Client.TLSInfo.Certificates; (len(certs) == 1) != row.cert || row.cert && certs[0].Subject != "CN=anna" {
				t.Errorf("certificates: %+v", certs)
			}
		})
	}
}

// TestSOCKSWithClientCertificates: SOCKS5 asks for a password only where HTTP would, and SOCKS4 knows who it carries for.
func TestSOCKSWithClientCertificates(t *testing.T) {
	target := echo(t)
	addr, _ := net.ResolveTCPAddr("tcp", target)
	port := string([]byte{byte(addr.Port >> 8), byte(addr.Port)})
	request := "\x05\x01\x00\x01\x7f\x00\x00\x01" + port
	for _, row := range []struct {
		name           string
		optional, auth bool
		send, want     string
		user           string
	}{
		{"SOCKS5", false, false, "\x05\x01\x00" + request, "\x05\x00\x05\x00", "anna"},
		{"SOCKS5, certificate or password", true, true, "\x05\x01\x00" + request, "\x05\x00\x05\x00", "anna"},
		{"SOCKS5, certificate and no password", false, true, "\x05\x01\x00" + request, "\x05\xff", ""},
		{"SOCKS5, certificate and password", false, true, "\x05\x01\x02\x01\x04bert\x02pw" + request, "\x05\x02\x01\x00\x05\x00", "bert"},
		{"SOCKS4", false, false, "\x04\x01" + port + "\x7f\x00\x00\x01me\x00", "\x00\x5a", "anna"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
				l := &c.Listeners[0]
				l.TLS.ClientCAs, l.TLS.ClientOptional = ca.Pool(), row.optional
				if row.auth {
					l.Auth = oneUser{"bert", "pw"}
				}
			})
			c := g.mustDialTLS(t, g.with(func(c *tls.Config) {
				c.Certificates = []tls.Certificate{g.ca.MustIssue(t, upstreamtest.CertOptions{Client: true}, "anna")}
			}))
			io.WriteString(c, row.send)
			c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), row.want) {
				t.Errorf("got %q %v, want %q", got, err, row.want)
			}
			if f := g.records.next(t); f.Client.User != row.user {
				t.Errorf("user %q, want %q", f.Client.User, row.user)
			}
		})
	}
}

// TestTLSClientLeavesDuringDial: FIN behind a close_notify is a client that has left, in either version of TLS; one that has only begun to
// speak is served.
func TestTLSClientLeavesDuringDial(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			proxy := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SilenceAfterRequest}})
			g := startTLS(t, func(o *Options, c *Config, _ *upstreamtest.CA) {
				c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "silent", Scheme: "http", Address: address(t, proxy.Addr())}}})
				c.Listeners[0].Decider = always(via("upstream.silent"))
			})
			conf := g.with(func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
			c := g.mustDialTLS(t, conf)
			io.WriteString(c, "CONNECT x.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
			waitFor(t, g.busy)
			left := time.Now()
			c.Close()
			f := g.records.next(t)
			if took := time.Since(left); took > 4*time.Second || f.Reason != connmodel.CloseClient || f.Error == nil || f.Error.Kind != connmodel.KindCanceled {
				t.Errorf("after %v: %s %v", took, f.Reason, f.Error)
			}
		})
	}
}

// TestOddNamesAndCertificates: what a client may put into a handshake is bounded in the record, and cannot break out of it.
func TestOddNamesAndCertificates(t *testing.T) {
	origin := okOrigin(t)
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
		c.Listeners[0].TLS.ClientCAs, c.Listeners[0].TLS.ClientOptional = ca.Pool(), true
	})
	names := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("name-%d.example", i))
		}
		return list
	}
	for _, row := range []struct {
		name  string
		sni   string
		names int
		says  string // "": it is served
	}{
		{"control characters", "gate\r\n\x00\x1b[31m.example", 0, ""},
		{"not UTF-8", "gate\xff\xfe.example", 0, ""},
		{"a long name", strings.Repeat("a.", 2000) + "example", 0, ""},
		{"5,000 names", "gate.example", 5000, ""},
		{"11,000 names", "gate.example", 11_000, "longer than"},
		{"20,000 names", "gate.example", 20_000, "longer than"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conf := g.with(func(c *tls.Config) {
				c.ServerName, c.InsecureSkipVerify = row.sni, true
				if row.names > 0 {
					c.Certificates = []tls.Certificate{g.ca.MustIssue(t, upstreamtest.CertOptions{Client: true, CommonName: "anna"}, names(row.names)...)}
				}
			})
			c, err := g.dialTLS(t, conf)
			if err == nil {
				fmt.Fprintf(c, "GET %s/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", origin.URL)
				_, err = http.ReadResponse(bufio.NewReader(c), nil)
			}
			if (err == nil) != (row.says == "") {
				t.Errorf("the client got %v", err)
			}
			f := g.records.next(t)
			line := f.AppendJSON(nil)
			if bytes.ContainsAny(line, "\r\n\x00\x1b") || len(line) > connmodel.MaxRecord || !utf8.Valid(line) {
				t.Errorf("record of %d bytes: %.300q", len(line), line)
			}
			if row.says != "" {
				if f.Error == nil || !strings.Contains(f.Error.Message, row.says) || f.Error.Kind != connmodel.KindLimit {
					t.Errorf("record: %v", f.Error)
				}
				return
			}
			info := f.Client.TLSInfo
			if f.Error != nil || info == nil || info.Truncated != (row.names > 0 || len(row.sni) > 300) || len(info.SNI) > 310 {
				t.Errorf("record: %v, truncated %v, SNI of %d bytes", f.Error, info.Truncated, len(info.SNI))
			}
		})
	}
}
