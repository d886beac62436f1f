package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"viaduct/policies/pac"
	"viaduct/upstream/upstreamtest/peers"
)

// oracleFunctions is expressions that libpacparser and we must find alike, at any time.
func oracleFunctions() (all []string) {
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	hosts := []string{"", "www", "www.corp.example", "WWW.Corp.Example", "corp.example", ".corp.example", "xcorp.example", "a.b.c.d", "10.1.2.3", "10.1.2", "256.1.2.3", "192.0.2.129", "127.0.0.1"}
	for _, h := range hosts {
		add("isPlainHostName(%q)", h)
		add("dnsDomainLevels(%q)", h)
		for _, d := range []string{"", ".corp.example", "corp.example", ".Corp.Example", "www.corp.example", "example", "3"} {
			add("dnsDomainIs(%q, %q)", h, d)
			add("localHostOrDomainIs(%q, %q)", h, d)
		}
		for _, p := range []string{"*", "", "?", "*.corp.example", "www*", "*.*", "w?w*e", "*.Corp.*", "10.*", "???", "*??*", "**w**", "www.corp.example"} {
			add("shExpMatch(%q, %q)", h, p)
		}
	}
	for _, ip := range []string{"10.1.2.3", "192.0.2.129", "127.0.0.1", "0.0.0.0", "255.255.255.255"} {
		add("dnsResolve(%q)", ip)
		add("isResolvable(%q)", ip)
		for _, n := range []string{"10.0.0.0|255.0.0.0", "10.1.2.3|255.255.255.255", "192.0.2.128|255.255.255.128", "0.0.0.0|0.0.0.0", "10.0.0.3|255.0.0.255", "127.0.0.0|255.255.255.0", "255.255.255.254|255.255.255.254"} {
			net, mask, _ := strings.Cut(n, "|")
			add("isInNet(%q, %q, %q)", ip, net, mask)
		}
	}
	for _, ip := range []string{"10.1.2.3", "2001:db8::7"} {
		for _, n := range []string{"10.0.0.0/8", "10.1.2.3/32", "11.0.0.0/8", "2001:db8::/32", "2001:db8::7/128", "2001:db9::/32"} {
			add("isInNetEx(%q, %q)", ip, n)
		}
	}
	return append(all, `myIpAddress()`)
}

// oracleDates is expressions that depend on the time, ours and theirs. libpacparser knows no ranges that go over the end, as browsers
// do now: it is asked for what lies between. Where an end is the 31st of another month it is a few days off, so there is none of those.
func oracleDates(now time.Time) (ours, theirs []string) {
	add := func(format string, args ...any) {
		ours, theirs = append(ours, fmt.Sprintf(format, args...)), append(theirs, fmt.Sprintf(format, args...))
	}
	over := func(x, between string) { ours, theirs = append(ours, x), append(theirs, "!"+between) }
	days := []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	months := []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	for _, gmt := range []string{"", `, "GMT"`} {
		for i, a := range days {
			add("weekdayRange(%q%s)", a, gmt)
			for j, b := range days {
				if x := fmt.Sprintf("weekdayRange(%q, %q%s)", a, b, gmt); i <= j {
					add("%s", x)
				} else if i > j+1 {
					over(x, fmt.Sprintf("weekdayRange(%q, %q%s)", days[j+1], days[i-1], gmt))
				}
			}
		}
		for h := range 24 {
			add("timeRange(%d%s)", h, gmt)
			add("timeRange(%d, %d%s)", h, min(h+2, 23), gmt)
			for _, n := range []int{3, 9, 20} {
				if to := h + n; to < 24 {
					add("timeRange(%d, 0, %d, 0%s)", h, to, gmt)
					add("timeRange(%d, 30, %d, 15%s)", h, to, gmt)
					add("timeRange(%d, 0, 0, %d, 59, 59%s)", h, to, gmt)
				} else {
					over(fmt.Sprintf("timeRange(%d, 30, %d, 15%s)", h, to-24, gmt), fmt.Sprintf("timeRange(%d, 16, 0, %d, 29, 59%s)", to-24, h, gmt))
					over(fmt.Sprintf("timeRange(%d, 0, 0, %d, 59, 59%s)", h, to-24, gmt), fmt.Sprintf("timeRange(%d, 0, 0, %d, 59, 59%s)", to-23, h-1, gmt))
				}
			}
		}
		for i, m := range months {
			add("dateRange(%q%s)", m, gmt)
			if i < 10 {
				add("dateRange(1, %q, 28, %q%s)", m, months[i+2], gmt)
			}
			add("dateRange(1, %q, %d, 28, %q, %d%s)", m, now.Year()-1, months[(i+1)%12], now.Year(), gmt)
		}
		for d := 1; d <= 28; d++ {
			add("dateRange(%d%s)", d, gmt)
			add("dateRange(%d, %d%s)", d, min(d+3, 28), gmt)
		}
		for y := -1; y <= 1; y++ {
			add("dateRange(%d%s)", now.Year()+y, gmt)
			add("dateRange(%d, %d%s)", now.Year()+y, now.Year()+y+1, gmt)
		}
	}
	for _, x := range []string{"new Date().getHours()", "new Date().getDay()", "new Date().getDate()", "new Date().getTimezoneOffset()", "new Date(2026, 6, 1, 12).getTime()", "new Date(2026, 0, 1, 12).getTime()",
		"Date.parse('2026/07/01 12:00')", "new Date(0).getHours()", "(function () { var d = new Date(2026, 2, 1, 2, 30); d.setDate(d.getDate() + 40); return d.getTime() })()"} {
		add("%s", x)
	}
	return ours, theirs
}

