package upstreamtest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"viaduct/upstream/upstreamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func expect(t *testing.T, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

// ending reads to the end and says how it came: eof, reset, or held when
// nothing more came for a while after least bytes. Only a connection that is
// expected to be held is waited for shortly.
func ending(c net.Conn, least int, expected string) (read []byte, how string) {
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var err error
	if expected == "held" {
		read = make([]byte, least)
		var n int
		if n, err = io.ReadFull(c, read); err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		read = read[:n]
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	}
	if err == nil {
		var rest []byte
		if rest, err = io.ReadAll(c); err == nil {
			err = io.EOF
		}
		read = append(read, rest...)
	}
	switch {
	case err == io.EOF:
		return read, "eof"
	case errors.Is(err, syscall.ECONNRESET):
		return read, "reset"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return read, "held"
	}
	return read, err.Error()
}

// exchange dials, writes and reads to the end. A reset may meet any of the three.
func exchange(t *testing.T, addr, write string, least int, expected string) (read []byte, how string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil, "reset"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, write); errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil, "reset"
	}
	return ending(c, least, expected)
}

func connectHead(target string, fields ...string) string {
	return "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n" + strings.Join(append(fields, "\r\n"), "\r\n")
}

const connectOK = "HTTP/1.1 200 Connection established\r\n\r\n"

// socks5Head is greeting without authentication and a CONNECT by name.
func socks5Head(host string, port int) (greeting, request string) {
	return "\x05\x01\x00", "\x05\x01\x00\x03" + string(rune(len(host))) + host + string([]byte{byte(port >> 8), byte(port)})
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

func TestHTTPBehaviours(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Banner("220 hi\r\n"), upstreamtest.Options{})
	tests := []struct {
		b    upstreamtest.Behaviour
		want string // what the client reads; a prefix if it ends in …
		how  string
	}{
		{upstreamtest.OK, connectOK + "220 hi\r\n", "held"},
		{upstreamtest.Reset, "", "reset"},
		{upstreamtest.CloseAtOnce, "", "eof"},
		{upstreamtest.Silence, "", "held"},
		{upstreamtest.SilenceAfterRequest, "", "held"},
		{upstreamtest.CloseAfterRequest, "", "eof"},
		{upstreamtest.ResetAfterRequest, "", "reset"},
		{upstreamtest.Greeting("ssh", []byte("SSH-2.0-x\r\n")), "SSH-2.0-x\r\n", "held"},
		{upstreamtest.Status(403, "no\n"), "HTTP/1.1 403 Scripted\r\nContent-Length: 3\r\n\r\nno\n", "eof"},
		{upstreamtest.Status(407, ""), "HTTP/1.1 407 Scripted\r\nProxy-Authenticate: Basic realm=\"upstreamtest\"\r\nContent-Length: 0\r\n\r\n", "eof"},
		{upstreamtest.Status(407, "", "Proxy-Authenticate: NTLM"), "HTTP/1.1 407 Scripted\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n", "eof"},
		{upstreamtest.Junk, "\xfe\xed…", "eof"},
		{upstreamtest.HalfReply, connectOK[:len(connectOK)/2], "eof"},
		{upstreamtest.HugeHead(100_000), "HTTP/1.1 200 OK\r\nX-Filler-0000: ff…", "held"},
		{upstreamtest.Slow(0), connectOK + "220 hi\r\n", "held"},
		{upstreamtest.Slow(time.Millisecond), connectOK + "220 hi\r\n", "held"},
		{upstreamtest.Early([]byte("xyz")), connectOK + "xyz220 hi\r\n", "held"},
		{upstreamtest.Coalesce, connectOK + "220 hi\r\n", "held"},
		{upstreamtest.ResetAfter(5), "…", "reset"}, // a reset may outrun the bytes before it
		{upstreamtest.SuccessHead("1.0", "HTTP/1.0 200 OK\r\n\r\n"), "HTTP/1.0 200 OK\r\n\r\n220 hi\r\n", "held"},
		{upstreamtest.WrongVersion, "ICY 200 OK\r\n\r\n", "eof"},
		{upstreamtest.SOCKSReply(5), "HTTP/1.1 502…", "eof"},
		{upstreamtest.Answer("a", []byte("abc")), "abc", "eof"},
		{upstreamtest.AnswerAndHold("a", []byte("abc")), "abc", "held"},
	}
	for _, tt := range tests {
		t.Run(tt.b.Name, func(t *testing.T) {
			t.Parallel() // most wait to see that nothing more comes
			p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{tt.b}})
			prefix, open := strings.CutSuffix(tt.want, "…")
			least := len(prefix)
			if strings.HasPrefix(tt.b.Name, "head of") {
				least = 100_000
			}
			got, how := exchange(t, p.Addr(), connectHead(origin.Addr()), least, tt.how)
			if how != tt.how || !strings.HasPrefix(string(got), prefix) || !open && string(got) != tt.want {
				t.Fatalf("got %.200q, %s\nwant %.200q, %s", got, how, tt.want, tt.how)
			}
			if len(got) < least {
				t.Errorf("%d bytes, want %d at least", len(got), least)
			}
		})
	}
}

