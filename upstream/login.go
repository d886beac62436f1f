package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/h2"
	"viaduct/upstream/http1"
	"viaduct/upstream/httpconnect"
)

// newAuth makes what proves to an HTTP proxy who we are. What was learnt of the proxy before is kept while nothing has changed.
func (h *Hop) newAuth(guard *auth.Guard, prev *Hop) (err error) {
	a := h.spec.Auth
	if a == nil || !h.http() {
		h.guardSOCKS(guard)
		return nil
	}
	if h.guard = guard; a.FromClient { // each client has one of its own: see attempt.auth
		return nil
	}
	if prev != nil && prev.auth != nil && prev.guard == guard && a.Keytab == "" && sameProxy(&prev.spec, &h.spec) { // the key in a keytab may be another
		h.auth = prev.auth
		return nil
	}
	c := auth.Config{
		Credential: h.credential, Upstream: h.spec.Name, Host: h.spec.Address.Host, Schemes: a.Schemes, Username: a.Username, Domain: a.Domain, Workstation: a.Workstation,
		HeaderName: a.Header, Realm: a.Realm, Guard: guard,
		Keytab: a.Keytab, CCache: a.CCache, Krb5Conf: a.Krb5Conf, SPN: a.SPN, Canonical: a.Canonical,
	}
	if len(c.Schemes) == 0 {
		c.Schemes = []string{auth.Basic}
	}
	if a.Username != "" && (a.Keytab == "" || !a.Password.IsZero()) {
		c.Password = a.Password.Reveal
	}
	if a.Username == "" && a.CCache == "" || !a.Token.IsZero() {
		c.Token = a.Token.Reveal
	}
	h.auth, err = auth.New(c)
	return err
}

// since says since when the secret of h is what it is: prev is the hop before.
func (h *Hop) since(prev *Hop) time.Time {
	switch a := h.spec.Auth; {
	case a == nil || a.FromClient:
		return time.Time{}
	case prev != nil && !prev.taken.IsZero() && a.Password.Equal(prev.spec.Auth.Password) && a.Token.Equal(prev.spec.Auth.Token) && a.Keytab == prev.spec.Auth.Keytab &&
		(a.Keytab == "" || prev.auth == nil || h.auth == nil || prev.auth.Pair() == h.auth.Pair()): // the pair is of what the keytab holds
		return prev.taken
	}
	return time.Now()
}

// Secrets says since when the secret of each upstream that has one is what it is, by name.
func (t *Table) Secrets() map[string]time.Time {
	all := map[string]time.Time{}
	for _, h := range t.hops {
		if !h.taken.IsZero() {
			all[h.spec.Name] = h.taken
		}
	}
	return all
}

// maxMoves is how often a handshake may go on over another connection, because the proxy closed the one it was begun on.
const maxMoves = 2

// maxRefusal bounds what is read of the page that comes with a 407.
const maxRefusal = 256 << 10

// asker is a request that a proxy answers with 407 until it knows who we are.
type asker interface {
	ask(f auth.Field) (status int, challenges []string, err error)
	await() (status int, challenges []string, err error) // the answer, when ask was at an end with its time and not with the connection
	drain() (again bool, err error)                      // reads the rest of a 407, and reports whether the connection can go on
}

// converse asks until the proxy lets us in or says no. moved says that it closed the connection where another one will do.
func (a *attempt) converse(n int, sess *auth.Session, s *steps, r *auth.Request, k asker) (moved bool, he *HopError) {
	over := false
	defer func() {
		if !over && sess != nil { // a panic: others must not wait for its outcome
			sess.Broken()
		}
	}()
	moved, he = a.talk(n, sess, s, r, k)
	over = true
	return moved, he
}

