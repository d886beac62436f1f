package pac

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names is a resolver of a table.
type names map[string]string

func (n names) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	list, ok := n[host]
	if !ok {
		return nil, errors.New("no such host")
	}
	if list == "slow" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var out []netip.Addr
	for _, s := range strings.Split(list, ",") {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func script(t testing.TB, text string, o Options) *Script {
	t.Helper()
	s, err := New(context.Background(), text, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func entries(a Answer) string {
	var out []string
	for _, e := range a.Entries {
		out = append(out, e.String())
	}
	return strings.Join(out, "; ")
}

// value evaluates an expression by giving it back as the port of nothing: what alert is told of it.
func value(t testing.TB, expr string, o Options) string {
	t.Helper()
	s := script(t, "function FindProxyForURL(url, host) { alert("+expr+"); return 'DIRECT' }", o)
	a, err := s.Find(context.Background(), Query{"http://www.example.com/", "www.example.com"})
	if err != nil {
		t.Errorf("%s: %v", expr, err)
		return ""
	}
	if len(a.Alerts) != 1 {
		t.Errorf("%s: %d alerts", expr, len(a.Alerts))
		return ""
	}
	return a.Alerts[0]
}

// TestFunctions is a table of what browsers answer.
func TestFunctions(t *testing.T) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Resolver: names{"www.example.com": "2001:db8::7,198.51.100.7", "six.example.com": "2001:db8::1", "ten.corp.example": "10.1.2.3"},
		Location: zone,
		Now:      func() time.Time { return time.Date(2026, 11, 29, 3, 30, 15, 0, time.UTC) }, // Saturday 22:30:15 there, Sunday in GMT
		Mine: func() (netip.Addr, netip.Addr) {
			return netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8::5")
		},
	}
	for _, x := range []struct{ expr, want string }{
		{`isPlainHostName("www")`, "true"}, {`isPlainHostName("www.example.com")`, "false"}, {`isPlainHostName("::1")`, "false"}, {`isPlainHostName("")`, "true"},
		{`dnsDomainIs("www.example.com", ".example.com")`, "true"}, {`dnsDomainIs("www", ".example.com")`, "false"}, {`dnsDomainIs("badexample.com", "example.com")`, "true"},
		{`localHostOrDomainIs("www.example.com", "www.example.com")`, "true"}, {`localHostOrDomainIs("www", "www.example.com")`, "true"},
		{`localHostOrDomainIs("ww", "www.example.com")`, "false"}, {`localHostOrDomainIs("www.mcom.com", "www.example.com")`, "false"},
		{`isResolvable("www.example.com")`, "true"}, {`isResolvable("nowhere.example")`, "false"}, {`isResolvable("six.example.com")`, "false"}, {`isResolvableEx("six.example.com")`, "true"},
		{`isResolvable("")`, "false"}, {`isResolvable("a b")`, "false"}, {`isResolvable()`, "false"},
		{`dnsResolve("www.example.com")`, "198.51.100.7"}, {`dnsResolve("10.1.2.3")`, "10.1.2.3"}, {`dnsResolve("nowhere.example")`, "null"}, {`dnsResolve(undefined)`, "null"},
		{`dnsResolveEx("www.example.com")`, "2001:db8::7;198.51.100.7"}, {`dnsResolveEx("nowhere.example") === ""`, "true"}, {`dnsResolveEx("[2001:db8::9]")`, "2001:db8::9"},
		{`isInNet("198.95.249.79", "198.95.249.79", "255.255.255.255")`, "true"}, {`isInNet("198.95.6.8", "198.95.0.0", "255.255.0.0")`, "true"},
		{`isInNet("ten.corp.example", "10.0.0.0", "255.0.0.0")`, "true"}, {`isInNet("ten.corp.example", "11.0.0.0", "255.0.0.0")`, "false"},
		{`isInNet("nowhere.example", "0.0.0.0", "0.0.0.0")`, "false"}, {`isInNet(null, "10.0.0.0", "255.0.0.0")`, "false"}, {`isInNet("10.1.2.3", "10.0.0.0")`, "false"},
		{`isInNet("10.1.2.3", "10.0.0.0", "255.0.0.256")`, "false"}, {`isInNet("six.example.com", "10.0.0.0", "255.0.0.0")`, "false"},
		{`isInNetEx("10.1.2.3", "10.0.0.0/8")`, "true"}, {`isInNetEx("2001:db8::9", "2001:db8::/32")`, "true"}, {`isInNetEx("six.example.com", "2001:db8::/32")`, "true"},
		{`isInNetEx("10.1.2.3", "2001:db8::/32")`, "false"}, {`isInNetEx("10.1.2.3", "rubbish")`, "false"}, {`isInNetEx("10.1.2.3", "10.0.0.0/33")`, "false"},
		{`myIpAddress()`, "192.0.2.5"}, {`myIpAddressEx()`, "2001:db8::5;192.0.2.5"},
		{`sortIpAddressList("10.2.3.9;2001:4898:28:3:201:2ff:feea:fc14;::1;127.0.0.1;::9")`, "::1;::9;2001:4898:28:3:201:2ff:feea:fc14;10.2.3.9;127.0.0.1"},
		{`sortIpAddressList("10.2.3.9;rubbish")`, "false"}, {`sortIpAddressList("")`, "false"}, {`sortIpAddressList(" 10.2.3.9 ; 1.1.1.1")`, "1.1.1.1;10.2.3.9"},
		{`getClientVersion()`, "1.0"}, {`dnsDomainLevels("www")`, "0"}, {`dnsDomainLevels("www.example.com")`, "2"},
		{`shExpMatch("http://home.example.com/people/ari/index.html", "*/ari/*")`, "true"}, {`shExpMatch("http://home.example.com/people/montulli/index.html", "*/ari/*")`, "false"},
		{`shExpMatch("a.c", "a?c")`, "true"}, {`shExpMatch("ac", "a?c")`, "false"}, {`shExpMatch("abc", "a[b]c")`, "false"}, {`shExpMatch("a[b]c", "a[b]c")`, "true"}, {`shExpMatch("A", "a")`, "false"},
		{`shExpMatch("a.b", "a.b")`, "true"}, {`shExpMatch("axb", "a.b")`, "false"}, {`shExpMatch("\u00e4x", "?x")`, "true"}, {`shExpMatch("", "*")`, "true"}, {`shExpMatch("", "?")`, "false"},
		{`shExpMatch("foo(bar)|baz", "foo(bar)|*")`, "true"}, {`shExpMatch("a\\b", "a\\b")`, "true"},
		{`convert_addr("104.16.41.2")`, "1745889538"}, {`convert_addr("255.255.255.255")`, "-1"}, {`convert_addr("x")`, "0"},

		{`weekdayRange("SAT")`, "true"}, {`weekdayRange("SAT", "GMT")`, "false"}, {`weekdayRange("SUN", "GMT")`, "true"}, {`weekdayRange("MON", "FRI")`, "false"},
		{`weekdayRange("FRI", "MON")`, "true"}, {`weekdayRange("MON", "FRI", "GMT")`, "false"}, {`weekdayRange("sat")`, "false"}, {`weekdayRange()`, "false"}, {`weekdayRange("NONE", "SAT")`, "false"},
		{`dateRange(28)`, "true"}, {`dateRange(28, "GMT")`, "false"}, {`dateRange(29, "GMT")`, "true"}, {`dateRange("NOV")`, "true"}, {`dateRange(2026)`, "true"}, {`dateRange(2025)`, "false"},
		{`dateRange(20, 30)`, "true"}, {`dateRange(29, 5)`, "false"}, {`dateRange(25, 5)`, "true"}, {`dateRange("OCT", "JAN")`, "true"}, {`dateRange("JAN", "JUN")`, "false"},
		{`dateRange(1, "JUN", 15, "AUG")`, "false"}, {`dateRange(15, "NOV", 15, "DEC")`, "true"}, {`dateRange(15, "DEC", 28, "NOV")`, "true"}, {`dateRange(1, "JUN", 1995, 15, "AUG", 1995)`, "false"},
		{`dateRange("OCT", 2025, "MAR", 2027)`, "true"}, {`dateRange(2020, 2030)`, "true"}, {`dateRange(1, "NOV", 2026, 28, "NOV", 2026)`, "true"}, {`dateRange(1, "DEC")`, "false"}, {`dateRange("RUBBISH")`, "false"},
		{`timeRange(22)`, "true"}, {`timeRange(3, "GMT")`, "true"}, {`timeRange(22, "GMT")`, "false"}, {`timeRange(20, 22)`, "true"}, {`timeRange(20, 21)`, "false"}, {`timeRange(22, 6)`, "false"},
		{`timeRange(22, 0, 6, 0)`, "true"}, {`timeRange(22, 31, 23, 0)`, "false"}, {`timeRange(22, 0, 22, 30)`, "true"}, {`timeRange(22, 30, 0, 22, 30, 15)`, "true"}, {`timeRange(22, 30, 16, 23, 0, 0)`, "false"},
		{`timeRange(0, 0, 0, 0, 0, 30)`, "false"}, {`timeRange(3, 30, 0, 3, 30, 30, "GMT")`, "true"}, {`timeRange(1, 2, 3)`, "false"}, {`timeRange("x")`, "false"},

		{`typeof FindProxyForURL`, "function"}, {`typeof $net + typeof $has + typeof $date + typeof $glob + typeof $alert`, "undefinedundefinedundefinedundefinedundefined"},
		{`typeof std + typeof os + typeof require + typeof fetch + typeof XMLHttpRequest + typeof process`, "undefinedundefinedundefinedundefinedundefinedundefined"},
		{`Object.keys(globalThis).indexOf("isInNet")`, "-1"},
	} {
		if got := value(t, x.expr, o); got != x.want {
			t.Errorf("%s = %s, want %s", x.expr, got, x.want)
		}
	}
}

// TestHostile: whatever a script does, it ends in time with its own error, never with entries, and the next query is answered.
func TestHostile(t *testing.T) {
	long := strings.Repeat("a", 40)
	for _, x := range []struct {
		name, body string
		reason     Reason
	}{
		{"loop", `while (true) {}`, ReasonTime},
		{"loop that catches", `while (true) { try { while (true) {} } catch (e) {} }`, ReasonTime},
		{"loop in finally", `try { throw 1 } finally { for (;;) {} }`, ReasonTime},
		{"recursion", `function f() { return f() + 1 } return f()`, ReasonMemory},
		{"recursion through toString", `var o = { toString: function () { return "" + this } }; return "" + o`, ReasonMemory},
		{"recursion by JSON", `var a = []; for (var i = 0; i < 1e5; i++) a = [a]; return JSON.stringify(a)`, ReasonMemory},
		{"strings without end", `var s = "aaaaaaaaaaaaaaaa"; while (true) s += s + s`, ReasonMemory},
		{"arrays without end", `var a = []; while (true) a.push(new Array(1000).fill(1))`, ReasonMemory},
		{"a typed array", `return new Uint8Array(1e9).length`, ReasonMemory},
		{"memory, caught", `var a = []; for (;;) { try { for (;;) a.push(new Array(100000).fill("x")) } catch (e) {} }`, ReasonTime},
		{"regular expression", `return /^(a+)+\1$/.test("` + long + `!")`, ReasonTime},
		{"sort without end", `[1, 2, 3].sort(function () { for (;;) {} })`, ReasonTime},
		{"generator without end", `for (var x of (function* () { for (;;) yield 1 })()) {}`, ReasonTime},
		{"getter", `var o = { get x() { for (;;) {} } }; return o.x`, ReasonTime},
		{"proxy object", `return new Proxy({}, { get: function () { for (;;) {} } }) + ""`, ReasonTime},
		{"proxy as the answer", `return new Proxy(function () {}, { get: function () { return "DIRECT" } })`, ReasonAnswer},
		{"object with toString", `return { toString: function () { return "DIRECT" } }`, ReasonAnswer},
		{"String object", `return new String("DIRECT")`, ReasonAnswer},
		{"async", `return (async function () { return "DIRECT" })()`, ReasonAnswer},
		{"number", `return 1`, ReasonAnswer}, {"true", `return true`, ReasonAnswer}, {"null", `return null`, ReasonAnswer},
		{"nothing", ``, ReasonAnswer}, {"empty", `return ""`, ReasonAnswer}, {"semicolons", `return " ; ;"`, ReasonAnswer},
		{"symbol", `return Symbol("DIRECT")`, ReasonAnswer}, {"array", `return ["DIRECT"]`, ReasonAnswer},
		{"garbage", `return "DIRECTLY"`, ReasonAnswer}, {"long", `return "DIRECT;".repeat(20000)`, ReasonAnswer},
		{"throws", `throw new Error("no")`, ReasonThrow}, {"throws a text", `throw "DIRECT"`, ReasonThrow}, {"throws null", `throw null`, ReasonMemory},
		{"throws a trap", `throw { toString: function () { for (;;) {} } }`, ReasonTime},
		{"throws a thrower", `throw { toString: function () { throw this } }`, ReasonThrow},
		{"throws a proxy", `throw new Proxy({}, { get: function () { throw 1 } })`, ReasonThrow},
		{"throws what is long", `throw new Error("x".repeat(1e6))`, ReasonThrow},
		{"undeclared", `return nosuchfunction(host)`, ReasonThrow},
		{"long argument", `return shExpMatch("a".repeat(1e6), "*a*a*a*a*b") ? "DIRECT" : "DIRECT"`, ReasonThrow},
		{"symbol as argument", `isInNet(Symbol("x"), "1.2.3.4", "1.2.3.4"); return "DIRECT"`, ReasonThrow},
		{"trap as argument", `dnsResolve({ toString: function () { for (;;) {} } })`, ReasonTime},
		{"Function made anew", `return Function("for (;;) {}")()`, ReasonTime},
		{"eval", `return eval("for (;;) {}")`, ReasonTime},
		{"overwrites itself", `FindProxyForURL = null; throw 1`, ReasonThrow}, {"deletes itself", `FindProxyForURL = 1; return null`, ReasonAnswer},
		{"waits", `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`, ReasonThrow},
		{"promise jobs", `(function f() { Promise.resolve().then(f) })(); return null`, ReasonAnswer},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := script(t, `function FindProxyForURL(url, host) { if (host == "good") return "PROXY good:1"; `+x.body+`}`,
				Options{Time: 300 * time.Millisecond, Memory: 6 << 20, Engines: 1, CacheFor: -1})
			for range 2 {
				start := time.Now()
				a, err := s.Find(context.Background(), Query{"http://bad/", "bad"})
				var se *ScriptError
				if !errors.As(err, &se) || len(a.Entries) != 0 {
					t.Fatalf("got %v, %v", a.Entries, err)
				}
				if se.Reason != x.reason && !(se.Reason == ReasonTime && x.reason == ReasonMemory) { // a slow machine may meet the clock first
					t.Errorf("reason %s, want %s: %v", se.Reason, x.reason, err)
				}
				if len(err.Error()) > 600 {
					t.Errorf("the error has %d bytes", len(err.Error()))
				}
				if took := time.Since(start); took > time.Minute {
					t.Errorf("it took %v", took)
				}
			}
			a, err := s.Find(context.Background(), Query{"http://good/", "good"})
			if err != nil || entries(a) != "PROXY good:1" {
				t.Errorf("then: %s, %v", entries(a), err)
			}
		})
	}
}

