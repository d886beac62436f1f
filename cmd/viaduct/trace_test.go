package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/goleak"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

// traceSecret is the password of every credential in these tests: it must be in no output.
const traceSecret = "c4nary-Pa55"

// tracing is a place where traces are made: in this process, with a directory of state of its own.
type tracing struct {
	t   *testing.T
	dir string
}

func newTracing(t *testing.T, policy string) *tracing {
	t.Helper()
	// before anything is started: servers of the test end after this look
	x := &tracing{t: t, dir: t.TempDir()}
	for _, name := range append(proxyVariables, "VIADUCT_CONFIG", "VIADUCT_ADMIN", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY") {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_STATE_HOME", x.dir)
	t.Setenv("XDG_RUNTIME_DIR", x.dir)
	x.policy(policy)
	return x
}

func (x *tracing) policy(text string) {
	x.t.Helper()
	if !strings.Contains(text, "listener ") {
		text = "listener \"desk\" { address = \"127.0.0.1:1\" }\n" + text
	}
	if err := os.WriteFile(filepath.Join(x.dir, "viaduct.hcl"), []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// run makes a trace, and looks at what every one has in common: nothing secret, nothing that could steer a terminal, and nobody left behind.
func (x *tracing) run(args ...string) (code int, out string) {
	x.t.Helper()
	before := goleak.IgnoreCurrent()
	root, started := newRoot()
	var w bytes.Buffer
	root.SetOut(&w)
	root.SetErr(&w)
	root.SetArgs(append([]string{"trace", "-c", filepath.Join(x.dir, "viaduct.hcl")}, args...))
	code, say := codeOf(root.ExecuteContext(x.t.Context()), *started)
	if say != nil {
		fmt.Fprintln(&w, "viaduct:", say)
	}
	out = w.String()
	sane(x.t, out)
	deadline := time.Now().Add(10 * time.Second)
	for err := goleak.Find(before); err != nil; err = goleak.Find(before) {
		if time.Now().After(deadline) {
			x.t.Errorf("left behind: %v", err)
			break
		}
	}
	return code, out
}

// sane fails the test for output that holds a secret or what a terminal would obey.
func sane(t *testing.T, out string) {
	t.Helper()
	for _, secret := range []string{traceSecret, base64.StdEncoding.EncodeToString([]byte("svc:" + traceSecret))} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(secret)) {
			t.Errorf("a secret is in the output:\n%s", out)
		}
	}
	for _, r := range out {
		if r != '\n' && !unicode.IsPrint(r) || r == utf8.RuneError {
			t.Errorf("%U is in the output:\n%s", r, out)
			return
		}
	}
}

// wantLines fails the test unless each expression matches, in this order.
func wantLines(t *testing.T, out string, lines ...string) {
	t.Helper()
	rest := out
	for _, l := range lines {
		at := regexp.MustCompile("(?m)" + l).FindStringIndex(rest)
		if at == nil {
			t.Errorf("there is no line %s, in its place, in\n%s", l, out)
			return
		}
		rest = rest[at[1]:]
	}
}

const authBlock = "\n  auth {\n    name = \"login\"\n    username = \"svc\"\n    password = \"" + traceSecret + "\"\n  }"

func upstreamBlock(name, url, more string) string {
	return fmt.Sprintf("upstream %q {\n  url = %q%s\n}\n", name, url, more)
}

// local lets the rule lead to addresses of this machine.
func localRule(via, more string) string {
	return "policy \"default\" {\n  rule \"here\" {\n    match { address = [\"127.0.0.0/8\", \"::1/128\"] }\n    via = " + via + "\n" + more + "  }\n}\n"
}

