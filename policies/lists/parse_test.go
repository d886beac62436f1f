package lists

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// packed is a text in so many layers of gzip.
func packed(tb testing.TB, text string, layers int) []byte {
	tb.Helper()
	b := []byte(text)
	for range layers {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write(b); err != nil {
			tb.Fatal(err)
		}
		if err := z.Close(); err != nil {
			tb.Fatal(err)
		}
		b = out.Bytes()
	}
	return b
}

// lineOf is what reading one line gives: its entries in words, or "blank", "unsupported", "wrong".
func lineOf(f Format, line string) string {
	var all []string
	o := Options{Format: f}
	k, _ := o.read(line, func(pattern string, does uint32) error {
		all = append(all, [nDoes]string{"", "not ", "surely ", "surely not "}[does]+pattern)
		return nil
	})
	switch k {
	case blank:
		return "blank"
	case unsupported:
		return "unsupported"
	case wrong:
		return "wrong"
	}
	return strings.Join(all, ", ")
}

// TestLines says what each line is in each format. Auto takes each as Adblock does.
func TestLines(t *testing.T) {
	for _, x := range []struct{ line, lines, hosts, adblock string }{
		// Names.
		{"www.example.com", "www.example.com", "wrong", "www.example.com"},
		{"  WWW.Example.COM.\r\n", "www.example.com", "wrong", "www.example.com"},
		{"*.Example.com.", "*.example.com", "wrong", "*.example.com"},
		{".example.com", ".example.com", "wrong", ".example.com"},
		{"bücher.example", "xn--bcher-kva.example", "wrong", "xn--bcher-kva.example"},
		{"*.BÜCHER.example", "*.xn--bcher-kva.example", "wrong", "*.xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", "wrong", "xn--bcher-kva.example"},
		{"_dmarc.example", "_dmarc.example", "wrong", "_dmarc.example"},
		{"192.0.2.1", "192.0.2.1", "wrong", "192.0.2.1"},
		{"2001:DB8:0:0::1", "2001:db8::1", "wrong", "2001:db8::1"},
		{"[2001:db8::1]", "2001:db8::1", "wrong", "2001:db8::1"},
		{"::ffff:192.0.2.1", "192.0.2.1", "wrong", "192.0.2.1"},
		// What is none.
		{"a..example", "wrong", "wrong", "wrong"},
		{"a.example..", "wrong", "wrong", "wrong"},
		{".", "wrong", "wrong", "wrong"},
		{"*.", "wrong", "wrong", "wrong"},
		{"*", "wrong", "wrong", "wrong"},
		{"*ads*.example", "wrong", "wrong", "wrong"},
		{"*.*.example", "wrong", "wrong", "wrong"},
		{"*.192.0.2.1", "wrong", "wrong", "wrong"},
		{".2001:db8::1", "wrong", "wrong", "wrong"},
		{"fe80::1%eth0", "wrong", "wrong", "wrong"},
		{"1.2.3", "wrong", "wrong", "wrong"},
		{"0x7f.1", "wrong", "wrong", "wrong"},
		{"a,b.example", "wrong", "wrong", "wrong"},
		{strings.Repeat("a", 64) + ".example", "wrong", "wrong", "wrong"},
		{strings.Repeat("abc.", 64) + "example", "wrong", "wrong", "wrong"},
		{"bad\x01name.example", "wrong", "wrong", "wrong"},
		{"\xff\xfe.example", "wrong", "wrong", "wrong"},
		{"good.example other.example", "wrong", "wrong", "wrong"},
		{"[x", "wrong", "wrong", "wrong"},
		{"]", "wrong", "wrong", "wrong"},
		// Comments.
		{"", "blank", "blank", "blank"},
		{" \t \r\n", "blank", "blank", "blank"},
		{"# anything at all: http://x.example/ ||^", "blank", "blank", "blank"},
		{"#", "blank", "blank", "blank"},
		{"; as in zone files", "blank", "blank", "blank"},
		{"ads.example # plain", "ads.example", "wrong", "ads.example"},
		{"ads.example\t# with a tab", "ads.example", "wrong", "ads.example"},
		{"ads.example # see https://x.example/a?b=c", "ads.example", "wrong", "ads.example"},
		{"ads.example # and/or, a|b, $5, x^y, costs $$", "ads.example", "wrong", "ads.example"},
		{"ads.example ## two of them", "ads.example", "wrong", "ads.example"},
		{"ads.example\t##\ttwo of them", "ads.example", "wrong", "ads.example"},
		{"ads.example #", "ads.example", "wrong", "ads.example"},
		{"ads.example#close", "ads.example", "wrong", "ads.example"},
		// Hosts files.
		{"0.0.0.0 one.example", "wrong", "one.example", "one.example"},
		{"127.0.0.1\tone.example  Two.Example.\t3.example # and/or", "wrong", "one.example, two.example, 3.example", "one.example, two.example, 3.example"},
		{":: six.example", "wrong", "six.example", "six.example"},
		{"fe80::1%lo0 localhost", "wrong", "blank", "blank"},
		{"127.0.0.1 localhost LocalHost.LocalDomain localhost. local", "wrong", "blank", "blank"},
		{"255.255.255.255 broadcasthost", "wrong", "blank", "blank"},
		{"ff02::2 ip6-allrouters IP6-AllHosts ip6-mcastprefix", "wrong", "blank", "blank"},
		{"0.0.0.0 0.0.0.0", "wrong", "blank", "blank"},
		{"::1 localhost mine.example", "wrong", "mine.example", "mine.example"},
		{"0.0.0.0 192.0.2.7", "wrong", "192.0.2.7", "192.0.2.7"},
		{"0.0.0.0", "0.0.0.0", "wrong", "0.0.0.0"},
		{"0.0.0.0.0 one.example", "wrong", "wrong", "wrong"},
		{"name.example one.example", "wrong", "wrong", "wrong"},
		// Rules of ad blockers.
		{"||ads.example^", "wrong", "wrong", ".ads.example"},
		{"||ADS.Example.^", "wrong", "wrong", ".ads.example"},
		{"||ads.example", "wrong", "wrong", ".ads.example"},
		{"||ads.example^|", "wrong", "wrong", ".ads.example"},
		{"||bücher.example^", "wrong", "wrong", ".xn--bcher-kva.example"},
		{"||192.0.2.1^", "wrong", "wrong", "192.0.2.1"},
		{"||[2001:DB8::1]^", "wrong", "wrong", "2001:db8::1"},
		{"||*.ads.example^", "wrong", "wrong", "*.ads.example"},
		{"|ads.example^", "wrong", "wrong", "ads.example"},
		{"@@||ads.example^", "wrong", "wrong", "not .ads.example"},
		{"@@|ads.example^|", "wrong", "wrong", "not ads.example"},
		{"@@||*.ads.example^", "wrong", "wrong", "not *.ads.example"},
		{"||ads.example^$important", "wrong", "wrong", "surely .ads.example"},
		{"@@||ads.example^$important", "wrong", "wrong", "surely not .ads.example"},
		{"||ads.example^$all", "wrong", "wrong", ".ads.example"},
		{"||ads.example^$document,important", "wrong", "wrong", "surely .ads.example"},
		{"||ads.example^ # and/or", "wrong", "wrong", ".ads.example"},
		{"@@||ads.example^\t# $script", "wrong", "wrong", "not .ads.example"},
		{"! comment", "wrong", "wrong", "blank"},
		{"!", "wrong", "wrong", "blank"},
		{"[Adblock Plus 2.0]", "wrong", "wrong", "blank"},
		{"||ads.example^$third-party", "wrong", "wrong", "unsupported"},
		{"||ads.example^$~third-party", "wrong", "wrong", "unsupported"},
		{"||ads.example^$script,image", "wrong", "wrong", "unsupported"},
		{"||ads.example^$important,domain=x.example", "wrong", "wrong", "unsupported"},
		{"||ads.example^$badfilter", "wrong", "wrong", "unsupported"},
		{"||ads.example^$denyallow=x.example", "wrong", "wrong", "unsupported"},
		{"@@||ads.example^$elemhide", "wrong", "wrong", "unsupported"},
		{"||ads.example^$important,", "wrong", "wrong", "unsupported"},
		{"$important", "wrong", "wrong", "unsupported"},
		{"||ads.example/banner/*", "wrong", "wrong", "unsupported"},
		{"||ads.example:8080^", "wrong", "wrong", "unsupported"},
		{"||ads.example^path", "wrong", "wrong", "unsupported"},
		{"||a*.example^", "wrong", "wrong", "unsupported"},
		{"||ads.*^", "wrong", "wrong", "unsupported"},
		{"|https://ads.example^", "wrong", "wrong", "unsupported"},
		{"https://ads.example/", "wrong", "wrong", "unsupported"},
		{"/banner[0-9]+/", "wrong", "wrong", "unsupported"},
		{"-banner-", "wrong", "wrong", "unsupported"},
		{"&ad_box=", "wrong", "wrong", "unsupported"},
		{"ads.example^", "wrong", "wrong", "unsupported"},
		{"||^", "wrong", "wrong", "unsupported"},
		{"|", "wrong", "wrong", "unsupported"},
		{"@@", "wrong", "wrong", "unsupported"},
		{"||bad..name^", "wrong", "wrong", "wrong"},
		// Rules about the elements of pages take nobody. In the other formats what stands behind # is a comment, whatever it is.
		{"##.banner", "blank", "blank", "unsupported"},
		{"example.com##.banner", "example.com", "wrong", "unsupported"},
		{"example.com##.banner #id > a", "example.com", "wrong", "unsupported"},
		{"example.com,other.example##div", "wrong", "wrong", "unsupported"},
		{"example.com#@#.banner", "example.com", "wrong", "unsupported"},
		{"example.com #@#.banner", "example.com", "wrong", "unsupported"},
		{"example.com#?#div:has(> a)", "example.com", "wrong", "unsupported"},
		{"example.com#$#body { x }", "example.com", "wrong", "unsupported"},
		{"example.com#%#window.x", "example.com", "wrong", "unsupported"},
		{"example.com#@?#x", "example.com", "wrong", "unsupported"},
		{"example.com#@$#x", "example.com", "wrong", "unsupported"},
		{"example.com#$?#x", "example.com", "wrong", "unsupported"},
		{"example.com#@%#x", "example.com", "wrong", "unsupported"},
		{"example.com$$script[x]", "wrong", "wrong", "unsupported"},
	} {
		for f, want := range map[Format]string{Lines: x.lines, HostsFile: x.hosts, Adblock: x.adblock, Auto: x.adblock} {
			if got := lineOf(f, x.line); got != want {
				t.Errorf("%s: %q is %s, expected %s", f, x.line, got, want)
			}
		}
	}
}

