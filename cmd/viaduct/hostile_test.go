package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"viaduct/upstream/upstreamtest"
)

// hostileTexts is what clients and servers say to reach the terminal, the log, the spreadsheet, the page or the data base of whoever looks.
// Each holds "zq", by which it is found again.
var hostileTexts = []struct{ name, text string }{
	{"colours", "zq\x1b[31mred\x1b[0m"},
	{"clear the screen", "zq\x1b[2J\x1b[H"},
	{"title", "zq\x1b]0;owned\x07"},
	{"clipboard", "zq\x1b]52;c;ZXZpbA==\x07"},
	{"link", "zq\x1b]8;;http://evil.example/\x1b\\click\x1b]8;;\x1b\\"},
	{"C1 as bytes", "zq\x9b31m\x9d0;owned\x9c"},
	{"C1 as runes", "zq\u009b31m\u009d0;owned\u009c\u0085next"},
	{"bidi", "zq\u202egpj.exe\u2066x\u2069\u200f"},
	{"new line", "zq\nlevel=error msg=forged"},
	{"carriage return", "zq\r\nSet-Cookie: forged=1\r\n\r\n"},
	{"line separators", "zq\u2028forged\u2029forged"},
	{"NUL and friends", "zq\x00\x01\x08\x0b\x0c\x7f"},
	{"tab", "zq\tforged\tcolumn"},
	{"quotes", "zq\"'`\\\" forged=\"x"},
	{"formula", "=cmd|' /C calc'!zq"},
	{"other formulas", "@SUM(1+9)*zq"},
	{"plus", "+1+zq"},
	{"minus", "-1-zq"},
	{"page", "zq<script>alert(1)</script><img src=x onerror=alert(1)>&amp;"},
	{"template", "zq{{.}}${jndi:ldap://x}%s%n%d"},
	{"data base", "zq'; DROP TABLE flows; --"},
	{"JSON", `zq","error":null,"forged":{"x":[`},
	{"not UTF-8", "zq\xff\xfe\xc0\xaf\xed\xa0\x80\xf5"},
	{"cut UTF-8", "zq\xe2\x80"},
	{"invisible", "zq\u200b\u200d\ufeff\u00ad\u2060x"},
	{"tags", "zq\U000e0001\U000e0041"},
	{"Prometheus", "zq\"} 1\nviaduct_forged{x=\"1"},
	{"labels", `zq",forged="1`},
	{"long", "zq" + strings.Repeat("A", 10_000)},
	{"long and wide", "zq" + strings.Repeat("\u202e", 3000)},
}

// unfit returns what of b steers a terminal, hides text or breaks lines, or "" when there is nothing: new lines are allowed, and tabs.
func unfit(b []byte) string {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		bad := r == utf8.RuneError && n == 1 || r != '\n' && r != '\t' && (unicode.Is(unicode.C, r) || r == '\u2028' || r == '\u2029')
		if bad {
			return fmt.Sprintf("%q in %q", b[i:i+n], b[max(0, i-60):min(len(b), i+60)])
		}
		i += n
	}
	return ""
}

func TestUnfit(t *testing.T) {
	for _, h := range hostileTexts {
		if strings.ContainsAny(h.name, "\x1b") {
			t.Error(h.name)
		}
	}
	for s, bad := range map[string]bool{"plain\ttext\n": false, "日本語 é": false, "\x1b": true, "\r": true, "\x9b": true, "\u009b": true, "\u202e": true, "\u200b": true, "\u2028": true, "\x7f": true, "\x00": true, "\U000e0001": true, "\ufeff": true} {
		if got := unfit([]byte(s)) != ""; got != bad {
			t.Errorf("%q: %v", s, got)
		}
	}
}

