package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/router/admin"
)

func TestReadEvents(t *testing.T) {
	long := strings.Repeat("x", 2*maxEventLine)
	for _, c := range []struct{ name, in, want string }{
		{"plain", "event: a\ndata: 1\n\ndata: 2\n\n", "a=1 message=2 "},
		{"comments, ids, returns", ": hello\r\nid: 7\r\nevent: a\r\ndata: 1\r\n\r\n:\n\n", "a=1 "},
		{"lines are joined", "data: 1\ndata: 2\n\n", "message=1\n2 "},
		{"no space", "event:a\ndata:1\n\n", "a=1 "},
		{"empty data", "event: a\ndata:\n\n", "a= "},
		{"no data is no event", "event: a\n\ndata: 1\n\n", "message=1 "},
		{"the end is no event", "data: 1\n\ndata: 2\n", "message=1 "},
		{"half a line", "data: 1\n\ndata: 2", "message=1 "},
		{"a line that is too long", "data: 1\n\ndata: " + long + "\n\ndata: 3\n\n", "message=1 message=3 "},
		{"an event that is too long", "data: " + long[:maxEventLine-100] + "\ndata: " + long[:maxEventLine-100] + "\n\ndata: 3\n\n", "message=3 "},
		{"nothing", "", ""},
	} {
		var got strings.Builder
		readEvents(strings.NewReader(c.in), func(kind string, data []byte) bool {
			fmt.Fprintf(&got, "%s=%s ", kind, data)
			return true
		})
		if got.String() != c.want {
			t.Errorf("%s: %.100q, expected %q", c.name, got.String(), c.want)
		}
	}
	n := 0
	readEvents(strings.NewReader("data: 1\n\ndata: 2\n\n"), func(string, []byte) bool { n++; return false })
	if n != 1 {
		t.Errorf("%d events were given to one who wanted one", n)
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add([]byte("event: a\nid: 3\ndata: {}\n\n:\n\ndata:x\r\ndata\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		readEvents(bytes.NewReader(b), func(kind string, data []byte) bool {
			if len(data) > maxEventLine+1 || strings.ContainsAny(kind, "\n") || data == nil {
				t.Errorf("%q %d", kind, len(data))
			}
			return true
		})
	})
}

// topGateway is a door as top sees it, in the hands of a test.
type topGateway struct {
	mu      sync.Mutex
	events  bool // it has /v1/events
	ended   []*connmodel.Flow
	asked   map[string]int
	streams []chan string
}

