package socks5

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// script is a server that answers each write with the next of its lines, in
// pieces of that size.
type script struct {
	answers []string
	size    int
	sent    bytes.Buffer
	pending []byte
}

func (s *script) Write(p []byte) (int, error) {
	s.sent.Write(p)
	if len(s.answers) > 0 {
		s.pending = append(s.pending, s.answers[0]...)
		s.answers = s.answers[1:]
	}
	return len(p), nil
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.pending) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

var clientTests = []struct {
	name    string
	auth    *Auth
	answers []string
	bound   string
	rest    string // what the tunnel begins with
	want    error  // matched by errors.Is or by text
}{
	{"ipv4", nil, []string{"\x05\x00", "\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34"}, "10.0.0.1:4660", "", nil},
	{"ipv6 and early bytes", nil, []string{"\x05\x00", "\x05\x00\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x01SSH-2.0"}, "[::1]:1", "SSH-2.0", nil},
	{"name", nil, []string{"\x05\x00", "\x05\x00\x00\x03\x03a.b\x00\x01x"}, "a.b:1", "x", nil},
	{"name of 255", nil, []string{"\x05\x00", "\x05\x00\x00\x03\xff" + strings.Repeat("\x01", 255) + "\x00\x01" + strings.Repeat("y", 700)}, ":1", strings.Repeat("y", 700), nil},
	{"empty name", nil, []string{"\x05\x00", "\x05\x00\x00\x03\x00\x00\x01x"}, ":1", "x", nil},
	{"password", &Auth{"u", "p"}, []string{"\x05\x02", "\x01\x00", "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"}, "0.0.0.0:0", "", nil},
	{"password not wanted", &Auth{"u", "p"}, []string{"\x05\x00", "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"}, "0.0.0.0:0", "", nil},
	{"password refused", &Auth{"u", "p"}, []string{"\x05\x02", "\x01\x01"}, "", "", &AuthError{Offered: true}},
	{"password refused otherwise", &Auth{"u", "p"}, []string{"\x05\x02", "\x01\xff"}, "", "", &AuthError{Offered: true}},
	{"answer to password", &Auth{"u", "p"}, []string{"\x05\x02", "\x05\x00"}, "", "", errAuthAnswer},
	{"no method", nil, []string{"\x05\xff"}, "", "", &AuthError{NoMethod: true}},
	{"no method with password", &Auth{"u", "p"}, []string{"\x05\xff"}, "", "", &AuthError{NoMethod: true, Offered: true}},
	{"method not offered", nil, []string{"\x05\x02"}, "", "", errMethod},
	{"gssapi chosen", &Auth{"u", "p"}, []string{"\x05\x01"}, "", "", errMethod},
	{"general", nil, []string{"\x05\x00", "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"}, "", "", &ReplyError{1}},
	{"ttl", nil, []string{"\x05\x00", "\x05\x06\x00\x01\x00\x00\x00\x00\x00\x00"}, "", "", &ReplyError{6}},
	{"short refusal", nil, []string{"\x05\x00", "\x05\x02"}, "", "", &ReplyError{2}},
	{"unknown code", nil, []string{"\x05\x00", "\x05\x5a\x00\x01"}, "", "", &ReplyError{0x5a}},
	{"http", nil, []string{"HTTP/1.1 400 Bad Request\r\n\r\n"}, "", "", errSawHTTP},
	{"tls", nil, []string{"\x15\x03\x03\x00\x02\x02\x32"}, "", "", errSawTLS},
	{"socks4", nil, []string{"\x00\x5b\x00\x00\x00\x00\x00\x00"}, "", "", errSawSOCKS4},
	{"junk", nil, []string{"SSH-2.0-x\r\n"}, "", "", &ProtocolError{"answered with version byte 0x53, not SOCKS5", "RFC 1928 3"}},
	{"http after the method", nil, []string{"\x05\x00", "HTTP/1.1 200 OK\r\n\r\n"}, "", "", errSawHTTP},
	{"reserved", nil, []string{"\x05\x00", "\x05\x00\x01\x01\x00\x00\x00\x00\x00\x00"}, "", "", errReplyRSV},
	{"type", nil, []string{"\x05\x00", "\x05\x00\x00\x02\x00\x00\x00\x00\x00\x00"}, "", "", errReplyType},
	{"closed at once", nil, []string{""}, "", "", io.EOF},
	{"closed within the method", nil, []string{"\x05"}, "", "", io.ErrUnexpectedEOF},
	{"closed before the reply", nil, []string{"\x05\x00", ""}, "", "", io.EOF},
	{"closed after password", &Auth{"u", "p"}, []string{"\x05\x02", ""}, "", "", io.EOF},
	{"half a reply", nil, []string{"\x05\x00", "\x05\x00\x00\x01\x0a\x00"}, "", "", io.ErrUnexpectedEOF},
	{"half a name", nil, []string{"\x05\x00", "\x05\x00\x00\x03"}, "", "", io.ErrUnexpectedEOF},
}

