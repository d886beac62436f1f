package admin

import (
	"math"
	"sync"
	"time"

	"viaduct/connmodel"
)

// History remembers how much was going on: every second for five minutes, every ten seconds for an hour, every minute for a day. It is
// what dashboards draw without a Prometheus; it is lost with the process.
//
// One goroutine reads what the Meter counts anyway and looks at what is open, once a second, so that connections pay nothing for it. Its
// memory does not grow: a line (one number over all three ranges) is 8.4 KB, and there are at most maxLines of them, 2.4 MB; a gateway
// with ten rules and three proxies keeps some 30.
//
// Where nothing was measured, because the machine slept, the process was stopped or somebody set the clock, there is a gap.
type History struct {
	meter *Meter
	look  func() Vitals

	mu       sync.Mutex
	rings    [len(resolutions)]ring
	global   [numGlobal]*column
	errors   map[connmodel.Kind]*column
	ups      map[string]*upstreamLines
	rules    map[ruleKey]*column
	noRoom   column // flows of rules that have no line of their own
	changes  []StateChange
	states   map[string]string
	hidden   int // upstreams without a line
	previous reading
	seen     Vitals
	flowRate rates
	ended    rates // bytes of ended flows at the last look

	last     clocks // at the last reading
	lastTick int64  // second up to which is written
	looked   time.Duration
	rest     time.Duration // until the next look at what is open: it is not to cost more than a hundredth of a core

	stop, done chan struct{}
}

// Vitals is what a gateway tells its History of the moment.
type Vitals struct {
	Open      int    // flows
	Up, Down  uint64 // payload bytes that the open ones have carried so far, where that is known
	Upstreams []UpstreamVital
}

// UpstreamVital is a declared proxy at a moment; the counters are since the start.
type UpstreamVital struct {
	Name, State        string // State as in UpstreamStatus
	Up                 bool
	Open               int64
	Attempts, Failures uint64
}

// StateChange says that an upstream is in another state than it was.
type StateChange struct {
	Time     time.Time
	Upstream string
	From, To string // "" = it was not there, or is not any more
}

// The resolutions of a History, in seconds, with how many steps of each are kept.
var resolutions = [...]struct {
	name  string
	step  int64
	steps int
}{{"5m", 1, 300}, {"1h", 10, 360}, {"24h", 60, 1440}}

// Bounds of a History.
const (
	maxUpstreamLines = 48 // of four lines each
	maxRuleLines     = 64
	maxErrorLines    = 24
	maxChanges       = 256
	maxLines         = numGlobal + maxErrorLines + 4*maxUpstreamLines + maxRuleLines + 1
	maxSpread        = 10 * time.Second // between two readings; more is a gap
	maxRest          = 10 * time.Second
	jumped           = time.Second // by which wall clock and monotonic clock may differ between two readings
)

// The lines that every gateway has.
const (
	lineFlows = iota
	lineErrors
	lineUp
	lineDown
	lineOpen
	lineAttempts
	lineFailures
	lineP50
	lineP90
	lineP99
	numGlobal
)

var globalNames = [numGlobal]string{"flows", "errors", "bytes_up", "bytes_down", "open", "attempts", "failures", "connect_p50", "connect_p90", "connect_p99"}

// column is one number over all ranges.
type column struct {
	recent [300]float32
	hour   [360]float32
	day    [1440]float32
	active int64 // second of the last value that says something
}

func (c *column) of(ring int) []float32 {
	switch ring {
	case 0:
		return c.recent[:]
	case 1:
		return c.hour[:]
	}
	return c.day[:]
}

type upstreamLines struct{ up, attempts, failures, open *column }

// ring is the time of the columns at one resolution.
type ring struct {
	slots []slot
	base  buckets // what had connected when the slot under way began
}

type slot struct {
	n       int64 // number of the step since 1970; 0 = nothing was measured
	seconds int32 // of it that were measured
}

// clocks is a time by both clocks of the machine; the monotonic one does not know of sleep, nor of anybody who sets the other.
type clocks struct {
	wall time.Time // zero = never
	mono time.Duration
}

