package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// Bounds of /v1/connections.
const (
	defaultConnections = 1000
	maxShown           = 10_000
)

const noJournal = "this gateway keeps no journal: gateway { journal {} } says where"

// listing is a question about connections.
type listing struct {
	open, closed bool
	filter       *connmodel.Filter
	since, until time.Time
	limit        int
	after        connmodel.ID // the last one that was shown
	inClosed     bool         // that was a closed one
}

func (a *api) connections(w http.ResponseWriter, r *http.Request, _ caller) {
	q, ok := queryOf(w, r, "state", "filter", "since", "until", "limit", "cursor")
	if !ok {
		return
	}
	l, ok := a.listing(w, q)
	if !ok {
		return
	}
	var records Records
	if l.closed {
		if a.o.Records != nil {
			records = a.o.Records()
		}
		if records == nil {
			problem(w, http.StatusNotFound, noJournal+"; state=open needs none")
			return
		}
		if !a.enter(w) {
			return
		}
		defer a.leave()
	}
	ctx, cancel := context.WithTimeout(r.Context(), longestSearch)
	defer cancel()
	p := page{w: w, left: l.limit}
	open := a.o.Gateway.Open(connmodel.ID{}, nil)
	p.begin(open)
	if l.open && !l.inClosed {
		a.o.Gateway.Open(l.after, func(f *connmodel.Flow) bool {
			if l.means(f) && !p.put(f, 'o') {
				return false
			}
			return ctx.Err() == nil
		})
	}
	if l.closed && !p.more {
		rq := RecordQuery{Since: l.since, Until: l.until, Filter: l.filter, Limit: p.left + 1}
		if l.inClosed {
			rq.After = l.after
		}
		err := records.Each(ctx, rq, func(f *connmodel.Flow) error {
			if !p.put(f, 'c') {
				return errPageFull
			}
			return nil
		})
		if err != nil && !errors.Is(err, errPageFull) {
			p.fail(a, err)
			return
		}
	}
	p.end()
}

var errPageFull = errors.New("the page is full")

// listing reads the parameters.
func (a *api) listing(w http.ResponseWriter, q query) (l listing, ok bool) {
	state, ok := q.oneOf(w, "state", "open", "closed", "all")
	if !ok {
		return l, false
	}
	l.open, l.closed = state != "closed", state != "open"
	now := time.Now()
	if l.since, ok = q.moment(w, "since", now); !ok {
		return l, false
	}
	if l.until, ok = q.moment(w, "until", now); !ok {
		return l, false
	}
	if l.limit, ok = q.number(w, "limit", 1, maxShown, defaultConnections); !ok {
		return l, false
	}
	if l.filter, ok = a.filter(w, q.get("filter")); !ok {
		return l, false
	}
	if c := q.get("cursor"); c != "" {
		id, err := connmodel.ParseID(c[1:])
		if err != nil || id.IsZero() || c[0] != 'o' && c[0] != 'c' || c[0] == 'o' && !l.open || c[0] == 'c' && !l.closed {
			problem(w, http.StatusBadRequest, "cursor is the next of an answer to the same question")
			return l, false
		}
		l.after, l.inClosed = id, c[0] == 'c'
	}
	return l, true
}

// means reports whether an open flow is asked for.
func (l *listing) means(f *connmodel.Flow) bool {
	return (l.since.IsZero() || !f.Start.Before(l.since)) && (l.until.IsZero() || !f.Start.After(l.until)) && l.filter.Match(f)
}

// filter compiles an expression; "" is nil, which means every flow.
func (a *api) filter(w http.ResponseWriter, expression string) (*connmodel.Filter, bool) {
	if strings.TrimSpace(expression) == "" {
		return nil, true
	}
	if a.o.Compile == nil {
		problem(w, http.StatusBadRequest, "this gateway takes no filters")
		return nil, false
	}
	f, err := a.o.Compile(expression)
	if err != nil {
		problem(w, http.StatusBadRequest, "filter: "+err.Error())
		return nil, false
	}
	return f, true
}

// page writes flows one by one: each is bounded, and a thousand of them are not held as text. Until there is more than a little to write
// nothing is written, so that an early failure has a status of its own.
type page struct {
	w       http.ResponseWriter
	open    int
	left    int
	n       int
	b       []byte
	last    string // cursor of the last one
	more    bool   // there are further ones
	started bool   // bytes have been written
}

func (p *page) begin(open int) {
	p.open = open
	p.b = append(p.b, `{"open":`...)
	p.b = strconv.AppendInt(p.b, int64(open), 10)
	p.b = append(p.b, `,"connections":[`...)
}

// put writes a flow. It returns false when there was no room for it.
func (p *page) put(f *connmodel.Flow, phase byte) bool {
	if p.left == 0 {
		p.more = true
		return false
	}
	p.left--
	if p.n > 0 {
		p.b = append(p.b, ',')
	}
	p.n++
	p.b = append(p.b, '\n')
	p.b = f.AppendJSON(p.b)
	p.last = string(phase) + f.ID.String()
	if len(p.b) > 64<<10 {
		p.flush()
	}
	return true
}

func (p *page) flush() {
	if !p.started {
		p.w.Header().Set("Content-Type", "application/json")
		p.started = true
	}
	p.w.Write(p.b) // a client that has left is noticed by whoever looks for flows
	p.b = p.b[:0]
}