func (a *attempt) talk(n int, sess *auth.Session, s *steps, r *auth.Request, k asker) (moved bool, he *HopError) {
	h := a.hops[n-1]
	ctx, cancel := context.WithDeadline(a.d.ctx, a.d.deadline)
	defer cancel()
	if a.d.q.check {
		done, he := a.guardedTurn(n)
		if he != nil {
			return false, he
		}
		defer done()
		if h.auth != nil {
			if no := h.auth.Closed(); no != nil { // by the check before
				return false, a.failure(n, connmodel.PhaseAuth, no)
			}
		}
		if !h.proven() {
			return false, a.unshown(n, k)
		}
	}
	failed := func(err error) *HopError {
		he := a.failure(n, connmodel.PhaseAuth, err)
		if he.shown = s.showed; errors.As(err, new(*rejection)) {
			he.Phase = connmodel.PhaseConnect
		}
		return he
	}
	f, err := sess.First(ctx, r)
	for {
		if err != nil {
			return false, failed(err)
		}
		if err := a.armProof(sess.Proving(), h.spec.Timeouts.Handshake); err != nil {
			sess.Unsent()
			return false, a.failure(n, connmodel.PhaseConnect, err)
		}
		if f.Name != "" {
			s.showed = true
			s.look.shows(f)
		}
		status, challenges, err := k.ask(f)
		if err != nil {
			switch {
			case h2.Unprocessed(err), wantsHTTP11(err):
				sess.Unsent()
			case sess.Proving() && errors.Is(err, os.ErrDeadlineExceeded) && a.base != nil && s != &a.steps:
				sess.Late()
				s.look = nil // whoever looks on is gone by then
				a.outlive(sess, r, k)
			default:
				sess.Broken()
			}
			he := failed(err)
			he.Phase = connmodel.PhaseConnect
			return false, he
		}
		if status != 407 {
			sess.Answered(status)
			return false, nil
		}
		now := time.Now()
		a.rec0(n).Took(connmodel.PartAuth, now.Sub(s.at))
		s.at = now
		again, err := k.drain()
		if err != nil {
			again = false // what is asked for is known all the same
		}
		portable := sess.Portable()
		f, err = sess.Next(ctx, r, challenges)
		switch {
		case err != nil:
			var ae *auth.Error
			if errors.As(err, &ae) && ae.Kind == auth.Rejected {
				err = &rejection{ae, &httpconnect.StatusError{Status: 407}}
			}
			return false, failed(err)
		case !again && portable:
			sess.Unsent()
			return true, nil
		case !again:
			sess.Unsent()
			return false, failed(&auth.Error{Kind: auth.Impossible, Scheme: sess.Scheme(),
				Text: "the proxy closed the connection in the middle of the " + sess.Scheme() + " handshake, which belongs to one connection"})
		}
	}
}

// lateAnswer is how much longer an answer that decides on a credential is waited for. A proxy that is asked for a target which swallows packets
// says so after a minute or less, and that it tried says that it let us in.
const lateAnswer = 75 * time.Second

// loginSteps are those of a login, which may outlive the attempt when it proves a credential.
func (a *attempt) loginSteps(au *auth.Authenticator) *steps {
	if au == nil || au.Proven() {
		return &a.steps
	}
	return new(steps)
}

// outlive waits beside the flow, which is told that there was no answer in time, for one that may come yet. The connection is not the
// attempt's any more.
func (a *attempt) outlive(sess *auth.Session, r *auth.Request, k asker) {
	base := a.base
	a.unwatch()
	a.base, a.armed = nil, false
	base.SetDeadline(time.Now().Add(lateAnswer))
	go func() {
		defer base.Close()
		defer sess.Broken() // where nothing else was said
		switch status, challenges, err := k.await(); {
		case err != nil:
		case status != 407:
			sess.Answered(status)
		default:
			if _, err := sess.Next(context.Background(), r, challenges); err == nil {
				sess.Unsent()
			}
		}
	}()
}

// wantsHTTP11 reports whether a stream was refused because the proxy wants HTTP/1.1 for it (RFC 9113, section 7): it looked at nothing else.
func wantsHTTP11(err error) bool {
	var se *h2.StreamError
	return errors.As(err, &se) && se.Code == http2.ErrCodeHTTP11Required
}

