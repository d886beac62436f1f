package connmodel

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// consistent checks what must hold of every snapshot and record.
func consistent(f *Flow) error {
	for _, p := range []struct {
		who string
		c   *Connection
	}{{"client", &f.Client.Connection}, {"server", serverConnection(f)}} {
		if p.c == nil {
			continue
		}
		if err := consistentConnection(p.c); err != nil {
			return fmt.Errorf("%s: %w", p.who, err)
		}
	}
	if err := ordered("flow", f.Start, f.Decided, f.End); err != nil {
		return err
	}
	if f.Request != nil {
		if err := ordered("request", f.Request.Start, f.Request.End); err != nil {
			return err
		}
	}
	if f.Response != nil {
		if err := ordered("response", f.Response.Start, f.Response.End); err != nil {
			return err
		}
	}
	if f.Server == nil {
		return nil
	}
	won := 0
	for i := range f.Server.Attempts {
		a := &f.Server.Attempts[i]
		if err := ordered("attempt", a.Start, a.End); err != nil {
			return err
		}
		if a.Connected() {
			won++
		}
		if a.End.IsZero() && (a.Error != nil || !f.End.IsZero()) {
			return fmt.Errorf("attempt %d is not decided", a.Number)
		}
		for j := range a.Hops {
			if int(a.Hops[j].Index) != j+1 || a.Hops[j].Start.Before(a.Start) {
				return fmt.Errorf("hop %d of attempt %d: %+v", j+1, a.Number, a.Hops[j])
			}
		}
	}
	if s := f.Server; won > 1 || s.State.Has(CanRead) && won == 0 && !s.Reused || f.End.IsZero() && won == 1 && s.State == Closed && s.End.IsZero() {
		return fmt.Errorf("%d attempts won, but the server is %v", won, s)
	}
	return nil
}

func serverConnection(f *Flow) *Connection {
	if f.Server == nil {
		return nil
	}
	return &f.Server.Connection
}

func consistentConnection(c *Connection) error {
	switch {
	case !c.State.Valid():
		return fmt.Errorf("state %v", c.State)
	case c.State != Closed && !c.End.IsZero():
		return fmt.Errorf("%v, but ended", c.State)
	case c.State.Has(CanRead|CanWrite) && c.TCPSetup.IsZero():
		return fmt.Errorf("%v without a socket", c.State)
	case c.State.Has(CanRead) && c.TLS && !c.TLSEstablished():
		return fmt.Errorf("%v, but TLS is to come", c.State)
	case c.TLSEstablished() && !c.TLS:
		return fmt.Errorf("TLS established, but not wanted")
	}
	return ordered("times", c.Start, c.TCPSetup, c.TLSSetup, c.End)
}

// ordered checks that the times that are set do not run backwards.
func ordered(what string, times ...time.Time) error {
	var last time.Time
	for i, t := range times {
		if t.IsZero() {
			continue
		}
		if t.Before(last) {
			return fmt.Errorf("%s: time %d is %v, before %v", what, i, t, last)
		}
		last = t
	}
	return nil
}

// journal keeps the events of sessions and checks their order.
type journal struct {
	mu     sync.Mutex
	events map[ID][]Event
	broken error
}

