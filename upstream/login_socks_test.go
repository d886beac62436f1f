package upstream

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	ut "viaduct/upstream/upstreamtest"
)

// socksAsking is a SOCKS5 proxy that wants a password of every connection, and does with it what f says: the status of RFC 1929, or nothing.
func socksAsking(t *testing.T, f func(shown string) (status byte, answers bool)) (connmodel.Address, *atomic.Int32) {
	t.Helper()
	var shown atomic.Int32
	return listen(t, func(c net.Conn) {
		b := make([]byte, 600)
		if _, err := io.ReadFull(c, b[:4]); err != nil { // version, two methods
			return
		}
		c.Write([]byte{5, 2})
		n, err := c.Read(b)
		if n == 0 || err != nil {
			return
		}
		shown.Add(1)
		status, answers := f(string(b[:n]))
		if !answers {
			return
		}
		c.Write([]byte{1, status})
		if n, err = c.Read(b); n == 0 || err != nil {
			return
		}
		c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 80})
	}), &shown
}

func socksSpec(name string, at connmodel.Address) Spec {
	return Spec{Name: name, Scheme: "socks5h", Address: at, Auth: &Auth{Username: "svc", Password: NewSecret("p4ss"), Credential: "corp"}}
}

// A password that a SOCKS5 proxy rejected is shown once, by connections at the same time and after a restart, and not to an HTTP proxy either that
// may ask the same directory.
func TestSOCKS5PasswordIsShownOnce(t *testing.T) {
	at, shown := socksAsking(t, func(string) (byte, bool) { time.Sleep(20 * time.Millisecond); return 1, true })
	web, conns := asking(t, func(c net.Conn, r *http.Request, _ int) bool { deny(c, "", "Basic realm=x"); return true })
	dir := t.TempDir()
	spec := loginSpec("web", web)
	spec.Auth.Username = `CORP\svc`
	conf := func() Config {
		return Config{Upstreams: []Spec{socksSpec("s", at), spec}, Guard: auth.NewGuard(dir, nil), Pools: []PoolSpec{{Name: "p", Members: []string{"upstream.s", "upstream.web"}}}}
	}
	tab := table(t, conf())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := connectTo(t, tab, "upstream.s"); err == nil || err.Kind != connmodel.KindAuth {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	tab = table(t, conf())
	for _, route := range []string{"upstream.s", "upstream.web", "pool.p"} {
		if _, err := connectTo(t, tab, route); err == nil || err.Kind != connmodel.KindAuth || !strings.Contains(err.Error(), "is closed since") || err.Code != 0 {
			t.Errorf("%s: %v", route, err)
		}
	}
	if shown.Load() != 1 || conns.Load() != 0 {
		t.Errorf("shown %d times, and %d connections to another proxy", shown.Load(), conns.Load())
	}
	if s := tab.Status()[0]; s.CredentialState != "closed" || !strings.Contains(s.CredentialWhy, "SOCKS5") {
		t.Errorf("%+v", s)
	}
	if was, ok, err := tab.ResetCredential("s"); was != "closed" || !ok || err != nil {
		t.Error(was, ok, err)
	}
	if _, err := connectTo(t, tab, "upstream.s"); err == nil || shown.Load() != 2 {
		t.Errorf("%v, shown %d times", err, shown.Load())
	}
}

func TestSOCKS5PasswordIsProven(t *testing.T) {
	at, shown := socksAsking(t, func(s string) (byte, bool) { return 0, s == "\x01\x03svc\x04p4ss" })
	tab := table(t, Config{Upstreams: []Spec{socksSpec("s", at)}, Guard: auth.NewGuard(t.TempDir(), nil)})
	for range 3 {
		c, err := connectTo(t, tab, "upstream.s")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if s := tab.Status()[0]; s.CredentialState != "proven" || shown.Load() != 3 || s.Credential != "corp" {
		t.Errorf("%+v, shown %d times", s, shown.Load())
	}
	// one that wants none is shown none, and nobody waits for anybody
	free := listen(t, func(c net.Conn) {
		b := make([]byte, 600)
		io.ReadFull(c, b[:4])
		c.Write([]byte{5, 0})
		if n, _ := c.Read(b); n > 0 {
			c.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 80})
		}
	})
	tab = table(t, Config{Upstreams: []Spec{socksSpec("s", free)}, Guard: auth.NewGuard("/proc/nosuch", nil)})
	c, err := connectTo(t, tab, "upstream.s")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	// where nothing can be written down it is not shown
	tab = table(t, Config{Upstreams: []Spec{socksSpec("s", at)}, Guard: auth.NewGuard("/proc/nosuch", nil)})
	if _, err := connectTo(t, tab, "upstream.s"); err == nil || err.Blame != connmodel.BlameLocal || shown.Load() != 3 {
		t.Errorf("%v, shown %d times", err, shown.Load())
	}
}

