package geo

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter/mmdbtype"

	"viaduct/policies/geo/geotest"
	"viaduct/upstream/upstreamtest/peers"
)

var built = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

var some = map[string]string{
	"192.0.2.0/24": "DE", "198.51.100.0/24": "AT", "198.51.100.128/25": "CH", "203.0.113.7/32": "FR", "2001:db8::/32": "NL", "2001:db8:5::/48": "XK",
	"10.0.0.0/8": "US",
}

func open(t testing.TB, data []byte) *Database {
	t.Helper()
	db, err := Open("x.mmdb", Mark{}, data)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestCountry(t *testing.T) {
	db := open(t, geotest.Countries(built, some))
	for a, want := range map[string]string{
		"192.0.2.1": "DE", "198.51.100.1": "AT", "198.51.100.200": "CH", "203.0.113.7": "FR", "203.0.113.8": "unknown", "2001:db8::1": "NL", "2001:db8:5::1": "XK",
		"2001:db9::1": "unknown", "::ffff:192.0.2.9": "DE", "fe80::1%eth0": "unknown", "127.0.0.1": "unknown",
	} {
		if got := db.Country(netip.MustParseAddr(a)).String(); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
	if c := db.Country(netip.Addr{}); c != 0 {
		t.Errorf("no address: %s", c)
	}
	if c := (*Database)(nil).Country(netip.MustParseAddr("192.0.2.1")); c != 0 {
		t.Errorf("no database: %s", c)
	}
	if i := db.Info(); i.Type != "GeoLite2-Country" || !i.Built.Equal(built) || i.Loads != 1 || i.Broken != 0 || i.Size == 0 {
		t.Errorf("%+v", i)
	}
	if s := db.String(); s != "GeoLite2-Country of 2026-11-24" {
		t.Error(s)
	}
}

// TestMmdblookup asks the reader of libmaxminddb about many addresses, and compares.
func TestMmdblookup(t *testing.T) {
	peers.Need(t, "mmdblookup")
	r := rand.New(rand.NewPCG(1, 2))
	nets := map[string]string{}
	for i := range 300 { // in a corner, so that many addresses are in one
		nets[fmt.Sprintf("20.%d.0.0/%d", r.IntN(256), 12+r.IntN(5))] = sortedCodes[i%len(sortedCodes)]
	}
	path := filepath.Join(t.TempDir(), "c.mmdb")
	data := geotest.Countries(built, nets)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db := open(t, data)
	found := 0
	code := regexp.MustCompile(`"([A-Z]{2})" <utf8_string>`)
	for range 120 {
		a := netip.AddrFrom4([4]byte{byte(19 + r.IntN(2)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
		out, _ := exec.Command("mmdblookup", "--file", path, "--ip", a.String(), "country", "iso_code").CombinedOutput()
		want := Unknown
		if m := code.FindSubmatch(out); m != nil {
			want = string(m[1])
			found++
		} else if !strings.Contains(string(out), "Could not find an entry") {
			t.Fatalf("mmdblookup %s: %s", a, out)
		}
		if got := db.Country(a).String(); got != want {
			t.Errorf("%s: %s, mmdblookup says %s", a, got, want)
		}
	}
	if found < 10 {
		t.Errorf("only %d addresses were in the database: nothing was compared", found)
	}
}

func TestForms(t *testing.T) {
	text := func(s string) mmdbtype.DataType { return mmdbtype.String(s) }
	a := netip.MustParseAddr("192.0.2.1")
	for name, r := range map[string]mmdbtype.Map{
		"City":          {"city": mmdbtype.Map{"names": mmdbtype.Map{"en": text("Wien")}}, "country": mmdbtype.Map{"iso_code": text("AT")}, "location": mmdbtype.Map{"latitude": mmdbtype.Float64(48)}},
		"ipinfo lite":   {"asn": text("AS1"), "country": text("Austria"), "country_code": text("AT")},
		"ipinfo":        {"country": text("AT"), "country_name": text("Austria")},
		"odd fields":    {"country": mmdbtype.Map{"iso_code": text("AT"), "is_in_european_union": mmdbtype.Bool(true), "x": mmdbtype.Slice{text("y")}}},
		"other country": {"country": mmdbtype.Slice{text("DE")}, "country_code": text("AT")},
	} {
		db := open(t, geotest.Write(name, built, map[string]mmdbtype.DataType{"192.0.2.0/24": r}))
		if got := db.Country(a).String(); got != "AT" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestWrongDatabases(t *testing.T) {
	good := geotest.Countries(built, some)
	asn := geotest.Write("GeoLite2-ASN", built, map[string]mmdbtype.DataType{"192.0.2.0/24": mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(64500)}})
	broken := append([]byte(nil), good...)
	for i := range 60 { // nodes that lead nowhere
		broken[i] = 0xff
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "no complete database"},
		{"text", []byte("<html>not found</html>"), "no complete database"},
		{"cut short", good[:len(good)/2], "no complete database"},
		{"the end alone", good[len(good)/2:], "it is"},
		{"broken tree", broken, "it is broken"},
		{"ASN", asn, `its type is "GeoLite2-ASN"`},
	} {
		if _, err := Open("x", Mark{}, tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"DE": "", "XK": "", "unknown": "", "de": `capitals: "DE"`, "UK": `"GB"`, "EU": "list its members", "Germany": `"DE" (Germany)`, "Grmany": `"DE" (Germany)`,
		"QQ": "no country", "": "no country", strings.Repeat("x", 5000): "no country", "D\x00": "no country",
	} {
		c, err := Parse(s)
		switch {
		case want == "" && (err != nil || c.String() != s):
			t.Errorf("%q: %v, %v", s, c, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
	if len(names) != 250 {
		t.Errorf("%d countries", len(names))
	}
	for c := range names {
		if k := codeOf(c); k.Letters() != c || k.Name() == "" {
			t.Errorf("%s: %s %q", c, k, k.Name())
		}
	}
	var s, o Set
	s.Add(0)
	s.Add(codeOf("ZZ"))
	if !s.Has(0) || !s.Has(codeOf("ZZ")) || s.Has(codeOf("AA")) || s.In(&o) || !o.In(&s) || s.Has(60000) {
		t.Error("the set does not hold what was put in")
	}
}

// TestWatch: a new file is taken into use, by renaming and in place; what is none leaves the last good one.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.mmdb")
	a := netip.MustParseAddr("192.0.2.1")
	write := func(data []byte) {
		if err := os.WriteFile(path+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	first := geotest.Countries(built, map[string]string{"192.0.2.0/24": "DE"})
	write(first)
	db, err := Open(path, MarkOf(path), first)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		db.Watch(ctx, 5*time.Millisecond, func(problem bool, text string) { told <- fmt.Sprint(problem, " ", text) })
		close(done)
	}()
	hears := func(want string) {
		t.Helper()
		select {
		case s := <-told:
			if !strings.Contains(s, want) {
				t.Fatalf("told %q, want %q", s, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("was not told %q", want)
		}
	}
	is := func(want string) {
		t.Helper()
		if got := db.Country(a).String(); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	write(geotest.Countries(built.Add(72*time.Hour), map[string]string{"192.0.2.0/24": "AT"}))
	hears("false the GeoIP database " + path + " was replaced: GeoLite2-Country of 2026-11-27")
	is("AT")
	write([]byte("<html>"))
	hears("true the GeoIP database " + path + " cannot be used, and GeoLite2-Country of 2026-11-27 stays in use")
	is("AT")
	if i := db.Info(); i.Error == "" || i.Loads != 2 {
		t.Errorf("%+v", i)
	}
	os.Remove(path)
	hears("no such file")
	is("AT")
	if err := os.WriteFile(path, geotest.Countries(built, map[string]string{"192.0.2.0/24": "CH"}), 0o600); err != nil { // in place
		t.Fatal(err)
	}
	for db.Country(a).String() != "CH" { // a part of it may have been seen
		hears("the GeoIP database")
	}
	if i := db.Info(); i.Error != "" {
		t.Errorf("%+v", i)
	}
	stop()
	<-done
}

// TestWatchAgain: a watch that follows another, as after a secret was renewed, takes the file in use for what it is.
func TestWatchAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.mmdb")
	write := func(country string, day int) {
		if err := os.WriteFile(path+".new", geotest.Countries(built.Add(time.Duration(day)*24*time.Hour), map[string]string{"192.0.2.0/24": country}), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("DE", 0)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(path, MarkOf(path), data)
	if err != nil {
		t.Fatal(err)
	}
	for i, country := range []string{"AT", "CH", "FR"} {
		told := make(chan string, 10)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			db.Watch(ctx, 2*time.Millisecond, func(_ bool, text string) { told <- text })
			close(done)
		}()
		time.Sleep(50 * time.Millisecond) // in which a watch that knows the file says nothing
		write(country, i+1)
		select {
		case <-told:
		case <-time.After(20 * time.Second):
			t.Fatal("a new file was not seen")
		}
		stop()
		<-done
		if got, n := db.Country(netip.MustParseAddr("192.0.2.1")).String(), db.Info().Loads; got != country || n != uint64(i+2) {
			t.Errorf("%s after %d loads, want %s after %d", got, n, country, i+2)
		}
	}
}

// large has as many networks as GeoLite2-Country has, by the order.
func large(n int) []byte {
	nets := make(map[string]string, n)
	r := rand.New(rand.NewPCG(3, 4))
	for range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x01000000+r.Uint32N(0xdf000000))
		b[3] = 0
		nets[netip.AddrFrom4(b).String()+"/24"] = sortedCodes[r.IntN(len(sortedCodes))]
	}
	return geotest.Countries(built, nets)
}

func TestAllocations(t *testing.T) {
	db := open(t, geotest.Countries(built, some))
	a, six := netip.MustParseAddr("198.51.100.200"), netip.MustParseAddr("2001:db8:5::1")
	db.Country(a)
	if n := testing.AllocsPerRun(200, func() { db.Country(a); db.Country(six) }); n > 0 && !raceEnabled {
		t.Errorf("%v allocations for two look-ups", n)
	}
}

func BenchmarkCountry(b *testing.B) {
	db := open(b, large(50_000))
	r := rand.New(rand.NewPCG(1, 2))
	var all [1024]netip.Addr
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{byte(1 + r.IntN(223)), byte(r.IntN(256)), byte(r.IntN(256)), 1})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		db.Country(all[i%len(all)])
		i++
	}
}

func BenchmarkOpen(b *testing.B) {
	data := large(50_000)
	b.ReportAllocs()
	for b.Loop() {
		open(b, data)
	}
}

// FuzzOpen: whatever a file holds, it is refused or answers.
func FuzzOpen(f *testing.F) {
	f.Add(geotest.Countries(built, some), []byte{192, 0, 2, 1})
	f.Add(geotest.Write("x", built, map[string]mmdbtype.DataType{"192.0.2.0/24": mmdbtype.Map{"country": mmdbtype.String("DE")}}), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, data, addr []byte) {
		begun := time.Now()
		db, err := Open("x", Mark{}, data)
		if took := time.Since(begun); took > 5*time.Second {
			t.Fatalf("it took %v to look at %d bytes", took, len(data))
		}
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q", err)
			}
			return
		}
		if a, ok := netip.AddrFromSlice(addr); ok {
			db.Country(a)
		}
		db.Country(netip.MustParseAddr("192.0.2.1"))
		db.Country(netip.MustParseAddr("2001:db8::1"))
		_ = db.String()
	})
}