func (j *journal) hooks() *Hooks {
	return &Hooks{Observe: func(e Event, flow func() *Flow, c *Client) {
		var err error
		if flow != nil {
			err = consistent(flow())
		} else {
			err = consistentConnection(&c.Connection)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		if err != nil && j.broken == nil {
			j.broken = fmt.Errorf("at %v: %w", e, err)
		}
		j.events[e.Session] = append(j.events[e.Session], e)
	}}
}

// check looks at the stream of one session with its finished flows.
func (j *journal) check(session ID, flows []*Flow, reuses int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	type key struct {
		flow    ID
		attempt int
	}
	began, ended := map[key]bool{}, map[key]bool{}
	up, down, errs := map[ID]int{}, map[ID]int{}, map[ID]int{}
	gone := false
	for i, e := range j.events[session] {
		if gone && e.Flow.IsZero() {
			return fmt.Errorf("%v after client_disconnected", e)
		}
		if (e.Kind == EventClientConnected) != (i == 0) {
			return fmt.Errorf("event %d is %v", i, e)
		}
		k := key{e.Flow, e.Attempt}
		switch e.Kind {
		case EventClientDisconnected:
			gone = true
		case EventServerConnect:
			if began[k] {
				return fmt.Errorf("attempt %d began twice", e.Attempt)
			}
			began[k] = true
		case EventServerConnected, EventServerConnectError:
			if !began[k] || ended[k] {
				return fmt.Errorf("%v: began %v, ended %v", e, began[k], ended[k])
			}
			ended[k] = true
			if e.Kind == EventServerConnected {
				up[e.Flow]++
			}
		case EventServerDisconnected:
			down[e.Flow]++
		case EventError:
			errs[e.Flow]++
		}
	}
	if !gone {
		return fmt.Errorf("no client_disconnected")
	}
	for _, f := range flows {
		if err := consistent(f); err != nil {
			return err
		}
		attempts := 0
		if f.Server != nil && !f.Server.Reused {
			attempts = len(f.Server.Attempts)
			for i := range f.Server.Attempts {
				if !ended[key{f.ID, i + 1}] {
					return fmt.Errorf("attempt %d has no end among the events", i+1)
				}
			}
		}
		if (f.Error != nil) != (errs[f.ID] == 1) {
			return fmt.Errorf("error %v, but %d events", f.Error, errs[f.ID])
		}
		if reuses > 0 { // those that turned out to be dead are told of, too
			if down[f.ID] > up[f.ID]+reuses {
				return fmt.Errorf("connected %d, disconnected %d, reused at most %d", up[f.ID], down[f.ID], reuses)
			}
			continue
		}
		kept := f.Server != nil && f.Server.State != Closed
		if up[f.ID] > 1 || !kept && up[f.ID] != down[f.ID] || kept && down[f.ID] != 0 {
			return fmt.Errorf("%d attempts, connected %d, disconnected %d, kept %v", attempts, up[f.ID], down[f.ID], kept)
		}
	}
	return nil
}

// actor calls verbs, chosen by pick (n → [0, n)), on a session and its flow.
type actor struct {
	s    *Session
	r    *Recorder
	pick func(n int) int

	reuses   *atomic.Int32 // counts calls of ReuseServer
	attempts []AttemptRecorder
	hops     []HopRecorder
	out      []*Flow
}

func (a *actor) step() {
	sides := []Side{SideClient, SideServer, SideHop, SideViaduct}
	err := &ConnError{Phase: PhaseDial, Side: sides[a.pick(4)], Kind: KindReset, Message: "x"}
	switch a.pick(24) {
	case 0:
		a.r.Decided(&Decision{Generation: 1}, nil)
	case 1, 2:
		_ = a.r.BeginDial(hostA, []string{"direct", "pool.corp"}[a.pick(2)], a.pick(2) == 0)
	case 3, 4, 5:
		a.attempts = append(a.attempts, a.r.BeginAttempt("x"))
	case 6, 7:
		if at := a.attempt(); at != nil {
			a.hops = append(a.hops, at.BeginHop([]string{"", "corp_a"}[a.pick(2)], "http", proxyA))
		}
	case 8, 9:
		if at := a.attempt(); at != nil {
			at.Connected(local, peer)
		}
	case 10:
		if at := a.attempt(); at != nil {
			at.Fail(err)
		}
	case 11, 12, 13:
		a.hop(err)
	case 14, 15:
		a.r.ReadClosed(sides[a.pick(2)])
	case 16:
		a.r.WriteClosed(sides[a.pick(2)])
	case 17:
		a.r.ServerTLSEstablished(&TLSInfo{Version: "TLS 1.3"})
	case 18:
		a.r.Fail(err)
	case 19:
		a.r.Transferred(int64(a.pick(100)), int64(a.pick(100)))
		a.r.SetMetadata("k", "v")
	case 20:
		a.r.Requested(Request{Method: "GET"})
		a.r.RequestSent()
		a.r.Responded(200, time.Now())
		a.r.ResponseDone()
		a.r.Replied(200, false)
	case 21:
		if a.pick(4) == 0 {
			s := DummyServer(hostB)
			s.Start = time.Now()
			s.TCPSetup = s.Start
			a.reuses.Add(1)
			a.r.ReuseServer(s)
		}
	case 22:
		a.r.ReuseFailed(err)
		if a.pick(4) == 0 {
			a.end()
		}
	case 23:
		if a.pick(8) == 0 {
			a.s.Fail(err)
			a.s.TLSEstablished(&TLSInfo{})
			a.s.Close()
		}
	}
}

func (a *actor) end() {
	if f := a.r.Close(FlowEnd{Reason: CloseDone, KeepServer: a.pick(2) == 0, KeepClient: a.pick(2) == 0}); f != nil {
		a.out = append(a.out, f)
	}
}

func (a *actor) attempt() *AttemptRecorder {
	if len(a.attempts) == 0 {
		return nil
	}
	return &a.attempts[a.pick(len(a.attempts))]
}

func (a *actor) hop(err *ConnError) {
	if len(a.hops) == 0 {
		return
	}
	h := a.hops[a.pick(len(a.hops))]
	switch a.pick(9) {
	case 0:
		h.TCPConnected(local, peer, time.Millisecond, time.Millisecond)
	case 1:
		h.TLSStarted()
	case 2:
		h.TLSEstablished(&TLSInfo{Version: "TLS 1.3"}, time.Duration(a.pick(1e9)))
	case 3:
		h.TLSFailed(err, &TLSInfo{Verdict: ChainExpired}, time.Millisecond)
	case 4:
		h.Fail(err)
	case 5:
		h.Took(HopPart(a.pick(6)), time.Millisecond)
	case 6:
		h.Done()
	case 7:
		h.Reused(&TLSInfo{}, local, peer)
	case 8:
		h.NotReused()
	}
}

func TestAnySequenceOfVerbs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := &journal{events: map[ID][]Event{}}
		s := NewSession(Accepted{Peer: client, TLS: rapid.Bool().Draw(t, "tls")}, j.hooks())
		s.Connected()
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		var flows []*Flow
		var reuses atomic.Int32
		for range rapid.IntRange(1, 3).Draw(t, "flows") {
			a := &actor{s: s, r: s.NewFlow(ProtocolConnect, hostA, time.Time{}), pick: pick, reuses: &reuses}
			var up, down int64
			for range rapid.IntRange(0, 40).Draw(t, "steps") {
				a.step()
				f := a.r.Snapshot()
				if err := consistent(f); err != nil {
					t.Fatal(err)
				}
				if f.Up < up || f.Down < down {
					t.Fatalf("bytes decreased: %d %d, then %d %d", up, down, f.Up, f.Down)
				}
				up, down = f.Up, f.Down
			}
			a.end()
			if len(a.out) != 1 {
				t.Fatalf("%d records", len(a.out))
			}
			flows = append(flows, a.out...)
		}
		s.Close()
		if err := j.check(s.ID(), flows, int(reuses.Load())); err != nil {
			t.Fatal(err)
		}
	})
}

