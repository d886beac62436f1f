package router

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest/peers"
)

// nameServer answers every question for an address with 192.0.2.53.
func nameServer(t *testing.T) netip.AddrPort {
	return servePackets(t, func(c *net.UDPConn, b []byte, from netip.AddrPort) {
		var m dnsmessage.Message
		if m.Unpack(b) != nil || len(m.Questions) != 1 {
			return
		}
		q := m.Questions[0]
		m.Header.Response = true
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 53}},
		}}
		if out, err := m.Pack(); err == nil {
			c.WriteToUDPAddrPort(out, from)
		}
	})
}

func query(t *testing.T, name string) string {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 4711, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pySocks asks a name server by PySocks, as Python programs do, and prints the answer in hex. Arguments: proxy, port, server, port, query.
const pySocks = `
import socks, socket, sys
s = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
s.set_proxy(socks.SOCKS5, sys.argv[1], int(sys.argv[2]))
s.settimeout(10)
s.sendto(bytes.fromhex(sys.argv[5]), (sys.argv[3], int(sys.argv[4])))
b, addr = s.recvfrom(2048)
print(b.hex(), addr[1])
`

// python is Debian's, which finds Debian's modules.
const python = "/usr/bin/python3"

func needPySocks(t *testing.T) {
	t.Helper()
	if err := exec.Command(python, "-c", "import socks").Run(); err != nil {
		if os.Getenv(peers.RequireEnv) != "" {
			t.Fatalf("python3-socks: %v", err)
		}
		t.Skip("needs python3-socks (Debian package)")
	}
}

// TestUDPWithPeers: a query of PySocks goes through us alone, and through us and Dante, which asks for a password.
func TestUDPWithPeers(t *testing.T) {
	peers.Need(t, "danted", "openssl")
	needPySocks(t)
	dante, err := peers.Dante(t.Context(), t.TempDir(), peers.DanteOptions{UDP: true, User: "jumper", Password: "dante-secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dante.Close() })
	server := nameServer(t)
	for _, tt := range []struct{ name, scheme, route string }{
		{"direct", "socks5h", connmodel.RouteDirect}, {"socks5h", "socks5h", "upstream.dante"}, {"socks5", "socks5", "upstream.dante"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, func(_ *Options, c *Config) {
				c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "dante", Scheme: tt.scheme, Address: address(t, dante.Addr()),
					Auth: &upstream.Auth{Username: "jumper", Password: upstream.NewSecret("dante-secret"), Credential: "jump"}}}})
				c.Listeners[0].UDP = &UDP{}
				c.Listeners[0].Decider = always(via(tt.route))
			})
			proxyHost, proxyPort, _ := net.SplitHostPort(g.addr)
			host, port, _ := net.SplitHostPort(server.String())
			out, err := exec.CommandContext(t.Context(), python, "-c", pySocks, proxyHost, proxyPort, host, port, hexOf(query(t, "www.example."))).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\nDante: %s", err, out, dante.Log())
			}
			if !strings.Contains(string(out), "c0000235 "+port) { // 192.0.2.53, from the server's port
				t.Fatalf("the answer is %s", out)
			}
			flows, _ := g.flowsOf(t, 2)
			f := flows[server.String()]
			want := strings.TrimPrefix(tt.route, "upstream.")
			if f == nil || f.Error != nil || f.Server == nil || f.Server.Route != want || f.Down == 0 || f.Metadata["datagrams_down"] != "1" {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("names by Dante", func(t *testing.T) {
		g := start(t, func(_ *Options, c *Config) {
			c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{{Name: "dante", Scheme: "socks5h", Address: address(t, dante.Addr()),
				Auth: &upstream.Auth{Username: "jumper", Password: upstream.NewSecret("dante-secret"), Credential: "jump"}}}})
			c.Listeners[0].UDP = &UDP{}
			c.Listeners[0].Decider = always(via("upstream.dante"))
		})
		c := g.associate(t)
		_, port, _ := net.SplitHostPort(server.String())
		c.send("localhost:"+port, query(t, "www.example."))
		if from, got, err := c.receive(); err != nil || !strings.Contains(got, "\xc0\x00\x02\x35") {
			t.Fatalf("%q from %s, %v\nDante: %s", got, from, err, dante.Log())
		}
		c.control.Close()
		flows, _ := g.flowsOf(t, 2)
		if f := flows["localhost:"+port]; f == nil || f.Server == nil || f.Server.ResolvedBy != "upstream" || f.Down == 0 {
			t.Errorf("%+v", f)
		}
	})
}

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(digits[s[i]>>4])
		b.WriteByte(digits[s[i]&15])
	}
	return b.String()
}

// The manual of the record names the metadata of datagrams.
func TestManualNamesDrops(t *testing.T) {
	text, err := os.ReadFile("../connmodel/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range dropNames {
		if !strings.Contains(string(text), "`udp_dropped_"+name+"`") {
			t.Errorf("connmodel/README.md does not name udp_dropped_%s", name)
		}
	}
	if n := strings.Count(string(text), "`udp_dropped_"); n != len(dropNames) {
		t.Errorf("connmodel/README.md names %d reasons, there are %d", n, len(dropNames))
	}
}
