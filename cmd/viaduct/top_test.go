package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"viaduct/connmodel"
	"viaduct/router/admin"
)

// topNow is the time of model tests.
var topNow = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// topFlow is the i-th flow of a test: it began i seconds ago, and has ended when bad or ended say so.
func topFlow(i int, host string, ended, bad bool) *connmodel.Flow {
	f := connmodel.DummyFlow(connmodel.Address{Host: host, Port: 443})
	f.ID = connmodel.NewID(topNow.Add(-time.Duration(i) * time.Second))
	f.Start, f.End, f.Up, f.Down, f.Error = topNow.Add(-time.Duration(i)*time.Second), time.Time{}, int64(i), int64(1000*i), nil
	f.Client.Peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 999)
	if ended || bad {
		f.End, f.Reason = topNow, connmodel.CloseClient
	}
	if bad {
		f.Error = &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideHop, Hop: 1, HopName: "corp_a", Kind: connmodel.KindRefused, Message: "connection refused"}
	}
	return f
}

func topLookOf(open, recent []*connmodel.Flow) *topLook {
	return &topLook{at: topNow, status: &admin.Status{Version: "1.2.3", State: "running", Generation: 4, Uptime: 61, LastReload: admin.ReloadResult{OK: true},
		Sessions: admin.SessionCounts{Open: 3, Flows: 77},
		Upstreams: []admin.UpstreamStatus{
			{Name: "corp_a", Scheme: "http", Address: "10.1.1.1:8080", State: "up", Open: 2, Attempts: 9},
			{Name: "corp_b", Scheme: "http", Address: "10.1.1.2:8080", State: "down", LastError: "hop 1 (corp_b): connection refused"}},
		Pools: []admin.PoolStatus{{Name: "pool.corp", Members: []admin.MemberStatus{{Route: "upstream.corp_a", State: "healthy", Connect: 12.5}}}},
	}, open: open, opens: len(open), recent: recent, lacking: map[string]bool{}}
}

// topRig is a model with a source that a test fills.
type topRig struct {
	*topModel
	t      *testing.T
	next   *topLook
	err    error
	wishes []topWish
}

func newTopRig(t *testing.T, l *topLook) *topRig {
	r := &topRig{t: t, next: l}
	r.topModel = newTopModel(t.Context(), func(_ context.Context, w topWish) (*topLook, error) {
		r.wishes = append(r.wishes, w)
		if r.err != nil {
			return nil, r.err
		}
		c := *r.next
		return &c, nil
	}, time.Second, nil)
	r.now = func() time.Time { return topNow }
	r.lookNow()
	return r
}

// lookNow does what a tick does.
func (r *topRig) lookNow() { r.run(r.ask()) }

// run does a command that looks; those that wait for the next tick are left alone.
func (r *topRig) run(c tea.Cmd) {
	if c != nil && r.looking {
		m, ok := c().(topLooked)
		if !ok {
			r.t.Fatal("a command that looks gave something else")
		}
		r.Update(m)
	}
}

func (r *topRig) press(keys ...string) {
	names := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "up": tea.KeyUp, "down": tea.KeyDown, "tab": tea.KeyTab, "end": tea.KeyEnd, "home": tea.KeyHome,
		"backspace": tea.KeyBackspace, "pgdown": tea.KeyPgDown, "left": tea.KeyLeft}
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k}
		if code, ok := names[k]; ok {
			msg = tea.KeyPressMsg{Code: code}
		} else if len(k) == 1 {
			msg.Code = rune(k[0])
		}
		_, c := r.Update(msg)
		r.run(c)
	}
}

func (r *topRig) screen() string { return ansi.Strip(strings.Join(r.frame(), "\n")) }

func (r *topRig) want(what string, texts ...string) {
	r.t.Helper()
	s := r.screen()
	for _, x := range texts {
		if no, ok := strings.CutPrefix(x, "!"); ok && strings.Contains(s, no) || !ok && !strings.Contains(s, x) {
			r.t.Errorf("%s: expected %q on\n%s", what, x, s)
		}
	}
}

