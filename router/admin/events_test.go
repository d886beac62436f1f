package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
)

func eventFlow(n int, host string) *connmodel.Flow {
	f := connmodel.DummyFlow(connmodel.Address{Host: host, Port: 443})
	f.ID = flowID(n)
	return f
}

// serveWith opens a door over TCP for o.
func serveWith(t *testing.T, o Options) (url string, d *Door) {
	t.Helper()
	ln, err := Listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	if o.Gateway == nil {
		o.Gateway = &fakeGateway{}
	}
	if o.Access.Token == "" {
		o.Access.Token = goodToken
	}
	if d, err = New(o).Serve(ln); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(context.Background()) })
	return "http://" + ln.Addr().String(), d
}

// told is one event as it came.
type toldEvent struct {
	id, kind string
	data     string
}

// stream reads events.
type stream struct {
	t    *testing.T
	res  *http.Response
	next chan toldEvent
}

func listen(t *testing.T, url, query, last string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+goodToken)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	s := &stream{t: t, res: res, next: make(chan toldEvent, 4096)}
	t.Cleanup(func() { res.Body.Close() })
	go func() {
		defer close(s.next)
		in := bufio.NewScanner(res.Body)
		in.Buffer(nil, 1<<20)
		var x toldEvent
		for in.Scan() {
			switch name, value, _ := strings.Cut(in.Text(), ": "); name {
			case "id":
				x.id = value
			case "event":
				x.kind = value
			case "data":
				x.data = value
			case "":
				if x.kind != "" {
					s.next <- x
				}
				x = toldEvent{}
			}
		}
	}()
	return s
}

func (s *stream) get() toldEvent {
	s.t.Helper()
	select {
	case x, ok := <-s.next:
		if !ok {
			s.t.Fatal("the stream has ended")
		}
		return x
	case <-time.After(20 * time.Second):
		s.t.Fatal("no event came")
	}
	return toldEvent{}
}

// is checks the kind of the next event, and for those of flows whose they are.
func (s *stream) is(kind string, flow int) toldEvent {
	s.t.Helper()
	x := s.get()
	if x.kind != kind {
		s.t.Fatalf("%s %s, expected %s", x.kind, x.data, kind)
	}
	if flow > 0 {
		var f connmodel.Flow
		if err := json.Unmarshal([]byte(x.data), &f); err != nil || f.ID != flowID(flow) {
			s.t.Fatalf("%s of %s (%v), expected %s", kind, f.ID, err, flowID(flow))
		}
	}
	return x
}

// TestEvents: what happens is told, filtered, and told again to those who come back.
func TestEvents(t *testing.T) {
	e := NewEvents()
	defer e.Close()
	url, d := serveWith(t, Options{Events: e})
	e.Record(eventFlow(1, "nobody.example")) // nobody listens
	all := listen(t, url, "", "")
	field := connmodel.FilterFieldNamed("target.host")
	url2, _ := serveWith(t, Options{Events: e, Sources: Sources{Compile: func(x string) (*connmodel.Filter, error) {
		if x == "wrong" {
			return nil, fmt.Errorf("1:1: no such name")
		}
		return &connmodel.Filter{Op: connmodel.FilterTest, Field: field, Cmp: connmodel.FilterEqual, Value: connmodel.FilterValue{Type: connmodel.FilterText, Text: x}}, nil
	}}})
	some := listen(t, url2, "?filter=a.example&types=connection_closed,drain", "")
	for e.Subscribers() != 2 {
		time.Sleep(time.Millisecond)
	}
	if !e.Watching() || d.Status().Subscribers != 2 {
		t.Error("nobody is said to listen")
	}
	e.Opened(eventFlow(2, "a.example"))
	e.Record(eventFlow(3, "b.example"))
	e.Record(eventFlow(2, "a.example"))
	all.is(EventOpened, 2)
	last := all.is(EventClosed, 3)
	all.is(EventClosed, 2)
	some.is(EventClosed, 2)
	e.Notify(EventReload, ReloadResult{OK: true, Generation: 2})
	e.Notify(EventDrain, DrainResult{State: StateDraining})
	all.is(EventReload, 0)
	drained := all.is(EventDrain, 0)
	some.is(EventDrain, 0)

	back := listen(t, url, "", last.id)
	back.is(EventClosed, 2)
	back.is(EventReload, 0)
	back.is(EventDrain, 0)
	up := listen(t, url, "?last_event_id="+drained.id, "")
	e.Record(eventFlow(4, "c.example"))
	for _, s := range []*stream{all, back, up} {
		s.is(EventClosed, 4)
	}
	old := listen(t, url, "", strconv.FormatUint(e.first-1, 10)) // of a process before
	old.is(EventLagged, 0)
	for _, bad := range []string{"?types=nosuch", "?types=connection_closed,", "?filter=x&filter=y", "?nosuch=1", "?last_event_id=x", "?last_event_id=0"} {
		if code := status(t, url+"/v1/events"+bad); code != 400 {
			t.Errorf("%s answered %d", bad, code)
		}
	}
	if code := status(t, url2+"/v1/events?filter=wrong"); code != 400 {
		t.Errorf("a wrong filter answered %d", code)
	}
	go d.Close(context.Background()) // streams end with their door
	for range all.next {
	}
}