func TestNetworkLines(t *testing.T) {
	for line, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", " 192.0.2.1 \r\n": "192.0.2.1/32", "2001:DB8::/32": "2001:db8::/32", "::1": "::1/128", "0.0.0.0/0": "0.0.0.0/0",
		"::ffff:10.0.0.0/104": "10.0.0.0/8", "::ffff:192.0.2.1": "192.0.2.1/32", "198.51.100.0/24 ; SBL123": "198.51.100.0/24", "203.0.113.0/24#x": "203.0.113.0/24",
		"": "blank", "; comment": "blank", "# http://x.example/": "blank",
		"10.0.0.1/8": "wrong", "10.0.0.0/33": "wrong", "10.0.0.0/": "wrong", "10.0.0/8": "wrong", "fe80::1%eth0": "wrong", "www.example": "wrong",
		"10.0.0.0-10.0.0.255": "wrong", "10.0.0.0 255.0.0.0": "wrong", "10.0.0.0/08": "wrong", "[2001:db8::1]": "wrong",
	} {
		p, k, err := network(line)
		got := [...]string{blank: "blank", wrong: "wrong", entry: p.String()}[k]
		if got != want || (err != nil) != (want == "wrong") {
			t.Errorf("%q is %s (%v), expected %s", line, got, err, want)
		}
	}
}

