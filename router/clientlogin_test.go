package router

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/auth"
)

// logins is a list of users with their passwords.
type logins map[string]string

func (l logins) Verify(user, password string) bool { return password != "" && l[user] == password }

// shownTo is a proxy with users of its own, which writes down who was shown to it on which connection.
type shownTo struct {
	users logins
	addr  string

	mu    sync.Mutex
	conns [][]string // "user:password" of each request, by connection
}

func newShownTo(t *testing.T, users logins) *shownTo {
	p := &shownTo{users: users}
	p.addr = serveTCP(t, p.serve)
	return p
}

func (p *shownTo) serve(c net.Conn) {
	p.mu.Lock()
	n := len(p.conns)
	p.conns = append(p.conns, nil)
	p.mu.Unlock()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		encoded, _ := strings.CutPrefix(r.Header.Get("Proxy-Authorization"), "Basic ")
		b, _ := base64.StdEncoding.DecodeString(encoded)
		p.mu.Lock()
		p.conns[n] = append(p.conns[n], string(b))
		p.mu.Unlock()
		user, password, _ := strings.Cut(string(b), ":")
		p.mu.Lock()
		known := p.users.Verify(user, password)
		p.mu.Unlock()
		switch {
		case !known:
			io.WriteString(c, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno")
		case r.Method == "CONNECT":
			server, err := net.Dial("tcp", r.Host)
			if err != nil {
				io.WriteString(c, "HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")
				return
			}
			defer server.Close()
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			go func() {
				io.Copy(server, in)
				server.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(c, server)
			return
		default:
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(user), user)
		}
	}
}

// shown counts the requests that showed a user and password.
func (p *shownTo) shown(login string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		for _, x := range c {
			if x == login {
				n++
			}
		}
	}
	return n
}

// change gives a user another password.
func (p *shownTo) change(user, password string) {
	p.mu.Lock()
	p.users[user] = password
	p.mu.Unlock()
}

func (p *shownTo) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// apart fails when a connection has shown more than one user.
func (p *shownTo) apart(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range p.conns {
		for _, x := range c {
			if x != c[0] {
				t.Errorf("connection %d was used for %q", i, c)
				break
			}
		}
	}
}

func fromClient(t *testing.T, name, at string) upstream.Spec {
	return upstream.Spec{Name: name, Scheme: "http", Address: address(t, at), Auth: &upstream.Auth{FromClient: true}}
}

var office = logins{"ann": "p-ann", "bob": "p-bob", "cid": "p-cid"}

// clientLoginGateway asks for users and shows them to a proxy.
func clientLoginGateway(t *testing.T, change func(*Options, *Config)) (*gateway, *shownTo) {
	p := newShownTo(t, logins{"ann": "p-ann", "bob": "p-bob", "cid": "another"})
	g := start(t, func(o *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{
			Upstreams: []upstream.Spec{fromClient(t, "corp", p.addr)}, Guard: auth.NewGuard(t.TempDir(), nil),
			Pools: []upstream.PoolSpec{{Name: "corp", Members: []string{"upstream.corp"}}},
		})
		c.Listeners[0].Decider, c.Listeners[0].Auth = always(via("pool.corp")), office
		if change != nil {
			change(o, c)
		}
	})
	return g, p
}

func basicField(login string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(login)) + "\r\n"
}

func plainOf(login string) string {
	return "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n" + basicField(login) + "\r\n"
}

