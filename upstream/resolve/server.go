package resolve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// group is a Group with its servers.
type group struct {
	suffix  string
	system  bool
	servers []*server
}

// server is one name server, and what is known of it.
type server struct {
	c      *Client
	spec   Server
	via    string
	label  string
	plain  atomic.Bool // it does not know EDNS0
	stream *streams    // tcp and tls, and where datagrams are too short
	doh    *doh

	queries, failures atomic.Uint64
	counts            [results]atomic.Uint64
	latency           atomic.Int64 // moving average, ns

	mu    sync.Mutex
	row   int       // failures in a row
	until time.Time // it is asked after the others until then
	last  string    // error
	at    time.Time // of last
}

// How long a server that did not answer is asked after the others: doubled with each failure.
const (
	firstRest = 2 * time.Second
	longRest  = time.Minute
)

// down reports whether s is to be asked after the others.
func (s *server) down(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until.After(now)
}

// answered notes that the server is there, whatever it said.
func (s *server) answered(took time.Duration, r Result) {
	s.counts[r].Add(1)
	if old := s.latency.Load(); old == 0 {
		s.latency.Store(int64(took))
	} else {
		s.latency.Store(old + (int64(took)-old)/8)
	}
	s.mu.Lock()
	s.row, s.until = 0, time.Time{}
	s.mu.Unlock()
}

// silent notes that the server did not answer.
func (s *server) silent(now time.Time, r Result, what string) {
	s.counts[r].Add(1)
	s.failures.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.at = what, now
	if s.until.After(now) { // two queries that failed together are one failure
		return
	}
	s.row = min(s.row+1, 16)
	s.until = now.Add(min(firstRest<<(s.row-1), longRest))
}

// forget makes nothing of what was known: the network has changed.
func (s *server) forget() {
	s.mu.Lock()
	s.row, s.until = 0, time.Time{}
	s.mu.Unlock()
	s.hangUp()
}

// hangUp closes the connections that are kept.
func (s *server) hangUp() {
	if s.stream != nil {
		s.stream.close()
	}
	if s.doh != nil {
		s.doh.close()
	}
}

// inOrder returns the servers as they are to be asked: those that answer first.
func (g *group) inOrder(now time.Time) []*server {
	if len(g.servers) < 2 || !slices.ContainsFunc(g.servers, func(s *server) bool { return s.down(now) }) {
		return g.servers
	}
	well := make([]*server, 0, len(g.servers))
	var rest []*server
	for _, s := range g.servers {
		if s.down(now) {
			rest = append(rest, s)
		} else {
			well = append(well, s)
		}
	}
	return append(well, rest...)
}

// ask asks the servers of a group one after the other until one knows.
func (g *group) ask(ctx context.Context, c *Client, name string, qtype dnsmessage.Type) (r reply, by *server, failed *Error) {
	e := &Error{Name: name, Resolver: c.o.Name}
	for range c.o.Attempts {
		silent := false
		for _, s := range g.inOrder(c.now()) {
			r, err := s.query(ctx, name, qtype)
			if err == nil {
				return r, s, nil
			}
			var what string
			e.Result, what = resultOf(err)
			e.say(s.label, what)
			if ctx.Err() != nil {
				return reply{}, s, e
			}
			silent = silent || e.Result == Timeout || e.Result == Failed
		}
		if !silent { // they all said that they cannot: they will not say otherwise
			break
		}
	}
	return reply{}, nil, e
}

func (e *Error) say(server, what string) {
	for i := range e.Said {
		if e.Said[i].Server == server {
			e.Said[i].What = what
			return
		}
	}
	e.Said = append(e.Said, Said{server, what})
}

// query asks one server, within its time.
func (s *server) query(ctx context.Context, name string, qtype dnsmessage.Type) (reply, error) {
	start := s.c.now()
	own, cancel := context.WithTimeout(ctx, s.c.o.Timeout)
	defer cancel()
	r, err := s.exchange(own, name, qtype)
	var code rcodeError
	switch {
	case err == nil && r.missing:
		s.answered(time.Since(start), NXDomain)
	case err == nil && len(r.addrs) == 0 && r.alias == "":
		s.answered(time.Since(start), NoData)
	case err == nil:
		s.answered(time.Since(start), OK)
	case errors.As(err, &code):
		result, what := resultOf(err)
		s.answered(time.Since(start), result)
		s.failures.Add(1)
		s.mu.Lock()
		s.last, s.at = what, start
		s.mu.Unlock()
	case ctx.Err() != nil: // nobody waits any more: that says nothing of the server
	default:
		result, what := resultOf(err)
		s.silent(s.c.now(), result, what)
	}
	return r, err
}

// exchange asks by the protocol of the server, and falls back: to TCP where the answer is too long for a datagram or seems forged, and to
// queries without EDNS0.
func (s *server) exchange(ctx context.Context, name string, qtype dnsmessage.Type) (reply, error) {
	r, err := s.once(ctx, name, qtype)
	var code rcodeError
	if errors.As(err, &code) && (dnsmessage.RCode(code) == dnsmessage.RCodeFormatError || dnsmessage.RCode(code) == dnsmessage.RCodeNotImplemented) && !s.plain.Load() {
		s.plain.Store(true)
		if r, err = s.once(ctx, name, qtype); err != nil {
			s.plain.Store(false) // that was not it
		}
	}
	return r, err
}

func (s *server) once(ctx context.Context, name string, qtype dnsmessage.Type) (reply, error) {
	udp := s.spec.Scheme == "udp"
	q, err := newQuestion(name, qtype, udp)
	if err != nil {
		return reply{}, err
	}
	q.plain = s.plain.Load()
	s.queries.Add(1)
	switch s.spec.Scheme {
	case "https":
		return s.doh.ask(ctx, q)
	case "udp":
		r, err := s.datagram(ctx, q)
		if err != nil && err != errCase || err == nil && !r.truncated {
			return r, err
		}
		s.queries.Add(1)
		if q, err = newQuestion(name, qtype, false); err != nil {
			return reply{}, err
		}
		q.plain = s.plain.Load()
	}
	return s.stream.ask(ctx, q)
}
