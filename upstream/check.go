package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/certcheck"
	"viaduct/upstream/http1"
)

// Kinds of checks, each of which asks more than the one before.
const (
	CheckTCP     = "tcp"     // the first proxy takes a TCP connection
	CheckTLS     = "tls"     // ... and makes a TLS handshake, where it is an https proxy
	CheckConnect = "connect" // the route connects to a target
	CheckHTTP    = "http"    // a request through the route is answered with an expected status
)

// Check is a question whose answer says whether a route is of use. The zero value is CheckTCP.
type Check struct {
	Kind   string            // "" = CheckConnect where there is a Target, else CheckTCP
	Target connmodel.Address // CheckConnect, CheckHTTP: what is connected to

	// What follows is for CheckHTTP.
	Secure bool          // https: TLS with the server is made here, through the route
	TLS    *tls.Config   // ... with this, which is not changed; nil = defaults. ServerName in it is the name verified; "" = Target.Host
	Method string        // "" = GET; the body of the answer is not read
	Path   string        // with its query; "" = "/"
	Status []StatusRange // that are expected; nil = 200 to 299

	plan *connmodel.TLSPlan
}

// StatusRange is HTTP statuses, both ends included.
type StatusRange struct{ From, To int }

// String writes "200" or "200-299".
func (r StatusRange) String() string {
	if r.From == r.To {
		return strconv.Itoa(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

var usualStatus = []StatusRange{{200, 299}}

// HTTPCheck makes the check that asks for a URL.
func HTTPCheck(text string) (*Check, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("write http://HOST/PATH or https://HOST/PATH")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("a check asks by http or https")
	case u.User != nil:
		return nil, errors.New("a user or password in a URL would be shown in logs, and is not sent")
	}
	c := &Check{Kind: CheckHTTP, Secure: u.Scheme == "https", Path: u.RequestURI()}
	port := uint16(80)
	if c.Secure {
		port = 443
	}
	if p := u.Port(); p != "" {
		if port, err = connmodel.ParsePort(p); err != nil {
			return nil, err
		}
	}
	if c.Target, err = connmodel.MakeAddress(u.Hostname(), port); err != nil {
		return nil, err
	}
	return c, nil
}

// ready returns c with what is left out filled in. Checks that are made again and again share it.
func (c *Check) ready() *Check {
	x := *c
	if x.Kind == "" {
		x.Kind = CheckTCP
		if !x.Target.IsZero() {
			x.Kind = CheckConnect
		}
	}
	if x.Kind != CheckHTTP {
		x.Secure, x.TLS, x.Method, x.Path, x.Status = false, nil, "", "", nil
		if x.Kind != CheckConnect {
			x.Target = connmodel.Address{}
		}
		return &x
	}
	x.Method, x.Path = cmp.Or(x.Method, "GET"), cmp.Or(x.Path, "/")
	if x.Status == nil {
		x.Status = usualStatus
	}
	if x.Secure {
		t := new(tls.Config)
		if c.TLS != nil {
			t = c.TLS.Clone()
		}
		t.NextProtos = []string{"http/1.1"}
		t.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		x.plan = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, ServerName: t.ServerName, Config: t}
	}
	return &x
}

// String names the check, as status and logs show it: `connect www.example.com:443`.
func (c *Check) String() string {
	switch {
	case c.Kind == CheckHTTP:
		path, _, _ := strings.Cut(c.Path, "?") // what is asked for may be a token
		return c.Method + " " + c.scheme() + "://" + c.host() + path
	case c.Kind == CheckConnect:
		return "connect " + c.Target.String()
	}
	return c.Kind
}

func (c *Check) scheme() string {
	if c.Secure {
		return "https"
	}
	return "http"
}

// host is the authority of the URL, without a port that goes without saying.
func (c *Check) host() string {
	if c.Secure && c.Target.Port == 443 || !c.Secure && c.Target.Port == 80 {
		return strings.TrimSuffix(c.Target.String(), ":"+strconv.Itoa(int(c.Target.Port)))
	}
	return c.Target.String()
}

// key tells checks apart that ask different things.
func (c *Check) key() string {
	return fmt.Sprintf("%s %s %v %p %s %s %v", c.Kind, c.Target, c.Secure, c.TLS, c.Method, c.Path, c.Status)
}

// same reports whether what a said holds for b.
func (c *Check) same(b *Check) bool {
	if c == nil || b == nil {
		return c == b
	}
	x, y := *c, *b
	x.TLS, y.TLS = nil, nil
	return x.key() == y.key() && certcheck.Same(c.TLS, b.TLS)
}

// expects reports whether a status is one that the check wants.
func (c *Check) expects(status int) bool {
	for _, r := range c.Status {
		if r.From <= status && status <= r.To {
			return true
		}
	}
	return false
}

// CheckResult is how a check went.
type CheckResult struct {
	Check  string        // what was asked: Check.String
	At     time.Time     // when it was begun
	Took   time.Duration // in all
	Route  time.Duration // until the route was open, as for a flow; 0 = it was not, or the check does not go so far
	Status int           // of CheckHTTP; 0 = there was no answer
	// Short says why the check went well although it did not go all the way: a credential on it that no flow has proved yet. "" = it did.
	Short string
	Err   *connmodel.ConnError // nil = it went well

	kind string
}

// errNotShown ends a check at a proxy that wants a credential that is not proven.
var errNotShown = errors.New("its credential is not shown by checks before a flow has proved it")

// Check asks once whether a route is of use. It shows no credential that was not accepted before, nor one that is closed, and of those it shows it
// does so one check at a time, so that one that has become wrong is rejected once.
func (t *Table) Check(ctx context.Context, route string, c *Check, deadline time.Time) CheckResult {
	r := t.routes[route]
	if r == nil {
		return CheckResult{Check: c.ready().String(), Err: &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal,
			Blame: connmodel.BlameLocal, Message: "there is no route named " + route}}
	}
	return t.ask(ctx, r, c.ready(), deadline)
}