// What a proxy does wrong is told with the hop, its own words, what it means and what to try.
func TestTraceMisbehaviour(t *testing.T) {
	type b = upstreamtest.Behaviour
	for _, tt := range []struct {
		name   string
		scheme string
		do     b
		auth   bool
		args   []string
		code   int
		lines  []string
	}{
		{"ok", "http", upstreamtest.OK, false, nil, 0, []string{`^1. p at http://`, `^ok    tcp `, `^ok    connect .*200 Connection established$`, `^2. the server `, `^ok    open `, `^total `, `^verdict   OK  reached .* through p$`}},
		{"basic", "http", upstreamtest.OK, true, nil, 0, []string{`^ok    connect .*, with credential "login"$`, `^verdict   OK`}},
		{"reset", "http", upstreamtest.ResetAfterRequest, false, nil, 1, []string{`^FAIL  connect .*reset the connection`, `^verdict   FAILED  not reached: hop 1 \(p\): `, `^means     The connection was torn down`, `^try `}},
		{"closed", "http", upstreamtest.CloseAfterRequest, false, nil, 1, []string{`^FAIL  connect .*closed the connection instead of answering`, `^means `}},
		{"status", "http", upstreamtest.Status(403, "no", "Proxy-Status: p; error=http_request_denied", "Via: 1.1 corp"), false, nil, 1,
			[]string{`^FAIL  connect .*403 Scripted; Proxy-Status: p; error=http_request_denied; Via: 1.1 corp$`, `^verdict   FAILED  .*HTTP 403 Forbidden \(http_request_denied\)`, `^means     The proxy let us in and does not allow this target`, `^try       Ask whoever runs it to allow 127`}},
		{"bad gateway", "http", upstreamtest.Status(502, "no"), false, nil, 1, []string{`^FAIL  connect .*502 Scripted$`, `^2. the server `, `^FAIL  server .*hop 1 \(p\) could not reach`, `^means     The proxy let us in and could not reach the target`}},
		{"wants a login", "http", upstreamtest.Status(407, "no"), false, nil, 1, []string{`^FAIL  connect .*407 Scripted; Proxy-Authenticate: basic realm=upstreamtest$`, `^means     The proxy wants to know who we are, and the policy has nothing`}},
		{"rejected", "http", upstreamtest.Status(407, "no"), true, nil, 1, []string{`^FAIL  connect .*407`, `^verdict .*rejected our credentials`, `^means     The proxy looked at the credential and said no`}},
		{"muted", "http", upstreamtest.Status(407, "no"), true, []string{"--no-credentials"}, 1, []string{`^note      no credential is shown: --no-credentials says so`, `^FAIL  connect .*407`, `^means     .*this command shows no credential: --no-credentials says so`}},
		{"escapes", "http", upstreamtest.Answer("escapes", []byte("HTTP/1.1 403 \xe2\x80\xae\xc2\x9b31m\xff\r\nVia: a\xc2\x9bb\r\nServer: \xe2\x80\xae\r\nContent-Length: 0\r\n\r\n")), false, nil, 1,
			[]string{`^FAIL  connect .*403 "\\u202e\\u009b31m\\xff"; Via: "a\\u009bb"; Server: "\\u202e"$`}},
		{"echo", "http", upstreamtest.Answer("echo", []byte("HTTP/1.1 403 svc:"+traceSecret+"\r\nVia: "+base64.StdEncoding.EncodeToString([]byte("svc:"+traceSecret))+"\r\nContent-Length: 0\r\n\r\n")), true, nil, 1,
			[]string{`^FAIL  connect .*403 \(what repeats our credential is left out\), with credential "login"$`}},
		{"endless head", "http", upstreamtest.EndlessHead, false, nil, 1, []string{`^FAIL  connect .*longer than we read`, `^verdict   FAILED`}},
		{"huge head", "http", upstreamtest.HugeHead(1 << 20), false, nil, 1, []string{`^FAIL  connect .*longer than we read`}},
		{"junk", "http", upstreamtest.Junk, false, nil, 1, []string{`^FAIL  connect .*does not speak http as it should`}},
		{"slow", "http", upstreamtest.Slow(2 * time.Millisecond), false, nil, 0, []string{`^ok    connect `}},
		{"silence", "http", upstreamtest.SilenceAfterRequest, false, []string{"--timeout", "300ms"}, 1, []string{`^FAIL  connect .*did not answer in time`, `^total `, `^means     The proxy did not answer in time`}},
		{"socks", "socks5h", upstreamtest.OK, true, nil, 0, []string{`^1. p at socks5h://`, `^ok    greeting `, `^ok    auth .*1 round, credential "login"$`, `^ok    connect .*socks5 reply 0, succeeded`}},
		{"socks, no login", "socks5h", upstreamtest.OK, false, nil, 0, []string{`^ok    greeting `, `^ok    connect .*socks5 reply 0`}},
		{"socks refuses", "socks5", upstreamtest.SOCKSReply(2), false, nil, 1, []string{`^FAIL  connect .*socks5 reply 2, connection not allowed by ruleset$`, `^means     The proxy's rules do not allow`}},
		{"socks cannot", "socks5h", upstreamtest.SOCKSReply(5), false, nil, 1, []string{`^FAIL  connect .*socks5 reply 5, connection refused$`, `^FAIL  server .*could not reach`, `^means     The target refused the proxy's connection`}},
		{"socks, unknown reply", "socks5h", upstreamtest.SOCKSReply(0x7f), false, nil, 1, []string{`^FAIL  connect .*socks5 reply 127`}},
		{"socks, no method", "socks5h", upstreamtest.MethodReply(5, 0xff), false, nil, 1, []string{`^FAIL  \w+ .*user name and password`, `^means     The proxy wants user and password`}},
		{"socks rejects", "socks5h", upstreamtest.AuthReply(1, 1), true, nil, 1, []string{`^FAIL  auth .*rejected the user name or password`, `^means     The proxy looked at user and password and said no`}},
		{"socks4", "socks4a", upstreamtest.SOCKSReply(0x5b), false, nil, 1, []string{`^FAIL  connect .*socks4 reply 91`, `^means     SOCKS4 says no`}},
		{"half reply", "socks5h", upstreamtest.HalfReply, false, nil, 1, []string{`^FAIL  connect .*in the middle of its answer`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			echo := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
			o := upstreamtest.Options{Script: []upstreamtest.Behaviour{tt.do}}
			if tt.auth && tt.do.Name != "status 407 body 2" {
				o.User, o.Password = "svc", traceSecret
			}
			start := map[string]func(upstreamtest.TB, upstreamtest.Options) *upstreamtest.Proxy{"http": upstreamtest.NewHTTP, "socks5": upstreamtest.NewSOCKS5, "socks5h": upstreamtest.NewSOCKS5, "socks4a": upstreamtest.NewSOCKS4}[tt.scheme]
			p := start(t, o)
			login := ""
			if tt.auth {
				login = authBlock
			}
			x := newTracing(t, upstreamBlock("p", tt.scheme+"://"+p.Addr(), login)+localRule("upstream.p", ""))
			code, out := x.run(append([]string{echo.Addr()}, tt.args...)...)
			if code != tt.code {
				t.Errorf("exit code %d", code)
			}
			wantLines(t, out, tt.lines...)
			_, out = x.run(append([]string{echo.Addr(), "--json"}, tt.args...)...)
			res := readTrace(t, out)
			if res.Reached != (tt.code == 0) {
				t.Errorf("reached = %v", res.Reached)
			}
		})
	}
}