// TestBuiltinsOverwritten: what a script does to the language is its own loss.
func TestBuiltinsOverwritten(t *testing.T) {
	for _, spoil := range []string{
		`String = Array = Object = Function = null;`,
		`Object.defineProperty = null; Object.prototype.toString = null; Function.prototype.call = Function.prototype.apply = function () { for (;;) {} };`,
		`Array.prototype[Symbol.iterator] = function () { for (;;) {} };`,
		`RangeError = null; Symbol = null; JSON = null;`,
		`String.prototype.indexOf = function () { for (;;) {} };`,
		`Object.defineProperty(Object.prototype, "length", { configurable: true, get: function () { for (;;) {} } });`,
		`Object.freeze(globalThis);`,
		`delete globalThis.globalThis; globalThis = 1;`,
	} {
		s := script(t, `function FindProxyForURL(url, host) { `+spoil+` return dnsDomainIs(host, ".example") && isPlainHostName("x") && isInNet("10.1.1.1", "10.0.0.0", "255.0.0.0") ? "PROXY a:1" : "PROXY b:1" }`, Options{Engines: 1, CacheFor: -1})
		for range 2 {
			if a, err := s.Find(context.Background(), Query{"http://www.example/", "www.example"}); err != nil || entries(a) != "PROXY a:1" {
				t.Errorf("%s: %s, %v", spoil, entries(a), err)
			}
		}
	}
}

