package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// Session is what is said on one connection about who we are. It belongs to one goroutine.
type Session struct {
	ctx context.Context // of the call under way
	a   *Authenticator
	tls *tls.ConnectionState // of the proxy; nil = the connection is in the clear

	scheme  string   // being spoken; "" = none
	state   any      // the speaker's own
	attempt *Attempt // of the credential, when it was shown
	asked   bool     // the proxy has sent a 407 on this connection
	rounds  int      // messages sent
	failed  []failure
	done    bool // the connection is proved: nothing is to be sent on it any more
	anew    bool // see Anew
}

type failure struct {
	scheme string
	err    error
}

// maxRounds bounds the messages for one request.
const maxRounds = 8

// Request is what a message may depend on.
type Request struct {
	Method string // "CONNECT"
	URI    string // request-target as it stands in the request line
}

// Field is a header field; the zero value is none.
type Field struct{ Name, Value string }

// NewSession begins on a connection that has not been used. cs is that of the TLS with the proxy, nil without. Without a credential, when a is
// nil, it is nil.
func (a *Authenticator) NewSession(cs *tls.ConnectionState) *Session {
	if a == nil {
		return nil
	}
	return &Session{a: a, tls: cs}
}

// First returns the field of the first request; none, when the proxy is to be asked what it wants. It waits for others who are finding out
// whether the credential is accepted.
func (s *Session) First(ctx context.Context, r *Request) (Field, error) {
	if err := s.a.Closed(); err != nil {
		return Field{}, err
	}
	s.ctx = ctx
	name := s.a.early()
	if name == "" || s.done || s.a.asksFirst(name) {
		return Field{}, nil
	}
	m, err := s.a.speaks[name].first(s, r, nil)
	switch {
	case err != nil:
		var no *impossible
		if !errors.As(err, &no) {
			return Field{}, err
		}
		s.failed = append(s.failed, failure{name, err})
		s.state = nil
		return Field{}, nil
	case m.value == "":
		return Field{}, nil
	}
	s.scheme = name
	return s.send(ctx, m)
}

// send hands a message out, when the guard allows it.
func (s *Session) send(ctx context.Context, m message) (Field, error) {
	if s.rounds++; s.rounds > maxRounds {
		return Field{}, s.fail(&Error{Kind: Loop, Scheme: s.scheme, Text: fmt.Sprintf("the proxy asked %d times for credentials and was answered each time", maxRounds)})
	}
	if m.spends && s.attempt == nil {
		at, err := s.a.acquire(ctx)
		if err != nil {
			return Field{}, err
		}
		s.attempt = at
	}
	return Field{s.a.field(), m.value}, nil
}

// fail is for errors that say nothing about the credential.
func (s *Session) fail(err *Error) *Error {
	s.attempt.Unused()
	s.attempt = nil
	return err
}

// Proving reports whether the answer to what was sent last decides on the credential: it must be waited for, whatever became of the one on
// whose behalf it was sent.
func (s *Session) Proving() bool { return s.attempt.Proving() }

// Scheme returns the scheme that is being spoken; "" = none yet.
func (s *Session) Scheme() string { return s.scheme }

// Rounds returns how many messages were sent.
func (s *Session) Rounds() int { return s.rounds }

// Next answers a 407; fields are the values of its Proxy-Authenticate fields. After an error nothing more can be said on the connection.
func (s *Session) Next(ctx context.Context, r *Request, fields []string) (Field, error) {
	if err := s.a.Closed(); err != nil && s.attempt == nil {
		return Field{}, err
	}
	s.asked, s.ctx = true, ctx
	if s.done { // it does not know this connection any more: nothing was said for this request
		s.done, s.scheme, s.state, s.rounds = false, "", nil, 0
	}
	offers, perr := Parse(fields)
	if s.scheme != "" {
		m, err := s.a.speaks[s.scheme].next(s, r, find(offers, s.scheme))
		var no *impossible
		switch {
		case err == nil:
			return s.send(ctx, m)
		case errors.Is(err, errRejected):
			return Field{}, s.rejected(r)
		case !errors.As(err, &no):
			return Field{}, s.fail(&Error{Kind: Impossible, Scheme: s.scheme, Text: s.scheme + " failed: " + err.Error(), Err: err})
		case s.attempt != nil:
			return Field{}, s.rejected(r) // it was shown, so nothing else is
		}
		s.failed = append(s.failed, failure{s.scheme, err})
		s.scheme, s.state = "", nil
	}
	for _, name := range s.a.c.Schemes {
		c := find(offers, name)
		if c == nil || s.hasFailed(name) {
			continue
		}
		m, err := s.a.speaks[name].first(s, r, c)
		var no *impossible
		switch {
		case err == nil:
			s.scheme = name
			s.a.learn(name)
			return s.send(ctx, m)
		case !errors.As(err, &no):
			return Field{}, err
		}
		s.failed = append(s.failed, failure{name, err})
		s.state = nil
	}
	return Field{}, s.fail(s.none(offers, perr))
}