// readTrace reads the JSON form, strictly where the record is concerned.
func readTrace(t *testing.T, out string) *traceResult {
	t.Helper()
	var res struct {
		traceResult
		Traces []struct {
			traced
			Connection json.RawMessage `json:"connection"`
		} `json:"traces"`
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, x := range res.Traces {
		f := new(connmodel.Flow)
		if err := f.UnmarshalJSON(x.Connection); err != nil {
			t.Fatalf("the record does not read back: %v", err)
		}
		x.traced.Connection = f
		res.traceResult.Traces = append(res.traceResult.Traces, &x.traced)
	}
	if res.Version != 1 || res.Says == "" {
		t.Errorf("version %d, says %q", res.Version, res.Says)
	}
	return &res.traceResult
}

// A credential that a proxy rejects is shown once, whoever traces how often, also where all members of a pool have it.
func TestTraceShowsOnce(t *testing.T) {
	echo := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	var proxies []*upstreamtest.Proxy
	policy := ""
	for _, name := range []string{"a", "b", "c"} {
		p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: "another one"})
		proxies = append(proxies, p)
		policy += upstreamBlock(name, "http://"+p.Addr(), authBlock)
	}
	x := newTracing(t, policy+"pool \"all\" { members = [upstream.a, upstream.b, upstream.c] }\n"+localRule("pool.all", ""))
	shown := func() (n int) {
		for _, p := range proxies {
			for _, r := range p.Requests() {
				if r.HasCredentials {
					n++
				}
			}
		}
		return n
	}
	if code, out := x.run(echo.Addr(), "--no-credentials", "--all"); code != 1 || shown() != 0 {
		t.Errorf("muted: exit code %d, shown %d times\n%s", code, shown(), out)
	}
	for range 3 {
		for _, args := range [][]string{{"--all"}, {"--count", "2"}, {"--via", "c"}, nil} {
			if code, _ := x.run(append([]string{echo.Addr()}, args...)...); code != 1 {
				t.Errorf("%q: exit code %d", args, code)
			}
		}
	}
	if n := shown(); n != 1 {
		t.Errorf("shown %d times", n)
	}
	_, out := x.run(echo.Addr(), "--all")
	wantLines(t, out, `^WAY +POLICY +REACHED +TOOK +WHAT$`, `^a +decides +no .*is closed since`, `^b +decides +no`, `^c +decides +no`, `^0 of the 3 ways that the policy decides on reach 127`)
}