const hostilePolicy = `
variable "listen"  { type = string }
variable "users"   { type = string }
variable "records" { type = string }
variable "proxy"   { type = string }
variable "origin"  { type = string }
variable "secure"  { type = string }
variable "format"  { type = string }
gateway {
  log {
    level  = "debug"
    format = var.format
  }
  records { path = var.records }
}
listener "desk" { address = var.listen }
listener "known" {
  address = var.users
  authenticate { htpasswd = "users.htpasswd" }
}
upstream "rude" { url = "http://${var.proxy}" }
policy "default" {
  rule "reasons" {
    match { host = "reason.example" }
    via = upstream.rude
  }
  rule "certificates" {
    match { host = "cert.example" }
    via    = direct
    server = var.secure
    tls { mode = "upgrade" }
  }
  rule "hello" {
    match { sni = "*.sni.example" }
    deny { reason = "not this one" }
  }
  rule "here" {
    match { address = ["127.0.0.0/8"] }
    via = direct
  }
  otherwise {
    deny { reason = "nothing else" }
  }
}
`

// hostileRig is a gateway that has been told everything in the table, in every way there is.
type hostileRig struct {
	*gateway
	users   string // address of the listener that asks who it is
	sent    int
	replies [][]byte // what clients were told
}

func newHostileRig(t *testing.T, format string) *hostileRig {
	var script []upstreamtest.Behaviour
	for _, h := range hostileTexts {
		s := h.text
		script = append(script, upstreamtest.Answer(h.name, []byte("HTTP/1.1 503 "+s+"\r\nX-Why: "+s+"\r\nVia: 1.1 "+s+"\r\nProxy-Status: "+s+"\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>"+s+"</h1>")))
	}
	// The last one is in the status.
	script = append(script, upstreamtest.Answer("last", []byte("HTTP/1.1 503 zq\u009b31m\u202e\r\nContent-Length: 0\r\n\r\n")))
	proxy := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: script})
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	ca := upstreamtest.MustCA(t)
	var certs []tls.Certificate
	for _, h := range hostileTexts {
		if utf8.ValidString(h.text) {
			o := upstreamtest.CertOptions{CommonName: h.text[:min(len(h.text), 60)]}
			if !utf8.ValidString(o.CommonName) {
				continue
			}
			name := strings.Map(func(r rune) rune {
				if r > 0x7f {
					return '?'
				}
				return r
			}, o.CommonName)
			certs = append(certs, ca.MustIssue(t, o, name))
		}
	}
	var turn atomic.Int64
	secure := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &certs[int(turn.Add(1)-1)%len(certs)], nil
	}}})
	hold, err := upstreamtest.Reserve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hold.Release)
	var users bytes.Buffer
	for _, h := range hostileTexts {
		if name := hostileUser(h.text); name != "" {
			hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&users, "%s:%s\n", name, hash)
		}
	}
	g := startGatewayIn(t, hostilePolicy, map[string]string{"users.htpasswd": users.String()},
		"users", hold.Addr(), "proxy", proxy.Addr(), "origin", origin.Addr(), "secure", secure.Addr(), "format", format)
	r := &hostileRig{gateway: g, users: hold.Addr()}
	for _, h := range hostileTexts {
		r.tell(h.text, origin.Addr())
	}
	r.exchange(g.addr, "CONNECT reason.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	for range certs {
		r.exchange(g.addr, "CONNECT cert.example:443 HTTP/1.1\r\nHost: cert.example\r\n\r\n")
	}
	// Every connection has its record, and nothing more comes.
	last, since := -1, time.Now()
	g.await("the records", func() bool {
		if n := len(g.flows()); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
	if last < r.sent/2 {
		t.Fatalf("%d connections, %d records", r.sent, last)
	}
	return r
}

// hostileUser is a name as it can stand in a file of users; "" = it cannot.
func hostileUser(s string) string {
	s = s[:min(len(s), 200)]
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }) || strings.TrimSpace(s) != s || strings.HasPrefix(s, "#") {
		return ""
	}
	return s
}

