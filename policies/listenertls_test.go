package policies

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/upstream/upstreamtest"
)

const tlsListener = `listener "lan" {
  address = "ADDRESS"
  MORE
  tls {
    certificate = "DIR/a.crt"
    key         = "DIR/a.key"
    TLS
  }
}
policy "default" {
  otherwise { via = direct }
}
`

func TestListenerTLS(t *testing.T) {
	dir := t.TempDir()
	ca := upstreamtest.MustCA(t)
	issue := func(name string, o upstreamtest.CertOptions, names ...string) {
		t.Helper()
		if _, _, err := upstreamtest.WriteFiles(dir, name, ca.MustIssue(t, o, names...)); err != nil {
			t.Fatal(err)
		}
	}
	long := upstreamtest.CertOptions{NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	issue("a", long, "gate.example", "127.0.0.1")
	issue("b", long, "branch.example")
	issue("again", long, "gate.example")
	issue("short", upstreamtest.CertOptions{}, "short.example")
	issue("old", upstreamtest.Expired(), "old.example")
	issue("early", upstreamtest.NotYetValid(), "early.example")
	issue("nameless", upstreamtest.CertOptions{CNOnly: true}, "cn.example")
	issue("client", upstreamtest.CertOptions{Client: true}, "client.example")
	if _, err := ca.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "users")
	write(t, users, "anna:$2y$04$Xnw3LbpMdsBZdGqIBq0WCeSyc0SZHAvDyXQyA9mkoxcYJDMMHzBaC\n")
	pair := func(name string) string {
		return fmt.Sprintf("pair {\n certificate = \"%s/%s.crt\"\n key = \"%s/%s.key\"\n }", dir, name, dir, name)
	}
	const local, far = "127.0.0.1:3128", "0.0.0.0:3128"
	authenticate := fmt.Sprintf("authenticate { htpasswd = %q }", users)
	clientCA := fmt.Sprintf("client_ca = \"%s/ca.crt\"\n", dir)
	for _, row := range []struct {
		name, address, more, tls string
		want                     string // summaries; "" = none
	}{
		{"plain", local, "", "", ""},
		{"two names", local, "", pair("b"), ""},
		{"the same name twice", local, "", pair("again"), "warning: Certificate never shown"},
		{"expired", local, "", pair("old"), "warning: Certificate that clients refuse"},
		{"soon to end", local, "", pair("short"), "warning: Certificate that ends soon"},
		{"not yet valid", local, "", pair("early"), "warning: Certificate that clients refuse"},
		{"no names", local, "", pair("nameless"), "warning: Certificate that clients refuse"},
		{"for clients", local, "", pair("client"), "warning: Certificate that clients refuse"},
		{"another loopback address", "127.0.0.2:3128", "", "", "warning: Certificate for other names"},
		{"open", far, "", "", "error: Open proxy"},
		{"open to passwords", far, authenticate, "", ""},
		{"guarded by certificates", far, "", clientCA, ""},
		{"without HTTP/2", local, "", "http2 = false", ""},
		{"few streams", local, "limits { streams_per_connection = 10 }", "", ""},
		{"streams without HTTP/2", local, "limits { streams_per_connection = 10 }", "http2 = false", "error: Streams without HTTP/2"},
		{"guarded by nothing", far, "", clientCA + `client_certificate = "optional"`, "error: Open proxy"},
	} {
		src := strings.NewReplacer("ADDRESS", row.address, "MORE", row.more, "TLS", row.tls, "DIR", dir).Replace(tlsListener)
		c, d := loadText(src, Options{})
		var got []string
		for _, x := range d.List {
			severity := "error"
			if x.Severity != 1 {
				severity = "warning"
			}
			got = append(got, severity+": "+x.Summary)
		}
		if strings.Join(got, ", ") != row.want {
			t.Errorf("%s: %v, want %q\n%s", row.name, got, row.want, reports(t, d))
		}
		if c == nil {
			continue
		}
		n := c.Listeners[0]
		if n.TLS == nil || n.TLS.MinVersion != tls.VersionTLS12 || n.TLS.Pairs[0].CertificateFile != dir+"/a.crt" || n.TLS.Pairs[0].KeyFile != dir+"/a.key" ||
			n.TLS.UserFrom != "cn" || n.TLS.HTTP2 == strings.Contains(row.tls, "http2 = false") || (n.MaxStreams == 10) != strings.Contains(row.more, "streams") || (n.TLS.ClientCAs != nil) != strings.Contains(row.tls, "client_ca") || len(n.TLS.Pairs) != 1+strings.Count(row.tls, "pair") {
			t.Errorf("%s: %+v", row.name, n.TLS)
		}
		if leaf := n.TLS.Pairs[0].Certificate.Leaf; leaf == nil || leaf.NotAfter.Before(time.Now()) {
			t.Errorf("%s: leaf %v", row.name, leaf)
		}
	}
}

// TestListenerTLSWithoutItsFiles: on a desk without the key a policy can be checked all the same, and nothing is taken for open that is not.
func TestListenerTLSWithoutItsFiles(t *testing.T) {
	src := strings.NewReplacer("ADDRESS", "0.0.0.0:3128", "MORE", "", "TLS", `client_ca = "nosuch-ca.crt"`, "DIR", "nosuch").Replace(tlsListener)
	c, d := loadText(src, Options{Lenient: true})
	if c == nil {
		t.Fatal(reports(t, d))
	}
	if n := c.Listeners[0].TLS; n == nil || n.ClientCAs == nil || n.Optional || len(n.Pairs) != 0 {
		t.Errorf("%+v", n)
	}
	if c, _ := loadText(src, Options{}); c != nil {
		t.Error("a service would start without its certificate")
	}
}
