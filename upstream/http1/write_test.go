package http1

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parsed(t *testing.T, in string) *Request {
	t.Helper()
	r := new(Request)
	if _, err := ParseRequest([]byte(crlf(in)), r, Limits{}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAppendRequest(t *testing.T) {
	get := "GET http://a:80/x?y HTTP/1.1\nX: 1\nHost: wrong\nConnection: close\nContent-Length: 03\nContent-Length: 03\nTrailer: z\n\n"
	for _, tt := range []struct {
		in   string
		form Form
		keep bool
		want string
	}{
		{get, OriginForm, true, "GET /x?y HTTP/1.1\nHost: a:80\nX: 1\nContent-Length: 3\n\n"},
		{get, AbsoluteForm, false, "GET http://a:80/x?y HTTP/1.1\nHost: a:80\nX: 1\nContent-Length: 3\nConnection: close\n\n"},
		{"GET / HTTP/1.0\nHost: [::1]:8\nTE: trailers\n\n", OriginForm, true,
			"GET / HTTP/1.1\nHost: [::1]:8\nTE: trailers\nConnection: TE\n\n"},
		{"GET /chat HTTP/1.1\nHost: a\nConnection: x, upgrade\nUpgrade: websocket, foo\n\n", OriginForm, true,
			"GET /chat HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\n\n"},
		{"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: X\n\n", OriginForm, true,
			"POST / HTTP/1.1\nHost: a\nTrailer: X\nTransfer-Encoding: chunked\n\n"},
		{"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: Y\nTrailer: X, content-length\n\n", OriginForm, true,
			"POST / HTTP/1.1\nHost: a\nTrailer: Y\nTransfer-Encoding: chunked\n\n"},
		{"OPTIONS http://a HTTP/1.1\nHost: a\n\n", OriginForm, true, "OPTIONS * HTTP/1.1\nHost: a\n\n"},
		{"OPTIONS http://a HTTP/1.1\nHost: a\n\n", AbsoluteForm, true, "OPTIONS http://a HTTP/1.1\nHost: a\n\n"},
		{"CONNECT a:443 HTTP/1.1\nHost: b\nX: y\n\n", AuthorityForm, false, "CONNECT a:443 HTTP/1.1\nHost: a:443\nX: y\n\n"},
	} {
		r := parsed(t, tt.in)
		r.KeepAlive = tt.keep
		out, err := AppendRequest([]byte("before "), r, tt.form)
		if err != nil || string(out) != "before "+crlf(tt.want) {
			t.Errorf("%s: %v\n%s", tt.in, err, out)
		}
	}
}

func TestAppendResponse(t *testing.T) {
	for _, tt := range []struct {
		name  string
		r     Response
		minor uint8
		want  string // "" is an error
	}{
		{"length", Response{Status: 200, Reason: "OK", Body: Framing{BodyLength, 5}, KeepAlive: true, Header: Header{{"A", "b"}, {"content-length", "9"}}}, 1,
			"HTTP/1.1 200 OK\nA: b\nContent-Length: 5\n\n"},
		{"1.0 client", Response{Status: 200, Body: Framing{BodyLength, 0}, KeepAlive: true}, 0,
			"HTTP/1.1 200 \nContent-Length: 0\nConnection: keep-alive\n\n"},
		{"close", Response{Status: 200, Body: Framing{Kind: BodyClose}, Header: Header{{"Trailer", "x"}}}, 1,
			"HTTP/1.1 200 \nConnection: close\n\n"},
		{"HEAD keeps its length", Response{Status: 200, KeepAlive: true, Header: Header{{"Content-Length", "12"}, {"Content-Length", "12"}}}, 1,
			"HTTP/1.1 200 \nContent-Length: 12\n\n"},
		{"204 has none", Response{Status: 204, KeepAlive: true, Header: Header{{"Content-Length", "12"}, {"Transfer-Encoding", "chunked"}}}, 1,
			"HTTP/1.1 204 \n\n"},
		{"1xx", Response{Status: 103, Header: Header{{"Link", "x"}}}, 1, "HTTP/1.1 103 \nLink: x\n\n"},
		{"101", Response{Status: 101, Upgrade: "websocket"}, 1, "HTTP/1.1 101 \nUpgrade: websocket\nConnection: Upgrade\n\n"},
		{"204 with a body", Response{Status: 204, Body: Framing{BodyLength, 1}}, 1, ""},
		{"status", Response{Status: 20}, 1, ""},
		{"reason", Response{Status: 200, Reason: "a\r\nb"}, 1, ""},
		{"upgrade", Response{Status: 101, Upgrade: "a\r\nb"}, 1, ""},
	} {
		out, err := AppendResponse(nil, &tt.r, tt.minor)
		if err != nil && (tt.want != "" || len(out) > 0) || string(out) != crlf(tt.want) {
			t.Errorf("%s: %v\n%s", tt.name, err, out)
		}
	}
}

// Whatever a caller lets through, no line is injected.
func TestWritersRefuseInjection(t *testing.T) {
	base := func() *Request { return parsed(t, "GET http://a/ HTTP/1.1\nHost: a\n\n") }
	for _, bad := range []string{"a\r\nEvil: 1", "a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x7fb"} {
		for name, change := range map[string]func(*Request){
			"method":  func(r *Request) { r.Method = bad },
			"path":    func(r *Request) { r.Target.Path = "/" + bad },
			"host":    func(r *Request) { r.Target.Host = bad },
			"literal": func(r *Request) { r.Target.Host, r.Target.IPLiteral = bad, true },
			"scheme":  func(r *Request) { r.Target.Scheme = bad },
			"name":    func(r *Request) { r.Header.Add(bad, "x") },
			"value":   func(r *Request) { r.Header.Add("X", bad) },
			"upgrade": func(r *Request) { r.Upgrade = bad },
		} {
			r := base()
			change(r)
			if out, err := AppendRequest(nil, r, AbsoluteForm); !errors.Is(err, errUnsafeToWrite) || len(out) > 0 {
				t.Errorf("%s %q: %v %q", name, bad, err, out)
			}
		}
		if _, err := AppendBasic(nil, bad, "x"); err != ErrCredentials {
			t.Errorf("user %q: %v", bad, err)
		}
		if _, err := AppendBasic(nil, "x", bad); err != ErrCredentials {
			t.Errorf("password %q: %v", bad, err)
		}
		if s := string(AppendProxyStatus(nil, ProxyStatus{Name: bad, Error: bad, NextHop: bad, NextProtocol: bad, Details: bad})); !IsFieldValue(s) {
			t.Errorf("Proxy-Status %q", s)
		}
	}
	for _, path := range []string{"", "x", "/a b", "/a#b", "http://x/"} {
		r := base()
		r.Target.Path = path
		if _, err := AppendRequest(nil, r, OriginForm); err == nil {
			t.Errorf("path %q written", path)
		}
	}
	r := base()
	r.Body.Kind = BodyClose
	if _, err := AppendRequest(nil, r, OriginForm); err == nil {
		t.Error("request with a body to the connection's end")
	}
}

func TestStripHopByHop(t *testing.T) {
	h := Header{
		{"Host", "a"}, {"Connection", "close, X-Listed, host, Content-Length, via, X-Real-IP"}, {"x-listed", "1"},
		{"Keep-Alive", "5"}, {"Proxy-Connection", "keep-alive"}, {"TE", "gzip;q=0.5, Trailers"}, {"Trailer", "X"},
		{"Transfer-Encoding", "chunked"}, {"Upgrade", "h2c"}, {"HTTP2-Settings", "x"}, {"Via", "1.1 a"},
		{"Proxy-Authorization", "Basic x"}, {"Proxy-Authenticate", "Basic"}, {"Proxy-Authentication-Info", "x"},
		{"Content-Length", "1"}, {"X-Real-IP", "forged"}, {"connection", "x-two,, ,"}, {"X-Two", "2"}, {"Accept", "*/*"},
		{"Authorization", "mine"},
	}
	h.StripHopByHop()
	h.Add("X-Real-IP", "ours")
	want := Header{{"Host", "a"}, {"Trailer", "X"}, {"Via", "1.1 a"}, {"Content-Length", "1"}, {"Accept", "*/*"},
		{"Authorization", "mine"}, {"TE", "trailers"}, {"X-Real-IP", "ours"}}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
}

func TestHeader(t *testing.T) {
	h := Header{{"A", "1"}, {"b", "2"}, {"a", "3, 4 ,,\t5"}, {"C", ""}}
	if h.Get("a") != "1" || !h.Has("c") || h.Has("d") || h.Count("A") != 2 || h.Get("d") != "" {
		t.Error("lookups")
	}
	var got []string
	for v := range h.Tokens("A") {
		got = append(got, v)
	}
	for v := range h.Values("A") {
		got = append(got, v)
	}
	if d := cmp.Diff([]string{"1", "3", "4", "5", "1", "3, 4 ,,\t5"}, got); d != "" {
		t.Error(d)
	}
	if !h.HasToken("a", "5") || h.HasToken("a", "") || h.HasToken("a", "3, 4") {
		t.Error("tokens")
	}
	c := h.Clone()
	h.Set("A", "x")
	h.Set("New", "y")
	if d := cmp.Diff(Header{{"A", "x"}, {"b", "2"}, {"C", ""}, {"New", "y"}}, h); d != "" {
		t.Error(d)
	}
	c.Del("a")
	if d := cmp.Diff(Header{{"b", "2"}, {"C", ""}}, c); d != "" {
		t.Error(d)
	}
}

func TestBasic(t *testing.T) {
	for _, tt := range []struct{ user, password string }{{"u", "p"}, {"", ""}, {"u", "a:b:c"}, {"jörg", "päß"}} {
		v, err := AppendBasic(nil, tt.user, tt.password)
		if err != nil {
			t.Fatal(err)
		}
		user, password, ok := ParseBasic(string(v))
		if !ok || user != tt.user || password != tt.password {
			t.Errorf("%q came back as %q %q %v", tt, user, password, ok)
		}
	}
	if _, _, ok := ParseBasic("bAsIc  dTpw"); !ok {
		t.Error("scheme in another case, two spaces")
	}
	for _, bad := range []string{"", "Basic", "Basic ", "Digest dTpw", "Basic dTpw=", "Basic dTp", "Basic dTpw x", "Basic dQ==",
		"Basic dTpwAA==", "Basic dQp1OnA=", "Basic dR==", "Basicd TpwA", "Basic " + strings.Repeat("dTpw", 2000)} {
		if u, p, ok := ParseBasic(bad); ok {
			t.Errorf("%q: %q %q", bad, u, p)
		}
	}
	if _, err := AppendBasic(nil, "a:b", "c"); err != ErrCredentials {
		t.Error("colon in the user name")
	}
	h := Header{{"proxy-authorization", "Basic dTpw"}}
	if u, p, present, ok := h.ProxyCredentials(); u != "u" || p != "p" || !present || !ok {
		t.Error("field not found")
	}
	h.Add("Proxy-Authorization", "Basic dTpw")
	if _, _, present, ok := h.ProxyCredentials(); !present || ok {
		t.Error("two fields accepted")
	}
	if _, _, present, ok := (Header{}).ProxyCredentials(); present || ok {
		t.Error("none there")
	}
}

func TestVia(t *testing.T) {
	h := Header{{"Via", "1.0 fred, HTTP/1.1 proxy.example:80 (a, \"b\\)\" (c,d) 1.1 hidden)"}, {"via", ", 1.1\tme-1(x) ,,odd"}}
	for name, want := range map[string]bool{"fred": true, "PROXY.example:80": true, "me-1": true, "odd": true, "hidden": false, "d)": false, "1.1": false} {
		if h.ViaContains(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if n := h.ViaCount(); n != 4 {
		t.Errorf("count %d", n)
	}
	if h := (Header{{"Via", "1.1 a (never closed, 1.1 me"}}); !h.ViaContains("me") {
		t.Error("an open comment hides a loop")
	}
	// Linear, whatever the nesting: this takes minutes if it is not.
	Header{{"Via", strings.Repeat("(,", 1<<20)}}.ViaCount()
	if s := string(AppendVia(nil, 7, "viaduct-1")); s != "1.1 viaduct-1" {
		t.Error(s)
	}
}

func TestProxyStatusAndMaxForwards(t *testing.T) {
	got := string(AppendProxyStatus(nil, ProxyStatus{Name: "viaduct", Error: "connection_timeout", NextHop: "proxy.example:3128",
		NextProtocol: "http/1.1", ReceivedStatus: 407, Details: "a \"quoted\" \\ caf\xc3\xa9"}))
	want := `viaduct; error=connection_timeout; next-hop=proxy.example:3128; next-protocol=http/1.1; received-status=407; details="a \"quoted\" \\ caf??"`
	if got != want {
		t.Error(got)
	}
	if got := string(AppendProxyStatus(nil, ProxyStatus{Name: "10.0.0.1", NextHop: "[::1]:80"})); got != `"10.0.0.1"; next-hop="[::1]:80"` {
		t.Error(got)
	}
	if n, ok := (Header{{"max-forwards", "7"}}).MaxForwards(); n != 7 || !ok {
		t.Error(n, ok)
	}
	if _, ok := (Header{{"Max-Forwards", "-1"}}).MaxForwards(); ok {
		t.Error("negative")
	}
}
