package router

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/h2"
	"viaduct/upstream/upstreamtest"
)

// TestOpenedBehindTLS: a listener that speaks TLS itself opens tunnels as others do, also those that are streams of HTTP/2; what fails in one
// of them is not the connection's.
func TestOpenedBehindTLS(t *testing.T) {
	gate := upstreamtest.MustCA(t)
	r := openingGateway(t, func(r *openRig, o *Options, c *Config) {
		c.Listeners[0].TLS = &ListenerTLS{Pairs: []KeyPair{{Certificate: gate.MustIssue(t, upstreamtest.CertOptions{}, "127.0.0.1")}}, HTTP2: true}
	})
	srv, _ := r.origin2(t, http.HandlerFunc(protoHandler), "www.example.com")
	host := "www.example.com:" + portOf(srv.Listener.Addr().String())
	both := x509.NewCertPool()
	both.AddCert(gate.Cert)
	both.AddCert(r.ca.Cert)
	web := r.web(t) // of HTTP/1.1: net/http offers a proxy what it offers servers
	tr := web.Transport.(*http.Transport)
	tr.Proxy, tr.TLSClientConfig = http.ProxyURL(&url.URL{Scheme: "https", Host: r.addr}), &tls.Config{RootCAs: both}
	get(t, web, "https://"+host+"/one", 200)
	web.CloseIdleConnections()
	tunnel := r.records.find(t, "the tunnel", isTunnel)
	if got := tunnel.Metadata["tls_inside"]; !strings.Contains(got, "TLS 1.3") || !strings.HasSuffix(got, `for "www.example.com"`) || tunnel.Client.TLSInfo.Certificates != nil {
		t.Errorf("the record: %s", tunnel.AppendJSON(nil))
	}

	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	outer := tls.Client(nc, &tls.Config{RootCAs: both, ServerName: "127.0.0.1", NextProtos: []string{"h2"}})
	if err := outer.Handshake(); err != nil {
		t.Fatal(err)
	}
	client, err := h2.NewClient(outer, h2.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	connect := func(conf *tls.Config) (*tls.Conn, error) {
		st, err := client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(st)
		fmt.Fprintf(st, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", host, host)
		if res, err := http.ReadResponse(in, &http.Request{Method: "CONNECT"}); err != nil || res.StatusCode != 200 {
			t.Fatalf("%v, %v", res, err)
		}
		tc := tls.Client(st, conf)
		return tc, tc.Handshake()
	}
	if _, err := connect(&tls.Config{RootCAs: r.servers.Pool(), ServerName: "www.example.com"}); err == nil {
		t.Error("opened for a client without trust")
	}
	for _, alpn := range []string{"h2", "http/1.1"} {
		tc, err := connect(r.trusted("www.example.com", alpn))
		if err != nil {
			t.Fatal(err)
		}
		var c net.Conn = tc
		if alpn == "h2" {
			inner, err := h2.NewClient(tc, h2.ClientOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer inner.Close()
			if c, err = inner.Open(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if res, body := ask(t, c, bufio.NewReader(c), request(host, "/"+alpn[:2])); res.StatusCode != 200 || body != "GET "+host+" /"+alpn[:2] {
			t.Errorf("%s: %s %s", alpn, res.Status, body)
		}
		c.Close()
		tc.Close()
	}
	rejected := r.records.find(t, "the rejection", func(f *connmodel.Flow) bool { return f.Error != nil && f.Error.Kind == connmodel.KindTLS })
	if !strings.Contains(rejected.Error.Message, "does not accept") {
		t.Errorf("the record says %v", rejected.Error)
	}
	r.records.find(t, "a request in HTTP/2 in TLS in HTTP/2 in TLS", func(f *connmodel.Flow) bool { return f.Request != nil && f.Request.Path == "/h2" && f.Error == nil })
}