// inOrder fails when the texts are not on the screen, one below the other.
func (r *topRig) inOrder(what string, texts ...string) {
	r.t.Helper()
	s, at := r.screen(), 0
	for _, x := range texts {
		i := strings.Index(s[at:], x)
		if i < 0 {
			r.t.Errorf("%s: %q is not where it should be on\n%s", what, x, s)
			return
		}
		at += i
	}
}

func TestTopTables(t *testing.T) {
	r := newTopRig(t, topLookOf(
		[]*connmodel.Flow{topFlow(3, "c.example", false, false), topFlow(1, "a.example", false, false), topFlow(2, "b.example", false, false)},
		[]*connmodel.Flow{topFlow(9, "well.example", true, false), topFlow(8, "ill.example", false, true)}))
	r.inOrder("the newest first", "viaduct 1.2.3", "config 4", "[1 Open 3]", "AGE", "a.example:443", "b.example:443", "c.example:443")
	r.press("S")
	r.inOrder("turned around", "c.example", "b.example", "a.example")
	r.press("s", "s") // client, target
	r.inOrder("by target", "TARGET▲", "a.example", "b.example", "c.example")
	r.press("s", "s") // route, down, of what fits 80 columns
	r.inOrder("by bytes", "DOWN▼", "c.example", "b.example", "a.example")
	r.press("2")
	r.want("ended", "well.example", "ill.example", "refused corp_a", "client closed")
	r.press("e")
	r.want("failed", "[2 Failed]", "!well.example", "ill.example")
	r.press("e", "tab")
	r.want("upstreams", "corp_a", "down", "pool.corp corp_a", "connection refused")
	r.next.rules = []admin.RuleStatus{{Policy: "default", Rule: "partner api", Flows: 12, Route: "pool.corp"}, {Policy: "default", Rule: "unused", Outcome: "deny"}}
	r.press("4")
	r.inOrder("rules", "partner api", "unused")
	if w := r.wishes[len(r.wishes)-1]; !w.rules {
		t.Error("rules were not asked for")
	}
	r.want("rules", "never", "deny", "pool.corp")
	r.press("?")
	r.want("help", "ctrl-C", "pause")
	r.press("esc", "1")
	r.want("back", "a.example")
}

// TestTopCursor: it stays at its row while others come, and at the top while it is there.
func TestTopCursor(t *testing.T) {
	var flows []*connmodel.Flow
	for i := range 50 {
		flows = append(flows, topFlow(i+10, fmt.Sprintf("host%d.example", i), false, false))
	}
	r := newTopRig(t, topLookOf(flows, nil))
	r.press("down", "down", "down")
	at := r.tables[topOpen].at
	r.next = topLookOf(append(slices.Clone(flows), topFlow(1, "new.example", false, false), topFlow(2, "newer.example", false, false)), nil)
	r.lookNow()
	r.screen()
	if r.tables[topOpen].at != at || r.tables[topOpen].cursor != 5 {
		t.Errorf("the cursor is at row %d", r.tables[topOpen].cursor)
	}
	r.press("end")
	r.want("the end", "host49.example", "!new.example")
	r.press("home")
	r.want("the beginning", "new.example", "!host49.example")
	r.next = topLookOf(nil, nil)
	r.lookNow()
	r.want("all gone", "None.")
	r.press("enter", "down", "up", "pgdown", "end") // on nothing
}