func TestConnect(t *testing.T) {
	for _, tt := range clientTests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 1 << 20} {
				s := &script{answers: tt.answers, size: size}
				bound, rest, err := Connect(s, "example.com", 443, tt.auth)
				if tt.want != nil {
					if err == nil || !errors.Is(err, tt.want) && err.Error() != tt.want.Error() {
						t.Fatalf("pieces of %d: %v; want %v", size, err, tt.want)
					}
					continue
				}
				tunnel, _ := io.ReadAll(io.MultiReader(bytes.NewReader(rest), s))
				if err != nil || bound.String() != tt.bound || string(tunnel) != tt.rest {
					t.Fatalf("pieces of %d: %v, bound %v, tunnel %q", size, err, bound, tunnel)
				}
			}
		})
	}
}

// A server that answers before it is asked may have answered somebody else.
func TestConnectOutOfTurn(t *testing.T) {
	for _, answers := range [][]string{
		{"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{"\x05\x02\x01\x00"},
		{"\x05\x02", "\x01\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
	} {
		s := &script{answers: answers, size: 99}
		if _, _, err := Connect(s, "a", 1, &Auth{"user", "pass"}); err != errTurn {
			t.Errorf("%q: %v", answers, err)
		}
		if answers[0][1] == 0 && bytes.Contains(s.sent.Bytes(), []byte("pass")) {
			t.Error("password sent to a server that did not ask for it")
		}
	}
}

func TestConnectSends(t *testing.T) {
	for host, want := range map[string]string{
		"a.example":       "\x05\x01\x00\x05\x01\x00\x03\x09a.example\x01\xbb",
		"10.0.0.1":        "\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x01\xbb",
		"::ffff:10.0.0.1": "\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x01\xbb",
		"2001:db8::1":     "\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x01\xbb",
	} {
		s := &script{answers: []string{"\x05\x00"}, size: 9}
		Connect(s, host, 443, nil)
		if s.sent.String() != want {
			t.Errorf("%s: %q", host, &s.sent)
		}
	}
	s := &script{answers: []string{"\x05\x02", "\x01\x01"}, size: 9}
	Connect(s, "a", 1, &Auth{strings.Repeat("u", 255), strings.Repeat("p", 255)})
	if want := "\x05\x02\x00\x02\x01\xff" + strings.Repeat("u", 255) + "\xff" + strings.Repeat("p", 255); s.sent.String() != want {
		t.Errorf("longest password: %q", &s.sent)
	}
	for _, tt := range []struct {
		host string
		port uint16
		auth *Auth
		want error
	}{
		{"", 1, nil, ErrName}, {"a b", 1, nil, ErrName}, {"a\x00b", 1, nil, ErrName}, {"fe80::1%eth0", 1, nil, ErrName}, {"[::1]", 1, nil, ErrName},
		{strings.Repeat("a", 256), 1, nil, ErrName}, {"a", 0, nil, ErrName},
		{"a", 1, &Auth{"", "p"}, ErrCredentials}, {"a", 1, &Auth{"u", ""}, ErrCredentials}, {"a", 1, &Auth{strings.Repeat("u", 256), "p"}, ErrCredentials},
	} {
		s := &script{}
		if _, _, err := Connect(s, tt.host, tt.port, tt.auth); err != tt.want || s.sent.Len() > 0 {
			t.Errorf("%q: %v, sent %q", tt.host, err, &s.sent)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v %s", Auth{"u", "secret"}, &Auth{"u", "secret"}, Auth{"u", "secret"}, Auth{"u", "secret"}); strings.Contains(s, "secret") {
		t.Error(s)
	}
}

func TestConnectDeadline(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go io.Copy(io.Discard, b)
	a.SetDeadline(time.Now().Add(10 * time.Millisecond))
	_, _, err := Connect(a, "a", 1, nil)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatal(err)
	}
}

// Both ends against each other: every address type, early bytes in both
// directions, refusals.
func TestBothEnds(t *testing.T) {
	bound := Addr{IP: netip.MustParseAddr("192.0.2.7"), Port: 5555}
	for _, host := range []string{"example.com", "192.0.2.1", "2001:db8::1", longName} {
		for _, auth := range []*Auth{nil, {"user", "secret"}, {"user", "wrong"}} {
			for _, code := range []Code{Succeeded, ConnectionRefused} {
				client, server := net.Pipe()
				seen := make(chan string, 1)
				go func() {
					defer server.Close()
					seen <- serveOnce(server, auth != nil, code, bound)
				}()
				got, rest, err := Connect(client, host, 443, auth)
				var re *ReplyError
				var ae *AuthError
				switch {
				case auth != nil && auth.Password == "wrong":
					if !errors.As(err, &ae) || ae.NoMethod {
						t.Errorf("%s: %v", host, err)
					}
				case code != Succeeded:
					if !errors.As(err, &re) || re.Code != code {
						t.Errorf("%s: %v", host, err)
					}
				case err != nil || got != bound || string(rest) != "hello":
					t.Errorf("%s: %v %v %q", host, err, got, rest)
				default:
					if s, want := <-seen, net.JoinHostPort(host, "443"); s != want {
						t.Errorf("server saw %s; want %s", s, want)
					}
				}
				client.Close()
			}
		}
	}
}

func serveOnce(c net.Conn, auth bool, code Code, bound Addr) string {
	s := Server{Auth: auth}
	buf, w := make([]byte, 600), 0
	for {
		n, out, ev, err := s.Step(buf[:w], nil)
		w = copy(buf, buf[n:w])
		if ev == Authenticate {
			out = s.Verified(s.User == "user" && s.Password == "secret", out)
		}
		if ev == Request {
			out = append(AppendReply(out, code, bound), "hello"...)
		}
		if len(out) > 0 {
			c.Write(out)
		}
		if err != nil || ev == Request {
			return s.Target.String()
		}
		if ev == Authenticate && w > 0 {
			continue
		}
		m, err := c.Read(buf[w:])
		if err != nil {
			return err.Error()
		}
		w += m
	}
}

func FuzzClient(f *testing.F) {
	for _, tt := range clientTests {
		f.Add([]byte(strings.Join(tt.answers, "|")), uint8(1), tt.auth != nil)
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8, withAuth bool) {
		var auth *Auth
		if withAuth {
			auth = &Auth{"u", "pw"}
		}
		run := func(size int) (Addr, string, error) {
			s := &script{answers: strings.Split(string(in), "|"), size: size}
			a, rest, err := Connect(s, "a", 1, auth)
			tunnel, _ := io.ReadAll(io.MultiReader(bytes.NewReader(rest), s))
			return a, string(tunnel), err
		}
		a, rest, err := run(1 << 20)
		a2, rest2, err2 := run(int(size) + 1)
		if (err == nil) != (err2 == nil) && !errors.Is(err, errTurn) && !errors.Is(err2, errTurn) {
			t.Fatalf("whole: %v; split: %v", err, err2)
		}
		if err == nil && err2 == nil && (a != a2 || rest != rest2) {
			t.Fatalf("whole: %v %q; split: %v %q", a, rest, a2, rest2)
		}
	})
}

func BenchmarkServer(b *testing.B) {
	in := []byte("\x05\x02\x00\x02\x05\x01\x00" + named("www.example.com", "\x01\xbb"))
	out := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		var s Server
		if _, _, ev, err := s.Step(in, out); ev != Request || err != nil {
			b.Fatal(ev, err)
		}
	}
}

func BenchmarkConnect(b *testing.B) {
	b.ReportAllocs()
	c := new(benchConn)
	for b.Loop() {
		c.n = 0
		if _, _, err := Connect(c, "www.example.com", 443, nil); err != nil {
			b.Fatal(err)
		}
	}
}

type benchConn struct{ n int }

func (c *benchConn) Write(p []byte) (int, error) { return len(p), nil }
func (c *benchConn) Read(p []byte) (int, error) {
	if c.n++; c.n == 1 {
		return copy(p, "\x05\x00"), nil
	}
	return copy(p, "\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34"), nil
}