// rejection is a 407 to credentials that were shown: what it means, and what the wire said.
type rejection struct {
	said   *auth.Error
	status *httpconnect.StatusError
}

func (r *rejection) Error() string   { return r.said.Error() }
func (r *rejection) Unwrap() []error { return []error{r.said, r.status} }

// tlsState is that of the connection with the proxy; nil = it is in the clear.
func tlsState(conn net.Conn) *tls.ConnectionState {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	cs := c.ConnectionState()
	return &cs
}

// tunnel is CONNECT to a proxy that wants to know who we are. It returns the connection that it ended on.
func (a *attempt) tunnel(n int, conn net.Conn, host string, to connmodel.Address) (net.Conn, *HopError) {
	h := a.hops[n-1]
	rec := a.element1(n, h.spec.Address)
	au, err := a.auth(n)
	if err != nil {
		return nil, err
	}
	for moves := 0; ; moves++ {
		s := a.loginSteps(au)
		in := a.withEarly(conn)
		*s = steps{conn: in, at: time.Now(), phase: connmodel.PhaseConnect, via: a.d.q.Via, look: a.onlooker(n)}
		k := &connector{hs: httpconnect.NewHandshake(s, http1.Limits{}), req: httpconnect.Request{Host: host, Port: to.Port}}
		if s.via != "" {
			k.req.Header = http1.Header{{Name: "Via", Value: s.via}}
		}
		if au.Bound() { // HTTP/1.0 proxies close otherwise
			k.req.Header = append(k.req.Header, http1.Field{Name: "Proxy-Connection", Value: "keep-alive"})
		}
		target := to
		target.Host = host
		sess, warm := au.NewSession(tlsState(conn)), a.warm != nil && n == 1
		if warm {
			sess = a.warm.sess
		}
		ask := auth.Request{Method: "CONNECT"}
		if sess != nil { // nobody else reads it
			ask.URI = target.String()
		}
		moved, he := a.converse(n, sess, s, &ask, k)
		if he != nil && warm && !k.heard && a.d.ctx.Err() == nil { // it died while nobody used it
			moved, he, warm = true, nil, false
		}
		if n == 1 && h.warm != nil && he == nil && !moved && !a.d.q.check {
			a.d.t.replenish(h, !warm)
			if k.no != nil && sess.Done() {
				if again, _ := k.drain(); again {
					he = a.failure(n, s.phase, k.no)
					a.keepWarm(conn, sess)
				}
			}
		}
		if k.no != nil && !moved {
			if he == nil {
				he = a.failure(n, s.phase, k.no)
			}
			he.shown, he.hint = s.showed, s.hint
		}
		s.took(rec)
		if s.showed {
			rec.UsedCredential(h.credential)
		}
		switch {
		case he != nil:
			return nil, he
		case !moved:
			rec.Done()
			a.element1(n+1, a.address(n+1))
			if a.early = k.res.Leftover; in != conn {
				a.early = append(a.early, in.(*earlyConn).early...)
			}
			return conn, nil
		}
		if conn, he = a.move(n, moves); he != nil {
			return nil, he
		}
	}
}

// move replaces the connection to hop n.
func (a *attempt) move(n, moves int) (net.Conn, *HopError) {
	if moves >= maxMoves {
		return nil, a.failure(n, connmodel.PhaseAuth, &auth.Error{Kind: auth.Loop,
			Text: fmt.Sprintf("the proxy closed the connection each of %d times when it asked for credentials", moves+1)})
	}
	a.drop()
	a.rec0(n).NotReused()
	a.warm, a.cold = nil, true
	a.kept, a.local, a.peer = nil, netip.AddrPort{}, netip.AddrPort{}
	return a.hop(n)
}

