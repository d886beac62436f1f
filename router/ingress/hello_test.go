package ingress

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// ext is one extension of a hello made by a test.
type ext struct {
	kind uint16
	body []byte
}

func u16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func vec8(b []byte) []byte  { return append([]byte{byte(len(b))}, b...) }
func vec16(b []byte) []byte { return append(u16(len(b)), b...) }

func list16(vs ...uint16) (b []byte) {
	for _, v := range vs {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func sniOf(name string) ext {
	return ext{extServerName, vec16(append([]byte{0}, vec16([]byte(name))...))}
}

func alpnOf(protocols ...string) ext {
	var list []byte
	for _, p := range protocols {
		list = append(list, vec8([]byte(p))...)
	}
	return ext{extALPN, vec16(list)}
}

// message makes a ClientHello message, its head included.
func message(legacy uint16, suites []uint16, exts ...ext) []byte {
	body := append(list16(legacy), make([]byte, 32)...)
	body = append(body, vec8(nil)...)
	body = append(body, vec16(list16(suites...))...)
	body = append(body, vec8([]byte{0})...)
	var all []byte
	for _, e := range exts {
		all = append(append(all, list16(e.kind)...), vec16(e.body)...)
	}
	if exts != nil {
		body = append(body, vec16(all)...)
	}
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// records spreads a message over TLS records of at most size bytes.
func records(msg []byte, size int) (out []byte) {
	for part := range slices.Chunk(msg, size) {
		out = append(append(out, 22, 3, 1), vec16(part)...)
	}
	return out
}

// scan gives all bytes at once.
func scan(b []byte) (Verdict, *connmodel.ClientHello, error) { return new(HelloScan).Step(b) }

// drip gives one byte more each time, and wants More until the last one.
func drip(t testing.TB, b []byte) (v Verdict, h *connmodel.ClientHello, err error) {
	t.Helper()
	var s HelloScan
	for i := range b {
		if v, h, err = s.Step(b[:i+1]); v != More {
			if i+1 < len(b) {
				t.Fatalf("verdict %d, %v after %d of %d bytes", v, err, i+1, len(b))
			}
			return v, h, err
		}
	}
	return v, h, err
}

// clientBytes is what a client of crypto/tls sends first.
func clientBytes(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tls.Client(near, c).HandshakeContext(context.Background())
	}()
	far.SetReadDeadline(time.Now().Add(5 * time.Second))
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(far, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(far, body); err != nil {
		t.Fatal(err)
	}
	far.Close()
	near.Close()
	<-done
	return append(head, body...)
}

// serverReads is what a server of crypto/tls understands of raw; nil = it does not take it for a ClientHello.
func serverReads(raw []byte) *tls.ClientHelloInfo {
	var seen *tls.ClientHelloInfo
	conn := &replay{r: bytes.NewReader(raw)}
	_ = tls.Server(conn, &tls.Config{MinVersion: tls.VersionTLS10, GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		seen = i
		return nil, errors.New("enough")
	}}).Handshake()
	return seen
}

// replay is a connection that says what it is given, and forgets what it is told.
type replay struct {
	net.Conn
	r io.Reader
}

func (c *replay) Read(b []byte) (int, error)       { return c.r.Read(b) }
func (c *replay) Write(b []byte) (int, error)      { return len(b), nil }
func (c *replay) Close() error                     { return nil }
func (c *replay) SetDeadline(time.Time) error      { return nil }
func (c *replay) SetReadDeadline(time.Time) error  { return nil }
func (c *replay) SetWriteDeadline(time.Time) error { return nil }
func (c *replay) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *replay) LocalAddr() net.Addr              { return &net.TCPAddr{} }

func TestRealHellos(t *testing.T) {
	for _, c := range []*tls.Config{
		{ServerName: "www.example.com"},
		{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}},
		{ServerName: "WWW.Example.COM.", NextProtos: []string{"http/1.1"}},
		{ServerName: "a.example", MaxVersion: tls.VersionTLS12},
		{ServerName: "a.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		{ServerName: "192.0.2.1", InsecureSkipVerify: true}, // sends no name
		{InsecureSkipVerify: true, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, MaxVersion: tls.VersionTLS12},
	} {
		raw := clientBytes(t, c)
		want := serverReads(raw)
		if want == nil {
			t.Fatalf("%s: crypto/tls does not read its own hello", c.ServerName)
		}
		for _, size := range []int{len(raw), 100, 7, 1} {
			b := records(raw[recordHeader:], size)
			v, h, err := drip(t, b)
			if v != Found {
				t.Fatalf("%s in records of %d: verdict %d, %v", c.ServerName, size, v, err)
			}
			agrees(t, h, want)
			whole, h2, _ := scan(append(slices.Clone(b), "more"...))
			if whole != Found || !reflect.DeepEqual(h, h2) {
				t.Errorf("%s: by bytes %+v, at once %+v", c.ServerName, h, h2)
			}
		}
	}
}

// agrees compares with the oracle.
func agrees(t testing.TB, h *connmodel.ClientHello, want *tls.ClientHelloInfo) {
	t.Helper()
	name := want.ServerName
	if h.SNIError != "" { // crypto/tls takes anything for a name
		name = ""
	}
	if h.SNI == "" && name != "" {
		t.Errorf("no SNI, crypto/tls sees %q", name)
	} else if canonical, err := connmodel.CanonicalHost(name); name != "" && (err != nil || canonical != h.SNI) {
		t.Errorf("SNI %q, crypto/tls sees %q", h.SNI, name)
	}
	if !slices.Equal(h.ALPN, want.SupportedProtos) {
		t.Errorf("ALPN %q, crypto/tls sees %q", h.ALPN, want.SupportedProtos)
	}
	var suites, versions []uint16
	for _, v := range want.CipherSuites {
		if !isGREASE(v) && len(suites) < maxSuites {
			suites = append(suites, v)
		}
	}
	for _, v := range want.SupportedVersions {
		if !isGREASE(v) && len(versions) < maxVersions {
			versions = append(versions, v)
		}
	}
	if !slices.Equal(h.CipherSuites, suites) {
		t.Errorf("suites %x, crypto/tls sees %x", h.CipherSuites, suites)
	}
	if len(h.Versions) > 1 && !slices.Equal(h.Versions, versions) {
		t.Errorf("versions %x, crypto/tls sees %x", h.Versions, versions)
	}
	if h.ECH != slices.Contains(want.Extensions, extECH) {
		t.Errorf("ECH %v, extensions %x", h.ECH, want.Extensions)
	}
}

// Servers take a hello whose records have strange versions, so it is one.
func TestRecordVersions(t *testing.T) {
	for _, version := range [][2]byte{{3, 0}, {3, 3}, {3, 9}, {0, 1}, {2, 0}, {15, 255}} {
		raw := records(message(0x0303, []uint16{0x1301}, sniOf("a.example")), 20)
		for i := 0; i < len(raw); i += 5 + int(raw[i+4]) {
			raw[i+1], raw[i+2] = version[0], version[1]
		}
		if v, h, err := drip(t, raw); v != Found || h.SNI != "a.example" {
			t.Errorf("%v: verdict %d, %v", version, v, err)
		}
	}
}

func TestEncryptedHello(t *testing.T) {
	v, h, err := scan(records(message(0x0303, []uint16{0x1301}, sniOf("public.example"), ext{extECH, []byte{0, 1, 2}}), 1<<14))
	if v != Found || !h.ECH || h.SNI != "public.example" {
		t.Errorf("verdict %d, %+v, %v", v, h, err)
	}
}

func TestServerNames(t *testing.T) {
	long := strings.Repeat("a234567890.", 24) + "example"
	for _, c := range []struct{ name, want, reason string }{
		{"WWW.Example.com", "www.example.com", ""},
		{"www.example.com.", "www.example.com", ""},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", ""},
		{"bücher.example", "xn--bcher-kva.example", ""},
		{"a_b.example", "a_b.example", ""},
		{"localhost", "localhost", ""},
		{"www.example.com\x00.evil.example", "", "control character"},
		{"www.example.com\r\nHost: x", "", "control character"},
		{"a b.example", "", "blank"},
		{"192.0.2.1", "", "an address"},
		{"192.0.2.1.", "", "an address"},
		{"2001:db8::1", "", "an address"},
		{"[2001:db8::1]", "", "an address"},
		{"１９２.０.２.１", "", "an address"},
		{"0x7f.1", "", "no host name"},
		{"-a.example", "", "no host name"},
		{"a..example", "", "no host name"},
		{"\xff\xfe.example", "", "no host name"},
		{long, "", "longer than 253"},
	} {
		v, h, err := scan(records(message(0x0303, []uint16{0x1301}, sniOf(c.name), alpnOf("h2")), 1<<14))
		if c.reason == "" {
			if v != Found || h.SNI != c.want {
				t.Errorf("%q: verdict %d, %+v, %v", c.name, v, h, err)
			}
			continue
		}
		if c.reason == "an address" {
			if v != Found || h.SNI != "" || h.SNIError != "is an address" {
				t.Errorf("%q: verdict %d, %+v, %v", c.name, v, h, err)
			}
			continue
		}
		var bad *NameError
		if v != Malformed || !errors.As(err, &bad) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%q: verdict %d, %v, expected %q", c.name, v, err, c.reason)
			continue
		}
		if h == nil || h.SNI != "" || h.SNIError != bad.Reason || !h.Offers("h2") || h.JA4 == "" {
			t.Errorf("%q: the rest of the hello is lost: %+v", c.name, h)
		}
		if strings.ContainsAny(err.Error(), "\x00\r\n") {
			t.Errorf("%q: the error repeats control characters: %q", c.name, err)
		}
	}
}

