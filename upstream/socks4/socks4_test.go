package socks4

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var longName = strings.Repeat(strings.Repeat("a", 49)+".", 5) + "abc" // 253

var requestTests = []struct {
	name   string
	in     string
	want   string // "" with an error
	userID string
	rest   string
	err    error
}{
	{"ipv4", "\x04\x01\x00\x50\x0a\x00\x00\x01\x00early", "10.0.0.1:80", "", "early", nil},
	{"user", "\x04\x01\x01\xbb\x0a\x00\x00\x01fred\x00", "10.0.0.1:443", "fred", "", nil},
	{"name", "\x04\x01\x01\xbb\x00\x00\x00\x01fred\x00a_b.example.\x00x", "a_b.example.:443", "fred", "x", nil},
	{"name, other mark", "\x04\x01\x01\xbb\x00\x00\x00\xff\x00a\x00", "a:443", "", "", nil},
	{"longest", "\x04\x01\x01\xbb\x00\x00\x00\x01" + strings.Repeat("u", 255) + "\x00" + longName + ".\x00", longName + ".:443", strings.Repeat("u", 255), "", nil},
	{"version", "\x05\x01", "", "", "", errVersion},
	{"bind", "\x04\x02", "", "", "", errCommand},
	{"command 0", "\x04\x00", "", "", "", errCommand},
	{"port 0", "\x04\x01\x00\x00\x0a\x00\x00\x01\x00", "", "", "", errPort},
	{"0.0.0.0", "\x04\x01\x00\x50\x00\x00\x00\x00\x00", "", "", "", errAddress},
	{"long user", "\x04\x01\x00\x50\x0a\x00\x00\x01" + strings.Repeat("u", 256), "", "", "", errUserID},
	{"line end in the user", "\x04\x01\x00\x50\x0a\x00\x00\x01u\r\n\x00", "", "", "", errUserID},
	{"long name", "\x04\x01\x00\x50\x00\x00\x00\x01\x00" + strings.Repeat("a", 255), "", "", "", errName},
	{"empty name", "\x04\x01\x00\x50\x00\x00\x00\x01\x00\x00", "", "", "", errName},
	{"space", "\x04\x01\x00\x50\x00\x00\x00\x01\x00a b\x00", "", "", "", errName},
	{"brackets", "\x04\x01\x00\x50\x00\x00\x00\x01\x00[::1]\x00", "", "", "", errName},
	{"at", "\x04\x01\x00\x50\x00\x00\x00\x01\x00u@a\x00", "", "", "", errName},
	{"two dots", "\x04\x01\x00\x50\x00\x00\x00\x01\x00a..b\x00", "", "", "", errName},
	{"long label", "\x04\x01\x00\x50\x00\x00\x00\x01\x00" + strings.Repeat("a", 64) + "\x00", "", "", "", errName},
	{"not ASCII", "\x04\x01\x00\x50\x00\x00\x00\x01\x00caf\xc3\xa9\x00", "", "", "", errName},
}

func TestParseRequest(t *testing.T) {
	for _, tt := range requestTests {
		t.Run(tt.name, func(t *testing.T) {
			r, n, err := ParseRequest([]byte(tt.in))
			if tt.err != nil {
				if err != tt.err || n != 0 || r.UserID != "" {
					t.Fatalf("%d, %v", n, err)
				}
				return
			}
			if err != nil || r.String() != tt.want || r.UserID != tt.userID || tt.in[n:] != tt.rest {
				t.Fatalf("%v %q, %d bytes, %v", r, r.UserID, n, err)
			}
			if n > MaxRequest {
				t.Errorf("%d bytes are over the bound", n)
			}
			for i := range n {
				if _, m, err := ParseRequest([]byte(tt.in[:i])); err != ErrIncomplete || m != 0 {
					t.Fatalf("first %d bytes: %d, %v", i, m, err)
				}
			}
		})
	}
}

// script is a server with one answer, in pieces of that size.
type script struct {
	answer []byte
	size   int
	sent   bytes.Buffer
}

func (s *script) Write(p []byte) (int, error) { return s.sent.Write(p) }

func (s *script) Read(p []byte) (int, error) {
	if len(s.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.answer)
	s.answer = s.answer[n:]
	return n, nil
}

