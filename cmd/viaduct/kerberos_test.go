package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// kerberosPlace is a KDC, Squid that takes its tickets, and a server.
type kerberosPlace struct {
	kdc    *peers.KDC
	squid  *peers.Proc
	origin *upstreamtest.HTTPOrigin
	dir    string
}

func kerberosLand(t *testing.T) *kerberosPlace {
	t.Helper()
	peers.Need(t, append([]string{"squid", "curl"}, peers.KDCNeeds...)...)
	l := &kerberosPlace{dir: t.TempDir(), origin: upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})}
	os.Chmod(l.dir, 0o755)
	var err error
	if l.kdc, err = peers.NewKDC(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.kdc.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.kdc.Add(t.Context(), "svc", "p4ss"))
	must(l.kdc.Service(t.Context(), "HTTP/localhost"))
	must(l.kdc.Keytab(t.Context(), "HTTP/localhost", filepath.Join(l.kdc.Dir(), "http.keytab")))
	must(l.kdc.Keytab(t.Context(), "svc", filepath.Join(l.dir, "svc.keytab")))
	l.squid = squidWith(t, peers.SquidOptions{Schemes: []string{"negotiate"}, Keytab: filepath.Join(l.kdc.Dir(), "http.keytab"), Service: "HTTP/localhost", KDC: l.kdc.Conf})
	return l
}

// gateway starts one whose auth block has these lines.
func (l *kerberosPlace) gateway(t *testing.T, auth string) *gateway {
	t.Helper()
	_, port, _ := net.SplitHostPort(l.squid.Addr())
	from, to := strings.Index(proxyAuth, "  auth {"), strings.Index(proxyAuth, "policy \"default\"")
	policy := proxyAuth[:from] + "  auth {\n    krb5_conf = \"" + l.kdc.Conf + "\"\n    name = \"corp-login\"\n" + auth + "\n  }\n}\n" + proxyAuth[to:]
	return startGateway(t, policy+"locals { unused = [var.password, var.schemes] }\n", "proxy", "localhost:"+port, "password", "", "schemes", "[]")
}

func (l *kerberosPlace) works(t *testing.T, g *gateway) {
	t.Helper()
	client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, l.origin.URL("/tunnel"))
	client(t, "curl", "-sSf", "-x", "http://"+g.addr, l.origin.URL("/plain"))
	if good := hammer(t, g, l.origin.Addr(), 20); good != 20 {
		t.Errorf("%d of 20 got through", good)
	}
}

func TestSquidWithKerberos(t *testing.T) {
	l := kerberosLand(t)
	keytab := filepath.Join(l.dir, "svc.keytab")
	cache := filepath.Join(l.dir, "cache")
	t.Run("password", func(t *testing.T) {
		l.works(t, l.gateway(t, "username = \"svc\"\n password = \"p4ss\"\n schemes = [\"negotiate\"]"))
	})
	t.Run("keytab", func(t *testing.T) {
		l.works(t, l.gateway(t, "username = \"svc@"+peers.KDCRealm+"\"\n keytab = \""+keytab+"\""))
	})
	t.Run("cache", func(t *testing.T) {
		g := l.gateway(t, "ccache = \"FILE:"+cache+"\"")
		if out, err := tryClient(t, "curl", "-sS", "-p", "-x", "http://"+g.addr, l.origin.URL("/none")); err == nil {
			t.Errorf("without a ticket: %s", out)
		}
		g.await("a record", func() bool { return len(g.flows()) > 0 })
		if e := g.flows()[0].Error; e == nil || !strings.Contains(e.Message, "credential cache cannot be read") || e.Kind != "auth" {
			t.Errorf("without a ticket: %v", e)
		}
		// a ticket that is got later is used, and so is the next one
		if err := l.kdc.Kinit(t.Context(), "svc", keytab, cache); err != nil {
			t.Fatal(err)
		}
		l.works(t, g)
	})
	if n := l.kdc.Rejections(); n != 0 {
		t.Errorf("%d logins were refused", n)
	}
}

// Where there is no ticket to be had, what else the proxy offers is used.
func TestNegotiateFallsBack(t *testing.T) {
	peers.Need(t, "basic_ncsa_auth", "openssl")
	l := kerberosLand(t)
	l.squid = squidWith(t, peers.SquidOptions{Schemes: []string{"negotiate", "basic"}, User: "svc", Password: "p4ss",
		Keytab: filepath.Join(l.kdc.Dir(), "http.keytab"), Service: "HTTP/localhost", KDC: l.kdc.Conf})
	if err := l.kdc.Stop(); err != nil {
		t.Fatal(err)
	}
	l.works(t, l.gateway(t, "username = \"svc\"\n password = \"p4ss\"\n schemes = [\"negotiate\", \"basic\"]"))
}