func TestEndlessHeadEndsWithTheClient(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.EndlessHead}})
	c := dial(t, p.Addr())
	send(t, c, connectHead("x:1"))
	if _, err := io.CopyN(io.Discard, c, 5<<20); err != nil {
		t.Fatal(err)
	}
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.AwaitIdle(ctx); err != nil {
		t.Fatal("still open after the client left")
	}
}

func TestSOCKS5Behaviours(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Banner("220 hi\r\n"), upstreamtest.Options{})
	const ok = "\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"
	name := strings.Repeat("n", 255)
	tests := []struct {
		b         upstreamtest.Behaviour
		want, how string
	}{
		{upstreamtest.OK, ok + "220 hi\r\n", "held"},
		{upstreamtest.SOCKSReply(1), "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", "eof"},
		{upstreamtest.SOCKSReply(8), "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", "eof"},
		{upstreamtest.WrongVersion, "\x04\x00", "held"},
		{upstreamtest.MethodReply(5, 0xff), "\x05\xff", "held"},
		{upstreamtest.HalfReply, "\x05\x00\x05\x00\x00\x01\x7f", "eof"},
		{upstreamtest.Slow(0), ok + "220 hi\r\n", "held"},
		{upstreamtest.Early([]byte("xyz")), ok + "xyz220 hi\r\n", "held"},
		{upstreamtest.Coalesce, ok + "220 hi\r\n", "held"},
		{upstreamtest.Bound(name), "\x05\x00\x05\x00\x00\x03\xff" + name + "\x12\x34220 hi\r\n", "held"},
		{upstreamtest.Bound("2001:db8::1"), "\x05\x00\x05\x00\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x12\x34220 hi\r\n", "held"},
		{upstreamtest.CloseAfterRequest, "\x05\x00", "eof"},
		{upstreamtest.Reset, "", "reset"},
	}
	for _, tt := range tests {
		t.Run(tt.b.Name, func(t *testing.T) {
			t.Parallel() // most wait to see that nothing more comes
			p := upstreamtest.NewSOCKS5(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{tt.b}})
			greeting, request := socks5Head("127.0.0.1", portOf(t, origin.Addr()))
			if got, how := exchange(t, p.Addr(), greeting+request, len(tt.want), tt.how); string(got) != tt.want || how != tt.how {
				t.Fatalf("got %q, %s\nwant %q, %s", got, how, tt.want, tt.how)
			}
		})
	}
}