// tell says one text in every way a client has.
func (r *hostileRig) tell(s, origin string) {
	short := s[:min(len(s), 250)]
	// As a target.
	for _, target := range []string{s, s + ":443", s + ".example:443", "[" + s + "]:443", "x.example:" + s} {
		r.exchange(r.addr, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	r.exchange(r.addr, "GET http://"+s+"/ HTTP/1.1\r\nHost: "+s+"\r\n\r\n")
	r.exchange(r.addr, "GET http://user:"+s+"@x.example/ HTTP/1.1\r\nHost: x.example\r\n\r\n")
	// As everything else in a request that gets somewhere.
	r.exchange(r.addr, "GET http://"+origin+"/"+s+"?q="+s+" HTTP/1.1\r\nHost: "+origin+"\r\nConnection: close\r\n\r\n")
	r.exchange(r.addr, "GET http://"+origin+"/ok HTTP/1.1\r\nHost: "+origin+"\r\nUser-Agent: "+s+"\r\nReferer: "+s+"\r\nCookie: "+s+"\r\nX-Thing: "+s+"\r\nConnection: close\r\n\r\n")
	r.exchange(r.addr, s+" http://"+origin+"/ HTTP/1.1\r\nHost: "+origin+"\r\nConnection: close\r\n\r\n")
	r.exchange(r.addr, "GET http://"+origin+"/ HTTP/"+s+"\r\nHost: "+origin+"\r\n\r\n")
	r.exchange(r.addr, s)
	// By SOCKS: 5 with a name, 4a with a name and a user.
	r.exchange(r.addr, "\x05\x01\x00", "\x05\x01\x00\x03"+string([]byte{byte(len(short))})+short+"\x01\xbb")
	r.exchange(r.addr, "\x04\x01\x01\xbb\x00\x00\x00\x01"+strings.ReplaceAll(short, "\x00", "")+"\x00"+strings.ReplaceAll(short, "\x00", "")+"\x00")
	// As a user, whose password is right where there can be such a user.
	name := hostileUser(s)
	if name == "" {
		name = short
	}
	port := []byte{byte(portNumber(origin) >> 8), byte(portNumber(origin))}
	r.exchange(r.users, "\x05\x01\x02", "\x01"+string([]byte{byte(len(name))})+name+"\x06secret", "\x05\x01\x00\x01\x7f\x00\x00\x01"+string(port))
	r.exchange(r.users, "CONNECT "+origin+" HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte(name+":secret"))+"\r\n\r\n")
	r.exchange(r.users, "CONNECT "+origin+" HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "+s+"\r\n\r\n")
	// As what a TLS client says first.
	r.hello(origin, short)
	// The proxy behind says it.
	r.exchange(r.addr, "CONNECT reason.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
}

func portNumber(addr string) uint16 {
	_, p, _ := net.SplitHostPort(addr)
	var n uint16
	fmt.Sscan(p, &n)
	return n
}

// exchange says each part once the one before is answered, and keeps what comes back.
func (r *hostileRig) exchange(addr string, parts ...string) {
	r.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	r.sent++
	c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 64<<10)
	for i, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			return
		}
		if i < len(parts)-1 {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}
	c.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(io.LimitReader(c, 1<<20))
	if bytes.HasPrefix(b, []byte("HTTP/")) {
		r.replies = append(r.replies, b)
	}
}

// hello opens a tunnel and begins TLS in it, with names that are none.
func (r *hostileRig) hello(origin, s string) {
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	r.sent++
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", origin)
	if _, err := c.Read(make([]byte, 4096)); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	tls.Client(c, &tls.Config{ServerName: s, NextProtos: []string{s, "h2"}, InsecureSkipVerify: true}).HandshakeContext(ctx) // the origin speaks no TLS
}

// viaduct runs a command against the gateway.
func (r *hostileRig) viaduct(args ...string) (stdout, stderr []byte, code int) {
	r.t.Helper()
	cmd := exec.Command(r.cmd.Path, args...)
	cmd.Dir, cmd.Env = r.dir, r.cmd.Env
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return out.Bytes(), problems.Bytes(), cmd.ProcessState.ExitCode()
}

// fit fails the test when a text is not fit for a terminal.
func (r *hostileRig) fit(what string, b []byte) {
	r.t.Helper()
	if bad := unfit(b); bad != "" {
		r.t.Errorf("%s: %s", what, bad)
	}
}

// has fails when hardly anything of the table is in b: then what was looked at is not where it is said.
func (r *hostileRig) has(what string, b []byte, least int) {
	r.t.Helper()
	if n := bytes.Count(b, []byte("zq")); n < least {
		r.t.Errorf("%s holds %d of the texts, expected at least %d", what, n, least)
	}
}

// lines fails when a line begins with what a forger would have it begin.
func (r *hostileRig) lines(what string, b []byte) {
	r.t.Helper()
	for line := range bytes.Lines(b) {
		for _, x := range []string{"level=error msg=forged", "forged", "Set-Cookie", "viaduct_forged", "next"} {
			if bytes.HasPrefix(bytes.TrimLeft(line, "\t "), []byte(x)) {
				r.t.Errorf("%s: forged line %.200q", what, line)
			}
		}
	}
}

// TestHostile says everything in the table in every way there is, and then looks at every output.
func TestHostile(t *testing.T) {
	r := newHostileRig(t, "text")

	log, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	r.fit("log", log)
	r.lines("log", log)
	r.has("log", log, 50)
	for line := range bytes.Lines(log) {
		if !bytes.HasPrefix(line, []byte("time=")) {
			t.Errorf("log: a line that is none: %.200q", line)
		}
	}

	records, err := os.ReadFile(r.records)
	if err != nil {
		t.Fatal(err)
	}
	r.fit("records", records)
	r.has("records", records, 100)
	for line := range bytes.Lines(records) {
		if !json.Valid(line) {
			t.Errorf("records: a line that is no JSON: %.200q", line)
		}
	}

	r.answers()
	r.api()
	r.commands()
}

// TestHostileJSONLog is the same for a log in JSON.
func TestHostileJSONLog(t *testing.T) {
	if testing.Short() {
		t.Skip("the log as text is looked at, and the same code writes both")
	}
	r := newHostileRig(t, "json")
	log, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	r.fit("log", log)
	r.has("log", log, 50)
	for line := range bytes.Lines(log) {
		var v struct {
			Time, Level, Msg string
			Forged           any
		}
		if err := json.Unmarshal(line, &v); err != nil || v.Time == "" || v.Forged != nil {
			t.Errorf("log: %v: %.200q", err, line)
		}
	}
}

// answers looks at what clients were told by the gateway itself.
func (r *hostileRig) answers() {
	t := r.t
	own := 0
	for _, b := range r.replies {
		head, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		if bytes.HasPrefix(b, []byte("HTTP/1.1 2")) || !bytes.Contains(body, []byte("Viaduct")) {
			continue // the origin's
		}
		own++
		r.fit("answer", body)
		r.lines("answer", body)
		for line := range bytes.SplitSeq(head, []byte("\r\n")) {
			if bad := unfit(line); bad != "" || bytes.ContainsAny(line, "\n\t") {
				t.Errorf("answer: field %q %s", line, bad)
			}
			if bytes.HasPrefix(line, []byte("Set-Cookie")) || bytes.HasPrefix(line, []byte("level=")) {
				t.Errorf("answer: forged field %q", line)
			}
		}
		if !bytes.Contains(head, []byte("Content-Type: text/plain")) || !bytes.Contains(bytes.ToLower(head), []byte("x-content-type-options: nosniff")) {
			t.Errorf("a browser may take the answer for a page:\n%s", head)
		}
		if len(b) > 16<<10 {
			t.Errorf("an answer of %d bytes", len(b))
		}
	}
	if own < 50 {
		t.Errorf("only %d answers are the gateway's own", own)
	}
}

// api looks at what the control door says.
func (r *hostileRig) api() {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(r.dir, "viaduct", socketName))
	}}}
	get := func(path string) []byte {
		r.t.Helper()
		res, err := client.Get("http://localhost" + path)
		if err != nil {
			r.t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
			r.t.Errorf("%s is a page", path)
		}
		r.fit(path, b)
		return b
	}
	for _, path := range []string{"/v1/status", "/v1/connections", "/v1/connections?state=closed&limit=10000", "/v1/connections?state=all", "/v1/upstreams", "/v1/pools", "/v1/listeners", "/v1/rules", "/v1/history", "/v1/shadow",
		"/v1/config", "/v1/connections/zq%1b%5b31m", "/v1/connections?filter=zq%1b%5b31m%e2%80%ae", "/v1/zq%1b%5b31m%3cscript%3e", "/v1/connections?limit=%1b%5b2Jzq"} {
		if b := get(path); !json.Valid(b) {
			r.t.Errorf("%s is no JSON: %.300q", path, b)
		}
	}
	metrics := get("/metrics")
	r.lines("/metrics", metrics)
	if bytes.Contains(metrics, []byte("zq")) {
		i := bytes.Index(metrics, []byte("zq"))
		r.t.Errorf("what a client says is in the metrics: %q", metrics[max(0, i-100):min(len(metrics), i+100)])
	}
	if b := get("/v1/connections?state=closed&limit=10000"); !bytes.Contains(b, []byte("keeps no journal")) {
		r.has("/v1/connections", b, 100)
	}
}

