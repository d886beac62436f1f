package proxyproto

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

var (
	v4src, v4dst = netip.MustParseAddrPort("192.0.2.7:51000"), netip.MustParseAddrPort("198.51.100.1:443")
	v6src, v6dst = netip.MustParseAddrPort("[2001:db8::7]:51000"), netip.MustParseAddrPort("[2001:db8::1]:443")
)

const sig2 = "\r\n\r\n\x00\r\nQUIT\n"

var (
	ends4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc7\x38\x01\xbb"
	ends6 = " \x01\r\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07 \x01\r\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xc7\x38\x01\xbb"
)

// TestParse reads what the specification describes, byte for byte; what follows the header is left alone.
func TestParse(t *testing.T) {
	tlv := "\x04\x00\x03abc"
	for _, tt := range []struct {
		name, in string
		want     Header
	}{
		{"v1, IPv4", "PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n", Header{Version: 1, Source: v4src, Destination: v4dst}},
		{"v1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n", Header{Version: 1, Source: v6src, Destination: v6dst}},
		{"v1, mapped", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 51000 443\r\n", Header{Version: 1, Source: v4src, Destination: v4dst}},
		{"v1, unknown", "PROXY UNKNOWN\r\n", Header{Version: 1}},
		{"v1, unknown with ends", "PROXY UNKNOWN ffff:f:f:f:f:f:f:f ffff:f:f:f:f:f:f:f 65535 65535\r\n", Header{Version: 1}},
		{"v2, IPv4", sig2 + "\x21\x11\x00\x0c" + ends4, Header{Version: 2, Source: v4src, Destination: v4dst}},
		{"v2, IPv6", sig2 + "\x21\x21\x00\x24" + ends6, Header{Version: 2, Source: v6src, Destination: v6dst}},
		{"v2, extensions", sig2 + "\x21\x11\x00\x12" + ends4 + tlv, Header{Version: 2, Source: v4src, Destination: v4dst}},
		{"v2, broken extensions", sig2 + "\x21\x11\x00\x0f" + ends4 + "\xff\xff\xff", Header{Version: 2, Source: v4src, Destination: v4dst}},
		{"v2, own", sig2 + "\x20\x00\x00\x00", Header{Version: 2, Own: true}},
		{"v2, own with ends", sig2 + "\x20\x11\x00\x0c" + ends4, Header{Version: 2, Own: true}},
		{"v2, own with something", sig2 + "\x20\x11\x00\x03abc", Header{Version: 2, Own: true}},
		{"v2, nothing told", sig2 + "\x21\x00\x00\x00", Header{Version: 2}},
		{"v2, nothing told but extensions", sig2 + "\x21\x00\x00\x06" + tlv, Header{Version: 2}},
		{"v2, Unix", sig2 + "\x21\x31\x00\xd8" + strings.Repeat("/", 216), Header{Version: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, rest := range []string{"", "\r\n", "PROXY ", "\x16\x03\x01", sig2} {
				h, n, err := Parse([]byte(tt.in + rest))
				if err != nil || n != len(tt.in) || h != tt.want {
					t.Errorf("with %q behind it: %+v, %d, %v", rest, h, n, err)
				}
			}
			for i := range len(tt.in) {
				if _, _, err := Parse([]byte(tt.in[:i])); err != ErrIncomplete {
					t.Fatalf("%d of %d bytes: %v", i, len(tt.in), err)
				}
			}
		})
	}
}

// TestGarbage: what is no header is told at once, with the reason.
func TestGarbage(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00", "does not begin with"},
		{"HTTP", "GET / HTTP/1.1\r\n", "does not begin with"},
		{"an HTTP method that begins alike", "PROPFIND", "does not begin with"},
		{"lower case", "proxy TCP4", "does not begin with"},
		{"empty lines", "\r\n\r\nGET", "does not begin with"},
		{"no end", "PROXY " + strings.Repeat("x", 101), "longer than 107"},
		{"end too late", "PROXY " + strings.Repeat("x", 101) + "\n", "longer than 107"},
		{"LF alone", "PROXY UNKNOWN\n", "must end with"},
		{"CR within", "PROXY TCP4\r192.0.2.7 198.51.100.1 51000 443\r\n", ""},
		{"NUL within", "PROXY TCP4 192.0.2.7\x00 198.51.100.1 51000 443\r\n", ""},
		{"no ends", "PROXY TCP4\r\n", ""},
		{"a name", "PROXY TCP4 localhost 198.51.100.1 51000 443\r\n", "address"},
		{"another family", "PROXY TCP4 2001:db8::7 2001:db8::1 51000 443\r\n", "address"},
		{"a zone", "PROXY TCP6 fe80::1%eth0 2001:db8::1 51000 443\r\n", "address"},
		{"a port too large", "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "port"},
		{"a signed port", "PROXY TCP4 192.0.2.7 198.51.100.1 +51 443\r\n", "port"},
		{"one field too few", "PROXY TCP4 192.0.2.7 198.51.100.1 51000\r\n", ""},
		{"UDP in v1", "PROXY UDP4 192.0.2.7 198.51.100.1 51000 443\r\n", ""},
		{"v3", sig2 + "\x31\x11\x00\x0c" + ends4, "version and command"},
		{"an unknown command", sig2 + "\x22\x11\x00\x0c" + ends4, "version and command"},
		{"an unknown family", sig2 + "\x21\x41\x00\x0c" + ends4, "family"},
		{"datagrams", sig2 + "\x21\x12\x00\x0c" + ends4, "datagrams"},
		{"too short for its family", sig2 + "\x21\x21\x00\x0c" + ends4, "length"},
		{"too long", sig2 + "\x21\x11\x10\x01", "longer than 4112"},
		{"the longest", sig2 + "\x21\x11\xff\xff", "longer than 4112"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, n, err := Parse([]byte(tt.in))
			var no *Error
			if !errors.As(err, &no) || n != 0 || h != (Header{}) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %d, %v", h, n, err)
			}
		})
	}
}