// The TGT of a short life is renewed, or another is got.
func TestKerberosTicketsAreRenewed(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for tickets to expire")
	}
	l := kerberosLand(t)
	cache, keytab := filepath.Join(l.dir, "cache"), filepath.Join(l.dir, "svc.keytab")
	if err := l.kdc.Kinit(t.Context(), "svc", keytab, cache, "-l", "8s", "-r", "60s"); err != nil {
		t.Fatal(err)
	}
	g := l.gateway(t, "ccache = \""+cache+"\"")
	for end := time.Now().Add(14 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		client(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, l.origin.URL("/tunnel"))
	}
}

func TestWrongPasswordAtKDC(t *testing.T) {
	l := kerberosLand(t)
	g := l.gateway(t, "username = \"svc\"\n password = \"wr0ng-p4ss\"\n schemes = [\"negotiate\"]")
	onlyOnceFor(t, g, l.origin.Addr(), l.kdc.Rejections, "KDC_ERR_PREAUTH_FAILED")
	g.command("upstream", "reset", "corp")
	hammer(t, g, l.origin.Addr(), 20)
	if n := l.kdc.Rejections(); n != 2 { // it does count
		t.Errorf("shown %d times after the reset", n)
	}
}

// What keeps a ticket from us says so, and is no rejection.
func TestKerberosThatIsNotPossible(t *testing.T) {
	l := kerberosLand(t)
	fails := func(t *testing.T, g *gateway, says string) {
		t.Helper()
		n := g.flowsOrNone()
		if out, err := tryClient(t, "curl", "-sS", "-p", "-x", "http://"+g.addr, l.origin.URL("/")); err == nil {
			t.Errorf("it got through: %s", out)
		}
		f := g.next(n)
		if f.Error == nil || f.Error.Kind != "auth" || !strings.Contains(f.Error.Message, says) {
			t.Errorf("%v; want %q", f.Error, says)
		}
		if out := g.command("upstream", "list"); strings.Contains(out, "closed") {
			t.Errorf("it is closed:\n%s", out)
		}
	}
	t.Run("service", func(t *testing.T) {
		g := l.gateway(t, "username = \"svc\"\n password = \"p4ss\"\n schemes = [\"negotiate\"]\n spn = \"HTTP/nosuch.test\"")
		fails(t, g, "knows no service HTTP/nosuch.test")
	})
	t.Run("kdc", func(t *testing.T) {
		if err := l.kdc.Stop(); err != nil {
			t.Fatal(err)
		}
		g := l.gateway(t, "username = \"svc\"\n password = \"p4ss\"\n schemes = [\"negotiate\"]")
		fails(t, g, "the KDC does not answer")
		begun := time.Now()
		fails(t, g, "the KDC does not answer") // it is not asked for each
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("the second took %v", took)
		}
		if err := l.kdc.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.await("the KDC to be asked again", func() bool {
			_, err := tryClient(t, "curl", "-sSf", "-p", "-x", "http://"+g.addr, l.origin.URL("/back"))
			return err == nil
		})
	})
}

// flowsOrNone are the records so far.
func (g *gateway) flowsOrNone() int {
	b, err := os.ReadFile(g.records)
	if err != nil {
		return 0
	}
	return bytes.Count(b, []byte("\n"))
}

// A keytab that is replaced while the gateway runs is used, and opens what the one before had closed.
func TestKeytabIsReplaced(t *testing.T) {
	l := kerberosLand(t)
	keytab, next := filepath.Join(l.dir, "svc.keytab"), filepath.Join(l.dir, "next.keytab")
	must(t, l.kdc.SetPassword(t.Context(), "svc", "an0ther")) // the key in the first is not good any more
	must(t, l.kdc.Keytab(t.Context(), "svc", next))
	g := l.gateway(t, "username = \"svc@"+peers.KDCRealm+"\"\n keytab = \""+keytab+"\"")
	if good := hammer(t, g, l.origin.Addr(), 10); good != 0 {
		t.Errorf("%d got through with an old key", good)
	}
	if n := l.kdc.Rejections(); n != 1 {
		t.Errorf("%d logins were refused", n)
	}
	if err := os.Rename(next, keytab); err != nil {
		t.Fatal(err)
	}
	g.await("the new key to be used", func() bool { return hammer(t, g, l.origin.Addr(), 1) == 1 })
	if n := l.kdc.Rejections(); n != 1 {
		t.Errorf("%d logins were refused in the end", n)
	}
	g.await("the log to say so", func() bool { return strings.Contains(g.logged(), "its secret has changed") })
}