func TestTopFilter(t *testing.T) {
	r := newTopRig(t, topLookOf([]*connmodel.Flow{topFlow(1, "a.example", false, false)}, nil))
	r.press("/", "h", "o", "s", "t", "q", "backspace")
	r.want("typing", "filter: host")
	r.press("enter")
	if w := r.wishes[len(r.wishes)-1]; w.filter != "host" {
		t.Errorf("asked with %q", w.filter)
	}
	r.want("in force", "filter: host", "q quit")
	// One that the gateway does not take is to be mended; what is in force stays.
	r.press("/", "=")
	r.next.refused = "there is no \x1b[31mname"
	r.press("enter")
	r.want("refused", "filter: host=", "there is no", "!\x1b")
	r.next.refused = ""
	r.press("esc")
	r.lookNow()
	r.want("the one before", "filter: host", "q quit")
	r.press("esc")
	if w := r.wishes[len(r.wishes)-1]; w.filter != "" {
		t.Errorf("asked with %q", w.filter)
	}
	r.want("none", "!filter: ")
	r.press("/")
	r.Update(tea.PasteMsg{Content: "host\n == \x1b[31m\"x\""})
	r.want("pasted", `filter: host == [31m"x"`)
}

func TestTopPauseAndLost(t *testing.T) {
	r := newTopRig(t, topLookOf([]*connmodel.Flow{topFlow(1, "a.example", false, false)}, nil))
	r.press("p")
	r.next = topLookOf([]*connmodel.Flow{topFlow(1, "b.example", false, false)}, nil)
	n := len(r.wishes)
	r.Update(topTick{})
	r.want("paused", "PAUSED", "a.example")
	if len(r.wishes) != n {
		t.Error("it looks while it is paused")
	}
	r.press("p")
	r.want("going on", "!PAUSED", "b.example")
	r.err = &noDoor{"unix:/\x1b]0;x", errors.New("connection refused")}
	r.lookNow()
	r.now = func() time.Time { return topNow.Add(5 * time.Second) }
	r.want("lost", "LOST for 5.0s", "connection refused", "b.example", "!\x1b")
	r.err = nil
	r.lookNow()
	r.want("found", "!LOST", "b.example")
}

func TestTopPage(t *testing.T) {
	f := topFlow(8, "ill.example", false, true)
	f.Decision = &connmodel.Decision{Policy: "default", Rule: "partner api", File: "viaduct.hcl", Line: 35, Outcome: connmodel.OutcomeVia, Route: "pool.corp"}
	f.Server.Attempts = []connmodel.Attempt{{Number: 1, Route: "corp_a", Start: f.Start, End: f.End, Error: f.Error,
		Hops: []connmodel.HopResult{{Index: 1, Upstream: "corp_a", Protocol: "http", Address: connmodel.Address{Host: "10.1.1.1", Port: 8080}, TCP: 3 * time.Millisecond, Error: f.Error}}}}
	r := newTopRig(t, topLookOf(nil, []*connmodel.Flow{f}))
	r.press("2", "enter")
	r.want("page", f.ID.String(), "partner api", "viaduct.hcl:35", "corp_a", "connection refused", "3.0ms", "times", "esc back")
	if w := r.wishes[len(r.wishes)-1]; w.detail != f.ID {
		t.Error("the connection was not asked for")
	}
	r.next = topLookOf(nil, nil)
	r.lookNow()
	r.want("it stays when the list forgets it", f.ID.String())
	r.press("end", "pgdown", "home", "esc")
	r.want("back", "None has ended lately.")
}