// connector asks by CONNECT.
type connector struct {
	hs  *httpconnect.Handshake
	req httpconnect.Request
	res httpconnect.Result
	no  *httpconnect.StatusError // a refusal that is no 407

	heard bool // the proxy has answered something
}

func (k *connector) ask(f auth.Field) (int, []string, error) {
	req := k.req
	if f.Name != "" {
		req.Header = append(req.Header[:len(req.Header):len(req.Header)], http1.Field{Name: f.Name, Value: f.Value})
	}
	return k.heed(k.hs.Do(&req))
}

func (k *connector) await() (int, []string, error) { return k.heed(k.hs.Await()) }

// heed says what an answer is.
func (k *connector) heed(res httpconnect.Result, err error) (int, []string, error) {
	k.heard = k.heard || err == nil || errors.As(err, new(*httpconnect.StatusError))
	s, ok := k.hs.Conn().(*steps)
	if ok {
		s.look.http(s, &res, err)
	}
	var no *httpconnect.StatusError
	switch {
	case err == nil:
		k.res = res
		return res.Status, nil, nil
	case !errors.As(err, &no):
		return 0, nil, err
	case no.Status == 407:
		return 407, no.ProxyAuthenticate, nil
	}
	// Error pages quote requests, ours with the credentials: the record of a failure keeps the status.
	if ok {
		s.hint = hintOf(no.Header)
	}
	no.Header, no.BodySnippet, no.ProxyAuthenticate, no.Reason = nil, nil, nil, ""
	k.no = no
	return no.Status, nil, nil
}

func (k *connector) drain() (bool, error) { return k.hs.Drain(maxRefusal) }

// logIn proves who we are by a HEAD, before the request of a client is sent: it may have a body that can be sent once only. The connection it
// ends on can carry that request.
func (a *attempt) logIn(n int, conn net.Conn) (net.Conn, *auth.Session, *HopError) {
	h := a.hops[n-1]
	rec := a.element1(n, h.spec.Address)
	au, err := a.auth(n)
	if err != nil {
		return nil, nil, err
	}
	url := "http://" + a.d.q.Target.String() + "/"
	if w := h.spec.Auth.WarmURL; w != "" {
		url = w
	}
	for moves := 0; ; moves++ {
		s := a.loginSteps(au)
		*s = steps{conn: a.withEarly(conn), at: time.Now(), phase: connmodel.PhaseConnect, via: a.d.q.Via, look: a.onlooker(n)}
		k := newKnocker(s, url)
		sess := au.NewSession(tlsState(conn))
		if a.d.q.Login && sess != nil {
			sess.Anew()
		}
		moved, he := a.converse(n, sess, s, &auth.Request{Method: "HEAD", URI: url}, k)
		s.took(rec)
		if s.showed {
			rec.UsedCredential(h.credential)
		}
		if he != nil {
			return nil, nil, he
		}
		if !moved {
			if again, _ := k.drain(); again {
				return conn, sess, nil
			}
		}
		if conn, he = a.move(n, moves); he != nil {
			return nil, nil, he
		}
		if !moved && !sess.Done() { // it let us in, and does not do so for one connection
			return conn, sess, nil
		}
	}
}

// knocker asks by a HEAD in absolute-form.
type knocker struct {
	s    *steps
	url  string
	in   http1.Reader
	resp http1.Response
}

func newKnocker(s *steps, url string) *knocker {
	k := &knocker{s: s, url: url}
	k.in.Reset(s, http1.Limits{})
	return k
}

func (k *knocker) ask(f auth.Field) (int, []string, error) {
	host := k.url[len("http://"):]
	for i := range host {
		if host[i] == '/' {
			host = host[:i]
			break
		}
	}
	h := http1.Header{{Name: "Host", Value: host}, {Name: "Proxy-Connection", Value: "keep-alive"}}
	if k.s.via != "" {
		h.Add("Via", k.s.via)
	}
	if f.Name != "" {
		h.Add(f.Name, f.Value)
	}
	out, err := http1.AppendHeader([]byte("HEAD "+k.url+" HTTP/1.1\r\n"), h)
	if err != nil {
		return 0, nil, err
	}
	if _, err := k.s.Write(append(out, "\r\n"...)); err != nil {
		return 0, nil, fmt.Errorf("login: request: %w", err)
	}
	return k.await()
}