// All members, all entries of a script, and the routes that the policy has besides.
func TestTraceAll(t *testing.T) {
	echo := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	a, b := upstreamtest.NewHTTP(t, upstreamtest.Options{}), upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.Status(503, "")}})
	s := upstreamtest.NewSOCKS5(t, upstreamtest.Options{})
	dead := upstreamtest.Refused(t)
	x := newTracing(t, "")
	if err := os.WriteFile(filepath.Join(x.dir, "proxy.pac"), []byte(`function FindProxyForURL(url, host) { return "PROXY `+dead+`; PROXY `+a.Addr()+`; DIRECT"; }`), 0o600); err != nil {
		t.Fatal(err)
	}
	x.policy(upstreamBlock("a", "http://"+a.Addr(), "") + upstreamBlock("b", "http://"+b.Addr(), "") + upstreamBlock("s", "socks5h://"+s.Addr(), "") + upstreamBlock("lone", "http://"+dead, "") +
		"pool \"ab\" { members = [upstream.b, upstream.a] }\nchain \"two\" { hops = [pool.ab, upstream.s] }\npac \"script\" { file = \"proxy.pac\" }\n" +
		"policy \"default\" {\n  rule \"script\" {\n    match {\n      user = \"ann\"\n      address = \"127.0.0.0/8\"\n    }\n    via = pac.script\n  }\n  rule \"two\" {\n    match { address = \"127.0.0.0/8\" }\n    via = chain.two\n  }\n}\n")
	code, out := x.run(echo.Addr(), "--all")
	wantLines(t, out, `^trace     b > s$`, `^FAIL  connect .*503`, `^trace     a > s$`, `^verdict   OK`, `^WAY `, `^b > s +decides +no +\S+ +not reached: hop 2 \(s\)`, `^a > s +decides +yes`, `^a +- +yes`, `^b +- +no`, `^s +- +yes`, `^lone +- +no`, `^1 of the 2 ways`)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(out, "\ndirect ") == false { // pac.script leads there
		t.Errorf("direct was not tried\n%s", out)
	}
	code, out = x.run(echo.Addr(), "--user", "ann", "--all", "--json")
	res := readTrace(t, out)
	var ways []string
	for _, x := range res.Traces {
		if x.OfRule {
			ways = append(ways, fmt.Sprint(x.Way, " ", x.Reached))
		}
	}
	if got := strings.Join(ways, ", "); code != 0 || got != "lone false, a true, direct true" {
		t.Errorf("exit code %d: %s", code, got)
	}
	if len(res.Explain.PAC) != 1 || len(res.Explain.PAC[0].Entries) != 3 {
		t.Errorf("%+v", res.Explain.PAC)
	}
	code, out = x.run(echo.Addr(), "--user", "ann")
	wantLines(t, out, `^answer    PROXY `, `^trace     pac.script$`, `^1. lone at`, `^FAIL  tcp`, `^again     a, attempt 2$`, `^verdict   OK`)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A denial is told as explain tells it, a refused destination stays refused, and nothing is dialled.