// TestNetworkSet: a set of networks takes addresses and no hosts, and one of hosts no addresses.
func TestNetworkSet(t *testing.T) {
	s, err := Parse(strings.NewReader("\ufeff# x\r\n10.0.0.0/8\r\n10.1.0.0/16\r\n2001:db8::/32\r\n192.0.2.1"), "", Options{Networks: true})
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]bool{"10.255.0.1": true, "11.0.0.0": false, "192.0.2.1": true, "192.0.2.2": false, "2001:db8:ffff::1": true, "2001:db9::": false} {
		if s.Network(netip.MustParseAddr(a)) != want {
			t.Errorf("%s: expected %v", a, want)
		}
	}
	if s.Host("10.0.0.1") || s.Network(netip.Addr{}) || s.Report.Entries != 4 {
		t.Errorf("%+v", s.Report)
	}
	var none *Set
	if none.Host("x.example") || none.Network(netip.MustParseAddr("::1")) || (&Set{}).Host("x.example") || (&Set{}).Network(netip.MustParseAddr("::1")) {
		t.Error("there is something in nothing")
	}
	if e, taken := none.Entry("x.example"); e != "" || taken {
		t.Errorf("%q, %v", e, taken)
	}
}

// TestEntryNames: the entry that is named is the nearest one that says what is so.
func TestEntryNames(t *testing.T) {
	s, err := Parse(strings.NewReader("||tree.example^\n@@||good.tree.example^\n||bad.good.tree.example^$important\n@@||saved.bad.good.tree.example^$important\n*.below.example\n.both.example\nexact.example\n||dup.example^\ndup.example\n192.0.2.1\n"), "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		host, by string
		taken    bool
	}{
		{"tree.example", ".tree.example", true},
		{"a.b.tree.example", "*.tree.example", true},
		{"good.tree.example", ".good.tree.example", false},
		{"x.good.tree.example", "*.good.tree.example", false},
		{"bad.good.tree.example", ".bad.good.tree.example", true},
		{"x.bad.good.tree.example", "*.bad.good.tree.example", true},
		{"saved.bad.good.tree.example", ".saved.bad.good.tree.example", false},
		{"x.below.example", "*.below.example", true},
		{"below.example", "", false},
		{"both.example", ".both.example", true},
		{"exact.example", "exact.example", true},
		{"x.exact.example", "", false},
		{"xtree.example", "", false},
		{"dup.example", ".dup.example", true},
		{"192.0.2.1", "192.0.2.1", true},
		{"example", "", false},
		{"", "", false},
		{strings.Repeat("a.", 126) + "x", "", false},
	} {
		by, taken := s.Entry(x.host)
		if by != x.by || taken != x.taken || s.Host(x.host) != x.taken {
			t.Errorf("%q: by %q, %v; expected %q, %v", x.host, by, taken, x.by, x.taken)
		}
	}
}