func TestNotTLS(t *testing.T) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", "SSH-2.0-OpenSSH\r\n", "\x16\x10", "\x16\x02\x00\x00\x00", "\x16\x02\x00\x00\x05\x02", "\x15\x03\x01\x00\x02", "\x80\x2e\x01\x03\x01", "\x00"} {
		if v, _, err := scan([]byte(s)); v != Other {
			t.Errorf("%q: verdict %d, %v", s, v, err)
		}
	}
	for _, s := range []string{"", "\x16", "\x16\x03", "\x16\x03\x01\x02\x00", "\x16\x03\x01\x02\x00\x01\x00\x01"} {
		if v, _, err := scan([]byte(s)); v != More {
			t.Errorf("%q: verdict %d, %v", s, v, err)
		}
	}
}

func TestMalformedHellos(t *testing.T) {
	good := message(0x0303, []uint16{0x1301}, sniOf("a.example"))
	cut := func(n int) []byte { // the message says that it is shorter than what it says within
		b := slices.Clone(good[:len(good)-n])
		b[3] -= byte(n)
		return records(b, 1<<14)
	}
	big := message(0x0303, []uint16{0x1301}, ext{21, make([]byte, 65000)})
	var many []string
	for range maxOffers + 1 {
		many = append(many, "x")
	}
	for _, c := range []struct {
		name, reason string
		raw          []byte
	}{
		{"empty record", "empty or longer", []byte{22, 3, 1, 0, 0}},
		{"long record", "empty or longer", []byte{22, 3, 1, 0x40, 1}},
		{"server hello", "not a ClientHello", records([]byte{2, 0, 0, 1, 0}, 1<<14)},
		{"alert between", "another TLS record", append(records(good, 10)[:15], 21, 3, 1, 0, 2, 2, 40)},
		{"declared too long", "longer than", []byte{22, 3, 1, 0, 9, 1, 0xff, 0xff, 0xff}},
		{"cut extension", "contradict", cut(1)},
		{"cut list", "contradict", cut(15)},
		{"cut suites", "contradict", records(append([]byte{1, 0, 0, 38}, good[4:42]...), 1<<14)},
		{"no suites", "contradict", records(message(0x0303, nil), 1<<14)},
		{"extension twice", "twice", records(message(0x0303, []uint16{1}, ext{23, nil}, ext{23, nil}), 1<<14)},
		{"two names", "several", records(message(0x0303, []uint16{1}, ext{0, vec16(slices.Concat([]byte{0}, vec16([]byte("a.example")), []byte{0}, vec16([]byte("b.example"))))}), 1<<14)},
		{"no name", "contradict", records(message(0x0303, []uint16{1}, ext{0, vec16(nil)}), 1<<14)},
		{"empty name", "contradict", records(message(0x0303, []uint16{1}, sniOf("")), 1<<14)},
		{"empty protocol", "contradict", records(message(0x0303, []uint16{1}, alpnOf("h2", "")), 1<<14)},
		{"many protocols", "more than 64", records(message(0x0303, []uint16{1}, alpnOf(many...)), 1<<14)},
		{"odd versions", "contradict", records(message(0x0303, []uint16{1}, ext{extVersions, vec8([]byte{3, 4, 3})}), 1<<14)},
	} {
		v, _, err := scan(c.raw)
		if v != Malformed || err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: verdict %d, %v; expected %q", c.name, v, err, c.reason)
		}
	}
	if v, h, err := scan(records(big, 1<<14)); v != Found || h == nil {
		t.Errorf("a large hello: verdict %d, %v", v, err)
	}
	// 16 KiB of one-byte records are 96 KiB of bytes, and too long; it is said as soon as it is so.
	raw := records(message(0x0303, []uint16{0x1301}, ext{21, make([]byte, 16<<10)}), 1)
	var s HelloScan
	for i := 1; ; i++ {
		v, _, err := s.Step(raw[:i])
		if v == More && i < MaxHelloBytes {
			continue
		}
		if v != Malformed || err != errTooLong || i > MaxHelloBytes {
			t.Errorf("one-byte records: verdict %d, %v after %d bytes", v, err, i)
		}
		break
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	raw := clientBytes(t, &tls.Config{ServerName: "www.example.com"})
	part := raw[:len(raw)-1]
	if n := testing.AllocsPerRun(100, func() {
		var s HelloScan
		for i := 0; i < len(part); i += 50 {
			s.Step(part[:i])
		}
	}); n != 0 {
		t.Errorf("an incomplete hello costs %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { scan(raw) }); n > 12 {
		t.Errorf("a hello costs %v allocations", n)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(clientBytes(f, &tls.Config{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}}), uint16(5))
	f.Add(records(message(0x0303, []uint16{0x1301, 0x0a0a}, sniOf("a.example"), alpnOf("\n\n", "h2"), ext{extECH, []byte{0}}), 3), uint16(1))
	f.Add(records(message(0x0303, []uint16{0x1301}, sniOf("a\x00b")), 1<<14), uint16(100))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(3))
	f.Fuzz(func(t *testing.T, raw []byte, step uint16) {
		v, h, err := scan(raw)
		if (v == Malformed) != (err != nil) || v == Found && h == nil {
			t.Fatalf("verdict %d, %+v, %v", v, h, err)
		}
		// In pieces the same comes out, at the latest with the last.
		var s HelloScan
		v2, h2, err2 := More, (*connmodel.ClientHello)(nil), error(nil)
		for i := 0; i <= len(raw) && v2 == More; i += int(step)%2000 + 1 {
			v2, h2, err2 = s.Step(raw[:i])
		}
		if v2 == More {
			v2, h2, err2 = s.Step(raw)
		}
		if v != v2 || !reflect.DeepEqual(h, h2) || (err == nil) != (err2 == nil) {
			t.Fatalf("at once %d %+v %v, in pieces %d %+v %v", v, h, err, v2, h2, err2)
		}
		if h != nil {
			if h.SNI != "" {
				if c, err := connmodel.CanonicalHost(h.SNI); err != nil || c != h.SNI {
					t.Fatalf("SNI %q is not canonical", h.SNI)
				}
			}
			if len(h.ALPN) > maxOffers || len(h.CipherSuites) > maxSuites || len(h.Versions) > maxVersions || len(h.JA4) != 36 {
				t.Fatalf("not bounded: %+v", h)
			}
		}
		// What a server takes for a hello, we do not take for anything else, and we see the same in it.
		if len(raw) > MaxHelloBytes {
			return
		}
		if want := serverReads(raw); want != nil {
			switch v {
			case Found:
				agrees(t, h, want)
			case Other, More:
				t.Fatalf("verdict %d on what crypto/tls reads: %+v", v, want)
			}
		}
	})
}