func TestTraceNotMade(t *testing.T) {
	echo := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	x := newTracing(t, upstreamBlock("p", "http://"+p.Addr(), "")+`
policy "default" {
  rule "no" {
    match { host = "games.example" }
    deny {
      status = 451
      reason = "not here"
    }
  }
  rule "alpn" {
    match {
      port = 9443
      ja4  = "t13d*h2_*"
    }
    via = direct
  }
  otherwise { via = upstream.p }
}
`)
	for _, tt := range []struct {
		args  []string
		lines []string
	}{
		{[]string{"https://games.example/"}, []string{`^decision  refused with 451 \(rule "no"`, `^reason    not here`, `^verdict   FAILED  not made: the policy denies it \(rule "no", .*viaduct.hcl:\d+\): not here$`}},
		{[]string{"https://games.example/", "--via", "direct", "--all=false"}, []string{`not made: the policy denies it`}},
		{[]string{echo.Addr()}, []string{`^check     refused: 127.0.0.1 is a loopback address`, `^verdict   FAILED  not made: refused: 127.0.0.1`, `^means     The gateway refuses this destination`, `^try       .*match`}},
		{[]string{"--via", "direct", echo.Addr()}, []string{`^verdict   FAILED  not made: refused: 127.0.0.1`}},
		{[]string{"localhost:80"}, []string{`not made: refused: `}},
		{[]string{"127.0.0.1:1"}, []string{`^verdict   FAILED  not made: refused: 127.0.0.1:1 is an address of this gateway itself`}},
		{[]string{"192.0.2.1:9443"}, []string{`^no decision: a rule asks what the client says first`, `^verdict   FAILED  not made: the policy comes to no decision`}},
	} {
		code, out := x.run(tt.args...)
		if code != 1 {
			t.Errorf("%q: exit code %d", tt.args, code)
		}
		wantLines(t, out, tt.lines...)
	}
	if n := len(p.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	for _, args := range [][]string{{}, {"udp://a.example:53"}, {"--via", "nowhere", "a.example:1"}, {"--count", "0", "a.example:1"}, {"--timeout", "0s", "a.example:1"}, {"--all", "--via", "p", "a.example:1"}, {"--method", "POST", "http://a.example/"},
		{"a.example"}, {"--client", "x", "a.example:1"}} {
		if code, out := x.run(args...); code != 2 {
			t.Errorf("%q: exit code %d\n%s", args, code, out)
		}
	}
}

// Servers at the end: TLS of all kinds, as a client would meet it, and as a rule does that makes it itself.
func TestTraceTLSEnds(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	ends := upstreamtest.TLSEnds(t, ca, "127.0.0.1")
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	x := newTracing(t, "")
	file, err := ca.WriteFile(x.dir)
	if err != nil {
		t.Fatal(err)
	}
	x.policy(upstreamBlock("p", "http://"+p.Addr(), "") + "policy \"default\" {\n  rule \"upgraded\" {\n    match {\n      user = \"up\"\n      address = \"127.0.0.0/8\"\n    }\n    via = upstream.p\n    tls {\n      mode = \"upgrade\"\n      ca = \"" + filepath.Base(file) + "\"\n    }\n  }\n" +
		"  rule \"through\" {\n    match { address = \"127.0.0.0/8\" }\n    via = upstream.p\n  }\n}\n")
	for i := range ends {
		e := &ends[i]
		if e.Name == "silence" {
			continue // it takes its time
		}
		t.Run(e.Name, func(t *testing.T) {
			addr, within := upstreamtest.ListenTLSEnd(t, e), "10s"
			if e.Name == "half a record" { // it says no more
				within = "500ms"
			}
			code, out := x.run("--user", "up", "--timeout", within, addr)
			if (code == 0) != e.OK {
				t.Errorf("upgraded: exit code %d\n%s", code, out)
			}
			if !e.OK {
				wantLines(t, out, `^2. the server `, `^FAIL  tls `, `^verdict   FAILED  not reached: server: `, `^means `, `^try `)
			} else {
				wantLines(t, out, `^ok    tls .*TLS 1\.\d, TLS_\w+.*verified for 127.0.0.1$`, `^ +1. CN=.* until `, `^ok    open `, `^verdict   OK`)
			}
			code, out = x.run("--tls", "--timeout", within, addr)
			if (e.Verdict != "" || e.OK) && e.Name != "wrong order" { // the handshake can be made; what is shown is nobody's authority here
				if code != 0 {
					t.Errorf("passed through: exit code %d\n%s", code, out)
				}
				wantLines(t, out, `^warn  tls .*TLS 1`, `^ +1. CN=`, `^verdict   WARNING  reached .*NOT be accepted`, `^means `)
			} else if code != 1 && e.Alert == 0 && e.Kind != "tls" {
				t.Errorf("passed through: exit code %d\n%s", code, out)
			}
			readTrace(t, second(x.run("--json", "--tls", "--timeout", within, addr)))
		})
	}
}

func second(_ int, out string) string { return out }

// Servers of plain HTTP: what they answer, and what they do instead.
func TestTraceRequest(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: traceSecret})
	x := newTracing(t, upstreamBlock("p", "http://"+p.Addr(), authBlock)+"policy \"default\" {\n  rule \"p\" {\n    match {\n      user = \"p\"\n      address = \"127.0.0.0/8\"\n    }\n    via = upstream.p\n  }\n  rule \"here\" {\n    match { address = [\"127.0.0.0/8\", \"::1/128\"] }\n    via = direct\n    headers {\n      set = { \"X-Tag\" = \"t\" }\n    }\n  }\n}\n")
	for _, tt := range []struct {
		name, answer string
		args         []string
		code         int
		lines        []string
	}{
		{"ok", "HTTP/1.1 204 Fine\r\nServer: s/1\r\n\r\n", nil, 0, []string{`^1. the server `, `^ok    tcp `, `^ok    open `, `^ok    request .*HEAD: HTTP 204 Fine; Server: s/1$`, `^verdict   OK  reached .* directly: HTTP 204 Fine$`}},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: http://x/\x1b[31m\r\nContent-Length: 0\r\n\r\n", nil, 1, []string{`^FAIL  request .*breaks the rules`}},
		{"error", "HTTP/1.1 500 \xe2\x80\xae\r\nContent-Length: 0\r\n\r\n", nil, 0, []string{`^warn  request .*HTTP 500 "\\u202e"$`}},
		{"hostile fields", "HTTP/1.1 200 OK\r\nServer: a\xc2\x9b2Jb\r\nVia: 1.1 \xff\r\nContent-Length: 0\r\n\r\n", nil, 0, []string{`^ok    request .*Server: "a\\u009b2Jb"; Via: "1.1 \\xff"$`}},
		{"endless body", "HTTP/1.1 200 OK\r\n\r\n", []string{"--method", "GET"}, 0, []string{`^ok    request .*GET: HTTP 200 OK; a body of more than 1048576 octets`}},
		{"body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", []string{"--method", "GET"}, 0, []string{`5 octets of body$`}},
		{"short body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", []string{"--method", "GET"}, 1, []string{`^verdict   FAILED`}},
		{"junk", "\x00\x01\x02", nil, 1, []string{`^FAIL  request .*breaks the rules`, `^means     What came back is no answer in HTTP`}},
		{"nothing", "", nil, 1, []string{`^FAIL  request `, `^verdict   FAILED  not reached: server: `, `^means     The way is open`}},
		{"silence", "silence", []string{"--timeout", "300ms"}, 1, []string{`^FAIL  request .*(in time|no answer in)`, `^means     The way is open, and the server did not answer`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []byte
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				c, err := ln.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				b := make([]byte, 4096)
				n, _ := c.Read(b)
				asked = b[:n]
				if tt.answer == "silence" {
					io.Copy(io.Discard, c)
					return
				}
				io.WriteString(c, tt.answer)
				for tt.name == "endless body" {
					if _, err := c.Write(bytes.Repeat([]byte("x"), 32<<10)); err != nil {
						return
					}
				}
			}()
			code, out := x.run(append([]string{"http://" + ln.Addr().String() + "/a?b=c", "--header", "X-Mine: 1"}, tt.args...)...)
			ln.Close()
			<-served
			if code != tt.code {
				t.Errorf("exit code %d\n%s", code, out)
			}
			wantLines(t, out, tt.lines...)
			head := string(asked)
			for _, want := range []string{" /a?b=c HTTP/1.1\r\n", "\r\nHost: " + ln.Addr().String() + "\r\n", "X-Tag: t\r\n", "X-Mine: 1\r\n", "Via: 1.1 viaduct-", "User-Agent: viaduct-trace/"} {
				if !strings.Contains(head, want) {
					t.Errorf("%q is not in the request\n%s", want, head)
				}
			}
		})
	}
	web := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	code, out := x.run("--user", "p", "http://"+web.Addr()+"/")
	wantLines(t, out, `^1. p at http://`, `^ok    open .*the way to the proxy is open, which is asked for the page itself$`, `^ok    request .*HTTP 200`, `^verdict   OK`)
	if code != 0 || !strings.Contains(string(p.Requests()[0].Head), "HEAD http://"+web.Addr()+"/ ") {
		t.Errorf("exit code %d, asked %q", code, p.Requests()[0].Head)
	}
	p.Script(upstreamtest.Status(407, "no"))
	for range 2 {
		code, out = x.run("--user", "p", "http://"+web.Addr()+"/")
		wantLines(t, out, `^FAIL  \w+ .*(407|closed since)`, `^verdict   FAILED  not reached: hop 1 \(p\)`, `^means `)
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
	}
	code, out = x.run("--user", "p", "--no-credentials", "http://"+web.Addr()+"/")
	wantLines(t, out, `^means     .*this command shows no credential`)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
}