// ask makes a check that is ready.
func (t *Table) ask(ctx context.Context, r *route, c *Check, deadline time.Time) (res CheckResult) {
	res = CheckResult{Check: c.String(), kind: c.Kind, At: time.Now()}
	switch c.Kind {
	case CheckTCP, CheckTLS:
		if r.way == nil || len(r.way.hops) == 0 {
			res.Err = &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal, Blame: connmodel.BlameLocal,
				Message: r.name + " has no first proxy that a check of the kind " + c.Kind + " could connect to"}
			break
		}
		res.Err = t.askFirst(ctx, r.way.hops[0], c.Kind == CheckTLS, deadline)
	default:
		q := &Request{Route: r.name, Target: c.Target, Deadline: deadline, Retry: &connmodel.Retry{Attempts: 1}, check: true, TLS: c.plan}
		if c.Kind == CheckHTTP && !c.Secure {
			q.Plain, q.Path, q.Login = true, c.Path, true
		}
		conn, err := t.Dial(ctx, q, nil)
		if res.Err = err; err != nil {
			break
		}
		res.Route = max(time.Since(res.At), 1)
		if c.Kind == CheckHTTP {
			res.Status, res.Err = t.fetch(ctx, conn, c, deadline)
		}
		conn.Close()
	}
	res.Took = max(time.Since(res.At), 1)
	if res.Err != nil && errors.Is(res.Err.Cause, errNotShown) {
		res.Short, res.Err = "as far as "+cmp.Or(res.Err.HopName, "a proxy")+": "+errNotShown.Error(), nil
		res.Route, res.Status = 0, 0 // a proxy may ask only when it is to fetch
	}
	return res
}

// askFirst connects to a proxy as the first of a way, and makes TLS with it.
func (t *Table) askFirst(ctx context.Context, h *Hop, withTLS bool, deadline time.Time) *connmodel.ConnError {
	d := &dialing{t: t, ctx: ctx, q: &Request{Target: h.spec.Address, check: true}, deadline: deadline}
	a := &d.attempt
	*a = attempt{d: d, hops: []*Hop{h}}
	conn, err := a.first(h.spec.Address)
	if err == nil && withTLS {
		conn, err = a.hopTLS(1, conn)
	}
	if conn, err = a.finish(conn, err); err != nil {
		return classify(err)
	}
	conn.Close()
	return nil
}