func (k *knocker) await() (int, []string, error) {
	if err := k.in.ReadFinal("HEAD", &k.resp, func(*http1.Response) error { return nil }); err != nil {
		var fault *http1.Error
		if errors.As(err, &fault) {
			return 0, nil, &httpconnect.ProtocolError{Err: fault}
		}
		return 0, nil, fmt.Errorf("login: reply: %w", err)
	}
	if k.resp.Status == 101 {
		return 0, nil, &httpconnect.ProtocolError{Saw: "101 (Switching Protocols)"}
	}
	k.s.look.answer(k.s, k.resp.Status, k.resp.Reason, k.resp.Header)
	var challenges []string
	for v := range k.resp.Header.Values("Proxy-Authenticate") {
		challenges = append(challenges, v)
	}
	return k.resp.Status, challenges, nil
}

// drain has no body to read: the answer to a HEAD has none.
func (k *knocker) drain() (bool, error) { return k.resp.KeepAlive && len(k.in.Buffered()) == 0, nil }

// Authorize returns the field that a request on a connection to a proxy (Absolute) is to carry; empty where the connection itself is
// proved, or the proxy is shown nothing.
func (c *Conn) Authorize(method, uri string) (name, value string, err *connmodel.ConnError) {
	if c.hop == nil || c.session != nil && c.session.Done() {
		return "", "", nil
	}
	if c.auth == nil {
		return "", "", classify(c.failure(&loginError{errNoLogin}))
	}
	if c.session == nil {
		c.session = c.auth.NewSession(tlsState(c.Conn))
	} else {
		c.session = c.session.Continue()
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.hop.spec.Timeouts.Handshake)
	defer cancel()
	f, e := c.session.First(ctx, &auth.Request{Method: method, URI: uri})
	if e != nil {
		return "", "", classify(c.failure(e))
	}
	return f.Name, f.Value, nil
}

// Challenged tells of a 407 to a request with what Authorize had given for it, and reports whether the same request is worth another try: here,
// on this connection if it can go on, else on another one. Without, the error says why.
func (c *Conn) Challenged(method, uri string, challenges []string) (again, here bool, err *connmodel.ConnError) {
	if c.hop == nil || c.session == nil {
		return false, false, nil
	}
	if c.session.Done() { // it had let us in on this connection, and does not know it any more
		return true, false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.hop.spec.Timeouts.Handshake)
	defer cancel()
	_, e := c.session.Next(ctx, &auth.Request{Method: method, URI: uri}, challenges)
	if e == nil {
		c.session.Unsent()
		return true, true, nil
	}
	var ae *auth.Error
	if errors.As(e, &ae) && ae.Kind == auth.Rejected {
		e = &rejection{ae, &httpconnect.StatusError{Status: 407}}
	}
	return false, false, classify(c.failure(e))
}

func (c *Conn) failure(err error) *HopError {
	n := len(c.lease.hops)
	return &HopError{Hop: n, Upstream: c.hop.spec.Name, Scheme: c.hop.spec.Scheme, Address: c.hop.spec.Address, Hops: n, Phase: connmodel.PhaseAuth, Err: err, shown: true, client: c.hop.fromClient()}
}

// Credential names what Authorize shows; "" = nothing is to be shown, now or later.
func (c *Conn) Credential() string {
	if c.hop == nil {
		return ""
	}
	return c.hop.credential
}

// Fickle reports whether a request on this connection can be answered by a 407 although the credential is good (Digest: its nonce may be too
// old). One with a body that cannot be sent twice wants a connection for which Request.Login was set.
func (c *Conn) Fickle() bool { return c.auth != nil && c.auth.Fickle() }