// TestClientsOwnLogins: the proxy is shown who asks, and a connection to it is that client's alone.
func TestClientsOwnLogins(t *testing.T) {
	g, p := clientLoginGateway(t, nil)
	// two clients, each with requests of two users on one connection
	var all [2]struct {
		c  net.Conn
		in *bufio.Reader
	}
	for i := range all {
		all[i].c = g.dial(t)
		all[i].in = bufio.NewReader(all[i].c)
	}
	for _, user := range []string{"ann", "ann", "bob", "ann", "bob", "bob"} {
		for i := range all {
			res, body := ask(t, all[i].c, all[i].in, plainOf(user+":p-"+user))
			if res.StatusCode != 200 || body != user {
				t.Fatalf("%s: %d %q", user, res.StatusCode, body)
			}
			if f := g.records.next(t); f.Client.User != user || f.Server.Attempts[len(f.Server.Attempts)-1].Hops[0].Credential != "corp" {
				t.Errorf("record: user %q, %+v", f.Client.User, f.Server.Attempts)
			}
		}
	}
	p.apart(t)
	if n := p.count(); n < 6 { // four changes of the user for one of the clients, and one more at least for the other
		t.Errorf("%d connections for two clients: they are shared", n)
	}
	// what is left on the client's connection serves the client again
	before := p.count()
	ask(t, all[0].c, all[0].in, plainOf("bob:p-bob"))
	if p.count() != before {
		t.Error("a client's own connection was not used again")
	}
	if n := g.kept.Len(); n != 0 {
		t.Errorf("%d connections are kept for everybody", n)
	}

	// tunnels, by CONNECT and by SOCKS5
	to := echo(t)
	c := g.dial(t)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", to, to, basicField("ann:p-ann"))
	if head := make([]byte, len(connectOK)); read(c, head) != nil || string(head) != string(connectOK) || shake(c, []byte("hi")) != nil {
		t.Errorf("tunnel: %q", head)
	}
	s := g.dial(t)
	a := address(t, to)
	s.Write([]byte{5, 1, 2})
	s.Write([]byte("\x01\x03bob\x05p-bob"))
	s.Write(append([]byte{5, 1, 0, 1, 127, 0, 0, 1}, byte(a.Port>>8), byte(a.Port)))
	reply := make([]byte, 2+2+10)
	if err := read(s, reply); err != nil || reply[5] != 0 || shake(s, []byte("ho")) != nil {
		t.Errorf("SOCKS5: %v %v", reply, err)
	}
	p.apart(t)
	if p.shown("ann:p-ann") < 2 || p.shown("bob:p-bob") < 2 {
		t.Errorf("shown %v", p.conns)
	}
	// a password that is wrong here goes no further
	if res := g.answer(t, plainOf("ann:wr0ng")); res.StatusCode != 407 || p.shown("ann:wr0ng") != 0 {
		t.Errorf("%d, shown %d times", res.StatusCode, p.shown("ann:wr0ng"))
	}
}

func read(c net.Conn, b []byte) error { _, err := io.ReadFull(c, b); return err }