// rates are numbers for both directions.
type rates struct{ up, down float64 }

// NewHistory returns a History of what m counts; look is asked for the rest, from one goroutine.
func NewHistory(m *Meter, look func() Vitals) *History {
	h := &History{meter: m, look: look, errors: map[connmodel.Kind]*column{}, ups: map[string]*upstreamLines{}, rules: map[ruleKey]*column{}, states: map[string]string{}}
	for i := range h.rings {
		h.rings[i].slots = make([]slot, resolutions[i].steps)
	}
	for i := range h.global {
		h.global[i] = new(column)
	}
	return h
}

// Begin starts the reading. Close ends it.
func (h *History) Begin() {
	h.stop, h.done = make(chan struct{}), make(chan struct{})
	go h.run(h.stop, h.done)
}

// Close ends the reading; what was read can still be asked for. A History that was never begun may be closed.
func (h *History) Close() {
	if h.stop != nil {
		close(h.stop)
		<-h.done
		h.stop = nil
	}
}

func (h *History) run(stop, done chan struct{}) {
	defer close(done)
	begun := time.Now()
	pruned := begun
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		now := time.Now()
		if now.Sub(pruned) >= time.Minute {
			pruned = now
			h.meter.prune(now)
		}
		h.sample(now.Round(0), now.Sub(begun))
		now = time.Now() // whole seconds of the wall clock, which may have been set meanwhile
		t.Reset(now.Truncate(time.Second).Add(time.Second + time.Millisecond).Sub(now))
	}
}

// sample reads and writes what has happened since the last time.
func (h *History) sample(now time.Time, mono time.Duration) {
	r := h.meter.read()
	h.mu.Lock()
	defer h.mu.Unlock()
	tick := now.Unix()
	elapsed, wall := mono-h.last.mono, now.Sub(h.last.wall)
	first := h.last.wall.IsZero()
	if first || wall <= 0 || elapsed > maxSpread || (wall-elapsed).Abs() > jumped {
		// What came before cannot be told apart in time: this is where counting begins.
		h.seen = h.look()
		r.up, r.down = r.endedUp+float64(h.seen.Up), r.endedDown+float64(h.seen.Down)
		h.noteStates(now, !first)
		h.begin(clocks{now, mono}, tick, r)
		h.looked, h.rest, h.flowRate, h.ended = mono, 0, rates{}, rates{r.endedUp, r.endedDown}
		for i := range h.rings {
			h.rings[i].base = r.connects
		}
		return
	}
	if tick == h.lastTick {
		return // woken before its time
	}
	d := h.since(now, mono, &r)
	for second := h.lastTick; second < tick; second++ {
		h.write(second, &d, &r)
	}
	h.begin(clocks{now, mono}, tick, r)
}

func (h *History) begin(now clocks, tick int64, r reading) {
	h.last, h.lastTick, h.previous = now, tick, r
}

// delta is what goes into one second.
type delta struct {
	global    [numGlobal]float64
	errors    map[connmodel.Kind]float64
	upstreams map[string][4]float64
	rules     map[ruleKey]float64
}

func (h *History) since(now time.Time, mono time.Duration, r *reading) delta {
	p, seconds := &h.previous, (mono - h.last.mono).Seconds()
	d := delta{errors: map[connmodel.Kind]float64{}, upstreams: map[string][4]float64{}, rules: map[ruleKey]float64{}}
	per := func(now, before float64) float64 { return max(now-before, 0) / seconds }
	d.global[lineFlows] = per(r.flows, p.flows)
	for kind, n := range r.errors {
		if x := per(n, p.errors[kind]); x > 0 {
			d.errors[kind] = x
			d.global[lineErrors] += x
		}
	}
	d.global[lineAttempts], d.global[lineFailures] = per(r.attempts, p.attempts), per(r.failures, p.failures)
	for rule, n := range r.rules {
		if x := per(n, p.rules[rule]); x > 0 {
			d.rules[rule] = x
		}
	}
	if since := mono - h.looked; since >= h.rest {
		h.lookAgain(now, r, since.Seconds(), &d)
		h.looked = mono
	} else {
		// Bytes were not counted anew, and stay what they were a moment ago.
		r.up, r.down = p.up, p.down
		for _, u := range h.seen.Upstreams {
			d.upstreams[u.Name] = [4]float64{bit(u.Up), 0, 0, float64(u.Open)}
		}
	}
	d.global[lineUp], d.global[lineDown] = h.flowRate.up, h.flowRate.down
	d.global[lineOpen] = float64(h.seen.Open)
	return d
}

