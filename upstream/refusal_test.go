package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// The form of a 407 is the proxy's: of each, what it asks for is found, its page is not waited for longer than it is worth, and the credential is
// shown once.
func TestRefusalsOfEveryForm(t *testing.T) {
	const challenge = "Proxy-Authenticate: Basic realm=x\r\n"
	endless := func(c net.Conn) {
		for {
			if _, err := io.WriteString(c, "1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n"); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name  string
		head  string // of the 407
		body  func(c net.Conn)
		stays bool // the connection goes on
		says  string
		kind  connmodel.Kind
	}{
		{name: "chunked", head: "HTTP/1.1 407 No\r\n" + challenge + "Transfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n", stays: true},
		{name: "no length, closed", head: "HTTP/1.1 407 No\r\n" + challenge + "\r\nsorry"},
		{name: "HTTP/1.0", head: "HTTP/1.0 407 No\r\n" + challenge + "\r\nsorry"},
		{name: "HTTP/1.0 that stays", head: "HTTP/1.0 407 No\r\n" + challenge + "Proxy-Connection: keep-alive\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nsorry", stays: true},
		{name: "no reason, no page", head: "HTTP/1.1 407\r\n" + challenge + "Content-Length: 0\r\n\r\n", stays: true},
		{name: "another reason", head: "HTTP/1.1 407 Kein Zutritt\r\n" + challenge + "Content-Length: 0\r\n\r\n", stays: true},
		{name: "large page", head: "HTTP/1.1 407 No\r\n" + challenge + "Content-Length: 200000\r\n\r\n" + strings.Repeat("x", 200000), stays: true},
		{name: "too large a page", head: "HTTP/1.1 407 No\r\n" + challenge + "Content-Length: 2000000000\r\n\r\n", body: func(c net.Conn) {
			io.WriteString(c, strings.Repeat("x", 1<<20))
		}},
		{name: "a page that never ends", head: "HTTP/1.1 407 No\r\n" + challenge + "Transfer-Encoding: chunked\r\n\r\n", body: endless},
		{name: "closes before the page ends", head: "HTTP/1.1 407 No\r\n" + challenge + "Content-Length: 500\r\n\r\nsor"},
		{name: "interim answers first", head: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 407 No\r\n" + challenge + "Content-Length: 0\r\n\r\n", stays: true},
		{name: "other case, more lines, joined", head: "HTTP/1.1 407 No\r\npRoXy-AuThEnTiCaTe: Negotiate , NTLM\r\nProxy-Authenticate: ,Digest realm=\"a, Basic b\", nonce=\"n\", algorithm=X, bAsIc realm=\"x\" ,\r\nContent-Length: 0\r\n\r\n", stays: true},
		{name: "garbage before it", head: "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\r\n" + challenge + "Content-Length: 0\r\n\r\n", stays: true},
		{name: "no offer", head: "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", says: "offers no scheme", kind: connmodel.KindAuth},
		{name: "other offers", head: "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n", says: "the proxy offers negotiate", kind: connmodel.KindAuth},
		{name: "only malformed", head: "HTTP/1.1 407 No\r\nProxy-Authenticate: =, =\r\nContent-Length: 0\r\n\r\n", says: "challenges cannot be read", kind: connmodel.KindProtocol},
		{name: "very many challenges", head: "HTTP/1.1 407 No\r\nProxy-Authenticate: " + strings.Repeat("X, ", 1000) + "Basic realm=x\r\nContent-Length: 0\r\n\r\n", says: "more challenges", kind: connmodel.KindProtocol},
		{name: "a head that never ends", head: "HTTP/1.1 407 No\r\n" + strings.Repeat("X-Y: "+strings.Repeat("z", 1000)+"\r\n", 100), says: "longer than we read", kind: connmodel.KindLimit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var shown, conns atomic.Int32
			at := listen(t, func(c net.Conn) {
				conns.Add(1)
				br := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if r.Header.Get("Proxy-Authorization") != "" {
						shown.Add(1)
						io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
						return
					}
					io.WriteString(c, tt.head)
					if tt.body != nil {
						tt.body(c)
					}
					if !tt.stays {
						return
					}
				}
			})
			spec := loginSpec("p", at, "digest", "basic")
			tab := table(t, Config{Upstreams: []Spec{spec}, Guard: auth.NewGuard(t.TempDir(), nil)})
			start := time.Now()
			c, err := connectTo(t, tab, "upstream.p")
			if took := time.Since(start); took > 9*time.Second {
				t.Errorf("it took %v", took)
			}
			if tt.says != "" {
				if err == nil || err.Kind != tt.kind || !strings.Contains(err.Error(), tt.says) || shown.Load() != 0 {
					t.Errorf("%v, shown %d times", err, shown.Load())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			want := int32(2)
			if tt.stays {
				want = 1
			}
			if shown.Load() != 1 || conns.Load() != want || tab.Status()[0].CredentialState != "proven" {
				t.Errorf("shown %d times on %d connections, %s", shown.Load(), conns.Load(), tab.Status()[0].CredentialState)
			}
		})
	}
}