// commands looks at what the commands print.
func (r *hostileRig) commands() {
	t := r.t
	flows := r.flows()
	for _, c := range []struct {
		args  []string
		least int // texts of the table that it must hold
		check func(what string, b []byte)
	}{
		{[]string{"status"}, 0, nil},
		{[]string{"status", "--json"}, 0, r.isJSON},
		{[]string{"top", "--once"}, 0, nil},
		{[]string{"connections", "--limit", "10000"}, 50, nil},
		{[]string{"connections", "--limit", "10000", "--json"}, 100, nil},
		{[]string{"connections", "--limit", "10000", "--csv"}, 50, r.isCSV},
		{[]string{"connections", "--limit", "10000", "--har"}, 50, r.isJSON},
	} {
		what := strings.Join(c.args, " ")
		if _, _, code := r.viaduct(c.args[0], "--help"); code != exitOK {
			t.Logf("there is no %q yet", c.args[0])
			continue
		}
		out, problems, code := r.viaduct(c.args...)
		if code != exitOK {
			t.Errorf("%s: exit %d\n%s", what, code, problems)
		}
		if slices.Contains(c.args, "--csv") {
			out = bytes.ReplaceAll(out, []byte("\r\n"), []byte("\n")) // RFC 4180, section 2
		}
		r.fit(what, out)
		r.fit(what, problems)
		r.lines(what, out)
		r.has(what, out, c.least)
		if c.check != nil {
			c.check(what, out)
		}
	}
	if _, _, code := r.viaduct("connection", "--help"); code == exitOK {
		for i := 0; i < len(flows); i += 7 { // each is a process
			out, problems, code := r.viaduct("connection", flows[i].ID.String())
			if code != exitOK {
				t.Errorf("connection %s: exit %d\n%s", flows[i].ID, code, problems)
			}
			r.fit("connection", out)
			r.fit("connection", problems)
			r.lines("connection", out)
		}
	}
	for i, h := range hostileTexts {
		if strings.Contains(h.text, "\x00") { // no argument can hold it
			continue
		}
		asks := [][]string{
			{"explain", "--config", "viaduct.hcl", h.text},
			{"explain", "--config", "viaduct.hcl", "--user", h.text, "--header", "X-Thing: " + h.text, "https://x.example/"},
			{"trace", "--config", "viaduct.hcl", h.text},
			{"connections", "--where", h.text},
			{"connection", h.text},
			{"top", "--once", "--where", h.text},
			{"upstream", "reset", h.text},
		}
		if testing.Short() {
			asks = asks[i%len(asks):][:1]
		}
		for _, args := range asks {
			out, problems, code := r.viaduct(append(args, varsOf(r.cmd.Args)...)...)
			if code == exitOK && (args[0] == "connection" || args[0] == "upstream") {
				t.Errorf("%q went well", args)
			}
			r.fit(args[0], out)
			r.fit(args[0], problems)
		}
	}
}

// varsOf are the flags of variables of a command line, where the command takes them.
func varsOf(args []string) []string {
	for i, a := range args {
		if a == "--var" {
			return args[i:]
		}
	}
	return nil
}

func (r *hostileRig) isJSON(what string, b []byte) {
	if !json.Valid(b) {
		r.t.Errorf("%s is no JSON: %.300q", what, b)
	}
}

// isCSV reads a table back, and looks for cells that a spreadsheet would run.
func (r *hostileRig) isCSV(what string, b []byte) {
	rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
	if err != nil {
		r.t.Errorf("%s: %v", what, err)
		return
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r|%") && strings.Contains(cell, "zq") {
				r.t.Errorf("%s: a spreadsheet runs %q", what, cell)
			}
		}
	}
}
