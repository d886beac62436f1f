package socks5

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

var datagramTests = []struct {
	name    string
	in      string
	addr    string
	payload string
	want    error
}{
	{"ipv4", "\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x35query", "127.0.0.1:53", "query", nil},
	{"ipv6", "\x00\x00\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x00\x35q", "[2001:db8::1]:53", "q", nil},
	{"name", "\x00\x00\x00" + named("dns.example", "\x00\x35") + "query", "dns.example:53", "query", nil},
	{"no payload", "\x00\x00\x00" + named("a", "\x00\x35"), "a:53", "", nil},
	{"empty", "", "", "", errShort},
	{"three bytes", "\x00\x00\x00", "", "", errShort},
	{"half an address", "\x00\x00\x00\x01\x7f\x00", "", "", errShort},
	{"half a name", "\x00\x00\x00\x03\x05ab", "", "", errShort},
	{"length of the name missing", "\x00\x00\x00\x03", "", "", errShort},
	{"reserved", "\x00\x01\x00\x01\x7f\x00\x00\x01\x00\x35q", "", "", errDatagramRSV},
	{"fragment", "\x00\x00\x01\x01\x7f\x00\x00\x01\x00\x35q", "", "", ErrFragment},
	{"last fragment", "\x00\x00\x82\x01\x7f\x00\x00\x01\x00\x35q", "", "", ErrFragment},
	{"type", "\x00\x00\x00\x02\x7f\x00\x00\x01\x00\x35q", "", "", errDatagramType},
	{"empty name", "\x00\x00\x00\x03\x00\x00\x35q", "", "", errDatagramName},
	{"line end in a name", "\x00\x00\x00" + named("a\r\nb", "\x00\x35"), "", "", errDatagramName},
	{"port 0", "\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x00q", "", "", errDatagramPort},
}

func TestDatagram(t *testing.T) {
	for _, tt := range datagramTests {
		t.Run(tt.name, func(t *testing.T) {
			a, payload, err := ParseDatagram([]byte(tt.in))
			if err != tt.want {
				t.Fatalf("%v; want %v", err, tt.want)
			}
			if err != nil {
				return
			}
			if a.String() != tt.addr || string(payload) != tt.payload {
				t.Errorf("%v %q; want %s %q", a, payload, tt.addr, tt.payload)
			}
			if out := append(AppendDatagramHeader(nil, a), payload...); string(out) != tt.in {
				t.Errorf("written again it is %q", out)
			}
		})
	}
}

func TestDatagramHeaderLength(t *testing.T) {
	for _, a := range []Addr{{}, {Name: strings.Repeat("a", 255), Port: 1}, {IP: netip.MustParseAddr("2001:db8::1"), Port: 1}, {IP: netip.MustParseAddr("::ffff:127.0.0.1")}} {
		if n := len(AppendDatagramHeader(nil, a)); n > MaxDatagramHeader {
			t.Errorf("%v takes %d bytes", a, n)
		}
	}
}

func FuzzDatagram(f *testing.F) {
	for _, tt := range datagramTests {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		n, address, herr := DatagramHeader(in)
		a, payload, err := ParseDatagram(in)
		if !bytes.Equal(in, before) {
			t.Fatal("the datagram was changed")
		}
		if err != nil {
			if payload != nil || a != (Addr{}) {
				t.Fatalf("%v, and yet %v %q", err, a, payload)
			}
			return
		}
		if herr != nil || n+len(payload) != len(in) || !bytes.Equal(address, in[3:n]) {
			t.Fatalf("header of %d, payload of %d, datagram of %d: %v", n, len(payload), len(in), herr)
		}
		if out := append(AppendDatagramHeader(nil, a), payload...); !a.IP.Is4In6() && !bytes.Equal(out, in) {
			t.Fatalf("%q is written again as %q", in, out)
		}
		b, _, err := ParseDatagram(append(AppendDatagramHeader(nil, a), payload...))
		if err != nil || b.Port != a.Port || b.Name != a.Name || b.IP.Unmap() != a.IP.Unmap() {
			t.Fatalf("%v, read again: %v, %v", a, b, err)
		}
	})
}

// Requests of clients that ask for an association.
func TestServerAssociate(t *testing.T) {
	const hello, ok = "\x05\x01\x00", "\x05\x00"
	for name, tt := range map[string]struct {
		in, target, out string
		want            error
	}{
		"not known":    {"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", "0.0.0.0:0", ok, nil},
		"port":         {"\x05\x03\x00\x01\x00\x00\x00\x00\x12\x34", "0.0.0.0:4660", ok, nil},
		"ipv6":         {"\x05\x03\x00\x04" + strings.Repeat("\x00", 18), "[::]:0", ok, nil},
		"name":         {"\x05\x03\x00" + named("localhost", "\x00\x00"), "localhost:0", ok, nil},
		"empty name":   {"\x05\x03\x00\x03\x00\x00\x00", "", ok + "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", errTargetName},
		"bind":         {"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "", ok + "\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", errCommand},
		"connect to 0": {"\x05\x01\x00" + named("a", "\x00\x00"), "", ok + "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", errTargetPort},
	} {
		t.Run(name, func(t *testing.T) {
			for size := 1; size <= len(hello+tt.in); size++ {
				s := Server{UDP: true}
				out, _, ev, err := serve(&s, []byte(hello+tt.in), size, "")
				checkError(t, err, tt.want)
				if string(out) != tt.out || (ev == Request) != (tt.target != "") {
					t.Fatalf("pieces of %d: event %v, said %q", size, ev, out)
				}
				if ev == Request && (!s.Associate || s.Target.String() != tt.target) {
					t.Fatalf("associate %v, target %v", s.Associate, s.Target)
				}
			}
		})
	}
	s := Server{UDP: true}
	if _, _, ev, err := serve(&s, []byte(hello+"\x05\x01\x00"+named("a", "\x00\x01")), 100, ""); ev != Request || err != nil || s.Associate {
		t.Errorf("CONNECT where associations are taken: %v, %v, associate %v", ev, err, s.Associate)
	}
}

func TestAssociate(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []string
		auth    *Auth
		relay   string
		want    string
	}{
		"address":     {[]string{"\x05\x00", "\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34"}, nil, "10.0.0.1:4660", ""},
		"unspecified": {[]string{"\x05\x00", "\x05\x00\x00\x01\x00\x00\x00\x00\x12\x34"}, nil, "0.0.0.0:4660", ""},
		"password":    {[]string{"\x05\x02", "\x01\x00", "\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34"}, &Auth{"u", "p"}, "10.0.0.1:4660", ""},
		"no":          {[]string{"\x05\x00", "\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"}, nil, "", (&ReplyError{CommandNotSupported}).Error()},
		"port 0":      {[]string{"\x05\x00", "\x05\x00\x00\x01\x0a\x00\x00\x01\x00\x00"}, nil, "", errRelayPort.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			for size := 1; size < 20; size++ {
				s := &script{answers: tt.answers, size: size}
				relay, err := Associate(s, tt.auth)
				if tt.want != "" {
					if err == nil || err.Error() != tt.want {
						t.Fatalf("%v; want %v", err, tt.want)
					}
					continue
				}
				if err != nil || relay.String() != tt.relay {
					t.Fatalf("%v, %v", relay, err)
				}
				if sent := s.sent.String(); !strings.HasSuffix(sent, "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00") {
					t.Fatalf("sent %q", sent)
				}
			}
		})
	}
}
