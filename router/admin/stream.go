package admin

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	heartbeat    = 15 * time.Second
	slowestWrite = 15 * time.Second // after which a reader that takes nothing is ended
)

// events is the stream of events, in the form of server-sent events (WHATWG HTML, section 9.2).
func (a *api) events(w http.ResponseWriter, r *http.Request, _ caller) {
	if a.o.Events == nil {
		problem(w, http.StatusNotFound, "this gateway tells no events")
		return
	}
	q, ok := queryOf(w, r, "filter", "types", "last_event_id")
	if !ok {
		return
	}
	var want selection
	if want.types, ok = q.list(w, "types", eventTypes); !ok {
		return
	}
	if want.filter, ok = a.filter(w, q.get("filter")); !ok {
		return
	}
	var last uint64
	said := r.Header.Get("Last-Event-ID")
	if said == "" {
		said = q.get("last_event_id") // for those who cannot set fields
	}
	if said != "" {
		if last, ok = eventID(said); !ok {
			problem(w, http.StatusBadRequest, "Last-Event-ID is the id of an event: a number")
			return
		}
	}
	h := w.Header()
	s := a.o.Events.subscribe(want, last)
	if s == nil {
		h.Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, "there are "+strconv.Itoa(maxSubscribers)+" readers of events already, or the gateway is stopping")
		return
	}
	defer a.o.Events.unsubscribe(s)
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Connection", "close")
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Time{}) // the stream outlives the time that a request has to come
	write := func(b []byte) bool {
		c.SetWriteDeadline(time.Now().Add(slowestWrite))
		_, err := w.Write(b)
		return err == nil && c.Flush() == nil
	}
	if !write([]byte("retry: 2000\n\n")) || r.Method == http.MethodHead {
		return
	}
	over := r.Context().Done()
	var closing <-chan struct{}
	if ctx, ok := r.Context().Value(streamsKey{}).(context.Context); ok {
		closing = ctx.Done()
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-over:
			return
		case <-closing:
			return
		case <-beat.C:
			if !write([]byte(":\n\n")) {
				return
			}
		case <-s.wake:
			all, missed := s.take()
			if missed > 0 && !write([]byte("event: lagged\ndata: {\"missed\":"+strconv.FormatUint(missed, 10)+"}\n\n")) {
				return
			}
			for len(all) > 0 { // in bites, so that each gets on within its time
				n := min(len(all), 32)
				var b []byte
				for _, x := range all[:n] {
					b = x.append(b)
				}
				if !write(b) {
					return
				}
				all = all[n:]
			}
		}
	}
}

// append writes an event. Its data is JSON on one line.
func (x *event) append(b []byte) []byte {
	b = append(b, "id: "...)
	b = strconv.AppendUint(b, x.seq, 10)
	b = append(b, "\nevent: "...)
	b = append(b, x.kind...)
	b = append(b, "\ndata: "...)
	b = append(b, x.data...)
	return append(b, "\n\n"...)
}

// list reads a parameter that is words of a set, separated by commas.
func (q query) list(w http.ResponseWriter, name string, of []string) ([]string, bool) {
	s := q.get(name)
	if s == "" {
		return nil, true
	}
	words := strings.Split(s, ",")
	for _, x := range words {
		if !slices.Contains(of, x) {
			problem(w, http.StatusBadRequest, name+" is one or more of "+strings.Join(of, ", ")+", separated by commas")
			return nil, false
		}
	}
	return words, true
}