func TestCompile(t *testing.T) {
	for text, want := range map[string]string{
		`function FindProxyForURL(url, host) {`: "SyntaxError",
		`var x = 1;`:                            "no function FindProxyForURL",
		`var FindProxyForURL = "DIRECT";`:       "no function FindProxyForURL",
		`throw new Error("at the top");`:        "at the top",
		`for (;;) {}`:                           "ran longer",
		`import x from "x";`:                    "SyntaxError",
	} {
		s, err := New(context.Background(), text, Options{Time: 100 * time.Millisecond})
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", text)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{
		`function FindProxyForURL(u, h) { return "DIRECT" }`, `FindProxyForURL = (u, h) => "DIRECT"`, `const FindProxyForURL = (u, h) => "DIRECT"`,
		`function FindProxyForURLEx(u, h) { return "DIRECT" }`, "\"use strict\"; let FindProxyForURL = function (u, h) { return `DIRECT` }",
	} {
		s := script(t, text, Options{})
		if a, err := s.Find(context.Background(), Query{"http://a/", "a"}); err != nil || entries(a) != "DIRECT" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestLookups: names are bounded in time and number, and what is not answered is a no.
func TestLookups(t *testing.T) {
	o := Options{Resolver: names{"slow.example": "slow", "a.example": "10.0.0.1"}, Lookup: 50 * time.Millisecond, DNS: 120 * time.Millisecond, Time: 2 * time.Second, Lookups: 3, CacheFor: -1}
	s := script(t, `function FindProxyForURL(url, host) {
	  if (host == "same") { var n = 0; for (var i = 0; i < 100; i++) if (dnsResolve("a.example")) n++; return "PROXY n" + n + ":1" }
	  if (host == "many") { for (var i = 0; i < 100; i++) isResolvable("h" + i + ".example"); return isResolvable("a.example") ? "PROXY yes:1" : "PROXY no:1" }
	  return isResolvable("slow.example") ? "PROXY yes:1" : "PROXY no:1";
	}`, o)
	for host, want := range map[string]string{"same": "PROXY n100:1 lookups 1 unasked 0", "many": "PROXY no:1 lookups 3 unasked 98", "slow": "PROXY no:1 lookups 1 unasked 0"} {
		a, err := s.Find(context.Background(), Query{"http://" + host + "/", host})
		if got := fmt.Sprintf("%s lookups %d unasked %d", entries(a), a.Lookups, a.Unasked); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", host, got, err, want)
		}
	}
	// Waiting for names is not the script's time.
	s = script(t, `function FindProxyForURL(url, host) { isResolvable("slow.example"); return "DIRECT" }`, Options{Resolver: names{"slow.example": "slow"}, Lookup: 400 * time.Millisecond, Time: 100 * time.Millisecond})
	if a, err := s.Find(context.Background(), Query{"http://a/", "a"}); err != nil || a.DNS < 300*time.Millisecond {
		t.Errorf("%v after %v", err, a.DNS)
	}
	// Without a resolver, every name is unknown.
	s = script(t, `function FindProxyForURL(url, host) { return dnsResolve(host) === null && !isInNet(host, "0.0.0.0", "0.0.0.0") ? "DIRECT" : "PROXY x:1" }`, Options{})
	if a, err := s.Find(context.Background(), Query{"http://a/", "a"}); err != nil || entries(a) != "DIRECT" {
		t.Errorf("%s, %v", entries(a), err)
	}
}

func TestCanceled(t *testing.T) {
	s := script(t, `function FindProxyForURL(url, host) { for (;;) {} }`, Options{Time: time.Minute, Engines: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Find(ctx, Query{"http://a/", "a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if n := len(s.cache.all); n != 0 {
		t.Errorf("%d answers are kept of a call that was given up", n)
	}
}

func TestCache(t *testing.T) {
	s := script(t, `var n = 0; function FindProxyForURL(url, host) { if (host == "bad") throw ++n; return "PROXY p:" + ++n }`, Options{Engines: 1, Cached: 2})
	ask := func(url, host string) string {
		a, err := s.Find(context.Background(), Query{url, host})
		if err != nil {
			return err.Error()
		}
		return entries(a)
	}
	for i, x := range []struct{ url, host, want string }{
		{"http://a/", "a", "PROXY p:1"}, {"http://a/", "a", "PROXY p:1"}, {"http://a/x", "a", "PROXY p:2"}, {"http://a/", "a", "PROXY p:1"},
		{"http://b/", "b", "PROXY p:3"}, {"http://a/x", "a", "PROXY p:4"}, {"http://a/x", "other", "PROXY p:5"},
		{"http://bad/", "bad", `PAC script: it threw "number 6"`}, {"http://bad/", "bad", `PAC script: it threw "number 6"`},
	} {
		if got := ask(x.url, x.host); got != x.want {
			t.Errorf("%d: %s, want %s", i, got, x.want)
		}
	}
}

func TestParallel(t *testing.T) {
	s := script(t, `function FindProxyForURL(url, host) { var x = 0; for (var i = 0; i < 1000; i++) x += i; return "PROXY " + host + ":" + (x % 7 + 1) }`, Options{Engines: 3, CacheFor: -1})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 20 {
				h := fmt.Sprintf("h%d-%d", i, j)
				if a, err := s.Find(context.Background(), Query{"http://" + h + "/", h}); err != nil || entries(a) != "PROXY "+h+":2" {
					t.Errorf("%s: %s, %v", h, entries(a), err)
				}
			}
		}()
	}
	wg.Wait()
	if st := s.Stats(); st.Engines > 3 || st.Calls != 320 {
		t.Errorf("%+v", st)
	}
}

func TestAlerts(t *testing.T) {
	s := script(t, `function FindProxyForURL(url, host) { for (var i = 0; i < 1000; i++) alert("x".repeat(i)); alert("y".repeat(1e6)); return "DIRECT" }`, Options{})
	a, err := s.Find(context.Background(), Query{"http://a/", "a"})
	if err != nil || len(a.Alerts) != maxAlerts || a.Dropped != 1001-maxAlerts {
		t.Errorf("%d alerts, %d dropped, %v", len(a.Alerts), a.Dropped, err)
	}
}

func BenchmarkFind(b *testing.B) {
	rules := func(n int) string {
		var s strings.Builder
		s.WriteString("function FindProxyForURL(url, host) {\n")
		for i := range n {
			fmt.Fprintf(&s, "if (dnsDomainIs(host, \".d%d.example\") || shExpMatch(host, \"*.x%d.example\")) return \"PROXY p%d:8080\";\n", i, i, i)
		}
		s.WriteString("return \"PROXY a:8080; DIRECT\"; }")
		return s.String()
	}
	q := Query{"https://www.elsewhere.example/", "www.elsewhere.example"}
	for _, n := range []int{2, 60} {
		for _, x := range []struct {
			name string
			keep time.Duration
		}{{"run", -1}, {"cached", time.Hour}} {
			b.Run(fmt.Sprintf("%d rules/%s", 2*n, x.name), func(b *testing.B) {
				s := script(b, rules(n), Options{CacheFor: x.keep})
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Find(context.Background(), q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