func (g *topGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.asked[r.URL.Path+"?"+r.URL.Query().Get("state")]++
	events, ended := g.events, g.ended
	g.mu.Unlock()
	problem := func(code int, text string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"detail":%q}`, text)
	}
	switch {
	case r.URL.Query().Get("filter") == "wrong":
		problem(400, "line 1: no such name")
	case r.URL.Path == "/v1/status":
		json.NewEncoder(w).Encode(admin.Status{State: "running"})
	case r.URL.Path == "/v1/connections" && r.URL.Query().Get("state") == "closed":
		json.NewEncoder(w).Encode(map[string]any{"open": 0, "connections": ended})
	case r.URL.Path == "/v1/connections":
		json.NewEncoder(w).Encode(map[string]any{"open": 5, "connections": []*connmodel.Flow{topFlow(1, "open.example", false, false)}})
	case r.URL.Path == "/v1/events" && events:
		ch := make(chan string, 2000)
		g.mu.Lock()
		g.streams = append(g.streams, ch)
		g.mu.Unlock()
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		for {
			select {
			case s, ok := <-ch:
				if !ok {
					return
				}
				fmt.Fprint(w, s)
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	default:
		problem(404, "there is no such endpoint")
	}
}

func (g *topGateway) tell(event, data string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams[len(g.streams)-1] <- "event: " + event + "\ndata: " + data + "\n\n"
}

func (g *topGateway) count(what string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[what]
}

// serveTopGateway serves g at a Unix socket, and returns a door to it and what ends the server.
func serveTopGateway(t *testing.T, g *topGateway) (*topDoor, string, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "vt-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	g.asked = map[string]int{}
	stop := listenTop(t, g, path)
	t.Cleanup(func() { stop() })
	d := newTopDoor(&control{address: "unix:" + path}, 100)
	t.Cleanup(d.close)
	return d, path, func() { stop() }
}

func listenTop(t *testing.T, h http.Handler, path string) func() {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	return func() { s.CloseClientConnections(); s.Close() }
}

func lookUntil(t *testing.T, d *topDoor, w topWish, what string, ok func(*topLook, error) bool) *topLook {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		l, err := d.look(t.Context(), w)
		if ok(l, err) {
			return l
		}
		if time.Now().After(end) {
			t.Fatalf("waited for %s: %+v, %v", what, l, err)
		}
	}
}

// TestTopDoorTold: a gateway that tells what ends is asked for what ended before once, and no more.
func TestTopDoorTold(t *testing.T) {
	before := topFlow(50, "before.example", true, false)
	g := &topGateway{events: true, ended: []*connmodel.Flow{before}}
	d, _, _ := serveTopGateway(t, g)
	lookUntil(t, d, topWish{}, "the stream", func(l *topLook, err error) bool {
		return err == nil && g.count("/v1/events?") == 1 && d.feed.old != nil
	})
	n := g.count("/v1/connections?closed")
	for i := range topRecent + 50 {
		f := topFlow(i, fmt.Sprintf("told%d.example", i), true, false)
		g.tell("connection_closed", string(f.AppendJSON(nil)))
	}
	g.tell("connection_closed", "{")
	g.tell("lagged", `{"missed":7}`)
	g.tell("reload", `{"ok":true,"generation":5}`)
	l := lookUntil(t, d, topWish{}, "the last one", func(l *topLook, err error) bool {
		return err == nil && l.lagged == 7 && l.news.text == "configuration 5 in force" && l.recent[0].Target.Host == fmt.Sprintf("told%d.example", topRecent+49)
	})
	if len(l.recent) > topRecent || len(l.open) != 1 || l.opens != 5 || !l.lacking["/v1/history"] {
		t.Errorf("%d recent, %d open of %d, lacking %v", len(l.recent), len(l.open), l.opens, l.lacking)
	}
	if m := g.count("/v1/connections?closed"); m != n {
		t.Errorf("what ended was asked for %d times more", m-n)
	}
	// Another filter is another stream; one that is wrong is said to be.
	if l, err := d.look(t.Context(), topWish{filter: "wrong"}); err != nil || l.refused != "line 1: no such name" {
		t.Errorf("%+v, %v", l, err)
	}
	lookUntil(t, d, topWish{filter: "other"}, "another stream", func(l *topLook, err error) bool {
		return err == nil && len(l.recent) == 1 && g.count("/v1/events?") >= 2
	})
}

// TestTopDoorOld: a gateway that tells nothing by itself is asked.
func TestTopDoorOld(t *testing.T) {
	g := &topGateway{ended: []*connmodel.Flow{topFlow(1, "ended.example", true, false), topFlow(2, "open.example", false, false)}}
	d, _, _ := serveTopGateway(t, g)
	for range 3 {
		l, err := d.look(t.Context(), topWish{rules: true, detail: connmodel.NewID(topNow)})
		if err != nil || len(l.recent) != 1 || l.rules != nil || l.detail != nil {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	if n := g.count("/v1/history?"); n != 1 {
		t.Errorf("what it lacks was asked for %d times", n)
	}
}

// TestTopDoorLost: a gateway that goes away is an error, and one that comes is found.
func TestTopDoorLost(t *testing.T) {
	g := &topGateway{events: true}
	d, path, stop := serveTopGateway(t, g)
	lookUntil(t, d, topWish{}, "the gateway", func(l *topLook, err error) bool { return err == nil && g.count("/v1/events?") > 0 })
	stop()
	lookUntil(t, d, topWish{}, "its end", func(l *topLook, err error) bool { return err != nil })
	n := g.count("/v1/events?")
	stop = listenTop(t, g, path)
	defer func() { stop() }()
	lookUntil(t, d, topWish{}, "it to be back", func(l *topLook, err error) bool { return err == nil && g.count("/v1/events?") > n })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.look(ctx, topWish{}); err == nil {
		t.Error("a look that was given up has a result")
	}
}