// One that takes the password and says nothing has perhaps counted it.
func TestSOCKS5ProxyThatSaysNothing(t *testing.T) {
	at, shown := socksAsking(t, func(string) (byte, bool) { return 0, false })
	tab := table(t, Config{Upstreams: []Spec{socksSpec("s", at)}, Guard: auth.NewGuard(t.TempDir(), nil)})
	for range 5 {
		_, err := tab.Dial(t.Context(), &Request{Route: "upstream.s", Target: connmodel.Address{Host: "a.example", Port: 443}, Deadline: time.Now().Add(2 * time.Second)}, nil)
		if err == nil {
			t.Fatal("no error")
		}
	}
	if s := tab.Status()[0]; s.CredentialState != "unproven" || shown.Load() != 1 {
		t.Errorf("%+v, shown %d times", s, shown.Load())
	}
}

// A proxy that is slow, because its target swallows packets, tells us in the end that it let us in, or that it did not.
func TestAnswerThatIsLate(t *testing.T) {
	for want, answer := range map[string]string{
		"proven": "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
		"closed": "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n",
	} {
		secure := want == "proven"
		var seen atomic.Int32
		release := make(chan struct{})
		ca := ut.MustCA(t)
		cert, e := ca.Issue([]string{"127.0.0.1"}, ut.CertOptions{})
		if e != nil {
			t.Fatal(e)
		}
		at := listen(t, func(c net.Conn) {
			if secure {
				c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
			}
			br := bufio.NewReader(c)
			for {
				r, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				if r.Header.Get("Proxy-Authorization") == "" {
					deny(c, "", "Basic realm=x")
					continue
				}
				seen.Add(1)
				<-release
				io.WriteString(c, answer)
				return
			}
		})
		spec := loginSpec("p", at, "digest", "basic") // it asks first
		spec.Timeouts.Handshake = time.Second
		if secure {
			spec.Scheme, spec.TLS = "https", &tls.Config{RootCAs: ca.Pool()}
		}
		tab := table(t, Config{Upstreams: []Spec{spec}, Guard: auth.NewGuard(t.TempDir(), nil)})
		_, err := connectTo(t, tab, "upstream.p")
		if err == nil || err.Kind != connmodel.KindTimeout {
			t.Errorf("%v", err)
		}
		if s := tab.Status()[0]; s.CredentialState != "unproven" || s.Open != 0 {
			t.Errorf("%+v", s)
		}
		close(release)
		for end := time.Now().Add(10 * time.Second); tab.Status()[0].CredentialState != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s, want %s", tab.Status()[0].CredentialState, want)
			}
		}
		if seen.Load() != 1 {
			t.Errorf("shown %d times", seen.Load())
		}
	}
}

// After a silence a proxy must be there, and ask, before it is shown anything.
func TestNothingIsShownToTheSilent(t *testing.T) {
	var shown, asked atomic.Int32
	var up atomic.Bool
	at := listen(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			asked.Add(1)
			if r.Header.Get("Proxy-Authorization") != "" {
				shown.Add(1)
			}
			switch {
			case !up.Load():
				return
			case r.Header.Get("Proxy-Authorization") == "":
				deny(c, "", "Basic realm=x")
			default:
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				return
			}
		}
	})
	guard := auth.NewGuard(t.TempDir(), nil)
	tab := table(t, Config{Upstreams: []Spec{loginSpec("p", at)}, Guard: guard})
	for range 4 { // the first shows it, the others ask
		if _, err := connectTo(t, tab, "upstream.p"); err == nil || err.Kind != connmodel.KindEOF {
			t.Fatalf("%v", err)
		}
	}
	if shown.Load() != 1 || asked.Load() != 4 {
		t.Errorf("shown %d times, asked %d times", shown.Load(), asked.Load())
	}
	up.Store(true)
	if testing.Short() {
		return
	}
	c, err := connectTo(t, tab, "upstream.p") // it waits out the pause
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if s := tab.Status()[0]; s.CredentialState != "proven" || shown.Load() != 2 {
		t.Errorf("%+v, shown %d times", s, shown.Load())
	}
}

// TestNoGuardCostsNothing: a handshake that nobody guards allocates nothing for the guard.
func TestNoGuardCostsNothing(t *testing.T) {
	var l *socksLogin
	s := &steps{}
	if n := testing.AllocsPerRun(100, func() {
		if l.before() == nil {
			l.after(s, nil)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