// IPv6, names that are looked up here, the header for a server that is told of the client, and another server than the target.
func TestTraceWays(t *testing.T) {
	six := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{Listen: "[::1]:0"})
	s := upstreamtest.NewSOCKS5(t, upstreamtest.Options{})
	got := make(chan string, 8)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			b, _ := io.ReadAll(c)
			got <- string(b)
			c.Close()
		}
	}()
	x := newTracing(t, upstreamBlock("s", "socks5://"+s.Addr(), "")+`
policy "default" {
  rule "told" {
    match { user = "told" }
    via            = direct
    server         = "`+ln.Addr().String()+`"
    send_proxy_protocol = 2
  }
  rule "named" {
    match {
      user    = "named"
      host    = "localhost"
      address = ["127.0.0.0/8", "::1/128"]
    }
    via = upstream.s
  }
  rule "six" {
    match { address = "::1/128" }
    via = direct
  }
}
`)
	code, out := x.run(six.Addr())
	wantLines(t, out, `^1. the server \[::1\]:\d+$`, `^ok    tcp .*\[::1\]:\d+ answers, from ::1$`, `^verdict   OK`)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if code, out = x.run("--user", "told", "--client", "192.0.2.7", "api.example:8443"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantLines(t, out, `^server    127.0.0.1:\d+ in place of api.example:8443`, `^1. the server 127.0.0.1`, `PROXY protocol header, version 2$`)
	if b := <-got; !strings.HasPrefix(b, "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01") {
		t.Errorf("the server got %q", b)
	}
	_, port, _ := net.SplitHostPort(six.Addr())
	_, out = x.run("--user", "named", "localhost:"+port)
	wantLines(t, out, `^1. s at socks5://`, `^2. the server localhost:\d+$`, `^ok    dns .*localhost was looked up`)
}

// volatile is what differs from run to run: times, dates, and the blanks that line up behind them.
var volatile = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`<?\d+(\.\d+)?(µs|ms|s)\b`), "T"}, {regexp.MustCompile(`\w{3} \d{4}-\d\d-\d\d \d\d:\d\d UTC`), "DATE"}, {regexp.MustCompile(`[ \t]+`), " "}, {regexp.MustCompile(`(?m)[ ]+$`), ""},
}