// TestClientLoginRejected: one client's password that the proxy does not take is shown once, and nobody else suffers.
func TestClientLoginRejected(t *testing.T) {
	g, p := clientLoginGateway(t, nil)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			raw := plainOf("cid:p-cid")
			if i%2 == 0 {
				raw = "CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n" + basicField("cid:p-cid") + "\r\n"
			}
			res := g.answer(t, raw)
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != 502 || !strings.Contains(string(body), "corp") || strings.Contains(string(body), "p-cid") {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
	wg.Wait()
	if n := p.shown("cid:p-cid"); n != 1 {
		t.Errorf("shown %d times", n)
	}
	for range 10 {
		if f := g.records.next(t); f.Error == nil || f.Error.Kind != connmodel.KindAuth || f.Error.Blame != connmodel.BlameClient || f.Error.HopName != "corp" {
			t.Errorf("error: %+v", f.Error)
		}
	}
	if res := g.answer(t, plainOf("ann:p-ann")); res.StatusCode != 200 {
		t.Errorf("another user: %d", res.StatusCode)
	}
	table := g.Config().Routes
	if m := table.Pools()[0].Members[0]; m.State != upstream.StateHealthy || m.Failures != 0 {
		t.Errorf("the member suffers: %+v", m)
	}
	if s := table.Status()[0]; s.Failures != 0 || s.Clients == nil || s.Clients.Closed != 1 || s.Clients.Proven != 1 {
		t.Errorf("status: %+v %+v", s, s.Clients)
	}
	// an operator opens it
	if was, ok, err := table.ResetCredential("corp"); !ok || err != nil || !strings.Contains(was, "1 login of a client") {
		t.Errorf("%q %v %v", was, ok, err)
	}
	p.change("cid", "p-cid")
	if res := g.answer(t, plainOf("cid:p-cid")); res.StatusCode != 200 {
		t.Errorf("after the reset: %d", res.StatusCode)
	}
	// and when the proxy changes its mind about one who was proven
	p.change("cid", "third")
	for range 3 {
		if res := g.answer(t, plainOf("cid:p-cid")); res.StatusCode != 502 {
			t.Errorf("%d", res.StatusCode)
		}
	}
	if n := p.shown("cid:p-cid"); n != 4 { // HEAD and GET when it was opened
		t.Errorf("shown %d times", n)
	}
	if m := table.Pools()[0].Members[0]; m.State != upstream.StateHealthy || m.Failures != 0 {
		t.Errorf("the member suffers: %+v", m)
	}
}

// TestNoClientLogin: who has proved nothing by a password is refused at such a proxy, and a pool goes on with others.
func TestNoClientLogin(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "other") }))
	defer plain.Close()
	p := newShownTo(t, office)
	route := "upstream.corp"
	g := start(t, func(_ *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{
			Upstreams: []upstream.Spec{fromClient(t, "corp", p.addr), {Name: "open", Scheme: "http", Address: address(t, plain.Listener.Addr().String())}},
			Guard:     auth.NewGuard(t.TempDir(), nil),
			Pools:     []upstream.PoolSpec{{Name: "any", Members: []string{"upstream.corp", "upstream.open"}}},
		})
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(*connmodel.Facts) (*connmodel.Decision, connmodel.Need) { return via(route), 0 })
	})
	for _, raw := range []string{plainOf("ann:p-ann"), "CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n"} {
		res := g.answer(t, raw)
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != 502 || !strings.Contains(string(body), "this client has proved none") || !strings.Contains(string(body), "corp") {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	if p.count() != 0 {
		t.Errorf("the proxy was asked: %q", p.conns)
	}
	route = "pool.any"
	if res := g.answer(t, plainOf("ann:p-ann")); res.StatusCode != 200 {
		t.Errorf("%d", res.StatusCode)
	}
	if m := g.Config().Routes.Pools()[0].Members[0]; m.State != upstream.StateHealthy || m.Failures != 0 {
		t.Errorf("the member suffers: %+v", m)
	}
}

// TestClientLoginsOfStreams: each stream of an https listener is a client of its own.
func TestClientLoginsOfStreams(t *testing.T) {
	p := newShownTo(t, office)
	g := startH2(t, func(o *Options, c *Config) {
		c.Routes = routes(t, upstream.Config{Upstreams: []upstream.Spec{fromClient(t, "corp", p.addr)}, Guard: auth.NewGuard(t.TempDir(), nil)})
		c.Listeners[0].Decider, c.Listeners[0].Auth = always(via("upstream.corp")), office
	})
	c := g.h2(t)
	var wg sync.WaitGroup
	for i := range 30 {
		mine := *c
		user := []string{"ann", "bob", "cid"}[i%3]
		mine.auth = user + ":p-" + user
		wg.Go(func() {
			res, err := mine.do(t.Context(), "GET", "http://a.example/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != 200 || string(body) != user {
				t.Errorf("%s: %d %q", user, res.StatusCode, body)
			}
		})
	}
	wg.Wait()
	p.apart(t)
}

// TestClientLoginInOpenedTunnels: requests in a tunnel that is looked into go on as the user of the tunnel.
func TestClientLoginInOpenedTunnels(t *testing.T) {
	p := newShownTo(t, office)
	r := openingGateway(t, func(_ *openRig, _ *Options, c *Config) { c.Listeners[0].Auth = office })
	if err := r.Apply(r.next(func(c *Config) {
		c.Routes = routes(t, upstream.Config{Resolver: everywhereHere{}, Upstreams: []upstream.Spec{fromClient(t, "corp", p.addr)}, Guard: auth.NewGuard(t.TempDir(), nil)})
	})); err != nil {
		t.Fatal(err)
	}
	r.decide = func(f *connmodel.Facts) *connmodel.Decision {
		d := r.open()
		d.Route = "upstream.corp"
		return d
	}
	web := r.origin(t, hello("inside"), "127.0.0.1")
	for _, user := range []string{"ann", "bob"} {
		client := r.web(t)
		tr := client.Transport.(*http.Transport)
		tr.ProxyConnectHeader = http.Header{"Proxy-Authorization": {strings.TrimSuffix(strings.TrimPrefix(basicField(user+":p-"+user), "Proxy-Authorization: "), "\r\n")}}
		for range 3 {
			res, err := client.Get(web.URL)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 200 || !strings.Contains(string(body), "inside") {
				t.Errorf("%s: %d %s", user, res.StatusCode, body)
			}
		}
	}
	p.apart(t)
	if p.shown("ann:p-ann") == 0 || p.shown("bob:p-bob") == 0 {
		t.Errorf("shown: %q", p.conns)
	}
}