func status(t *testing.T, url string) int {
	t.Helper()
	req, _ := http.NewRequest("GET", url, nil)
	req.Header.Set("Authorization", "Bearer "+goodToken)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestEventsSleep: when nobody has come back for a while flows cost nothing again, and whoever comes later is told that something is missing.
func TestEventsSleep(t *testing.T) {
	e := NewEvents()
	defer e.Close()
	s := e.subscribe(selection{}, 0)
	e.Record(eventFlow(1, "a.example"))
	<-s.wake
	got, missed := s.take()
	if len(got) != 1 || missed != 0 {
		t.Fatalf("%d events, %d missed", len(got), missed)
	}
	e.unsubscribe(s)
	if !e.Watching() {
		t.Error("asleep at once: who reconnects would miss something")
	}
	e.Record(eventFlow(2, "a.example"))
	for func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.ring) < 2 }() {
		time.Sleep(time.Millisecond)
	}
	again := e.subscribe(selection{}, got[0].seq)
	if all, missed := again.take(); len(all) != 1 || missed != 0 {
		t.Errorf("came back to %d events, %d missed", len(all), missed)
	}
	e.unsubscribe(again)
	e.doze()
	if e.Watching() {
		t.Error("still awake")
	}
	e.Record(eventFlow(3, "a.example"))
	late := e.subscribe(selection{}, got[0].seq)
	if all, missed := late.take(); len(all) != 0 || missed == 0 {
		t.Errorf("came late to %d events, %d missed", len(all), missed)
	}
	e.unsubscribe(late)
	e.Close()
	if e.subscribe(selection{}, 0) != nil {
		t.Error("somebody listens to what is closed")
	}
}

// TestSlowReader: nobody waits for a reader; it loses the oldest events and is told how many.
func TestSlowReader(t *testing.T) {
	e := NewEvents()
	defer e.Close()
	slow, quick := e.subscribe(selection{}, 0), e.subscribe(selection{}, 0)
	const n = 3 * maxQueue
	seen := 0
	for i := range n {
		e.Notify(EventReload, ReloadResult{Generation: uint64(i)})
		all, missed := quick.take()
		if seen += len(all); missed != 0 {
			t.Fatal("the quick one missed something")
		}
	}
	all, missed := slow.take()
	if seen != n || len(all) == 0 || uint64(len(all))+missed != n || slow.bytes != 0 {
		t.Errorf("quick %d, slow %d and %d missed, of %d", seen, len(all), missed, n)
	}
	var last ReloadResult
	if err := json.Unmarshal(all[len(all)-1].data, &last); err != nil || last.Generation != n-1 {
		t.Errorf("the last one is %d (%v)", last.Generation, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ring) > maxRing || e.bytes > maxRingBytes {
		t.Errorf("the ring has %d events, %d bytes", len(e.ring), e.bytes)
	}
}

// TestManyReaders: a thousand that read nothing take places within bounds; the others are told to come back, and the door answers all the while.
func TestManyReaders(t *testing.T) {
	e := NewEvents()
	defer e.Close()
	url, _ := serveWith(t, Options{Events: e})
	address := strings.TrimPrefix(url, "http://")
	var mu sync.Mutex
	codes := map[string]int{}
	var conns []net.Conn
	var wg sync.WaitGroup
	for range 1000 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(c, "GET /v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", address, goodToken)
			var first [12]byte
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := c.Read(first[:]); err != nil {
				t.Error(err)
			}
			mu.Lock()
			codes[string(first[9:])]++
			conns = append(conns, c)
			mu.Unlock()
		}()
	}
	wg.Wait()
	if codes["200"] != maxSubscribers || codes["503"] != 1000-maxSubscribers {
		t.Errorf("answers: %v", codes)
	}
	for i := range 20_000 { // more than queues and sockets hold
		e.Record(eventFlow(i+1, "a.example"))
	}
	if code := status(t, url+"/v1/status"); code != 200 {
		t.Errorf("the door answers %d", code)
	}
	for _, c := range conns {
		c.Close()
	}
	for start := time.Now(); e.Subscribers() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%d readers that have left are still told", e.Subscribers())
		}
		e.Notify(EventReload, ReloadResult{})
	}
}

// BenchmarkNobodyListens is what a flow costs then.
func BenchmarkNobodyListens(b *testing.B) {
	e := NewEvents()
	f := eventFlow(1, "a.example")
	for b.Loop() {
		if e.Watching() {
			e.Opened(f)
		}
		e.Record(f)
	}
}
