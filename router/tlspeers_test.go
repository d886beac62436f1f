package router

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/certcheck"
	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// sServer starts openssl s_server, which answers requests with a page about the connection, and returns its address.
func sServer(t *testing.T, ca *upstreamtest.CA, args ...string) string {
	t.Helper()
	path, _ := peers.Look("openssl")
	dir := t.TempDir()
	cert, key, err := upstreamtest.WriteFiles(dir, "server", ca.MustIssue(t, upstreamtest.CertOptions{RSA: 2048}, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	hold, err := upstreamtest.Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hold.Release)
	cmd := exec.CommandContext(t.Context(), path, append([]string{"s_server", "-accept", hold.Addr(), "-cert", cert, "-key", key, "-CAfile", filepath.Join(dir, "ca.crt"), "-www", "-quiet"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", hold.Addr()); err == nil {
			c.Close()
			return hold.Addr()
		}
		if time.Now().After(end) {
			t.Fatal("openssl s_server does not listen")
		}
	}
}

// upgraded is a gateway that takes plain requests over TLS to their server.
func upgraded(t *testing.T, conf *tls.Config) *gateway {
	t.Helper()
	return start(t, func(_ *Options, c *Config) {
		d := loopbackOpen()
		d.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: conf}
		c.Listeners[0].Decider = always(d)
	})
}

// plainGet asks g for a page by plain HTTP and returns its status, the body, and the record.
func plainGet(t *testing.T, g *gateway, target string) (int, string, *connmodel.Flow) {
	t.Helper()
	resp := g.answer(t, "GET http://"+target+"/ HTTP/1.1\r\nHost: "+target+"\r\nConnection: close\r\n\r\n")
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), g.records.next(t)
}

// TestOpenSSLServer: versions, cipher suites, ALPN, client certificates and pins are what a real server sees of them.
func TestOpenSSLServer(t *testing.T) {
	peers.Need(t, "openssl")
	ca := upstreamtest.MustCA(t)
	ours := ca.MustIssue(t, upstreamtest.CertOptions{Client: true}, "viaduct")
	for _, x := range []struct {
		name    string
		args    []string
		change  func(*tls.Config)
		version string // "" = it fails
		cipher  string
		auth    connmodel.ClientAuth
		says    string
	}{
		{name: "plain", version: "TLS 1.3"},
		{name: "1.2", args: []string{"-tls1_2"}, version: "TLS 1.2"},
		{name: "1.2 by us", change: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, version: "TLS 1.2"},
		{name: "1.3 wanted", args: []string{"-tls1_2"}, change: func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, says: "min_version"},
		{name: "1.0 alone", args: []string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, says: "min_version"},
		{name: "1.0 allowed", args: []string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}, change: func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 }, version: "TLS 1.0"},
		{name: "cipher", args: []string{"-tls1_2"}, change: func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384} },
			version: "TLS 1.2", cipher: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
		{name: "no cipher in common", args: []string{"-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"},
			change: func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384} }, says: "no version or cipher in common"},
		{name: "client certificate", args: []string{"-Verify", "1", "-verify_return_error"}, change: func(c *tls.Config) { c.Certificates = []tls.Certificate{ours} }, version: "TLS 1.3", auth: connmodel.ClientAuthSent},
		{name: "no client certificate", args: []string{"-Verify", "1", "-verify_return_error", "-tls1_2"}, auth: connmodel.ClientAuthNone, says: "set certificate and key"},
		{name: "client certificate of another", args: []string{"-Verify", "1", "-verify_return_error", "-tls1_2"},
			change: func(c *tls.Config) {
				// of an authority that the server does not name: it is not even shown
				c.Certificates = []tls.Certificate{upstreamtest.MustCA(t).MustIssue(t, upstreamtest.CertOptions{Client: true}, "viaduct")}
			}, says: "client certificate"},
		{name: "pinned", change: func(c *tls.Config) { c.VerifyConnection = certcheck.Pins{connmodel.PinOf(ca.Cert)}.VerifyConnection }, version: "TLS 1.3"},
		{name: "pinned wrongly", change: func(c *tls.Config) { c.VerifyConnection = certcheck.Pins{connmodel.PinOf(ours.Leaf)}.VerifyConnection }, says: "none of the pinned keys"},
	} {
		t.Run(x.name, func(t *testing.T) {
			at := sServer(t, ca, x.args...)
			conf := &tls.Config{RootCAs: ca.Pool()}
			if x.change != nil {
				x.change(conf)
			}
			status, body, f := plainGet(t, upgraded(t, conf), at)
			info := f.Server.Attempts[0].Hops[0].TLSInfo
			if x.version == "" {
				if status != 502 || f.Error == nil || !strings.Contains(f.Error.Message, x.says) || !strings.Contains(body, x.says) {
					t.Errorf("%d, record %v, page:\n%s", status, f.Error, body)
				}
			} else if status != 200 || info == nil || info.Version != x.version || x.cipher != "" && info.Cipher != x.cipher || info.Verdict != connmodel.ChainOK {
				t.Errorf("%d, %v, record %+v", status, f.Error, info)
			}
			if x.auth != "" && (info == nil || info.ClientAuth != x.auth) {
				t.Errorf("of the client certificate the record says %+v", info)
			}
		})
	}
}