func steady(s string) string {
	for _, v := range volatile {
		s = v.re.ReplaceAllString(s, v.with)
	}
	return strings.TrimSpace(s)
}

// The transcript of the manual is what the program says.
func TestTraceTranscript(t *testing.T) {
	manual, err := os.ReadFile("../../upstream/doctor/README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```text\n\\$ viaduct trace -c viaduct.hcl --tls api.partner.example:8443\n(.*?)```").FindSubmatch(manual)
	if block == nil {
		t.Fatal("the manual shows no trace")
	}
	b := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "svc", Password: traceSecret, Hosts: map[string]string{}})
	jump := upstreamtest.NewSOCKS5(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SOCKSReply(2)}})
	dead := upstreamtest.Refused(t)
	x := newTracing(t, upstreamBlock("corp_a", "http://"+dead, authBlock)+upstreamBlock("corp_b", "http://"+b.Addr(), authBlock)+upstreamBlock("jump", "socks5h://"+jump.Addr(), "")+
		"pool \"corp\" { members = [upstream.corp_a, upstream.corp_b] }\npolicy \"default\" {\n  rule \"partner api\" {\n    match { host = \"api.partner.example\" }\n    via = [pool.corp, upstream.jump]\n  }\n}\n")
	_, out := x.run("--tls", "api.partner.example:8443")
	out = strings.NewReplacer(x.dir+"/", "", dead, "10.1.0.7:8080", b.Addr(), "10.1.0.8:8080", jump.Addr(), "10.9.0.2:1080", "from 127.0.0.1\n", "from 10.3.0.4\n").Replace(out)
	if got, want := steady(out), steady(string(block[1])); got != want {
		t.Errorf("the manual says\n%s\n\nand the program\n%s\n\n%s", want, got, out)
	}
}

// slowWriter collects what is written, and can be looked at meanwhile.
type slowWriter struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *slowWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// Each part is printed when it is over, long before the end, and an interrupt ends the trace with what there is.
func TestTraceLiveAndInterrupted(t *testing.T) {
	p := upstreamtest.NewSOCKS5(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SilenceAfterRequest}})
	first := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	x := newTracing(t, upstreamBlock("first", "http://"+first.Addr(), "")+upstreamBlock("p", "socks5h://"+p.Addr(), "")+localRule("[upstream.first, upstream.p]", ""))
	for _, args := range [][]string{nil, {"--all"}, {"--count", "5"}, {"--json"}} {
		before := goleak.IgnoreCurrent()
		ctx, cancel := context.WithCancel(t.Context())
		root, started := newRoot()
		w := new(slowWriter)
		root.SetOut(w)
		root.SetErr(io.Discard)
		root.SetArgs(append([]string{"trace", "-c", filepath.Join(x.dir, "viaduct.hcl"), "127.0.0.1:9"}, args...))
		done := make(chan error, 1)
		asked := len(p.Requests())
		go func() { done <- root.ExecuteContext(ctx) }()
		if len(args) > 0 && args[0] == "--json" {
			if err := p.AwaitRequests(t.Context(), asked+1); err != nil {
				t.Fatal(err)
			}
		} else {
			for end := time.Now().Add(20 * time.Second); !strings.Contains(w.String(), "\nok    connect"); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("nothing is printed while it goes on:\n%s", w)
				}
			}
			wantLines(t, w.String(), `^1. first at`, `^ok    connect .*200`, `^2. p at`)
			if strings.Contains(w.String(), "total") {
				t.Errorf("it is over:\n%s", w)
			}
		}
		cut := time.Now()
		cancel()
		code, say := codeOf(<-done, *started)
		if took := time.Since(cut); took > 5*time.Second {
			t.Errorf("%q: it ended %v after it was interrupted", args, took)
		}
		if code != 1 || say != nil {
			t.Errorf("%q: exit code %d, %v", args, code, say)
		}
		if !strings.Contains(w.String(), "interrupted on the way to 127.0.0.1:9") {
			t.Errorf("%q:\n%s", args, w)
		}
		end := time.Now().Add(10 * time.Second)
		for err := goleak.Find(before); err != nil; err = goleak.Find(before) {
			if time.Now().After(end) {
				t.Errorf("left behind: %v", err)
				break
			}
		}
	}
}

