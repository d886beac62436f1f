package socks5

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// serve feeds a server in pieces of that size, as a listener would: what is not
// taken stays in front of what comes. check is the credentials it takes.
func serve(s *Server, in []byte, size int, check string) (out, rest []byte, ev Event, err error) {
	var have []byte
	for {
		for {
			var n int
			n, out, ev, err = s.Step(have, out)
			have = have[n:]
			if err != nil {
				return out, append(have, in...), ev, err
			}
			if ev == Authenticate {
				ok := s.User+"/"+s.Password == check
				if out = s.Verified(ok, out); !ok {
					return out, append(have, in...), ev, nil
				}
				continue
			}
			break
		}
		if ev == Request || len(in) == 0 {
			return out, append(have, in...), ev, nil
		}
		n := min(size, len(in))
		have = append(have, in[:n]...)
		in = in[n:]
	}
}

func named(name string, port string) string {
	return "\x03" + string([]byte{byte(len(name))}) + name + port
}

var longName = strings.Repeat(strings.Repeat("a", 49)+".", 5) + "abc" // 253

var serverTests = []struct {
	name   string
	auth   bool
	in     string
	out    string // what the client has been told by then
	target string // "" when it comes to no request
	rest   string
	want   error // *ProtocolError or *AuthError; nil with no target: more is needed, or credentials refused
}{
	{"name", false, "\x05\x01\x00\x05\x01\x00" + named("example.com", "\x01\xbb") + "early", "\x05\x00", "example.com:443", "early", nil},
	{"ipv4", false, "\x05\x02\x02\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x00", "127.0.0.1:80", "", nil},
	{"ipv6", false, "\x05\x01\x00\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x00\x50", "\x05\x00", "[2001:db8::1]:80", "", nil},
	{"longest name", false, "\x05\x01\x00\x05\x01\x00" + named(longName, "\x00\x01"), "\x05\x00", longName + ":1", "", nil},
	{"trailing dot, underscore", false, "\x05\x01\x00\x05\x01\x00" + named("_a.b-1.", "\x00\x01"), "\x05\x00", "_a.b-1.:1", "", nil},
	{"password", true, "\x05\x02\x00\x02\x01\x01u\x02pw\x05\x01\x00" + named("a", "\x00\x01") + "x", "\x05\x02\x01\x00", "a:1", "x", nil},
	// The request comes before the password, or without it.
	{"password skipped", true, "\x05\x01\x02\x05\x01\x00" + named("a", "\x00\x01"), "\x05\x02\x01\x01", "", "\x05\x01\x00" + named("a", "\x00\x01"), errAuthVersion},
	{"password wrong, request behind it", true, "\x05\x01\x02\x01\x01u\x01x\x05\x01\x00" + named("a", "\x00\x01"), "\x05\x02\x01\x01", "", "\x05\x01\x00" + named("a", "\x00\x01"), nil},
	{"no method on a password listener", true, "\x05\x01\x00\x05\x01\x00" + named("a", "\x00\x01"), "\x05\xff", "", "\x05\x01\x00" + named("a", "\x00\x01"), &AuthError{NoMethod: true}},
	{"password on an open listener", false, "\x05\x01\x02\x01\x01u\x02pw", "\x05\xff", "", "\x01\x01u\x02pw", &AuthError{NoMethod: true}},
	{"gssapi alone", false, "\x05\x01\x01", "\x05\xff", "", "", &AuthError{NoMethod: true}},
	{"no methods", false, "\x05\x00", "\x05\xff", "", "", &AuthError{NoMethod: true}},
	{"socks4", true, "\x04\x01\x00\x50", "", "", "\x04\x01\x00\x50", errVersion},
	{"password with NUL behind it", true, "\x05\x01\x02\x01\x01u\x03pw\x00", "\x05\x02\x01\x01", "", "", nil},
	{"empty user", true, "\x05\x01\x02\x01\x00\x02pw", "\x05\x02\x01\x01", "", "\x01\x00\x02pw", errUser},
	{"empty password", true, "\x05\x01\x02\x01\x01u\x00", "\x05\x02\x01\x01", "", "\x01\x01u\x00", errUser},
	{"line end in the user name", true, "\x05\x01\x02\x01\x03u\r\n\x02pw", "\x05\x02\x01\x01", "", "\x01\x03u\r\n\x02pw", errUser},
	// Requests.
	{"bind", false, "\x05\x01\x00\x05\x02\x00" + named("a", "\x00\x01"), "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", "", "\x05\x02\x00" + named("a", "\x00\x01"), errCommand},
	{"udp associate", false, "\x05\x01\x00\x05\x03\x00", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", "", "\x05\x03\x00", ErrNoUDP},
	{"command 0", false, "\x05\x01\x00\x05\x00", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", "", "\x05\x00", errCommand},
	{"version of the request", false, "\x05\x01\x00\x04\x01", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", "", "\x04\x01", errVersion},
	{"reserved", false, "\x05\x01\x00\x05\x01\x01\x01", "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", "", "\x05\x01\x01\x01", errReserved},
	{"address type", false, "\x05\x01\x00\x05\x01\x00\x02", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", "", "\x05\x01\x00\x02", errType},
	{"port 0", false, "\x05\x01\x00\x05\x01\x00" + named("a", "\x00\x00"), "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", "", "\x05\x01\x00" + named("a", "\x00\x00"), errTargetPort},
	{"incomplete", false, "\x05\x01\x00\x05\x01\x00\x03\x05abc", "\x05\x00", "", "\x05\x01\x00\x03\x05abc", nil},
}

func TestServer(t *testing.T) {
	for _, tt := range serverTests {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size <= len(tt.in); size++ {
				s := Server{Auth: tt.auth}
				out, rest, ev, err := serve(&s, []byte(tt.in), size, "u/pw")
				if string(out) != tt.out || string(rest) != tt.rest {
					t.Fatalf("pieces of %d: said %q, left %q; want %q, %q", size, out, rest, tt.out, tt.rest)
				}
				if (ev == Request) != (tt.target != "") || ev == Request && s.Target.String() != tt.target {
					t.Fatalf("pieces of %d: event %v, target %v", size, ev, s.Target)
				}
				checkError(t, err, tt.want)
				if err != nil {
					if _, again, _, err := s.Step(rest, nil); err == nil || len(again) > 0 {
						t.Fatalf("goes on after %v: %q, %v", err, again, err)
					}
				}
			}
		})
	}
}

func checkError(t *testing.T, got, want error) {
	t.Helper()
	var a *AuthError
	if want == got || errors.As(want, &a) && got != nil && got.Error() == want.Error() {
		return
	}
	t.Fatalf("error %v; want %v", got, want)
}

func TestServerNames(t *testing.T) {
	const refused = "\x05\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"
	for _, name := range []string{
		"", ".", ".a", "a..b", "a b", "a/b", "a@b", "a:1", "[::1]", "::1", "a\x00.example", "evil\x00", "a\r\nb", "a\x7f",
		"caf\xc3\xa9", "caf\xe9", "a%2eb", "a*b", strings.Repeat("a", 64), longName + "d", longName + ".b", strings.Repeat("a", 255),
	} {
		in := "\x05\x01\x00\x05\x01\x00" + named(name, "\x00\x50")
		s := Server{}
		out, _, ev, err := serve(&s, []byte(in), len(in), "")
		if err != errTargetName || ev == Request || string(out) != refused {
			t.Errorf("%q: %v, said %q", name, err, out)
		}
	}
}

// A client that was refused is not let in by whatever it sends next.
func TestNoWayAroundPassword(t *testing.T) {
	s := Server{Auth: true}
	_, out, ev, err := s.Step([]byte("\x05\x01\x02\x01\x01u\x01x"), nil)
	if ev != Authenticate || err != nil {
		t.Fatal(ev, err)
	}
	request := []byte("\x05\x01\x00" + named("a", "\x00\x01"))
	if n, _, ev, _ := s.Step(request, nil); n != 0 || ev != Authenticate {
		t.Fatalf("read %d bytes before the password was verified: %v", n, ev)
	}
	if out = s.Verified(false, out); !bytes.HasSuffix(out, []byte{1, 1}) {
		t.Fatalf("said %q", out)
	}
	if more := s.Verified(true, nil); more != nil {
		t.Fatalf("second verdict taken: %q", more)
	}
	if n, _, ev, err := s.Step(request, nil); n != 0 || ev == Request || err == nil {
		t.Fatalf("%d, %v, %v", n, ev, err)
	}
}

func TestAppendReply(t *testing.T) {
	for _, tt := range []struct {
		a    Addr
		want string
	}{
		{Addr{}, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{Addr{IP: netip.MustParseAddr("10.1.2.3"), Port: 0x1234}, "\x05\x00\x00\x01\x0a\x01\x02\x03\x12\x34"},
		{Addr{IP: netip.MustParseAddr("::ffff:10.1.2.3"), Port: 1}, "\x05\x00\x00\x01\x0a\x01\x02\x03\x00\x01"},
		{Addr{IP: netip.MustParseAddr("::1"), Port: 1}, "\x05\x00\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x01"},
		{Addr{Name: "ab", Port: 1}, "\x05\x00\x00\x03\x02ab\x00\x01"},
		{Addr{Name: strings.Repeat("a", 256), Port: 1}, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x01"},
	} {
		if got := AppendReply(nil, Succeeded, tt.a); string(got) != tt.want {
			t.Errorf("%v: %q", tt.a, got)
		}
	}
}

// TestLongestNames: user names and passwords of up to 255 bytes (RFC 1929, section 2) are taken whole.
func TestLongestNames(t *testing.T) {
	for _, n := range []int{1, 253, 254, 255} {
		user, password := strings.Repeat("u", n), strings.Repeat("p", n)
		in := append([]byte{5, 1, 2, 1, byte(n)}, user...)
		in = append(append(in, byte(n)), password...)
		s := Server{Auth: true}
		m, out, ev, err := s.Step(in, nil)
		if rest, _, ev2, err2 := s.Step(in[m:], nil); ev != Authenticate { // method and password may be two steps
			m, ev, err = m+rest, ev2, err2
		}
		if err != nil || ev != Authenticate || m != len(in) || s.User != user || s.Password != password {
			t.Errorf("%d bytes: took %d of %d, %v, %v, answers %q, user of %d bytes", n, m, len(in), ev, err, out, len(s.User))
		}
	}
}

func FuzzServer(f *testing.F) {
	for _, tt := range serverTests {
		f.Add([]byte(tt.in), uint8(1), tt.auth)
	}
	f.Add([]byte("\x05\x01\x02\x01\xff"+strings.Repeat("0", 400)), uint8('Z'), true)
	f.Fuzz(func(t *testing.T, in []byte, size uint8, auth bool) {
		whole, split := Server{Auth: auth, UDP: size&1 != 0}, Server{Auth: auth, UDP: size&1 != 0}
		out, rest, ev, err := serve(&whole, bytes.Clone(in), len(in)+1, "u/pw")
		out2, rest2, ev2, err2 := serve(&split, bytes.Clone(in), int(size)+1, "u/pw")
		if !bytes.Equal(out, out2) || !bytes.Equal(rest, rest2) || ev != ev2 || (err == nil) != (err2 == nil) || whole.Target != split.Target {
			t.Fatalf("whole: %q %q %v %v; split: %q %q %v %v", out, rest, ev, err, out2, rest2, ev2, err2)
		}
		if ev != Request {
			return
		}
		if auth && (whole.User != "u" || whole.Password != "pw" || !bytes.HasPrefix(out, []byte{5, 2, 1, 0})) {
			t.Fatalf("let in without the password: %q", out)
		}
		a := whole.Target
		if !a.IP.IsValid() && !ValidName(a.Name) || a.Port == 0 && !whole.Associate || whole.Associate && !whole.UDP {
			t.Fatalf("target %q", a)
		}
	})
}
