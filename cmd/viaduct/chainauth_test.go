package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// tap passes connections on to a proxy, and writes down what is sent to it.
type tap struct {
	addr string

	mu   sync.Mutex
	sent []*[]byte // by connection
}

func tapOf(t *testing.T, to string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	p := &tap{addr: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(c, to)
		}
	}()
	return p
}

func (p *tap) pass(c net.Conn, to string) {
	defer c.Close()
	s, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer s.Close()
	p.mu.Lock()
	mine := new([]byte)
	p.sent = append(p.sent, mine)
	p.mu.Unlock()
	go func() {
		b := make([]byte, 16<<10)
		for {
			m, err := c.Read(b)
			p.mu.Lock()
			*mine = append(*mine, b[:m]...)
			p.mu.Unlock()
			if m > 0 {
				s.Write(b[:m])
			}
			if err != nil {
				s.(*net.TCPConn).CloseWrite()
				return
			}
		}
	}()
	io.Copy(c, s)
}

// head is one request head that went by, with what it showed.
type head struct{ target, auth string }

var heads = regexp.MustCompile(`(?m)^(?:CONNECT|GET|HEAD|POST) (\S+) HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*?\r\n`)
var authField = regexp.MustCompile(`(?mi)^proxy-authorization: (\S+) (\S*)`)

// heads returns the request heads, of all connections.
func (p *tap) heads() (all []head) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.sent {
		for _, m := range heads.FindAllSubmatch(*b, -1) {
			h := head{target: string(m[1])}
			if a := authField.FindSubmatch(m[0]); a != nil {
				h.auth = string(a[1])
				if h.auth == "Basic" {
					h.auth += " " + string(a[2])
				}
			}
			all = append(all, h)
		}
	}
	return all
}

func (p *tap) forget() {
	p.mu.Lock()
	p.sent = nil
	p.mu.Unlock()
}

const twoLogins = `
variable "listen" { type = string }
variable "records" { type = string }
variable "ntlm" { type = string }
variable "digest" { type = string }
variable "client" { type = string }
variable "ports" { type = list(string) }

gateway {
  records { path = var.records }
}
listener "desk" {
  address = var.listen
  authenticate { htpasswd = "users" }
}
upstream "ntlm" {
  url = "http://${var.ntlm}"
  auth {
    username = "svc"
    password = "p4ss-of-ntlm"
    schemes  = ["ntlm"]
  }
}
upstream "digest" {
  url = "http://${var.digest}"
  auth {
    username = "dig"
    password = "p4ss-of-digest"
    schemes  = ["digest"]
  }
}
upstream "client" {
  url = "http://${var.client}"
  auth { from_client = true }
}
policy "default" {
  rule "ntlm, digest" {
    match {
      port    = var.ports[0]
      address = ["127.0.0.0/8"]
    }
    via = [upstream.ntlm, upstream.digest]
  }
  rule "client, digest" {
    match {
      port    = var.ports[1]
      address = ["127.0.0.0/8"]
    }
    via = [upstream.client, upstream.digest]
  }
  rule "ntlm, client" {
    match {
      port    = var.ports[2]
      address = ["127.0.0.0/8"]
    }
    via = [upstream.ntlm, upstream.client]
  }
  otherwise { via = direct }
}
`