func TestSOCKS5Credentials(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	p := upstreamtest.NewSOCKS5(t, upstreamtest.Options{
		User: "ann", Password: "pw", Hosts: map[string]string{"echo.test:7": origin.Addr()},
	})
	_, request := socks5Head("echo.test", 7)

	c := dial(t, p.Addr())
	send(t, c, "\x05\x02\x00\x02\x01\x03ann\x02pw"+request+"ping")
	expect(t, c, "\x05\x02\x01\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34ping")

	c = dial(t, p.Addr())
	send(t, c, "\x05\x01\x02\x01\x03ann\x02no")
	if got, how := ending(c, 4, "eof"); string(got) != "\x05\x02\x01\x01" || how != "eof" {
		t.Errorf("wrong password: %q, %s", got, how)
	}
	c = dial(t, p.Addr())
	send(t, c, "\x05\x01\x00")
	if got, how := ending(c, 2, "eof"); string(got) != "\x05\xff" || how != "eof" {
		t.Errorf("no credentials: %q, %s", got, how)
	}
	p.Script(upstreamtest.AuthReply(5, 0))
	c = dial(t, p.Addr())
	send(t, c, "\x05\x01\x02\x01\x03ann\x02pw")
	if got, how := ending(c, 4, "held"); string(got) != "\x05\x02\x05\x00" || how != "held" {
		t.Errorf("auth reply: %q, %s", got, how)
	}

	rs := p.Requests()
	if len(rs) != 4 {
		t.Fatalf("%d requests recorded, want 4", len(rs))
	}
	if r := rs[0]; !r.Accepted || r.Target != "echo.test:7" || r.User != "ann" || r.Password != "pw" || string(r.Head) != request {
		t.Errorf("first request %+v", r)
	}
	if r := rs[1]; r.Accepted || r.Password != "no" || r.Target != "" {
		t.Errorf("second request %+v", r)
	}
	if rs[2].HasCredentials || rs[2].Accepted {
		t.Errorf("third request %+v", rs[2])
	}
	if got := p.Targets(); len(got) != 1 || got[0] != "echo.test:7" {
		t.Errorf("targets %q", got)
	}
}

func TestSOCKS5Addresses(t *testing.T) {
	p := upstreamtest.NewSOCKS5(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{upstreamtest.SOCKSReply(4)}})
	for _, tt := range []struct{ request, want string }{
		{"\x05\x01\x00\x01\x0a\x00\x00\x01\x01\xbb", "10.0.0.1:443"},
		{"\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff", "[2001:db8::1]:65535"},
		{"\x05\x01\x00\x03\x01x\x00\x01", "x:1"},
	} {
		c := dial(t, p.Addr())
		send(t, c, "\x05\x01\x00"+tt.request)
		expect(t, c, "\x05\x00\x05\x04")
		if got := p.Targets(); got[len(got)-1] != tt.want {
			t.Errorf("target %q, want %q", got[len(got)-1], tt.want)
		}
	}
	c := dial(t, p.Addr())
	send(t, c, "\x05\x01\x00\x05\x02\x00\x01\x0a\x00\x00\x01\x01\xbb")
	expect(t, c, "\x05\x00\x05\x07") // BIND: command not supported
}

func TestSOCKS4(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	port := portOf(t, origin.Addr())
	pb := string([]byte{byte(port >> 8), byte(port)})
	p := upstreamtest.NewSOCKS4(t, upstreamtest.Options{User: "ann"})

	c := dial(t, p.Addr())
	send(t, c, "\x04\x01"+pb+"\x7f\x00\x00\x01ann\x00ping")
	expect(t, c, "\x00\x5a\x12\x34\x7f\x00\x00\x01ping")
	c = dial(t, p.Addr())
	send(t, c, "\x04\x01"+pb+"\x00\x00\x00\x01ann\x00127.0.0.1\x00ping")
	expect(t, c, "\x00\x5a\x12\x34\x7f\x00\x00\x01ping")
	c = dial(t, p.Addr())
	send(t, c, "\x04\x01"+pb+"\x7f\x00\x00\x01bob\x00")
	expect(t, c, "\x00\x5d\x00\x00\x00\x00\x00\x00")
	p.Script(upstreamtest.SOCKSReply(0x5c))
	c = dial(t, p.Addr())
	send(t, c, "\x04\x01"+pb+"\x7f\x00\x00\x01ann\x00")
	expect(t, c, "\x00\x5c\x00\x00\x00\x00\x00\x00")
	p.Script(upstreamtest.WrongVersion)
	c = dial(t, p.Addr())
	send(t, c, "\x04\x01"+pb+"\x7f\x00\x00\x01ann\x00")
	expect(t, c, "\x05\x5a\x12\x34\x7f\x00\x00\x01")

	rs := p.Requests()
	if len(rs) != 5 || rs[0].Method != "SOCKS4" || rs[1].Method != "SOCKS4A" || rs[1].Target != origin.Addr() || rs[2].User != "bob" || rs[2].Accepted {
		t.Errorf("requests %+v", rs)
	}
}