// TestBothEnds: what Append writes Parse reads.
func TestBothEnds(t *testing.T) {
	for _, tt := range []struct {
		in, want Header
		wire     string
	}{
		{Header{Version: 1, Source: v4src, Destination: v4dst}, Header{Version: 1, Source: v4src, Destination: v4dst}, "PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n"},
		{Header{Version: 1, Source: v6src, Destination: v6dst}, Header{Version: 1, Source: v6src, Destination: v6dst}, "PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n"},
		{Header{Version: 1, Source: v4src, Destination: v6dst}, Header{Version: 1, Source: v4src, Destination: v6dst}, "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 51000 443\r\n"},
		{Header{Version: 1, Destination: v6dst}, Header{Version: 1}, "PROXY UNKNOWN\r\n"},
		{Header{Version: 1, Own: true}, Header{Version: 1}, "PROXY UNKNOWN\r\n"},
		{Header{Version: 2, Source: v4src, Destination: v4dst}, Header{Version: 2, Source: v4src, Destination: v4dst}, sig2 + "\x21\x11\x00\x0c" + ends4},
		{Header{Version: 2, Source: v6src, Destination: v6dst}, Header{Version: 2, Source: v6src, Destination: v6dst}, sig2 + "\x21\x21\x00\x24" + ends6},
		{Header{Version: 2, Source: v6src, Destination: v4dst}, Header{Version: 2, Source: v6src, Destination: v4dst}, ""},
		{Header{Source: netip.MustParseAddrPort("[fe80::1%eth0]:5"), Destination: v6dst}, Header{Version: 2, Source: netip.MustParseAddrPort("[fe80::1]:5"), Destination: v6dst}, ""},
		{Header{Version: 2}, Header{Version: 2}, sig2 + "\x21\x00\x00\x00"},
		{Header{Version: 2, Own: true}, Header{Version: 2, Own: true}, sig2 + "\x20\x00\x00\x00"},
	} {
		b := Append([]byte("before"), tt.in)
		if !bytes.HasPrefix(b, []byte("before")) || tt.wire != "" && string(b[6:]) != tt.wire {
			t.Errorf("%+v is written as %q", tt.in, b)
		}
		if h, n, err := Parse(b[6:]); err != nil || n != len(b)-6 || h != tt.want {
			t.Errorf("%+v: read back as %+v, %v", tt.in, h, err)
		}
	}
}

// FuzzParse: no input panics, a verdict does not change with what follows, and what was read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n", "PROXY TCP6 ::1 ::2 1 2\r\nGET", "PROXY UNKNOWN\r\n", "PROXY ",
		sig2 + "\x21\x11\x00\x0c" + ends4, sig2 + "\x21\x21\x00\x24" + ends6 + "x", sig2 + "\x20\x00\x00\x00", sig2 + "\x21\x00\x00\x01x", sig2 + "\x21\x31\x00\xd8",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		var no *Error
		switch {
		case err == ErrIncomplete:
			if len(b) >= MaxHeader {
				t.Fatalf("%d bytes are not enough", len(b))
			}
		case errors.As(err, &no):
			if h2, _, err2 := Parse(append(b[:len(b):len(b)], "\r\n"...)); err2 == nil {
				t.Fatalf("no header (%v), but with more behind it %+v", err, h2)
			}
		case err != nil:
			t.Fatal(err)
		default:
			if n <= 0 || n > len(b) || n > MaxHeader || h.Version != 1 && h.Version != 2 {
				t.Fatalf("%+v of %d bytes", h, n)
			}
			if h2, n2, err := Parse(b[:n]); err != nil || n2 != n || h2 != h {
				t.Fatalf("alone it is %+v, %d, %v", h2, n2, err)
			}
			if _, _, err := Parse(b[:n-1]); err != ErrIncomplete {
				t.Fatalf("without its last byte: %v", err)
			}
			if h2, _, err := Parse(Append(nil, h)); err != nil || h2 != h {
				t.Fatalf("%+v, written and read again: %+v, %v", h, h2, err)
			}
		}
	})
}
