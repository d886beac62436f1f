package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"viaduct/connmodel"
	"viaduct/router/admin"
)

// topLook is what one look at the gateway gave. Nobody changes it.
type topLook struct {
	at     time.Time
	took   time.Duration
	status *admin.Status
	open   []*connmodel.Flow // the newest, as many as are asked for
	opens  int               // how many are open, whatever the filter
	more   bool              // there are more that the filter lets through
	recent []*connmodel.Flow // ended, the latest first
	rules  []admin.RuleStatus
	// history is what the gateway remembers of its throughput; nil = it does not tell.
	history *topHistory
	detail  *topDetail // of the connection that is shown by itself; nil = none is, or the gateway does not know it any more
	// lacking are parts of the door that this gateway does not have: it is older than this program.
	lacking map[string]bool
	// forgets says why the gateway does not tell what ended before; "" = it does.
	forgets string
	// refused says why the gateway did not take the filter; then open and recent are empty.
	refused string
	filter  string // that it was asked for with
	lagged  uint64 // ended flows that were not told, because there were too many
	news    topNews
}

// topDetail is one connection, and what would be decided for it today.
type topDetail struct {
	Connection *connmodel.Flow `json:"connection"`
	Open       bool            `json:"open"`
	Today      *explanation    `json:"today"` // nil = that cannot be said
}

// topWish is what a look is to be at.
type topWish struct {
	filter string
	rules  bool
	detail connmodel.ID
}

// topDoor looks at a gateway through its control door. It finds the door anew after it was lost: the gateway may have got another token, or
// its policy another address.
type topDoor struct {
	control *control
	limit   int
	feed    *topFeed

	mu      sync.Mutex
	door    *doorClient
	lacking map[string]bool
}

func newTopDoor(k *control, limit int) *topDoor {
	t := &topDoor{control: k, limit: limit, lacking: map[string]bool{}}
	t.feed = newTopFeed(t.client)
	return t
}

// client returns the door, and finds it when there is none.
func (t *topDoor) client() (*doorClient, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.door == nil {
		d, err := t.control.open()
		if err != nil {
			return nil, err
		}
		t.door = d
	}
	return t.door, nil
}

// lost forgets a door that does not answer, and what it could not do: another gateway may come.
func (t *topDoor) lost(d *doorClient) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.door == d && d != nil {
		t.door = nil
		clear(t.lacking)
		d.close()
	}
}

func (t *topDoor) close() {
	t.feed.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.door != nil {
		t.door.close()
		t.door = nil
	}
}

// topPatience bounds one question to the gateway.
const topPatience = 10 * time.Second

// look asks for everything that is wished. An error means that the gateway is not there.
func (t *topDoor) look(ctx context.Context, w topWish) (*topLook, error) {
	ctx, cancel := context.WithTimeout(ctx, topPatience)
	defer cancel()
	begun := time.Now()
	d, err := t.client()
	if err != nil {
		return nil, err
	}
	l := &topLook{status: new(admin.Status)}
	if _, err := d.ask(ctx, http.MethodGet, "/v1/status", nil, l.status); err != nil {
		t.lost(d)
		return nil, err
	}
	err = t.connections(ctx, d, w, l)
	if err == nil && w.rules {
		err = t.optional(ctx, d, "/v1/rules", "", func(b json.RawMessage) error {
			var v admin.Rules
			err := json.Unmarshal(b, &v)
			l.rules = v.Rules
			return err
		})
	}
	if err == nil {
		err = t.optional(ctx, d, "/v1/history", "?range=5m", func(b json.RawMessage) error {
			l.history = new(topHistory)
			return json.Unmarshal(b, l.history)
		})
	}
	if err == nil && !w.detail.IsZero() {
		v := new(topDetail)
		var no *problemError
		switch _, err = d.ask(ctx, http.MethodGet, "/v1/connections/"+w.detail.String(), nil, v); {
		case errors.As(err, &no):
			err = nil
		case err == nil && v.Connection != nil:
			l.detail = v
		}
	}
	if err != nil {
		t.lost(d)
		return nil, err
	}
	t.mu.Lock()
	l.lacking = map[string]bool{}
	for k := range t.lacking {
		l.lacking[k] = true
	}
	t.mu.Unlock()
	l.at, l.took = time.Now(), time.Since(begun)
	return l, nil
}

// connections gets what is open, and what ended lately: as the gateway tells it, or, of one that tells nothing by itself, as it
// remembers it.
func (t *topDoor) connections(ctx context.Context, d *doorClient, w topWish, l *topLook) error {
	q := url.Values{"limit": {strconv.Itoa(t.limit)}}
	if w.filter != "" {
		q.Set("filter", w.filter)
	}
	var open struct {
		Open        int
		Truncated   bool
		Connections []*connmodel.Flow
	}
	_, err := d.ask(ctx, http.MethodGet, "/v1/connections?"+q.Encode(), nil, &open)
	var no *problemError
	if errors.As(err, &no) && w.filter != "" && no.status == http.StatusBadRequest {
		l.refused = no.detail
		return nil
	}
	if err != nil {
		return err
	}
	l.open, l.opens, l.more = open.Connections, max(open.Open, len(open.Connections)), open.Truncated
	t.feed.follow(w.filter)
	told, enough := t.feed.look(l)
	if enough {
		l.recent = told
		return nil
	}
	// What ended before the feed began; of a gateway that has none, all of it.
	q.Set("state", "closed")
	q.Set("limit", strconv.Itoa(topRecent))
	var before struct{ Connections []*connmodel.Flow }
	_, err = d.ask(ctx, http.MethodGet, "/v1/connections?"+q.Encode(), nil, &before)
	if errors.As(err, &no) { // it keeps no journal, or cannot read it
		l.forgets, err = no.detail, nil
	}
	if err != nil {
		return err
	}
	l.recent = mergeRecent(told, before.Connections)
	t.feed.before(w.filter, before.Connections, l.forgets)
	return nil
}

// optional asks for a part of the door that older gateways lack.
func (t *topDoor) optional(ctx context.Context, d *doorClient, path, query string, take func(json.RawMessage) error) error {
	t.mu.Lock()
	lacks := t.lacking[path]
	t.mu.Unlock()
	if lacks {
		return nil
	}
	var b json.RawMessage
	_, err := d.ask(ctx, http.MethodGet, path+query, nil, &b)
	var no *problemError
	if errors.As(err, &no) {
		t.mu.Lock()
		t.lacking[path] = true
		t.mu.Unlock()
		return nil
	}
	if err != nil {
		return err
	}
	return take(b)
}

// mergeRecent puts together flows that have ended, the latest first, each once.
func mergeRecent(told, before []*connmodel.Flow) []*connmodel.Flow {
	have := make(map[connmodel.ID]bool, len(told))
	all := make([]*connmodel.Flow, 0, len(told)+len(before))
	for _, f := range told {
		if !have[f.ID] {
			have[f.ID] = true
			all = append(all, f)
		}
	}
	for _, f := range before {
		if !have[f.ID] && !f.End.IsZero() { // one that is open comes from a gateway that does not know the question
			have[f.ID] = true
			all = append(all, f)
		}
	}
	return all[:min(len(all), topRecent)]
}