// TestPACFunctionsOracle asks libpacparser and us for the value of every expression, in several zones.
func TestPACFunctionsOracle(t *testing.T) {
	peers.Need(t, "pactester")
	for _, zone := range []string{"UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"} {
		where, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		for try := 0; ; try++ { // both must be asked in the same minute
			began := time.Now().Truncate(time.Minute)
			dates, others := oracleDates(began.In(where))
			all := append(oracleFunctions(), dates...)
			theirs, ours := oracleValues(t, zone, append(oracleFunctions(), others...)), ourValues(t, where, all)
			if time.Now().Truncate(time.Minute) != began && try < 5 {
				continue
			}
			differ := 0
			// libpacparser holds the clock of GMT against hours of the local day: while it is another day there, nothing is in any range.
			otherDay := began.In(where).Day() != began.UTC().Day()
			for i, x := range all {
				if otherDay && strings.HasPrefix(x, "timeRange(") && strings.HasSuffix(x, `"GMT")`) {
					continue
				}
				if theirs[i] != ours[i] {
					if differ++; differ <= 40 {
						t.Errorf("%s in %s: we say %q, libpacparser %q", x, zone, ours[i], theirs[i])
					}
				}
			}
			t.Logf("%s: %d expressions, %d differ", zone, len(all), differ)
			break
		}
	}
}

func expressions(all []string) string {
	return "function FindProxyForURL(url, host) { return [\n" + strings.Join(all, ",\n") + "].join(\"|\"); }\n"
}

func oracleValues(t *testing.T, zone string, all []string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "functions.pac")
	if err := os.WriteFile(file, []byte(expressions(all)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "pactester", "-c", "192.0.2.5", "-p", file, "-u", "http://a/")
	c.Env = append(os.Environ(), "TZ="+zone)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("pactester: %v", err)
	}
	values := strings.Split(strings.TrimSpace(string(out)), "|")
	if len(values) != len(all) {
		t.Fatalf("pactester gave %d values of %d: %s", len(values), len(all), out)
	}
	return values
}

func ourValues(t *testing.T, where *time.Location, all []string) []string {
	t.Helper()
	s, err := pac.New(context.Background(), expressions(all), pac.Options{Engines: 1, Resolver: noNames{}, Location: where, Time: time.Minute,
		Mine: func() (v4, v6 netip.Addr) { return netip.MustParseAddr("192.0.2.5"), netip.Addr{} }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, _ := s.Find(context.Background(), pac.Query{URL: "http://a/", Host: "a"}) // values are no entries
	values := strings.Split(a.Text, "|")
	if len(values) != len(all) {
		t.Fatalf("we gave %d values of %d: %q", len(values), len(all), a.Text)
	}
	return values
}