// fetch sends the request of an http check and reads the head of the answer, which is bounded by the limits of the HTTP codec.
func (t *Table) fetch(ctx context.Context, conn *Conn, c *Check, deadline time.Time) (status int, err *connmodel.ConnError) {
	conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	defer stop()
	req := http1.Request{Method: c.Method, Target: http1.Target{Form: http1.AbsoluteForm, Scheme: c.scheme(), Authority: http1.Authority{Host: c.Target.Host, Port: c.Target.Port}, Path: c.Path},
		Header: http1.Header{{Name: "User-Agent", Value: "Viaduct"}, {Name: "Accept", Value: "*/*"}, {Name: "Cache-Control", Value: "no-cache"}}}
	if ip := c.Target.IP(); ip.Is6() {
		req.Target.Authority.IPLiteral = true
	}
	if c.host() != c.Target.String() {
		req.Target.Authority.Port = 0
	}
	form, shown := http1.OriginForm, true
	if conn.Absolute {
		form = http1.AbsoluteForm
		if h := conn.hop; h != nil {
			turn, cancel := context.WithDeadline(ctx, deadline)
			defer cancel()
			done, werr := h.login.wait(turn)
			if werr != nil {
				return 0, fetchError(conn, c, werr)
			}
			defer done()
			if shown = h.proven() || h.closed() != nil; shown { // what is closed is told by Authorize
				name, value, aerr := conn.Authorize(c.Method, c.scheme()+"://"+c.host()+c.Path)
				if aerr != nil {
					return 0, aerr
				}
				if name != "" {
					req.Header = append(req.Header, http1.Field{Name: name, Value: value})
				}
			}
		}
	}
	out, werr := http1.AppendRequest(nil, &req, form)
	if werr == nil {
		_, werr = conn.Write(out)
	}
	if werr != nil {
		return 0, fetchError(conn, c, werr)
	}
	var src net.Conn = conn.Conn
	if len(conn.Early) > 0 {
		src = &earlyConn{Conn: conn.Conn, early: conn.Early}
	}
	in := http1.NewReader(src, http1.Limits{})
	defer in.Release()
	var resp http1.Response
	if rerr := in.ReadFinal(c.Method, &resp, func(*http1.Response) error { return nil }); rerr != nil {
		return 0, fetchError(conn, c, rerr)
	}
	switch {
	case resp.Status == 407 && conn.Absolute && !shown:
		return 0, classify(conn.failure(errNotShown))
	case resp.Status == 407 && conn.Absolute:
		return resp.Status, rejectedFetch(conn, c, &resp)
	}
	conn.Answered(resp.Status, nil)
	if !c.expects(resp.Status) {
		return resp.Status, unexpected(c, resp.Status)
	}
	return resp.Status, nil
}

// rejectedFetch is a proxy that wants other credentials than we show, or any.
func rejectedFetch(conn *Conn, c *Check, resp *http1.Response) *connmodel.ConnError {
	h := conn.lease.hops[len(conn.lease.hops)-1]
	var challenges []string
	for v := range resp.Header.Values("Proxy-Authenticate") {
		challenges = append(challenges, v)
	}
	_, _, err := conn.Challenged(c.Method, c.scheme()+"://"+c.host()+c.Path, challenges)
	if err == nil {
		err = &connmodel.ConnError{Phase: connmodel.PhaseRequest, Side: connmodel.SideHop, Hop: len(conn.lease.hops), HopName: h.spec.Name, Kind: connmodel.KindAuth,
			Code: 407, CodeOf: "http", Blame: connmodel.BlameProxy, Message: "HTTP 407: the proxy wants credentials; add auth to upstream " + h.spec.Name}
	} else if h.login != nil && conn.hop != nil {
		h.login.refused.Store(true)
	}
	conn.Answered(resp.Status, err)
	return err
}

// fetchError is what went wrong behind an open route: with the proxy that was to fetch, or with the server.
func fetchError(conn *Conn, c *Check, cause error) *connmodel.ConnError {
	hops := conn.lease.hops
	e := &HopError{Hop: len(hops) + 1, Address: c.Target, Hops: len(hops), Phase: connmodel.PhaseRequest, Err: cause}
	if conn.Absolute {
		last := hops[len(hops)-1].spec
		e.Hop, e.Upstream, e.Scheme, e.Address, e.Beyond = len(hops), last.Name, last.Scheme, last.Address, c.Target
	}
	var fault *http1.Error
	if errors.As(cause, &fault) {
		at := connmodel.BlameTarget
		side := connmodel.SideServer
		if conn.Absolute {
			at, side = connmodel.BlameProxy, connmodel.SideHop
		}
		return &connmodel.ConnError{Phase: e.Phase, Side: side, Hop: min(e.Hop, e.Hops), HopName: e.Upstream, Kind: connmodel.KindProtocol, Blame: at,
			Message: "what came is no answer to " + c.String() + ": " + fault.Error(), Cause: e}
	}
	return classify(e)
}

// unexpected is an answer with a status that the check does not want. Whether the server or the proxy is behind it cannot be told from one answer.
func unexpected(c *Check, status int) *connmodel.ConnError {
	var want []string
	for _, r := range c.Status {
		want = append(want, r.String())
	}
	return &connmodel.ConnError{Phase: connmodel.PhaseRequest, Side: connmodel.SideServer, Kind: connmodel.KindProtocol, Code: status, CodeOf: "http", Blame: connmodel.BlameTarget,
		Message: fmt.Sprintf("%s was answered with %d, expected %s", c, status, strings.Join(want, ", "))}
}
