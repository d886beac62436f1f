package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

// drawn is the answer of /v1/history.
type drawn struct {
	Range  string                `json:"range"`
	Step   int64                 `json:"step"`
	Now    int64                 `json:"now"`
	Times  []int64               `json:"times"`
	Series map[string][]*float64 `json:"series"`
	Errors map[string][]*float64 `json:"errors_by_kind"`
	Ups    []struct {
		Name, State            string
		Up, Attempts, Failures []*float64
		Open                   []*float64
	} `json:"upstreams"`
	LeftOut int `json:"upstreams_left_out"`
	Rules   []struct {
		Policy, Rule string
		Flows        []*float64
	} `json:"rules"`
	Other   []*float64 `json:"rules_other"`
	Changes []struct {
		Time               time.Time
		Upstream, From, To string
	} `json:"changes"`
}

// clockwork drives a History by hand.
type clockwork struct {
	t   *testing.T
	h   *History
	m   *Meter
	now time.Time
	v   Vitals
}

func newClockwork(t *testing.T) *clockwork {
	c := &clockwork{t: t, m: newMeter(), now: time.Now().Truncate(time.Hour)}
	c.h = NewHistory(c.m, func() Vitals {
		v := c.v
		v.Upstreams = slices.Clone(v.Upstreams)
		return v
	})
	c.h.sample(c.now, 0)
	return c
}

// pass lets a second go by.
func (c *clockwork) pass() {
	c.now = c.now.Add(time.Second)
	c.h.sample(c.now, c.h.last.mono+time.Second)
}

func (c *clockwork) draw(name string) drawn {
	c.t.Helper()
	for i := range resolutions {
		if resolutions[i].name != name {
			continue
		}
		var d drawn
		b := c.h.appendJSON(nil, i, c.now)
		if err := json.Unmarshal(b, &d); err != nil {
			c.t.Fatalf("%v\n%.400s", err, b)
		}
		if len(d.Times) != int(resolutions[i].steps) {
			c.t.Fatalf("%d times", len(d.Times))
		}
		for key, line := range d.Series {
			if len(line) != len(d.Times) {
				c.t.Errorf("%s has %d values for %d times", key, len(line), len(d.Times))
			}
		}
		return d
	}
	c.t.Fatal("no such range")
	return drawn{}
}

// last returns the n last values, "-" for a gap.
func last(line []*float64, n int) string {
	var b strings.Builder
	for _, x := range line[max(len(line)-n, 0):] {
		if x == nil {
			b.WriteString("- ")
		} else {
			fmt.Fprintf(&b, "%.4g ", *x)
		}
	}
	return strings.TrimSpace(b.String())
}

func connectedIn(d time.Duration) *connmodel.Flow {
	f := flow()
	a := &f.Server.Attempts[1]
	a.End = a.Start.Add(d)
	return f
}

