package lists_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"viaduct/connmodel"
	"viaduct/policies/lists"
)

// TestFormats says of each text who is in the list and who is not.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		name, text           string
		o                    lists.Options
		in, out              string
		entries, left, wrong int
	}{
		{"names", "\ufeffwww.example.com\r\n  B.Example.ORG.  # comment\n*.below.example\n.tree.example\n192.0.2.1\n[2001:db8::1]\nbücher.example\n; other comment\n\n",
			lists.Options{Format: lists.Lines}, "www.example.com b.example.org a.below.example tree.example x.tree.example 192.0.2.1 2001:db8::1 xn--bcher-kva.example", "example.com x.www.example.com below.example 192.0.2.2", 7, 0, 0},
		{"names with those below", "example.com\n192.0.2.1\n*.only.example\n", lists.Options{Format: lists.Lines, Subdomains: true}, "example.com a.b.example.com 192.0.2.1 a.only.example", "xexample.com only.example 1.192.0.2.1", 3, 0, 0},
		{"lines that are none", "good.example\nbad example\n*x.example\na..b\nalso.example\nthird.example\n", lists.Options{Format: lists.Lines}, "good.example also.example", "x.example", 3, 0, 3},
		{"hosts file", "127.0.0.1 localhost localhost.localdomain\n::1 ip6-localhost\n0.0.0.0 one.example two.example # both\n0.0.0.0\tthree.example\n", lists.Options{Format: lists.HostsFile}, "one.example two.example three.example", "localhost 0.0.0.0 127.0.0.1", 3, 0, 0},
		{"hosts file with others", "0.0.0.0 one.example\nalone.example\nname other.example\n0.0.0.0 two.example\n", lists.Options{Format: lists.HostsFile}, "one.example two.example", "alone.example other.example", 2, 0, 2},
		{"ad blocker", "[Adblock Plus 2.0]\n! Title: x\n||ads.example^\n||tree.example^$important\n|exact.example^\n@@||good.ads.example^\n@@||good.tree.example^\nexample.com##.banner\n||path.example/ads/*\n||third.example^$third-party\n/banner\\d+/\n||all.example^$all\n||*.wild.example^\n",
			lists.Options{Format: lists.Adblock}, "ads.example x.ads.example tree.example good.tree.example exact.example all.example a.wild.example", "good.ads.example x.good.ads.example x.exact.example example.com path.example third.example wild.example", 7, 4, 0},
		{"an exception that is important", "||x.example^$important\n@@||y.x.example^$important\n", lists.Options{Format: lists.Adblock}, "x.example", "y.x.example", 2, 0, 0},
		{"all of them", "# comment\n0.0.0.0 hosts.example\nplain.example\n||rule.example^\n192.0.2.9\n", lists.Options{Format: lists.Auto}, "hosts.example plain.example rule.example a.rule.example 192.0.2.9", "a.plain.example", 4, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, packed := range []int{0, 1, 2} {
				set, err := lists.Parse(pack(t, c.text, packed), "", c.o)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range strings.Fields(c.in) {
					if !set.Host(h) {
						t.Errorf("%s is not in the list", h)
					}
					if entry, taken := set.Entry(h); !taken || entry == "" {
						t.Errorf("%s is taken by %q, %v", h, entry, taken)
					}
				}
				for _, h := range strings.Fields(c.out) {
					if _, taken := set.Entry(h); set.Host(h) || taken {
						t.Errorf("%s is in the list", h)
					}
				}
				if r := set.Report; r.Entries != c.entries || r.Unsupported != c.left || r.Wrong != c.wrong {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

func TestNetworks(t *testing.T) {
	set, err := lists.Parse(strings.NewReader("10.0.0.0/8 # ours\n2001:db8::/32\n192.0.2.7\n10.0.0.1/8\nname.example\n::ffff:198.51.100.0/120 ; mapped\n203.0.113.0/24\n"), "", lists.Options{Networks: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.1.2.3", "2001:db8::5", "192.0.2.7", "198.51.100.9", "::ffff:10.9.9.9"} {
		if !set.Network(netip.MustParseAddr(a)) {
			t.Errorf("%s is not in the list", a)
		}
	}
	if set.Network(netip.MustParseAddr("192.0.2.8")) || set.Network(netip.Addr{}) || set.Host("10.1.2.3") {
		t.Error("too much is in the list")
	}
	if r := set.Report; r.Entries != 5 || r.Wrong != 2 || !strings.HasPrefix(r.FirstWrong, "line 4: ") {
		t.Errorf("%+v", r)
	}
}

// endless never ends.
type endless struct{ text string }

func (e endless) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		n += copy(b[n:], e.text)
	}
	return n, nil
}

// TestWhatIsNoList has its own error for each, and none takes more than it may.
func TestWhatIsNoList(t *testing.T) {
	bomb := pack(t, strings.Repeat("0.0.0.0 a.example\n", 400_000), 2)
	cut := pack(t, strings.Repeat("one.example\n", 1000), 1)
	half := make([]byte, cut.Len()/2)
	cut.Read(half)
	for _, c := range []struct {
		name, contentType string
		r                 io.Reader
		o                 lists.Options
		want              string
	}{
		{"endless", "", endless{"name.example\n"}, lists.Options{MaxSize: 1 << 20}, "longer than 1 MiB (max_size)"},
		{"endless line", "", endless{"x"}, lists.Options{MaxSize: 1 << 20}, "longer than 1 MiB"},
		{"bomb", "", bomb, lists.Options{MaxSize: 1 << 20}, "longer than 1 MiB"},
		{"cut off", "", bytes.NewReader(half), lists.Options{}, "the gzip data is broken: it breaks off"},
		{"page", "", strings.NewReader("\n <!DOCTYPE html><html>"), lists.Options{}, "an HTML or XML page"},
		{"page by its name", "text/html; charset=utf-8", strings.NewReader("hello"), lists.Options{}, "the server calls it text/html"},
		{"json", "application/json", strings.NewReader(`{"error":"login"}`), lists.Options{}, "JSON"},
		{"bytes", "", strings.NewReader("\x7fELF\x00\x00"), lists.Options{}, "zero bytes"},
		{"bytes later", "", strings.NewReader(strings.Repeat("a.example\n", 1000) + "\x00"), lists.Options{}, "zero byte in line 1001"},
		{"text", "", strings.NewReader(strings.Repeat("Dear reader, the list has moved.\n", 50)), lists.Options{}, "no entries"},
		{"nothing", "", strings.NewReader(""), lists.Options{}, "it is empty"},
		{"comments", "", strings.NewReader("# nothing\n\n"), lists.Options{}, "no entries"},
		{"names among networks", "", strings.NewReader("a.example\nb.example\n"), lists.Options{Networks: true}, "no entries"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := lists.Parse(c.r, c.contentType, c.o)
			if err == nil {
				t.Fatalf("it was read: %+v", set.Report)
			}
			if !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("%v", err)
			}
		})
	}
	var se *lists.SizeError
	if _, err := lists.Parse(endless{"a.example\n"}, "", lists.Options{MaxSize: 4096}); !errors.As(err, &se) {
		t.Errorf("%v", err)
	}
}

func pack(t testing.TB, text string, times int) *bytes.Buffer {
	b := bytes.NewBufferString(text)
	for range times {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		if _, err := b.WriteTo(w); err != nil {
			t.Fatal(err)
		}
		w.Close()
		b = &z
	}
	return b
}

// FuzzNames holds lists of names against a map, and whatever else comes against panics and counts that do not add up.
func FuzzNames(f *testing.F) {
	f.Add("a.example\n*.b.example\n.c.example\n", "x.b.example", true)
	f.Add("||a.example^\n@@||b.a.example^\n0.0.0.0 c.example\n", "b.a.example", false)
	f.Add("[Adblock]\n*\n##x\n||[2001:db8::1]^\n|\n@@\n$important\n", "2001:db8::1", true)
	f.Fuzz(func(t *testing.T, text, host string, subdomains bool) {
		for _, format := range []lists.Format{lists.Lines, lists.HostsFile, lists.Adblock, lists.Auto} {
			set, err := lists.Parse(strings.NewReader(text), "", lists.Options{Format: format, Subdomains: subdomains, MaxSize: 1 << 16})
			if err != nil {
				continue
			}
			r := set.Report
			if lines := strings.Count(text, "\n") + 1; r.Unsupported+r.Wrong > lines || r.Names > r.Entries || r.Entries <= 0 || r.Size > 1<<16 {
				t.Fatalf("%+v of %q", r, text)
			}
			canonical, err := connmodel.CanonicalHost(host)
			if err != nil {
				continue
			}
			in := set.Host(canonical)
			if entry, taken := set.Entry(canonical); taken != in || in && entry == "" {
				t.Fatalf("%q in the list: %v; by %q, %v", canonical, in, entry, taken)
			}
			if format == lists.Lines && in != naive(text, canonical, subdomains) {
				t.Fatalf("%q in %q (subdomains %v): %v", canonical, text, subdomains, in)
			}
		}
		lists.Parse(strings.NewReader(text), "", lists.Options{Networks: true})
	})
}

// naive reads a list of lines as the manual says it is.
func naive(text, host string, subdomains bool) bool {
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.Lines(text) {
		if len(line) > lists.MaxLine || strings.HasPrefix(strings.TrimSpace(line), ";") {
			continue
		}
		line, _, _ = strings.Cut(line, "#")
		name := strings.TrimSpace(line)
		whole, below := true, subdomains
		if rest, ok := strings.CutPrefix(name, "*."); ok {
			name, whole, below = rest, false, true
		} else if rest, ok := strings.CutPrefix(name, "."); ok {
			name, below = rest, true
		}
		c, err := connmodel.CanonicalHost(name)
		if err != nil || name == "" || strings.ContainsAny(name, "*?") {
			continue
		}
		if (connmodel.Address{Host: c, Port: 1}).IP().IsValid() {
			if name != strings.TrimSpace(line) { // nothing is below an address
				continue
			}
			below = false
		}
		if whole && host == c || below && strings.HasSuffix(host, "."+c) && len(host) > len(c)+1 {
			return true
		}
	}
	return false
}