// lookAgain asks the gateway what is open. The counters of ended flows have been read before: a flow that ends in between is missing for a
// second in place of being counted twice, and as sums never go back nothing is lost.
func (h *History) lookAgain(now time.Time, r *reading, seconds float64, d *delta) {
	before := map[string]UpstreamVital{}
	for _, u := range h.seen.Upstreams {
		before[u.Name] = u
	}
	begun := time.Now()
	h.seen = h.look()
	took := time.Since(begun)
	h.rest = min(100*took, maxRest)
	if h.rest < time.Second {
		h.rest = 0
	}
	p := &h.previous
	r.up, r.down = r.endedUp+float64(h.seen.Up), r.endedDown+float64(h.seen.Down)
	if r.endedUp < h.ended.up || r.endedDown < h.ended.down { // series of a listener that is no more were taken away
		p.up, p.down = r.up, r.down
	}
	h.ended = rates{r.endedUp, r.endedDown}
	r.up, r.down = max(r.up, p.up), max(r.down, p.down)
	h.flowRate = rates{(r.up - p.up) / seconds, (r.down - p.down) / seconds}
	for _, u := range h.seen.Upstreams {
		x := [4]float64{bit(u.Up), 0, 0, float64(u.Open)}
		if b, ok := before[u.Name]; ok && u.Attempts >= b.Attempts {
			x[1], x[2] = float64(u.Attempts-b.Attempts)/seconds, float64(u.Failures-min(b.Failures, u.Failures))/seconds
		}
		d.upstreams[u.Name] = x
	}
	h.noteStates(now, true)
}

// noteStates keeps what has become of the upstreams. What is found at the start is no change.
func (h *History) noteStates(now time.Time, tell bool) {
	change := func(name, from, to string) {
		if from == to || !tell {
			return
		}
		if len(h.changes) == maxChanges {
			h.changes = h.changes[:copy(h.changes, h.changes[1:])]
		}
		h.changes = append(h.changes, StateChange{now, name, from, to})
	}
	there := make(map[string]string, len(h.seen.Upstreams))
	for _, u := range h.seen.Upstreams {
		there[u.Name] = u.State
		change(u.Name, h.states[u.Name], u.State)
	}
	for name, state := range h.states {
		if _, ok := there[name]; !ok {
			change(name, state, "")
		}
	}
	h.states = there
}

// write writes one second.
func (h *History) write(second int64, d *delta, r *reading) {
	var at [len(h.rings)]int
	for i := range h.rings {
		at[i] = h.enter(i, second)
	}
	for i := range lineP50 {
		h.put(h.global[i], at, second, d.global[i])
	}
	for i := range h.rings {
		q := r.connects.since(&h.rings[i].base)
		for j, share := range [...]float64{.5, .9, .99} {
			h.global[lineP50+j].of(i)[at[i]] = float32(q.quantile(share))
		}
	}
	for kind, x := range d.errors {
		c := h.errors[kind]
		if c == nil {
			if len(h.errors) == maxErrorLines {
				continue // it is among all errors
			}
			c = new(column)
			h.errors[kind] = c
		}
		h.put(c, at, second, x)
	}
	for kind, c := range h.errors {
		if _, ok := d.errors[kind]; !ok {
			h.put(c, at, second, 0)
		}
	}
	h.writeUpstreams(second, at, d)
	h.writeRules(second, at, d)
}

// enter returns the place of second in ring i, and clears it when it was that of another time.
func (h *History) enter(i int, second int64) int {
	r := &h.rings[i]
	n := second / resolutions[i].step
	at := int(n % int64(len(r.slots)))
	s := &r.slots[at]
	if s.n != n {
		*s = slot{n: n}
		r.base = h.previous.connects
		h.columns(func(c *column, unknown float32) { c.of(i)[at] = unknown })
	}
	s.seconds++
	return at
}