var replyTests = []struct {
	name, in, rest string
	err            error
}{
	{"granted", "\x00\x5a\x12\x34\x0a\x00\x00\x01", "", nil},
	{"early bytes", "\x00\x5a\x12\x34\x0a\x00\x00\x01SSH-2.0", "SSH-2.0", nil},
	{"many early bytes", "\x00\x5a\x12\x34\x0a\x00\x00\x01" + strings.Repeat("x", 1000), strings.Repeat("x", 1000), nil},
	{"rejected", "\x00\x5b\x00\x00\x00\x00\x00\x00", "", &ReplyError{Rejected}},
	{"short rejection", "\x00\x5c", "", &ReplyError{NoIdent}},
	{"other user", "\x00\x5d\x00\x00\x00\x00\x00\x00", "", &ReplyError{IdentMismatch}},
	{"unassigned", "\x00\x00\x00\x00\x00\x00\x00\x00", "", &ReplyError{0}},
	{"http", "HTTP/1.1 400 Bad Request\r\n\r\n", "", errSawHTTP},
	{"socks5", "\x05\xff", "", errSawSOCKS5},
	{"tls", "\x15\x03\x01\x00\x02\x02\x46", "", errSawTLS},
	{"version 4", "\x04\x5a\x00\x00\x00\x00\x00\x00", "", &ProtocolError{"answered with version byte 0x04, not SOCKS4", "SOCKS4 CONNECT"}},
	{"closed", "", "", io.EOF},
	{"half", "\x00\x5a\x12", "", io.ErrUnexpectedEOF},
	{"one byte", "\x00", "", io.ErrUnexpectedEOF},
}

func TestConnect(t *testing.T) {
	for _, tt := range replyTests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 3, 1 << 20} {
				s := &script{answer: []byte(tt.in), size: size}
				bound, rest, err := Connect(s, "10.1.2.3", 80, "", false)
				if tt.err != nil {
					if err == nil || !errors.Is(err, tt.err) && err.Error() != tt.err.Error() {
						t.Fatalf("pieces of %d: %v", size, err)
					}
					continue
				}
				tunnel, _ := io.ReadAll(io.MultiReader(bytes.NewReader(rest), s))
				if err != nil || bound.String() != "10.0.0.1:4660" || string(tunnel) != tt.rest {
					t.Fatalf("pieces of %d: %v, %v, %q", size, err, bound, tunnel)
				}
			}
		})
	}
}

func TestConnectSends(t *testing.T) {
	for _, tt := range []struct {
		host, user string
		port       uint16
		names      bool
		want       string
		err        error
	}{
		{"10.1.2.3", "", 80, false, "\x04\x01\x00\x50\x0a\x01\x02\x03\x00", nil},
		{"::ffff:10.1.2.3", "me", 80, true, "\x04\x01\x00\x50\x0a\x01\x02\x03me\x00", nil},
		{"a.example", "me", 443, true, "\x04\x01\x01\xbb\x00\x00\x00\x01me\x00a.example\x00", nil},
		{"a.example", "", 443, false, "", ErrNeeds4a},
		{"::1", "", 443, true, "", ErrHost},
		{"0.0.0.0", "", 443, true, "", ErrHost},
		{"0.0.0.7", "", 443, true, "", ErrHost},
		{"a\x00b", "", 443, true, "", ErrHost},
		{"", "", 443, true, "", ErrHost},
		{"a", "", 0, true, "", ErrHost},
		{longName + "d", "", 443, true, "", ErrHost},
		{"a", "m\x00e", 443, true, "", ErrUserID},
		{"a", strings.Repeat("u", 256), 443, true, "", ErrUserID},
	} {
		s := &script{}
		_, _, err := Connect(s, tt.host, tt.port, tt.user, tt.names)
		if tt.err != nil && err != tt.err || tt.err == nil && !errors.Is(err, io.EOF) || s.sent.String() != tt.want {
			t.Errorf("%q: %v, sent %q", tt.host, err, &s.sent)
		}
	}
}