func TestHistory(t *testing.T) {
	c := newClockwork(t)
	c.v = Vitals{Open: 1, Upstreams: []UpstreamVital{{Name: "corp_a", State: StateUp, Up: true}}}
	c.pass()
	// A tunnel that has run for long carries on: its bytes are shown as they flow, and not again when it ends.
	for range 5 {
		c.v.Up, c.v.Down = c.v.Up+1000, c.v.Down+5000
		c.v.Upstreams[0].Attempts += 2
		c.v.Upstreams[0].Failures++
		for range 3 {
			c.m.FlowClosed(connectedIn(20 * time.Millisecond)) // 100 up, 2000 down, and one failed attempt
		}
		c.pass()
	}
	f := flow()
	f.Up, f.Down, f.Server, f.Error = int64(c.v.Up), int64(c.v.Down), nil, &connmodel.ConnError{Kind: connmodel.KindReset}
	c.v = Vitals{Upstreams: []UpstreamVital{{Name: "corp_a", State: StateDown, Attempts: 10, Failures: 5}, {Name: "corp_b", State: StateUp, Up: true}}}
	c.m.FlowClosed(f)
	c.pass()
	d := c.draw("5m")
	for key, want := range map[string]string{
		"flows": "0 3 3 3 3 3 1", "errors": "0 0 0 0 0 0 1", "bytes_up": "0 1300 1300 1300 1300 1300 0", "bytes_down": "0 1.1e+04 1.1e+04 1.1e+04 1.1e+04 1.1e+04 0",
		"open": "1 1 1 1 1 1 0", "attempts": "0 6 6 6 6 6 0", "failures": "0 3 3 3 3 3 0",
		"connect_p50": "- 0.0175 0.0175 0.0175 0.0175 0.0175 -", "connect_p99": "- 0.02485 0.02485 0.02485 0.02485 0.02485 -",
	} {
		if got := last(d.Series[key], 7); got != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if got := last(d.Series["flows"], 9); got != "- - 0 3 3 3 3 3 1" {
		t.Errorf("before the start: %s", got)
	}
	if got := last(d.Errors["reset"], 2); got != "0 1" {
		t.Errorf("errors: %s", got)
	}
	if len(d.Ups) != 2 || d.Ups[0].Name != "corp_a" || d.Ups[0].State != StateDown || last(d.Ups[0].Up, 3) != "1 1 0" || last(d.Ups[0].Attempts, 3) != "2 2 0" ||
		last(d.Ups[0].Failures, 3) != "1 1 0" || last(d.Ups[1].Up, 2) != "- 1" {
		for _, u := range d.Ups {
			t.Errorf("upstream %s %s: %s, %s, %s", u.Name, u.State, last(u.Up, 3), last(u.Attempts, 3), last(u.Failures, 3))
		}
	}
	if len(d.Rules) != 1 || d.Rules[0].Rule != "partner api" || last(d.Rules[0].Flows, 3) != "3 3 1" {
		t.Errorf("%d rules", len(d.Rules))
	}
	// corp_a was not there at the first look, and corp_b came later.
	var changes []string
	for _, x := range d.Changes {
		changes = append(changes, x.Upstream+" "+x.From+">"+x.To)
	}
	if got := strings.Join(changes, ", "); got != "corp_a >up, corp_a up>down, corp_b >up" {
		t.Errorf("changes: %s", got)
	}
	for range 5 {
		c.pass()
	}
	// 12 seconds have passed, of which the first ten are a whole step of the next range: 16 flows in them.
	d = c.draw("1h")
	if got := last(d.Series["flows"], 2); got != "- 1.6" {
		t.Errorf("flows of ten seconds: %s", got)
	}
	if got := last(d.Ups[0].Up, 1); got != "0" {
		t.Errorf("an upstream that was down for a while: %s", got)
	}
	for range 60 {
		c.pass()
	}
	if got := last(c.draw("24h").Series["flows"], 2); got != "- 0.2667" {
		t.Errorf("flows of a minute: %s", got)
	}
}

// TestHistoryGaps: what cannot be told apart in time is left out, and counting goes on behind it.
func TestHistoryGaps(t *testing.T) {
	for _, x := range []struct {
		name       string
		wall, mono time.Duration // how far the clocks go on between two readings
		want       string        // flows of the last seconds
	}{
		{"late by two seconds", 3 * time.Second, 3 * time.Second, "4 2 2 2 4"},
		{"stopped for long", 30 * time.Second, 30 * time.Second, "- - - - 4"},
		{"the machine slept", 5 * time.Minute, time.Second, "- - - - 4"},
		{"the clock was set forward", time.Hour, time.Second, "- - - - 4"},
		{"the clock was set back a little", -20 * time.Second, time.Second, "- - - - 4"},
		{"the clock was set back far", -48 * time.Hour, time.Second, "- - - - 4"},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := newMeter()
			wall := time.Now().Truncate(time.Hour).Round(0)
			var v Vitals
			h := NewHistory(m, func() Vitals { return v })
			count := func(n int) {
				for range n {
					m.FlowClosed(flow())
				}
			}
			at, mono := wall, time.Minute
			tick := func(wallStep, monoStep time.Duration) {
				at, mono = at.Add(wallStep), mono+monoStep
				h.sample(at, mono)
			}
			tick(0, 0)
			count(4)
			tick(time.Second, time.Second)
			count(6)
			tick(x.wall, x.mono)
			count(4)
			tick(time.Second, time.Second)
			var d drawn
			if err := json.Unmarshal(h.appendJSON(nil, 0, at), &d); err != nil {
				t.Fatal(err)
			}
			if got := last(d.Series["flows"], 5); got != x.want {
				t.Errorf("flows: %s, want %s", got, x.want)
			}
			for _, line := range d.Series {
				for _, n := range line {
					if n != nil && (*n < 0 || math.IsInf(*n, 0) || *n > 10_000) {
						t.Errorf("nonsense: %v", *n)
					}
				}
			}
		})
	}
}