// Listeners that know where their clients go, proxies that want what a client has proved, names that lead where nobody may go, and a line for each of many.
func TestTraceOddWays(t *testing.T) {
	echo := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	x := newTracing(t, "")
	if err := os.WriteFile(filepath.Join(x.dir, "users"), []byte("ann:$2a$10$xE1Y.b5G.A2SEqpBh3guUujC2W8/4KgH2UBERNOdhJx.6CLdoAnO6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	x.policy("listener \"desk\" { address = \"127.0.0.1:1\" }\nlistener \"who\" {\n  address = \"127.0.0.1:3\"\n  authenticate { htpasswd = \"users\" }\n}\nlistener \"db\" {\n  address = \"127.0.0.1:2\"\n  protocols = [\"forward\"]\n  target = \"" + echo.Addr() + "\"\n}\n" +
		upstreamBlock("p", "http://"+p.Addr(), "") + upstreamBlock("client", "http://"+p.Addr(), "\n  auth { from_client = true }") + `
gateway { resolver = resolver.own }
resolver "own" {
  servers = ["system"]
  hosts   = { "inside.example" = ["127.0.0.1"], "six.example" = ["::1"] }
}
policy "default" {
  rule "client" {
    match {
      listener = "who"
      address  = "127.0.0.0/8"
    }
    via = upstream.client
  }
  rule "inside" {
    match { host = "inside.example" }
    via = direct
  }
  otherwise { via = direct }
}
`)
	for _, tt := range []struct {
		args  []string
		code  int
		lines []string
	}{
		{[]string{"--listener", "db"}, 0, []string{`^FORWARD 127.0.0.1:\d+ from`, `^ok    tcp `, `^verdict   OK`}},
		{[]string{"--user", "ann", "--listener", "who", echo.Addr()}, 1, []string{`^FAIL  auth `, `^means     The proxy is to be shown the user and password that the client has proved`}},
		{[]string{"inside.example:7777"}, 1, []string{`^FAIL  \w+ .*refused: 127.0.0.1 is a loopback address`, `^verdict   FAILED  not reached: refused`, `^means     The gateway refuses this destination`}},
		{[]string{"--via", "p", "inside.example:7777"}, 1, []string{`^note      upstream.p is gone`, `^verdict   FAILED`}}, // the proxy does not know the name
		{[]string{"--listener", "db", "--count", "3"}, 0, []string{`^verdict   OK`, `^ok      1 +\S+  server tcp \S+$`, `^ok      2 `, `^ok      3 `, `^3 of 3 reached; fastest \S+, mean \S+, median \S+, slowest \S+$`}},
		{[]string{"--listener", "db", "x:1"}, 2, nil},
		{[]string{"nosuch.invalid:80"}, 1, []string{`^FAIL  dns `, `^means     The name servers`}},
	} {
		code, out := x.run(tt.args...)
		if code != tt.code {
			t.Errorf("%q: exit code %d\n%s", tt.args, code, out)
		}
		wantLines(t, out, tt.lines...)
	}
}

// What is printed early stays right when more gets known: answers that come long before the end of what they belong to.
func TestTraceSlowAnswers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		say   func(c net.Conn, n int)
		lines []string
	}{
		{"rejected", func(c net.Conn, n int) {
			io.WriteString(c, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=r\r\nContent-Length: 5\r\n\r\n")
			time.Sleep(150 * time.Millisecond)
			io.WriteString(c, "sorry")
		}, []string{`^ok    tcp `, `^ok    auth .*1 round`, `^FAIL  connect .*407 No`, `^verdict   FAILED`}},
		{"asks first", func(c net.Conn, n int) {
			if n == 1 {
				io.WriteString(c, "HTTP/1.1 407 Who\r\nProxy-Authenticate: Digest realm=r, nonce=n, qop=auth\r\nContent-Length: 5\r\n\r\n")
				time.Sleep(150 * time.Millisecond)
				io.WriteString(c, "sorry")
				return
			}
			time.Sleep(150 * time.Millisecond)
			io.WriteString(c, "HTTP/1.1 200 Yes\r\n\r\n")
		}, []string{`^ok    tcp `, `^ok    reply .*407 Who`, `^ok    auth .*1 round`, `^ok    connect .*200 Yes$`, `^2. the server`, `^ok    open`, `^verdict   OK`}},
		{"first a hint", func(c net.Conn, n int) {
			io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n")
			time.Sleep(150 * time.Millisecond)
			io.WriteString(c, "HTTP/1.1 200 Yes\r\n\r\n")
		}, []string{`^ok    tcp `, `^ok    connect .*200 Yes, with credential`, `^2. the server`, `^ok    open`, `^verdict   OK`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						br := bufio.NewReader(c)
						for n := 1; ; n++ {
							if _, err := http.ReadRequest(br); err != nil {
								return
							}
							tt.say(c, n)
						}
					}()
				}
			}()
			login := authBlock
			if tt.name == "asks first" {
				login = strings.Replace(authBlock, "username", "schemes = [\"digest\"]\n    username", 1)
			}
			x := newTracing(t, upstreamBlock("p", "http://"+ln.Addr().String(), login)+localRule("upstream.p", ""))
			_, out := x.run("127.0.0.1:9")
			wantLines(t, out, tt.lines...)
			if n := strings.Count(out, "\n1. p at "); n != 1 {
				t.Errorf("the hop is told of %d times\n%s", n, out)
			}
		})
	}
}