// Both ends against each other, and the caller's deadline.
func TestBothEnds(t *testing.T) {
	bound := netip.MustParseAddrPort("192.0.2.7:5555")
	for _, host := range []string{"192.0.2.1", "example.com", longName} {
		for _, code := range []Code{Granted, Rejected} {
			client, server := net.Pipe()
			client.SetDeadline(time.Now().Add(10 * time.Second))
			seen := make(chan string, 1)
			go func() {
				defer server.Close()
				buf, w := make([]byte, MaxRequest), 0
				for {
					m, err := server.Read(buf[w:])
					if w += m; err != nil {
						seen <- err.Error()
						return
					}
					r, _, err := ParseRequest(buf[:w])
					if err == ErrIncomplete {
						continue
					}
					seen <- r.String() + " " + r.UserID
					server.Write(append(AppendReply(nil, code, bound), "hello"...))
					return
				}
			}()
			got, rest, err := Connect(client, host, 443, "me", true)
			if s := <-seen; s != host+":443 me" {
				t.Errorf("server saw %s", s)
			}
			var re *ReplyError
			if code == Granted && (err != nil || got != bound || string(rest) != "hello") ||
				code != Granted && (!errors.As(err, &re) || re.Code != code) {
				t.Errorf("%s: %v %v %q", host, err, got, rest)
			}
			client.Close()
		}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go io.Copy(io.Discard, b)
	a.SetDeadline(time.Now().Add(10 * time.Millisecond))
	var ne net.Error
	if _, _, err := Connect(a, "10.0.0.1", 1, "", false); !errors.As(err, &ne) || !ne.Timeout() {
		t.Error(err)
	}
}

func TestAppendReply(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:258":          "\x00\x5a\x01\x02\x0a\x00\x00\x01",
		"[::ffff:10.0.0.1]:258": "\x00\x5a\x01\x02\x0a\x00\x00\x01",
		"[2001:db8::1]:258":     "\x00\x5a\x01\x02\x00\x00\x00\x00",
	} {
		if got := AppendReply(nil, Granted, netip.MustParseAddrPort(in)); string(got) != want {
			t.Errorf("%s: %q", in, got)
		}
	}
	if got := AppendReply(nil, Rejected, netip.AddrPort{}); string(got) != "\x00\x5b\x00\x00\x00\x00\x00\x00" {
		t.Errorf("%q", got)
	}
}

func FuzzRequest(f *testing.F) {
	for _, tt := range requestTests {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, n, err := ParseRequest(in)
		for i := range len(in) { // it is settled by the bytes taken, whatever follows
			_, m, err2 := ParseRequest(in[:i])
			if err == nil && i < n && err2 != ErrIncomplete || err == nil && i >= n && (err2 != nil || m != n) ||
				err != nil && err2 == nil || err == ErrIncomplete && err2 != ErrIncomplete {
				t.Fatalf("whole: %d, %v; first %d: %d, %v", n, err, i, m, err2)
			}
		}
		if err == ErrIncomplete && len(in) > MaxRequest {
			t.Fatalf("wants more than %d bytes", len(in))
		}
		if err != nil {
			return
		}
		out, err := appendRequest(nil, r.Host(), r.Port, r.UserID, r.Name != "")
		if r.Name != "" {
			if ip, err := netip.ParseAddr(r.Name); err == nil && ip.Is4() {
				return // an address in place of a name goes out as an address
			}
		}
		if err != nil {
			t.Fatalf("%v taken and not to be sent: %v", r, err)
		}
		if back, m, err := ParseRequest(out); err != nil || m != len(out) || back != r {
			t.Fatalf("%v came back as %v: %v", r, back, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, tt := range replyTests {
		f.Add([]byte(tt.in), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		run := func(size int) (netip.AddrPort, string, error) {
			s := &script{answer: bytes.Clone(in), size: size}
			a, rest, err := Connect(s, "a", 1, "", true)
			tunnel, _ := io.ReadAll(io.MultiReader(bytes.NewReader(rest), s))
			return a, string(tunnel), err
		}
		a, rest, err := run(1 << 20)
		a2, rest2, err2 := run(int(size) + 1)
		if (err == nil) != (err2 == nil) || err == nil && (a != a2 || rest != rest2 || rest != string(in[replySize:])) {
			t.Fatalf("whole: %v %q %v; split: %v %q %v", a, rest, err, a2, rest2, err2)
		}
		if err != nil && err.Error() != err2.Error() {
			t.Fatalf("whole: %v; split: %v", err, err2)
		}
	})
}

func BenchmarkParseRequest(b *testing.B) {
	in := []byte("\x04\x01\x01\xbb\x00\x00\x00\x01me\x00www.example.com\x00")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseRequest(in); err != nil {
			b.Fatal(err)
		}
	}
}