func TestScriptOrder(t *testing.T) {
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{
		upstreamtest.Status(503, ""), upstreamtest.Status(502, ""),
	}})
	for i, want := range []string{"503", "502", "502"} {
		c := dial(t, p.Addr())
		send(t, c, connectHead("a.test:1"))
		expect(t, c, "HTTP/1.1 "+want)
		if rs := p.Requests(); rs[i].Conn != i {
			t.Errorf("request %d on connection %d", i, rs[i].Conn)
		}
	}
	if p.Accepted() != 3 {
		t.Errorf("accepted %d", p.Accepted())
	}
}

func TestHTTPCredentials(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{User: "ann", Password: "p:w"})
	c := dial(t, p.Addr())
	send(t, c, connectHead(origin.Addr()))
	const body = "credentials, please\n"
	expect(t, c, "HTTP/1.1 407 Scripted\r\nProxy-Authenticate: Basic realm=\"upstreamtest\"\r\nContent-Length: 20\r\n\r\n"+body)
	// the same connection takes the second try
	send(t, c, connectHead(origin.Addr(), "proxy-authorization: basic "+base64.StdEncoding.EncodeToString([]byte("ann:p:w")), "X-A: 1", "X-A: 2")+"ping")
	expect(t, c, connectOK+"ping")
	rs := p.Requests()
	if len(rs) != 2 || rs[0].Accepted || rs[0].HasCredentials || !rs[1].Accepted || rs[1].Password != "p:w" || rs[1].Conn != 0 {
		t.Fatalf("requests %+v", rs)
	}
	if got := upstreamtest.Field(rs[1].Head, "x-a"); len(got) != 2 || got[1] != "2" {
		t.Errorf("field %q", got)
	}
}