func (s *Session) hasFailed(scheme string) bool {
	for _, f := range s.failed {
		if f.scheme == scheme {
			return true
		}
	}
	return false
}

// find returns the offer of a scheme; of several of Digest the strongest.
func find(offers []Challenge, scheme string) (found *Challenge) {
	for i := range offers {
		c := &offers[i]
		if c.Scheme != scheme {
			continue
		}
		if found == nil || scheme == Digest && strength(c) > strength(found) {
			found = c
		}
	}
	return found
}

func (s *Session) rejected(r *Request) *Error {
	why := "the proxy of " + s.a.c.Upstream + " rejected it (407 after " + s.scheme + ", when asked for " + r.Method + " " + plainly(r.URI) + ")"
	if s.a.pair != nil && s.a.pair.Proven() {
		why += "; it had been accepted before: was the password changed, or does this proxy say 407 where it means 403?"
	}
	if s.attempt != nil {
		s.attempt.Rejected(why)
		s.attempt = nil
	}
	if s.scheme == Negotiate {
		return &Error{Kind: Rejected, Scheme: s.scheme, Text: "the proxy did not take our Kerberos ticket: its key may not be that of the service we name, the clocks may differ, or the user is not allowed"}
	}
	return &Error{Kind: Rejected, Scheme: s.scheme, Text: "the proxy rejected credential \"" + s.a.c.Credential + "\" (" + s.scheme + ")"}
}

// plainly shortens a target for a text and takes out of it what may be private.
func plainly(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	if i := strings.Index(uri, "://"); i >= 0 {
		if j := strings.IndexByte(uri[i+3:], '/'); j >= 0 {
			uri = uri[:i+3+j+1]
		}
	}
	if len(uri) > 200 {
		uri = uri[:200]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, uri)
}

// none is the error when nothing that is offered can be spoken.
func (s *Session) none(offers []Challenge, perr error) *Error {
	var names []string
	for i := range offers {
		if n := offers[i].Scheme; len(n) <= 32 && len(names) < 8 {
			names = append(names, plainly(n))
		}
	}
	may := strings.Join(s.a.c.Schemes, ", ")
	switch {
	case len(s.failed) > 0:
		var parts []string
		for _, f := range s.failed {
			parts = append(parts, f.scheme+": "+f.err.Error())
		}
		return &Error{Kind: Impossible, Scheme: s.failed[0].scheme, Err: s.failed[0].err, Text: "no scheme that the proxy offers (" + orNone(names) + ") is possible: " + strings.Join(parts, "; ")}
	case perr != nil:
		return &Error{Kind: Malformed, Err: perr, Text: "the proxy's challenges cannot be read: " + perr.Error()}
	}
	return &Error{Kind: NoOffer, Text: "the proxy offers " + orNone(names) + ", and the policy allows " + may}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "no scheme"
	}
	return strings.Join(names, ", ")
}

// Answered tells what the proxy answered to the last request, when that was no 407: it let us in. A failure of its own says so only where
// it had asked who we are before; what stands in front of it may fail, too.
func (s *Session) Answered(status int) {
	if s.scheme == "" {
		return
	}
	if s.rounds > 0 {
		s.a.learn(s.scheme)
		s.done = s.a.speaks[s.scheme].bound()
	}
	if s.asked || proves(status) {
		s.attempt.Accepted()
	} else {
		s.attempt.Unused()
	}
	s.attempt = nil
	s.lend(false)
}

// lend gives a nonce to the next session.
func (s *Session) lend(unused bool) {
	if d, ok := s.a.speaks[s.scheme].(*digester); ok {
		d.give(s, unused)
	}
}

// Anew makes the session ask for a nonce of its own (Digest), and keep it for its connection: see Continue.
func (s *Session) Anew() { s.anew = true }

// Continue begins the session of the next request on the same connection.
func (s *Session) Continue() *Session {
	next := s.a.NewSession(s.tls)
	if st, ok := s.state.(*digestState); ok && s.anew && st.n != nil {
		next.state = &digestState{n: st.n}
	}
	return next
}

// proves reports whether a status is one that a proxy gives to those whom it let in.
func proves(status int) bool {
	switch status {
	case 400, 408, 413, 414, 421, 425, 429, 431:
		return false
	}
	return status < 500
}

// Broken says that no answer came. Whether the credential was judged is not known.
func (s *Session) Broken() {
	s.attempt.Silent()
	s.attempt = nil
}

// Late is Broken for an answer that may come yet: the session can still be told of it.
func (s *Session) Late() { s.attempt = s.attempt.Late() }

// Unsent says that the last message was not sent.
func (s *Session) Unsent() {
	s.attempt.Unused()
	s.attempt = nil
	s.lend(true)
}

// Portable reports whether the handshake can go on over another connection: what was learnt so far is all that is needed.
func (s *Session) Portable() bool {
	return s.scheme == "" || !s.a.speaks[s.scheme].bound() || s.rounds == 0
}

// Done reports whether the connection itself is proved: no request on it needs a field any more.
func (s *Session) Done() bool { return s != nil && s.done }