// TestTwoLoginsInOneChain: each hop of a chain is shown its own credential, in its own scheme, and nothing of the other's.
func TestTwoLoginsInOneChain(t *testing.T) {
	peers.Need(t, "squid", "digest_file_auth", "basic_ncsa_auth", "openssl", "curl")
	samba := sambaWith(t, "svc", "p4ss-of-ntlm")
	squids := map[string]*peers.Proc{
		"ntlm":   squidWith(t, peers.SquidOptions{Schemes: []string{"ntlm"}, Samba: samba}),
		"digest": squidWith(t, peers.SquidOptions{Schemes: []string{"digest"}, User: "dig", Password: "p4ss-of-digest"}),
		"client": squidWith(t, peers.SquidOptions{Schemes: []string{"basic"}, User: "ann", Password: "try-me-ann"}),
	}
	taps := map[string]*tap{}
	var vars []string
	for name, s := range squids {
		taps[name] = tapOf(t, s.Addr())
		vars = append(vars, name, taps[name].addr)
	}
	var origins [3]*upstreamtest.HTTPOrigin
	var ports []string
	for i := range origins {
		origins[i] = upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
		_, port, _ := net.SplitHostPort(origins[i].Addr())
		ports = append(ports, fmt.Sprintf("%q", port))
	}
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	write(t, users, "ann:$2a$10$xE1Y.b5G.A2SEqpBh3guUujC2W8/4KgH2UBERNOdhJx.6CLdoAnO6\nbob:$2a$10$giCEa78gyI6clrKNQj5a7OmVtoH1h1uU3e04WnYB1UVTRg8OP2Fny\n")
	g := startGateway(t, strings.Replace(twoLogins, `"users"`, `"`+users+`"`, 1), append(vars, "ports", "["+strings.Join(ports, ",")+"]")...)
	ann, bob := "http://ann:try-me-ann@"+g.addr, "http://bob:try-me-bob@"+g.addr
	basic := basicOf("ann", "try-me-ann")
	for i, row := range []struct{ first, second, firstShows, secondShows string }{
		{"ntlm", "digest", "NTLM", "Digest"},
		{"client", "digest", basic, "Digest"},
		{"ntlm", "client", "NTLM", basic},
	} {
		for _, p := range taps {
			p.forget()
		}
		for range 3 {
			client(t, "curl", "-sSf", "-p", "-x", ann, origins[i].URL("/tunnel"))
			client(t, "curl", "-sSf", "-x", ann, origins[i].URL("/plain"))
			client(t, "curl", "-sSf", "-x", ann, "-d", "body", origins[i].URL("/post"))
		}
		next := taps[row.second].addr
		var toFirst, toSecond int
		for _, h := range taps[row.first].heads() { // what goes on to the second comes by here, too
			switch {
			case h.target == next && (h.auth == row.firstShows || h.auth == ""):
				toFirst++
			case h.target != next && (h.auth == row.secondShows || h.auth == ""):
			default:
				t.Errorf("%s, %s: %s was shown %q for %s", row.first, row.second, row.first, h.auth, h.target)
			}
		}
		for _, h := range taps[row.second].heads() {
			if h.target == next || h.auth != row.secondShows && h.auth != "" {
				t.Errorf("%s, %s: %s was shown %q for %s", row.first, row.second, row.second, h.auth, h.target)
			}
			toSecond++
		}
		if toFirst == 0 || toSecond == 0 {
			t.Errorf("%s, %s: %d and %d requests were seen", row.first, row.second, toFirst, toSecond)
		}
		for _, r := range origins[i].Requests() {
			if bytes.Contains(bytes.ToLower(r.Head), []byte("proxy-authorization")) {
				t.Errorf("the server was shown a credential: %s", r.Head)
			}
		}
	}
	f := g.next(0)
	hops := f.Server.Attempts[0].Hops
	if hops[0].Credential != "ntlm" || hops[1].Credential != "digest" || f.Client.User != "ann" {
		t.Errorf("record: %+v", hops)
	}
	// bob is known to us, and not to the third proxy: that one is named, and he is shown to it once
	taps["client"].forget()
	for range 3 {
		if out, err := tryClient(t, "curl", "-sS", "-f", "-p", "-x", bob, origins[2].URL("/bob")); err == nil {
			t.Errorf("bob got through: %s", out)
		}
	}
	all := g.flows()
	if e := all[len(all)-1].Error; e == nil || e.Kind != "auth" || e.Blame != "client" || e.Hop != 2 || e.HopName != "client" {
		t.Errorf("the error of bob: %+v", e)
	}
	shown := func() (n int) {
		for _, h := range taps["client"].heads() {
			if h.auth == basicOf("bob", "try-me-bob") {
				n++
			}
		}
		return n
	}
	if n := shown(); n != 1 {
		t.Errorf("bob was shown %d times", n)
	}
	if out := g.command("upstream", "list"); !strings.Contains(out, "1 closed") || !strings.Contains(out, "viaduct upstream reset client") {
		t.Errorf("list:\n%s", out)
	}
	// a gateway that is killed remembers it
	g.cmd.Process.Kill()
	g.cmd.Wait()
	g.again()
	tryClient(t, "curl", "-sS", "-f", "-p", "-x", bob, origins[2].URL("/bob"))
	if n := shown(); n != 1 {
		t.Errorf("bob was shown %d times after the restart", n)
	}
	if out := g.command("upstream", "reset", "client"); !strings.Contains(out, "1 login of a client") {
		t.Error(out)
	}
	tryClient(t, "curl", "-sS", "-f", "-p", "-x", bob, origins[2].URL("/bob"))
	if n := shown(); n != 2 {
		t.Errorf("bob was shown %d times after the reset", n)
	}
	client(t, "curl", "-sSf", "-p", "-x", ann, origins[2].URL("/ann"))
	records, err := os.ReadFile(g.records)
	must(t, err)
	for _, secret := range []string{"p4ss-of", "try-me"} {
		if bytes.Contains(records, []byte(secret)) || strings.Contains(g.logged(), secret) && !strings.Contains(g.logged(), "Password in the policy") {
			t.Errorf("%s is in records or log", secret)
		}
	}
	if n, err := samba.BadPasswords(t.Context(), "svc"); n != 0 || err != nil {
		t.Errorf("%d failed logons, %v", n, err)
	}
}