func (p *page) end() {
	p.b = append(p.b, `],"truncated":`...)
	p.b = strconv.AppendBool(p.b, p.more)
	p.b = append(p.b, `,"next":`...)
	if p.more {
		p.b = strconv.AppendQuote(p.b, p.last)
	} else {
		p.b = append(p.b, "null"...)
	}
	p.b = append(p.b, "}\n"...)
	p.flush()
}

// fail says what went wrong; when time was up behind some flows, the page ends there.
func (p *page) fail(a *api, err error) {
	switch {
	case p.n > 0 && errors.Is(err, context.DeadlineExceeded):
		p.more = true
		p.end()
	case p.started:
		panic(http.ErrAbortHandler) // half an answer must not look like one
	default:
		a.answerOr(p.w, nil, err)
	}
}

// connection shows everything about one, open or closed.
func (a *api) connection(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	if !a.enter(w) {
		return
	}
	defer a.leave()
	ctx, cancel := context.WithTimeout(r.Context(), longestSearch)
	defer cancel()
	f, open, ok := a.find1(ctx, w, r.PathValue("id"))
	if !ok {
		return
	}
	var today any
	if a.o.Today != nil {
		var err error
		if today, err = a.o.Today(ctx, f); err != nil {
			today = nil // the record stands by itself; why nothing can be said of today is said by "viaduct connection ID"
		}
	}
	b, err := json.MarshalIndent(today, "", "  ")
	if err != nil {
		a.answerOr(w, nil, err)
		return
	}
	var out bytes.Buffer
	out.WriteString(`{"open":` + strconv.FormatBool(open) + ",\n" + `"connection":`)
	out.Write(f.AppendJSON(nil))
	out.WriteString(",\n\"today\":")
	out.Write(b)
	out.WriteString("}\n")
	w.Header().Set("Content-Type", "application/json")
	w.Write(out.Bytes())
}

// find1 finds the one connection that text is the id of, or the beginning or the end of it, as people type them.
func (a *api) find1(ctx context.Context, w http.ResponseWriter, text string) (f *connmodel.Flow, open, ok bool) {
	text = strings.ToLower(text)
	if !idLike(text) {
		problem(w, http.StatusBadRequest, "an id has the form 0192a4f0-1b2c-7d3e-8f40-5a6b7c8d9e0f; 4 characters from its beginning or its end will do where they are its own")
		return nil, false, false
	}
	whole, err := connmodel.ParseID(text)
	exact := err == nil
	var found []*connmodel.Flow
	a.o.Gateway.Open(connmodel.ID{}, func(x *connmodel.Flow) bool {
		if exact && x.ID == whole || !exact && matchesID(x.ID, text) {
			found = append(found, x)
		}
		return ctx.Err() == nil && !(exact && len(found) > 0) && len(found) < maxAmbiguous
	})
	if exact && len(found) > 0 {
		return found[0], true, true
	}
	var records Records
	if a.o.Records != nil {
		records = a.o.Records()
	}
	var ids []connmodel.ID
	if records != nil && exact {
		ids = []connmodel.ID{whole}
	} else if records != nil {
		if ids, err = records.Find(ctx, text); err != nil && !errors.Is(err, ErrNotFound) {
			a.answerOr(w, nil, err)
			return nil, false, false
		}
		ids = slices.DeleteFunc(ids, func(id connmodel.ID) bool { // it has ended in between
			return slices.ContainsFunc(found, func(x *connmodel.Flow) bool { return x.ID == id })
		})
	}
	switch {
	case len(found)+len(ids) > 1:
		var names []string
		for _, x := range found {
			names = append(names, x.ID.String())
		}
		for _, id := range ids {
			names = append(names, id.String())
		}
		problem(w, http.StatusConflict, "several connections are called that: "+strings.Join(names[:min(len(names), maxAmbiguous)], ", "))
		return nil, false, false
	case len(found) == 1:
		return found[0], true, true
	case len(ids) == 1:
		f, err = records.Get(ctx, ids[0])
		if err == nil {
			return f, false, true
		}
		a.answerOr(w, nil, err)
		return nil, false, false
	}
	problem(w, http.StatusNotFound, ErrNotFound.Error())
	return nil, false, false
}

const maxAmbiguous = 10

// idLike reports whether text could be a part of an id.
func idLike(text string) bool {
	return len(text) >= 4 && len(text) <= 36 && strings.Trim(text, "0123456789abcdef-") == ""
}

func matchesID(id connmodel.ID, text string) bool {
	s := id.String()
	return strings.HasPrefix(s, text) || strings.HasSuffix(s, text)
}

// closeConnection ends an open one.
func (a *api) closeConnection(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), longestSearch)
	defer cancel()
	f, open, ok := a.find1(ctx, w, r.PathValue("id"))
	if !ok {
		return
	}
	if !open || !a.o.Gateway.CloseFlow(f.ID) {
		problem(w, http.StatusConflict, "the connection has ended already")
		return
	}
	answer(w, http.StatusOK, struct {
		Closed connmodel.ID `json:"closed"`
	}{f.ID})
}

// strict reads one JSON value of known fields and nothing behind it.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more behind it")
	}
	return nil
}