// The same from several goroutines at once, with readers.
func TestVerbsFromManyGoroutines(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	for round := range rounds {
		j := &journal{events: map[ID][]Event{}}
		s := NewSession(Accepted{Peer: client}, j.hooks())
		s.Connected()
		r := s.NewFlow(ProtocolConnect, hostA, time.Time{})
		_ = r.BeginDial(hostA, RouteDirect, round%2 == 0)
		const actors = 4
		var mu sync.Mutex
		var flows []*Flow
		var reuses atomic.Int32
		var wg sync.WaitGroup
		for i := range actors {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				a := &actor{s: s, r: r, pick: rng.IntN, reuses: &reuses}
				for range 60 {
					a.step()
				}
				a.end()
				mu.Lock()
				flows = append(flows, a.out...)
				mu.Unlock()
			})
		}
		stop := make(chan struct{})
		var readers sync.WaitGroup
		readers.Go(func() {
			for {
				f := r.Snapshot()
				if err := consistent(f); err != nil {
					t.Error(err)
					return
				}
				f.AppendJSON(nil)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		wg.Wait()
		close(stop)
		readers.Wait()
		s.Close()
		if len(flows) != 1 {
			t.Fatalf("%d records", len(flows))
		}
		if err := j.check(s.ID(), flows, int(reuses.Load())); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}