// TestKerberosBehindDigest: a ticket for the second hop, through one that wants a digest.
func TestKerberosBehindDigest(t *testing.T) {
	peers.Need(t, "digest_file_auth", "openssl")
	l := kerberosLand(t)
	digest := squidWith(t, peers.SquidOptions{Schemes: []string{"digest"}, User: "dig", Password: "p4ss-of-digest", Hosts: map[string]string{"localhost": "127.0.0.1"}})
	first, second := tapOf(t, digest.Addr()), tapOf(t, l.squid.Addr())
	_, port, _ := net.SplitHostPort(second.addr)
	next := "localhost:" + port
	policy := strings.Replace(twoLogins[:strings.Index(twoLogins, "upstream \"ntlm\"")], "  authenticate { htpasswd = \"users\" }\n", "", 1) + `
upstream "digest" {
  url = "http://${var.digest}"
  auth {
    username = "dig"
    password = "p4ss-of-digest"
    schemes  = ["digest"]
  }
}
upstream "kerberos" {
  url = "http://${var.ntlm}"
  auth {
    username  = "svc"
    password  = "p4ss"
    schemes   = ["negotiate"]
    krb5_conf = "` + l.kdc.Conf + `"
  }
}
policy "default" {
  rule "both" {
    match { address = ["127.0.0.0/8"] }
    via = [upstream.digest, upstream.kerberos]
  }
}
locals { unused = [var.client, var.ports] }
`
	g := startGateway(t, policy, "digest", first.addr, "ntlm", next, "client", "", "ports", "[]")
	for range 3 {
		client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, l.origin.URL("/tunnel"))
		client(t, "curl", "-sSf", "-x", "http://"+g.addr, "-d", "body", l.origin.URL("/plain"))
	}
	tickets := 0
	for _, h := range first.heads() {
		if h.target == next && h.auth != "Digest" && h.auth != "" || h.target != next && h.auth != "Negotiate" && h.auth != "" {
			t.Errorf("the first was shown %q for %s", h.auth, h.target)
		}
	}
	for _, h := range second.heads() {
		if h.auth != "Negotiate" && h.auth != "" {
			t.Errorf("the second was shown %q for %s", h.auth, h.target)
		}
		if h.auth != "" {
			tickets++
		}
	}
	if tickets == 0 {
		t.Error("no ticket was seen")
	}
	if n := l.kdc.Rejections(); n != 0 {
		t.Errorf("%d logins were refused", n)
	}
}