// TestReportCounts: every line is counted once, and what was wrong is bounded and on one line.
func TestReportCounts(t *testing.T) {
	text := "\ufeff[Adblock]\r\n! c\r\n# c\r\n\r\n||a.example^\r\n@@||b.a.example^\r\nplain.example # a/b\r\n0.0.0.0 h1.example h2.example\r\n||p.example/x\r\nx##y\r\nplain.example\r\nw\x1b[2J" + strings.Repeat("ö", 300) + " x\r\nlast.example"
	s, err := Parse(strings.NewReader(text), "text/plain", Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Report
	if r.Entries != 7 || r.Exceptions != 1 || r.Unsupported != 2 || r.Wrong != 1 || r.Names != 6 || r.Size != int64(len(text)) {
		t.Errorf("%+v", r)
	}
	if !strings.HasPrefix(r.FirstWrong, "line 12: ") || strings.ContainsAny(r.FirstWrong, "\x1b\r\n") || len(r.FirstWrong) > 230 {
		t.Errorf("%q", r.FirstWrong)
	}
	if words := r.String(); !strings.HasPrefix(words, "7 entries, 2 rules left out that are about more than hosts, 1 lines left out that are no entries (line 12: ") {
		t.Errorf("%q", words)
	}
}

// TestGzipLayers: a list may be a compressed file that is sent compressed, and no more than that.
func TestGzipLayers(t *testing.T) {
	const list = "a.example\nb.example\n"
	two := append(packed(t, "a.example\n", 1), packed(t, "b.example\n", 1)...) // members one behind the other, RFC 1952, section 2.2
	for what, b := range map[string][]byte{"plain": []byte(list), "gzip": packed(t, list, 1), "gzip in gzip": packed(t, list, 2), "two members": two, "with a mark": packed(t, "\ufeff"+list, 1)} {
		s, err := Parse(bytes.NewReader(b), "application/gzip", Options{})
		if err != nil || s.Report.Entries != 2 {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Parse(bytes.NewReader(packed(t, list, 3)), "", Options{}); err == nil {
		t.Error("gzip in gzip in gzip is read")
	}
	whole := packed(t, strings.Repeat(list, 500), 1)
	for n := 2; n < len(whole); n++ { // cut off anywhere: never half a list
		if _, err := Parse(bytes.NewReader(whole[:n]), "", Options{}); err == nil || !strings.Contains(err.Error(), "it breaks off") {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	for n := range whole {
		b := bytes.Clone(whole)
		if b[n] ^= 0x10; n >= 4 && n <= 9 { // time, flags of the compressor and system mean nothing
			continue
		}
		if s, err := Parse(bytes.NewReader(b), "", Options{}); err == nil && s.Report.Entries != 1000 {
			t.Fatalf("changed at %d of %d: %+v", n, len(whole), s.Report)
		}
	}
}

// flood is a text without an end, and counts what is read of it.
type flood struct {
	line string
	n    int64
	err  error // after a while; nil = none
}

func (f *flood) Read(b []byte) (int, error) {
	if f.err != nil && f.n > 100_000 {
		return 0, f.err
	}
	n := 0
	for n < len(b) {
		n += copy(b[n:], f.line)
	}
	f.n += int64(n)
	return n, nil
}

// TestBounds: what is too long is given up where it is known to be too long, and to the byte.
func TestBounds(t *testing.T) {
	var se *SizeError
	for _, line := range []string{"name.example\n", "x", "\n", "# comment\n", "||a.example^$script\n"} {
		f := &flood{line: line}
		if _, err := Parse(f, "", Options{MaxSize: 1 << 20}); !errors.As(err, &se) || se.Most != 1<<20 {
			t.Errorf("%q without an end: %v", line, err)
		}
		if f.n > 1<<20+256<<10 {
			t.Errorf("%q without an end: %d bytes were read of it", line, f.n)
		}
	}
	text := strings.Repeat("a.example\n", 1000)
	if _, err := Parse(strings.NewReader(text), "", Options{MaxSize: int64(len(text))}); err != nil {
		t.Errorf("as long as it may be: %v", err)
	}
	for _, n := range []int64{1, 9, 4095, 4096, int64(len(text)) - 1} {
		if _, err := Parse(strings.NewReader(text), "", Options{MaxSize: n}); !errors.As(err, &se) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if got := se.Error(); !strings.Contains(got, "9999 bytes (max_size)") {
		t.Errorf("%q", got)
	}
	bomb := packed(t, strings.Repeat("0.0.0.0 a.example\n", 200_000), 2) // of 3.6 MB, in some dozens of bytes
	if len(bomb) > 1000 {
		t.Fatalf("%d bytes are no bomb", len(bomb))
	}
	if _, err := Parse(bytes.NewReader(bomb), "", Options{MaxSize: 1 << 20}); !errors.As(err, &se) {
		t.Errorf("a bomb: %v", err)
	}
	if b, err := Decompress(bomb, 1<<20); !errors.As(err, &se) || len(b) > 1<<20 {
		t.Errorf("a bomb that is a file: %d bytes, %v", len(b), err)
	}
	torn := errors.New("torn")
	for _, line := range []string{"name.example\n", "x"} {
		if _, err := Parse(&flood{line: line, err: torn}, "", Options{}); !errors.Is(err, torn) {
			t.Errorf("torn: %v", err)
		}
	}
	if _, err := Parse(io.MultiReader(bytes.NewReader(packed(t, text, 1)[:20]), &flood{err: torn, n: 1 << 20}), "", Options{}); !errors.Is(err, torn) {
		t.Errorf("torn in gzip: %v", err)
	}
}

// TestLongLines: a line of any length costs nothing, and the one behind it is read.
func TestLongLines(t *testing.T) {
	for _, n := range []int{MaxLine - 1, MaxLine, MaxLine + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20} {
		s, err := Parse(strings.NewReader("a.example\n"+strings.Repeat("x", n)+"\nb.example"), "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r := s.Report; !s.Host("b.example") || r.Entries != 2 || r.Wrong != 1 || !strings.HasPrefix(r.FirstWrong, "line 2: ") {
			t.Errorf("%d: %+v", n, r)
		}
	}
	name := "a." + strings.Repeat("b", 60) + ".example"
	s, err := Parse(strings.NewReader(name+strings.Repeat(" ", MaxLine-len(name)-1)+"\n"), "", Options{})
	if err != nil || !s.Host(name) {
		t.Errorf("a line as long as it may be: %v", err)
	}
}

// TestNoList: each thing that is no list has its own error.
func TestNoList(t *testing.T) {
	for _, x := range []struct{ text, contentType, want string }{
		{"<!DOCTYPE html><title>Log in</title>", "", "an HTML or XML page"},
		{"\ufeff\r\n\t <HTML>", "text/plain", "an HTML or XML page"},
		{"<?xml version=\"1.0\"?><error/>", "text/plain", "an HTML or XML page"},
		{"<!-- x --><html>", "", "an HTML or XML page"},
		{"</html>", "", "an HTML or XML page"},
		{string(packed(t, "<html>log in</html>", 1)), "application/gzip", "an HTML or XML page"},
		{"a.example\n", "text/html", "the server calls it text/html"},
		{"a.example\n", "Application/XHTML+XML; charset=utf-8", "the server calls it application/xhtml+xml"},
		{`{"error": "no session"}`, "text/plain", "JSON"},
		{" \n{\n", "", "JSON"},
		{"[\"a.example\", \"b.example\"]", "", "no entries"},
		{"[\n\"a.example\",\n\"b.example\"\n]\n", "", "no list of hosts"},
		{"a\x00.\x00e\x00", "", "it is no text"},
		{"\xff\xfea\x00.\x00", "", "it is no text"},
		{"PK\x03\x04\x00\x00", "application/zip", "it is no text"},
		{strings.Repeat("a.example\n", 500) + "b\x00.example\n", "", "a zero byte in line 501"},
		{"\x1f\x8b", "", "it breaks off"},
		{"\x1f\x8bnot gzip at all", "", "the gzip data is broken"},
		{"", "", "it is empty"},
		{string(packed(t, "", 1)), "", "it is empty"},
		{"\n\n", "", "it has no entries"},
		{"\ufeff", "", "it has no entries"},
		{"! only\n# comments\n", "", "it has no entries"},
		{"##.banner\n||x.example/path\n", "", "all of its 2 rules are about more than hosts"},
		{"One good.example and\nmany words of prose\nthat are no list\n", "", "no list of hosts: 3 of 3 lines are no entries (line 1: "},
		{"404: Not Found", "text/plain", "no list of hosts"},
		{"127.0.0.1 localhost\n", "", "it has no entries"},
	} {
		s, err := Parse(strings.NewReader(x.text), x.contentType, Options{})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%.40q: %v, expected %q", x.text, err, x.want)
		}
		if s != nil {
			t.Errorf("%.40q: a set beside an error", x.text)
		}
	}
	for _, text := range []string{"<html>\n", "www.example\n", ""} {
		if _, err := Parse(strings.NewReader(text), "", Options{Networks: true}); err == nil {
			t.Errorf("%q is a list of networks", text)
		}
	}
	if s, err := Parse(strings.NewReader("a.example\nb b\nc.example\nd d\n"), "", Options{}); err != nil || s.Report.Wrong != 2 {
		t.Errorf("half of it is a list: %v", err)
	}
}

// FuzzComment: what stands behind an entry as a comment changes nothing.
func FuzzComment(f *testing.F) {
	f.Add("ads.example", " see https://x.example/a?b")
	f.Add("0.0.0.0 ads.example b.example", " and/or")
	f.Add("||ads.example^$important", "$third-party")
	f.Add("example.com", "@#.banner")
	f.Add("@@||x.example^", "\x00^|")
	f.Fuzz(func(t *testing.T, line, comment string) {
		if strings.ContainsRune(line, '#') || divides(comment) || strings.ContainsAny(comment+line, "\r\n\v\f\u0085\ufffd\u00a0\u2028") || strings.TrimSpace(line) == "" {
			return
		}
		for _, form := range []Format{Lines, HostsFile, Adblock, Auto} {
			if a, b := lineOf(form, line), lineOf(form, line+" #"+comment); a != b {
				t.Errorf("%s: %q is %s, and %s with the comment %q", form, line, a, b, comment)
			}
		}
	})
}

// FuzzRead reads files that may be a copy that was kept, or were one before something happened to them.
func FuzzRead(f *testing.F) {
	f.Add([]byte("a.example\n"), []byte(nil), uint32(0), uint8(0))
	f.Add([]byte("a.example\n||b.example^\n"), []byte(headMagic+`{"url":"http://x.example/"}`), uint32(4097), uint8(1))
	f.Add([]byte("<html>"), []byte(headMagic+`{"length":-1}`), uint32(20), uint8(0x80))
	f.Add([]byte("\x1f\x8b\x08"), []byte(headMagic+`{"length":9223372036854775807}`), uint32(1<<20), uint8(2))
	const url = "http://list.example/x"
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body, head []byte, at uint32, flip uint8) {
		o := Options{MaxSize: 1 << 16}
		path := filepath.Join(dir, "copy")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		m := meta{URL: url, ContentType: "text/plain", Time: time.Now().Add(time.Hour)}
		if err = m.fill(file, bytes.NewReader(body)); err == nil {
			err = m.finish(file)
		}
		if file.Close(); err != nil {
			t.Fatal(err)
		}
		want, werr := Parse(bytes.NewReader(body), m.ContentType, o)
		got, when, err := ReadKept(path, url, o)
		if fmt.Sprint(err) != fmt.Sprint(werr) || !when.Equal(m.Time) {
			t.Fatalf("%v of %s, expected %v of %s", err, when, werr, m.Time)
		}
		if got != nil && got.Report != want.Report {
			t.Fatalf("%+v, expected %+v", got.Report, want.Report)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		try := func(b []byte) (*Set, error) {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			set, _, err := ReadKept(path, url, o)
			return set, err
		}
		if n := int(at) % len(whole); true { // one that is cut off
			if _, err := try(whole[:n]); err == nil {
				t.Fatalf("%d of %d bytes are used", n, len(whole))
			}
		}
		if n := int(at) % len(whole); n >= headSize && flip != 0 { // a text that was changed
			b := bytes.Clone(whole)
			b[n] ^= flip
			if _, err := try(b); !errors.Is(err, errChecksum) {
				t.Fatalf("changed at %d: %v", n, err)
			}
		}
		b := bytes.Clone(whole) // a head that is anything
		copy(b[:headSize], head)
		if set, err := try(b); err == nil && (werr != nil || set.Report != want.Report) {
			t.Fatalf("another list: %+v", set.Report)
		}
		if _, err := try(head); err == nil {
			t.Fatal("a head alone is a list")
		}
	})
}