func TestAbsoluteForm(t *testing.T) {
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Hosts: map[string]string{"o.test:80": origin.Addr()}})
	c := dial(t, p.Addr())
	br := bufio.NewReader(c)
	line := func(want string) {
		t.Helper()
		for {
			got, err := br.ReadString('\n')
			if err != nil {
				t.Fatalf("%v before %q", err, want)
			}
			if strings.HasPrefix(got, want) {
				return
			}
		}
	}
	send(t, c, "GET http://o.test/bytes/3 HTTP/1.1\r\nHost: o.test\r\nProxy-Authorization: Basic eDp5\r\n\r\n")
	line("HTTP/1.1 200")
	line("\r\n")
	expect(t, br, "\x00\x01\x02")
	// keep-alive, two requests in one segment, chunked with a trailer
	send(t, c, "POST http://o.test/echo HTTP/1.1\r\nHost: o.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: v\r\n\r\n"+
		"POST http://o.test/echo HTTP/1.1\r\nHost: o.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nde")
	line("HTTP/1.1 200")
	line("\r\n")
	expect(t, br, "abcHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
	line("\r\n")
	expect(t, br, "de")
	send(t, c, "GET http://o.test/interim HTTP/1.1\r\nHost: o.test\r\n\r\n")
	line("HTTP/1.1 103")
	line("HTTP/1.1 100")
	line("HTTP/1.1 200")
	line("after two")
	send(t, c, "GET http://o.test/upgrade HTTP/1.1\r\nHost: o.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	line("HTTP/1.1 101")
	line("\r\n")
	send(t, c, "ping")
	expect(t, br, "ping")

	rs := origin.Requests()
	if len(rs) != 5 {
		t.Fatalf("%d requests reached the origin", len(rs))
	}
	if got := upstreamtest.Field(rs[0].Head, "Proxy-Authorization"); got != nil {
		t.Errorf("the origin saw credentials %q", got)
	}
	if rs[1].Trailer.Get("X-T") != "v" || string(rs[1].Body) != "abc" || rs[1].Target != "/echo" {
		t.Errorf("chunked request %+v", rs[1])
	}
	if got := p.Targets(); got[0] != "o.test:80" {
		t.Errorf("targets %q", got)
	}
}

func TestAbsoluteFormShortBody(t *testing.T) {
	origin := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	c := dial(t, p.Addr())
	send(t, c, "GET "+origin.URL("/short/1000")+" HTTP/1.1\r\nHost: x\r\n\r\n")
	if got, how := ending(c, 0, "reset"); how != "reset" && len(got) > 900 {
		t.Errorf("a truncated body looks whole: %d bytes, %s", len(got), how)
	}
}

func TestTLSToProxyAndOrigin(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{TLS: ca.ServerTLS(t, "o.test")})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{TLS: ca.ServerTLS(t, "p.test", "127.0.0.1")})
	outer := tls.Client(dial(t, p.Addr()), &tls.Config{RootCAs: ca.Pool(), ServerName: "p.test"})
	send(t, outer, connectHead(origin.Addr()))
	expect(t, outer, connectOK)
	inner := tls.Client(outer, &tls.Config{RootCAs: ca.Pool(), ServerName: "o.test"})
	send(t, inner, "ping")
	expect(t, inner, "ping")
	inner.CloseWrite() // close_notify, through both
	if rest, err := io.ReadAll(inner); err != nil || len(rest) > 0 {
		t.Errorf("after half-close: %q, %v", rest, err)
	}
	if rs := p.Requests(); rs[0].TLS == nil || rs[0].TLS.ServerName != "p.test" {
		t.Errorf("TLS state %+v", rs[0].TLS)
	}
	if got := origin.ServerNames(); len(got) != 1 || got[0] != "o.test" {
		t.Errorf("server names %q", got)
	}
}

func TestHalfCloseThroughChain(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.HalfClose, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	c := dial(t, p.Addr())
	send(t, c, connectHead(origin.Addr())+"12345")
	c.CloseWrite()
	expect(t, c, connectOK+"5 cbf53a1c\n")
}

func TestDownAndUp(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{})
	for range 5 {
		c := dial(t, p.Addr())
		send(t, c, connectHead(origin.Addr()))
		expect(t, c, connectOK)
		p.Down()
		if _, how := ending(c, 0, "reset"); how != "reset" {
			t.Fatalf("an open tunnel ended by %s", how)
		}
		if _, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial while down: %v", err)
		}
		if err := p.Up(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPortStaysReserved(t *testing.T) {
	addr := upstreamtest.Refused(t)
	for range 2000 { // the kernel would hand it out again soon if it were free
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().String() == addr {
			t.Fatal("a reserved port was given away")
		}
		l.Close()
	}
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v", err)
	}
}

func TestListenAddresses(t *testing.T) {
	if p, err := upstreamtest.StartHTTP(upstreamtest.Options{Listen: "[::1]:0"}); err == nil { // a machine may have no IPv6
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Errorf("dial %s: %v", p.Addr(), err)
		} else {
			c.Close()
		}
		p.Close()
	}
	for _, bad := range []string{":0", "127.0.0.1", "192.0.2.1:0"} {
		if p, err := upstreamtest.StartHTTP(upstreamtest.Options{Listen: bad}); err == nil {
			p.Close()
			t.Errorf("%q was listened on", bad)
		}
	}
}

func TestBlackHole(t *testing.T) {
	addr := upstreamtest.BlackHole(t)
	for range 3 {
		_, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Fatalf("dial: %v", err)
		}
	}
}

func TestServeConnInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := upstreamtest.NewHTTP(t, upstreamtest.Options{
			NoListen: true, Script: []upstreamtest.Behaviour{upstreamtest.Slow(time.Second)},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() { defer far.Close(); upstreamtest.Echo(far) }()
				return near, nil
			},
		})
		near, far := net.Pipe()
		go p.ServeConn(far)
		begin := time.Now()
		go io.WriteString(near, connectHead("x.test:1"))
		expect(t, near, connectOK)
		if took := time.Since(begin); took != time.Duration(len(connectOK)-1)*time.Second {
			t.Errorf("took %v", took)
		}
		go io.WriteString(near, "ping")
		expect(t, near, "ping")
		near.Close()
	})
}

func TestCloseEndsEverything(t *testing.T) {
	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
	p := upstreamtest.NewHTTP(t, upstreamtest.Options{Script: []upstreamtest.Behaviour{
		upstreamtest.Silence, upstreamtest.Slow(time.Hour), upstreamtest.OK,
	}})
	for range 30 {
		send(t, dial(t, p.Addr()), connectHead(origin.Addr()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := p.AwaitRequests(ctx, 29); err != nil { // Silence reads none
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { p.Close(); p.Close(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal("Close hangs")
	}
	if p.Open() != 0 {
		t.Errorf("%d connections left", p.Open())
	}
	if err := p.Up(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Up after Close: %v", err)
	}
}

func TestHTTPOriginPaths(t *testing.T) {
	o := upstreamtest.NewHTTPOrigin(t, upstreamtest.Options{})
	for _, tt := range []struct{ path, want, how string }{
		{"/", "HTTP/1.1 200 Asked\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n\r\nhello from the origin\n", "held"},
		{"/status/204", "HTTP/1.1 204 Asked\r\n\r\n", "held"},
		{"/bytes/2?x", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\x00\x01", "held"},
		{"/chunked/3", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\n\x00\x01\x02\r\n0\r\nX-Sum: 3\r\n\r\n", "held"},
		{"/until-close/2", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\x00\x01", "eof"},
		{"/short/4", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x00\x01", "eof"},
		{"/hang", "", "held"},
		{"/reset", "", "reset"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			c := dial(t, o.Addr())
			send(t, c, "GET "+tt.path+" HTTP/1.1\r\nHost: h\r\n\r\n")
			if got, how := ending(c, len(tt.want), tt.how); string(got) != tt.want || how != tt.how {
				t.Errorf("got %q, %s; want %q, %s", got, how, tt.want, tt.how)
			}
		})
	}
	if rs := o.Requests(); rs[0].Host != "h" || rs[2].Target != "/bytes/2?x" || !bytes.HasSuffix(rs[0].Head, []byte("\r\n\r\n")) {
		t.Errorf("requests %+v", rs)
	}
}

func TestOrigins(t *testing.T) {
	got := make(chan string, 1)
	fte := upstreamtest.NewOrigin(t, upstreamtest.FirstToEnd("bye", func(n int64, err error) { got <- fmt.Sprint(n, err) }), upstreamtest.Options{})
	c := dial(t, fte.Addr())
	if b, err := io.ReadAll(c); string(b) != "bye" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	send(t, c, "late")
	c.CloseWrite()
	if s := <-got; s != "4 <nil>" {
		t.Errorf("origin got %s", s)
	}
	c = dial(t, upstreamtest.NewOrigin(t, upstreamtest.Source(1000), upstreamtest.Options{}).Addr())
	b, err := io.ReadAll(c)
	if err != nil || len(b) != 1000 || b[251] != 0 || b[999] != byte(999%251) {
		t.Errorf("source: %d bytes, %v", len(b), err)
	}
	c = dial(t, upstreamtest.NewOrigin(t, upstreamtest.ResetOnByte, upstreamtest.Options{}).Addr())
	send(t, c, "x")
	if _, how := ending(c, 0, "reset"); how != "reset" {
		t.Errorf("reset on byte: %s", how)
	}
}