// TestHistoryBounded: rules and upstreams that come and go for long take no more room.
func TestHistoryBounded(t *testing.T) {
	c := newClockwork(t)
	for i := range 400 {
		c.v.Upstreams = nil
		for j := range 60 {
			c.v.Upstreams = append(c.v.Upstreams, UpstreamVital{Name: fmt.Sprint("u", i/100, "-", j), State: StateUp, Up: true})
		}
		f := flow()
		f.Decision = &connmodel.Decision{Policy: "p", Rule: fmt.Sprint("r", i)}
		c.m.FlowClosed(f)
		c.pass()
	}
	if len(c.h.ups) != maxUpstreamLines || len(c.h.rules) != maxRuleLines || len(c.h.changes) != maxChanges {
		t.Errorf("%d upstreams, %d rules, %d changes", len(c.h.ups), len(c.h.rules), len(c.h.changes))
	}
	d := c.draw("5m")
	if d.LeftOut != 12 || d.Ups[0].Name[:3] != "u3-" {
		t.Errorf("%d left out, first %s", d.LeftOut, d.Ups[0].Name)
	}
	if got := last(d.Other, 2); got == "" || got == "- -" {
		t.Errorf("flows of rules without a line: %s", got)
	}
	if last(d.Rules[0].Flows, 1) == "-" {
		t.Error("a rule at rest has a gap")
	}
}

// TestHistoryOverHTTP runs the real clock.
func TestHistoryOverHTTP(t *testing.T) {
	m := NewMetrics(&fakeGateway{})
	h := NewHistory(m.Meter(), func() Vitals { return Vitals{Open: 3} })
	h.Begin()
	t.Cleanup(h.Close)
	api := routes(&Options{Gateway: &fakeGateway{}, Metrics: m, History: h})
	get := func(target string) (int, string) {
		w := httptest.NewRecorder()
		r, _ := http.NewRequest("GET", target, nil)
		api.ServeHTTP(w, r)
		b, _ := io.ReadAll(w.Result().Body)
		return w.Code, string(b)
	}
	if code, text := get("/v1/history?range=2d"); code != 400 || !strings.Contains(text, "5m, 1h, 24h") {
		t.Errorf("%d %s", code, text)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		code, text := get("/v1/history")
		var d drawn
		if err := json.Unmarshal([]byte(text), &d); code != 200 || err != nil {
			t.Fatalf("%d %v\n%s", code, err, text)
		}
		if n := len(d.Times); d.Times[n-1] > d.Now || d.Now-d.Times[n-1] > 3 {
			t.Fatalf("now %d, last %d", d.Now, d.Times[n-1])
		}
		if strings.Contains(last(d.Series["open"], 5), "3") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(last(d.Series["open"], 10))
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code, _ := func() (int, string) {
		w := httptest.NewRecorder()
		r, _ := http.NewRequest("GET", "/v1/history", nil)
		routes(&Options{Gateway: &fakeGateway{}}).ServeHTTP(w, r)
		return w.Code, ""
	}(); code != 404 {
		t.Errorf("without a history: %d", code)
	}
}

// BenchmarkHistory is what a second costs: 50 rules, 20 upstreams.
func BenchmarkHistory(b *testing.B) {
	m := newMeter()
	for i := range 50 {
		f := flow()
		f.Decision = &connmodel.Decision{Policy: "p", Rule: fmt.Sprint("r", i)}
		f.Server.Attempts[1].Route = fmt.Sprint("upstream.", i%20)
		m.FlowClosed(f)
	}
	var v Vitals
	for j := range 20 {
		v.Upstreams = append(v.Upstreams, UpstreamVital{Name: fmt.Sprint("u", j), State: StateUp, Up: true})
	}
	h := NewHistory(m, func() Vitals { return v })
	now := time.Now()
	for b.Loop() {
		now = now.Add(time.Second)
		h.sample(now, h.last.mono+time.Second)
	}
}