// columns calls f for every line, with what it is where nothing was said.
func (h *History) columns(f func(c *column, unknown float32)) {
	for _, c := range h.global {
		f(c, 0)
	}
	for _, c := range h.errors {
		f(c, 0)
	}
	for _, u := range h.ups {
		f(u.up, nan)
		f(u.attempts, nan)
		f(u.failures, nan)
		f(u.open, nan)
	}
	for _, l := range h.rules {
		f(l, 0)
	}
	f(&h.noRoom, 0)
}

var nan = float32(math.NaN())

// put makes x part of the average of the steps under way.
func (h *History) put(c *column, at [len(resolutions)]int, second int64, x float64) {
	if x != 0 {
		c.active = second
	}
	for i := range at {
		v := &c.of(i)[at[i]]
		if *v != *v {
			*v = float32(x)
			continue
		}
		*v += (float32(x) - *v) / float32(h.rings[i].slots[at[i]].seconds)
	}
}

// least makes x part of the minimum of the steps under way: an upstream that was down for a second was not up.
func (h *History) least(c *column, at [len(resolutions)]int, second int64, x float64) {
	c.active = second
	for i := range at {
		v := &c.of(i)[at[i]]
		if *v != *v || float32(x) < *v {
			*v = float32(x)
		}
	}
}

func (h *History) writeUpstreams(second int64, at [len(resolutions)]int, d *delta) {
	h.hidden = 0
	for _, u := range h.seen.Upstreams {
		x, ok := d.upstreams[u.Name]
		if !ok {
			continue
		}
		l := h.ups[u.Name]
		if l == nil {
			if l = h.roomForUpstream(d); l == nil {
				h.hidden++
				continue
			}
			h.ups[u.Name] = l
		}
		h.least(l.up, at, second, x[0])
		h.put(l.attempts, at, second, x[1])
		h.put(l.failures, at, second, x[2])
		h.put(l.open, at, second, x[3])
	}
}

// roomForUpstream returns lines for one more, taken from one that the policy has no more if need be, or nil.
func (h *History) roomForUpstream(d *delta) *upstreamLines {
	l := &upstreamLines{new(column), new(column), new(column), new(column)}
	if len(h.ups) >= maxUpstreamLines {
		oldest := ""
		for name, x := range h.ups {
			if _, there := d.upstreams[name]; !there && (oldest == "" || x.up.active < h.ups[oldest].up.active) {
				oldest = name
			}
		}
		if oldest == "" {
			return nil
		}
		delete(h.ups, oldest)
	}
	for _, c := range []*column{l.up, l.attempts, l.failures, l.open} {
		c.fill(nan)
	}
	return l
}

func (c *column) fill(x float32) {
	for i := range resolutions {
		s := c.of(i)
		for j := range s {
			s[j] = x
		}
	}
}

func (h *History) writeRules(second int64, at [len(resolutions)]int, d *delta) {
	without := 0.
	for rule, x := range d.rules {
		l := h.rules[rule]
		if l == nil {
			if !h.roomForRule(second) {
				without += x
				continue
			}
			l = new(column)
			h.rules[rule] = l
		}
		h.put(l, at, second, x)
	}
	for rule, l := range h.rules {
		if _, ok := d.rules[rule]; !ok {
			h.put(l, at, second, 0)
		}
	}
	h.put(&h.noRoom, at, second, without)
}

// roomForRule reports whether one more rule can have a line. The one that has been at rest for longest makes room, once that is as long as
// the finest range.
func (h *History) roomForRule(second int64) bool {
	if len(h.rules) < maxRuleLines {
		return true
	}
	var oldest ruleKey
	at := second
	for rule, l := range h.rules {
		if l.active < at {
			oldest, at = rule, l.active
		}
	}
	if second-at < int64(resolutions[0].steps)*resolutions[0].step {
		return false
	}
	delete(h.rules, oldest)
	return true
}