// TestRealTLSProxies: stunnel in front of tinyproxy, and Squid's https_port, as https upstreams; a server behind them that is upgraded to by a rule
// is TLS within TLS, and each of the two handshakes has its own record.
func TestRealTLSProxies(t *testing.T) {
	peers.Need(t, "stunnel", "tinyproxy", "squid-openssl", "nginx")
	ca := upstreamtest.MustCA(t)
	dir := t.TempDir()
	nginx, err := peers.Nginx(t.Context(), dir, peers.NginxOptions{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer nginx.Close()
	tiny, err := peers.Tinyproxy(t.Context(), dir, peers.TinyproxyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tiny.Close()
	stunnel, err := peers.Stunnel(t.Context(), dir, peers.StunnelOptions{CA: ca, Backend: tiny.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer stunnel.Close()
	squid, err := peers.Squid(t.Context(), dir, peers.SquidOptions{CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer squid.Close()
	trust, stranger := &tls.Config{RootCAs: ca.Pool()}, &tls.Config{RootCAs: upstreamtest.MustCA(t).Pool()}
	ways := upstream.Config{Upstreams: []upstream.Spec{
		{Name: "stunnel", Scheme: "https", Address: address(t, stunnel.Addr()), TLS: trust},
		{Name: "squid", Scheme: "https", Address: address(t, squid.Addr()), TLS: trust},
		{Name: "doubted", Scheme: "https", Address: address(t, squid.Addr()), TLS: stranger},
	}, Chains: []upstream.ChainSpec{{Name: "both", Hops: []string{"upstream.stunnel", "upstream.squid"}}}}
	for route, hops := range map[string]int{"upstream.stunnel": 1, "upstream.squid": 1, "chain.both": 2, "direct": 0} {
		for _, server := range []*tls.Config{trust, stranger} {
			t.Run(fmt.Sprint(route, " ", server == trust), func(t *testing.T) {
				g := start(t, func(_ *Options, c *Config) {
					c.Routes = routes(t, ways)
					d := loopbackOpen()
					d.Route, d.TLS = route, &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: server}
					c.Listeners[0].Decider = always(d)
				})
				status, body, f := plainGet(t, g, nginx.TLSAddr())
				list := f.Server.Attempts[0].Hops
				if len(list) != hops+1 {
					t.Fatalf("%d, %v, hops %+v", status, f.Error, list)
				}
				for i, h := range list {
					want := connmodel.ChainOK
					if i == hops && server == stranger {
						want = connmodel.ChainAuthority
					}
					if h.TLSInfo == nil || h.TLSInfo.Verdict != want || len(h.TLSInfo.Certificates) == 0 {
						t.Errorf("hop %d: %+v", i+1, h.TLSInfo)
					}
				}
				if server == trust && (status != 200 || body != "hello from nginx\n" || f.Error != nil) {
					t.Errorf("%d %q, %v", status, body, f.Error)
				}
				if server == stranger && (status != 502 || f.Error == nil || f.Error.Side != connmodel.SideServer || f.Error.Verdict != connmodel.ChainAuthority) {
					t.Errorf("%d, %v", status, f.Error)
				}
			})
		}
	}
	t.Run("doubted", func(t *testing.T) {
		g := start(t, func(_ *Options, c *Config) {
			c.Routes = routes(t, ways)
			c.Listeners[0].Decider = always(via("upstream.doubted"))
		})
		c := g.dial(t)
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", nginx.Addr())
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		f := g.records.next(t)
		if resp.StatusCode != 502 || f.Error == nil || f.Error.HopName != "doubted" || f.Error.Verdict != connmodel.ChainAuthority || f.Error.Blame != connmodel.BlameProxy {
			t.Errorf("%d, %+v", resp.StatusCode, f.Error)
		}
	})
}