// TestTopSizes: no line is wider than the terminal, no frame higher, whatever is shown, also of hostile names; and ASCII is ASCII.
func TestTopSizes(t *testing.T) {
	var flows, ended []*connmodel.Flow
	for i, s := range []string{"\x1b]52;c;aGk=\a", "\x9b31m", "a\r\nb", "\u202eevil", "日本語日本語日本語.example", strings.Repeat("x", 10000), "\xff\xfe", "a\u2028b\u200b", "e\u0301\u0301\u0301", "👩‍👩‍👧‍👦.example"} {
		flows, ended = append(flows, topFlow(i, s, false, false)), append(ended, topFlow(i, s, true, i%2 == 0))
		flows[i].Client.User = s
		flows[i].Decision = &connmodel.Decision{Policy: s, Rule: s, Route: s, Outcome: connmodel.OutcomeVia, File: s, Line: 1}
	}
	l := topLookOf(flows, ended)
	l.rules = []admin.RuleStatus{{Policy: "\x1b[2J", Rule: "\u202e", Route: "x", File: "\n"}}
	l.status.Name, l.status.Upstreams[0].LastError = "\x1b[31m", "\x1b]0;t\a\u2028"
	ours := regexp.MustCompile(`^\[[0-9]*m`)
	for _, utf := range []bool{true, false} {
		r := newTopRig(t, l)
		r.utf8 = utf
		for _, keys := range [][]string{{"1"}, {"2"}, {"3"}, {"4"}, {"1", "enter"}, {"esc", "2", "down", "enter"}, {"?"}, {"?", "esc", "/", "x", "ü"}} {
			r.press(keys...)
			for _, size := range [][2]int{{80, 24}, {40, 12}, {200, 60}, {20, 5}, {1, 1}, {3, 2}, {0, 0}, {61, 7}} {
				r.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
				lines := r.frame()
				if len(lines) > size[1] {
					t.Errorf("%v at %v: %d lines", keys, size, len(lines))
				}
				for _, s := range lines {
					if n := ansi.StringWidth(s); n > size[0] {
						t.Errorf("%v at %v: a line is %d wide: %q", keys, size, n, s)
					}
					for _, c := range ansi.Strip(s) {
						if !unicode.IsPrint(c) || !utf && c > 0x7e {
							t.Errorf("%v at %v: %q", keys, size, s)
							break
						}
					}
					// Of escape sequences, those that we make are all.
					for _, p := range strings.Split(s, "\x1b")[1:] {
						if !ours.MatchString(p) {
							t.Errorf("%v at %v: sequence %q", keys, size, p)
						}
					}
				}
			}
		}
	}
}

// TestTopMany: ten thousand connections are drawn without drawing those that are not on the screen.
func TestTopMany(t *testing.T) {
	var flows []*connmodel.Flow
	for i := range 10_000 {
		flows = append(flows, topFlow(i%5000, fmt.Sprintf("host%d.example", i), false, false))
	}
	l := topLookOf(flows, nil)
	l.opens, l.more = 12_345, true
	r := newTopRig(t, l)
	r.want("many", "Open 12345", "the newest 10000")
	if n := testing.AllocsPerRun(5, func() { r.frame() }); n > 2000 {
		t.Errorf("a frame takes %.0f allocations: does it write what is not on the screen?", n)
	}
	for range 3 * topSamples {
		r.lookNow()
	}
	if len(r.samples) > 2*topSamples {
		t.Errorf("%d samples are kept", len(r.samples))
	}
}

func TestTopUnits(t *testing.T) {
	for in, want := range map[time.Duration]string{-1: "0", 0: "0ms", 999 * time.Millisecond: "999ms", 1500 * time.Millisecond: "1.5s", 100 * time.Second: "1m40s", 3 * time.Hour: "3h00m", 1000 * time.Hour: "41d16h"} {
		if got := shortTime(in); got != want {
			t.Errorf("%v: %q, expected %q", in, got, want)
		}
	}
	for in, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9999: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 1 << 62: "4612 PB"} {
		if got := shortBytes(in); got != want {
			t.Errorf("%d: %q, expected %q", in, got, want)
		}
	}
}

func TestUnicodeTerminal(t *testing.T) {
	for _, c := range []struct {
		all, ctype, lang string
		want             bool
	}{{"", "", "", false}, {"", "", "C.UTF-8", true}, {"C", "", "en_GB.UTF-8", false}, {"", "de_DE.utf8@euro", "C", true}, {"", "", "en_GB", false}, {"", "", "en_GB.ISO-8859-1", false}} {
		t.Setenv("LC_ALL", c.all)
		t.Setenv("LC_CTYPE", c.ctype)
		t.Setenv("LANG", c.lang)
		if got := unicodeTerminal(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
