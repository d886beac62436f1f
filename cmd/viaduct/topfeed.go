package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"viaduct/connmodel"
	"viaduct/router/admin"
)

// topRecent is how many flows that ended are remembered, and shown.
const topRecent = 500

// topNews is the last thing that happened to the gateway itself.
type topNews struct {
	at   time.Time
	text string // as the gateway wrote it: not fit for a terminal yet
}

// topFeed listens to what the gateway tells of flows that end. It keeps their last records as text and decodes only those that are looked
// at: a gateway that ends thousands a second costs no more than the copying.
type topFeed struct {
	door   func() (*doorClient, error)
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	begun   bool // the gateway tells
	filter  string
	stop    context.CancelFunc // of the stream under way
	ring    [][]byte           // of records, the latest last
	old     []*connmodel.Flow  // that ended before the feed began; nil = not known
	known   map[*byte]*connmodel.Flow
	forgets string // why old is empty
	lagged  uint64
	news    topNews
}

func newTopFeed(door func() (*doorClient, error)) *topFeed {
	return &topFeed{door: door, known: map[*byte]*connmodel.Flow{}}
}

// follow makes the feed listen to flows that filter lets through. It begins at the first call.
func (f *topFeed) follow(filter string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		ctx, cancel := context.WithCancel(context.Background())
		f.cancel, f.done, f.filter = cancel, make(chan struct{}), filter
		go f.run(ctx)
		return
	}
	if f.filter != filter {
		f.filter, f.ring, f.old, f.begun = filter, nil, nil, false
		clear(f.known)
		if f.stop != nil {
			f.stop()
		}
	}
}

func (f *topFeed) close() {
	f.mu.Lock()
	done := f.done
	if f.cancel != nil {
		f.cancel()
	}
	f.mu.Unlock()
	if done != nil {
		<-done
	}
}

// look returns what ended, the latest first. enough is false when more is known to the gateway that has to be asked for.
func (f *topFeed) look(l *topLook) (ended []*connmodel.Flow, enough bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.lagged, l.news, l.forgets = f.lagged, f.news, f.forgets
	known := make(map[*byte]*connmodel.Flow, len(f.ring))
	for i := len(f.ring) - 1; i >= 0; i-- {
		b := f.ring[i]
		flow := f.known[&b[0]]
		if flow == nil {
			flow = new(connmodel.Flow)
			if json.Unmarshal(b, flow) != nil {
				continue
			}
		}
		known[&b[0]] = flow
		ended = append(ended, flow)
	}
	f.known = known
	return mergeRecent(ended, f.old), f.begun && f.old != nil
}

// before gives the feed what ended before it began, so that it need not be asked for again.
func (f *topFeed) before(filter string, flows []*connmodel.Flow, forgets string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun && f.filter == filter {
		f.old, f.forgets = append([]*connmodel.Flow{}, flows...), forgets
	}
}

// run listens, and begins again when the gateway has hung up.
func (f *topFeed) run(ctx context.Context) {
	defer close(f.done)
	for wait := time.Duration(0); ; wait = min(2*wait+100*time.Millisecond, 5*time.Second) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := f.listen(ctx)
		var no *problemError
		if errors.As(err, &no) {
			wait = 5 * time.Second // an older gateway, or a filter that it does not take: what ended is asked for
		} else if err == nil {
			wait = 0
		}
	}
}

// listen reads one stream until it ends; nil = it was one.
func (f *topFeed) listen(ctx context.Context) error {
	d, err := f.door()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f.mu.Lock()
	f.stop = stop
	q := url.Values{"types": {strings.Join([]string{admin.EventClosed, admin.EventReload, admin.EventUpstream, admin.EventDrain}, ",")}}
	if f.filter != "" {
		q.Set("filter", f.filter)
	}
	f.mu.Unlock()
	res, err := d.send(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f.mu.Lock()
	f.begun = ctx.Err() == nil
	f.mu.Unlock()
	readEvents(res.Body, func(kind string, data []byte) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if ctx.Err() == nil {
			f.take(kind, data)
		}
		return ctx.Err() == nil
	})
	f.mu.Lock()
	f.begun, f.old = false, nil // what ends until it begins again is asked for
	f.mu.Unlock()
	return nil
}

func (f *topFeed) take(kind string, data []byte) {
	switch kind {
	case admin.EventClosed:
		if len(data) > 0 {
			if len(f.ring) == topRecent {
				f.ring = append(f.ring[:0:0], f.ring[topRecent/5:]...) // the array is made anew now and then, not for each
			}
			f.ring = append(f.ring, bytes.Clone(data))
		}
	case admin.EventLagged:
		var v struct{ Missed uint64 }
		if json.Unmarshal(data, &v) == nil {
			f.lagged += v.Missed
		}
	default:
		if text := newsOf(kind, data); text != "" {
			f.news = topNews{time.Now(), text}
		}
	}
}

// newsOf says in a few words what happened to the gateway.
func newsOf(kind string, data []byte) string {
	switch kind {
	case admin.EventReload:
		var v admin.ReloadResult
		if json.Unmarshal(data, &v) != nil {
			return ""
		}
		if !v.OK {
			first, _, _ := strings.Cut(v.Error, "\n")
			return "reload refused: " + first
		}
		return fmt.Sprintf("configuration %d in force", v.Generation)
	case admin.EventUpstream:
		var v admin.UpstreamEvent
		if json.Unmarshal(data, &v) != nil {
			return ""
		}
		text := strings.TrimPrefix(v.Route, "upstream.") + " is " + v.State
		if v.Why != "" {
			text += ": " + v.Why
		}
		return text
	case admin.EventDrain:
		return "the gateway drains"
	}
	return ""
}

// maxEventLine bounds a line of the stream: a record is shorter.
const maxEventLine = connmodel.MaxRecord + 1<<10

// readEvents reads Server-Sent Events until they end or take says that it is enough. Events with a line that is too long are left out.
func readEvents(r io.Reader, take func(kind string, data []byte) bool) {
	in := bufio.NewReaderSize(r, maxEventLine)
	kind, data, broken := "message", []byte(nil), false
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			broken = true
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			line = nil
			if err == nil {
				continue
			}
		}
		if err != nil {
			return
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			if data != nil && !broken && !take(kind, data) {
				return
			}
			kind, data, broken = "message", nil, false
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			kind = string(value)
		case "data":
			if data != nil {
				data = append(data, '\n')
			}
			if len(data)+len(value) > maxEventLine {
				broken = true
				continue
			}
			data = append(data, value...)
			if data == nil {
				data = []byte{}
			}
		}
	}
}
