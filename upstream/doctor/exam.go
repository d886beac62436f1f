package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/auth"
	"viaduct/upstream/resolve"
)

// Options say what is looked at, and how.
type Options struct {
	Table    *upstream.Table   // with the proxy, and with Route
	Spec     upstream.Spec     // of the proxy, as the policy has it
	Resolver resolve.Resolver  // nil = the system's
	Route    string            // that leads through the proxy: "upstream.NAME", or a chain whose last hop it is
	Through  string            // route that leads to it; "" = directly
	Target   connmodel.Address // for tunnels
	// TargetFrom says who chose the target; Asked says that a person did, so that what happens at it counts.
	TargetFrom string
	Asked      bool

	Timeout   time.Duration  // of each part; 0 = 10 s
	Idle      time.Duration  // how long a tunnel is left alone; 0 = it is not tried
	WebSocket *url.URL       // ws or wss; nil = it is not tried
	Roots     *x509.CertPool // for TLS with targets; nil = the system's

	// NoCredentials is why none may be shown; "" = they may. Table is then made without them.
	NoCredentials string
	// Unreadable is why the credential could not be read; "" = it was, or there is none.
	Unreadable string
	// Behind says how else the proxy is used: "chain.x, behind pool.corp"; "" = as a first hop.
	Behind string

	Tell     func(*Step)  // is told of each step when it is over; nil = nobody is
	Progress func(string) // is told what is waited for; nil = nobody is
}

// Defaults and bounds.
const (
	defaultTimeout = 10 * time.Second
	maxAddresses   = 8 // of a name that are connected to
	// silence is how long somebody who should speak first, or whose last words might come, is waited for.
	silence = time.Second
)

// exam is one look at a proxy.
type exam struct {
	*Options
	ctx context.Context
	hop *upstream.Hop
	rep *Report

	at       netip.AddrPort // an address of the proxy that answers
	proto    bool           // it speaks what it should
	open     bool           // it lets us in without credentials
	offers   []auth.Challenge
	raw407   []string // nil = it did not ask
	taken    string   // scheme that is chosen of the offers
	secured  bool     // TLS with the target was made
	canonic  string
	dateSkew *time.Duration // of the proxy's clock; nil = it does not tell
}

// Run looks at a proxy until all is seen, something stands in the way of all that follows, or ctx ends.
func Run(ctx context.Context, o Options) *Report {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Resolver == nil {
		o.Resolver = resolve.System()
	}
	if o.Tell == nil {
		o.Tell = func(*Step) {}
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	x := &exam{Options: &o, ctx: ctx, hop: o.Table.Upstream(o.Spec.Name)}
	x.rep = &Report{Upstream: o.Spec.Name, URL: o.Spec.Scheme + "://" + o.Spec.Address.String(), Through: o.Through, Target: o.Target.String(), Started: time.Now(), Steps: []*Step{}}
	x.run()
	x.rep.Took = millis(time.Since(x.rep.Started))
	x.rep.conclude(ctx.Err() != nil)
	return x.rep
}

func (x *exam) run() {
	x.step("config", x.configuration)
	if !x.reach() {
		x.skipRest("the proxy cannot be reached", "tls", "protocol", "offers", "clock", "kerberos", "ntlm", "connect", "target", "websocket", "idle")
		return
	}
	if x.Spec.Scheme == "https" {
		if s := x.step("tls", x.tls); s.Status == Fail {
			switch s.Code {
			case "tls_not_spoken", "tls_timeout", "tls_closed", "tls_reset", "tls_failed":
				x.step("protocol", x.identify)
			}
			x.skipRest("TLS with the proxy failed", "offers", "clock", "kerberos", "ntlm", "connect", "target", "websocket", "idle")
			return
		}
	}
	switch x.Spec.Scheme {
	case "http", "https":
		x.step("offers", x.ask)
		if !x.proto {
			x.step("protocol", x.identify)
		}
		x.clock()
	case "socks5", "socks5h":
		x.step("offers", x.greet)
		if !x.proto {
			x.step("protocol", x.identify)
		}
	}
	if x.uses(auth.Negotiate) {
		x.kerberos()
	}
	if x.uses(auth.NTLM) && x.offered(auth.NTLM) {
		x.step("ntlm", x.ntlm)
	}
	if !x.proto && x.Spec.Scheme != "socks4" && x.Spec.Scheme != "socks4a" && x.rep.Step("protocol") != nil {
		x.skipRest("the proxy does not speak "+x.Spec.Scheme, "connect", "target", "websocket", "idle")
		return
	}
	x.tunnels()
}

// step makes a step, unless the look was ended.
func (x *exam) step(name string, f func(*Step)) *Step {
	s := &Step{Name: name, Status: OK, about: x.words()}
	start := time.Now()
	if x.ctx.Err() != nil {
		s.skip("interrupted")
	} else {
		f(s)
		if x.ctx.Err() != nil && s.Status == Fail { // it is we who cut it short
			s.Code, s.Means, s.Try = "", "", ""
			s.skip("interrupted")
		}
	}
	s.Took = millis(time.Since(start))
	x.rep.Steps = append(x.rep.Steps, s)
	x.Tell(s)
	return s
}

func (x *exam) skipRest(why string, names ...string) {
	for _, n := range names {
		if x.concerns(n) {
			x.step(n, func(s *Step) { s.skip("%s", why) })
		}
	}
}

// concerns reports whether a step says anything about a proxy of this kind and was asked for.
func (x *exam) concerns(step string) bool {
	switch step {
	case "tls":
		return x.Spec.Scheme == "https"
	case "clock":
		return x.Spec.HTTP()
	case "offers":
		return x.Spec.HTTP() || x.Spec.Scheme == "socks5" || x.Spec.Scheme == "socks5h"
	case "kerberos":
		return x.uses(auth.Negotiate)
	case "ntlm":
		return x.uses(auth.NTLM)
	case "websocket":
		return x.WebSocket != nil
	case "idle":
		return x.Idle > 0
	case "protocol", "target":
		return false
	}
	return true
}

// words stand in sentences.
func (x *exam) words() map[string]string {
	w := map[string]string{"upstream": x.Spec.Name, "address": x.Spec.Address.String(), "host": x.Spec.Address.Host, "scheme": x.Spec.Scheme, "target": x.Target.String(),
		"credential": x.credential(), "timeout": x.Timeout.String(), "idle": x.Idle.String()}
	for k, v := range defaults() {
		w[k] = v
	}
	w["allowed"] = strings.Join(x.schemes(), ", ")
	if a := x.Spec.Auth; a != nil {
		w["user"], w["keytab"], w["ccache"] = a.Username, a.Keytab, a.CCache
	}
	if x.Behind != "" && x.Through == "" {
		w["behind"] = " It is used by " + x.Behind + ": perhaps it can be reached from there alone (--through)."
	}
	return w
}

// defaults are words for sentences of which nobody knows better.
func defaults() map[string]string {
	return map[string]string{"behind": "", "conf": "krb5.conf", "realm": "the realm", "user": "the user", "spn": "the service", "keytab": "", "ccache": "", "kdc": "the KDC",
		"others": "others", "whose": "other", "skew": "so much", "after": "a while", "offered": "other schemes", "allowed": "others", "why": "it was told not to"}
}

func (x *exam) credential() string {
	switch a := x.Spec.Auth; {
	case a == nil:
		return ""
	case a.Credential != "":
		return a.Credential
	}
	return x.Spec.Name
}

// schemes are those that the policy allows, in its order.
func (x *exam) schemes() []string {
	switch a := x.Spec.Auth; {
	case a == nil || !x.Spec.HTTP():
		return nil
	case len(a.Schemes) > 0:
		return a.Schemes
	}
	return []string{auth.Basic}
}

func (x *exam) uses(scheme string) bool {
	for _, s := range x.schemes() {
		if s == scheme {
			return true
		}
	}
	return false
}

func (x *exam) offered(scheme string) bool {
	for i := range x.offers {
		if x.offers[i].Scheme == scheme {
			return true
		}
	}
	return false
}

// line is a connection of the look: it ends with it, and with its time.
type line struct {
	net.Conn
	stop func() bool
}

func (l *line) Close() error {
	l.stop()
	return l.Conn.Close()
}

// hold bounds what is done on a connection.
func (x *exam) hold(c net.Conn) *line {
	c.SetDeadline(time.Now().Add(x.Timeout))
	return &line{c, context.AfterFunc(x.ctx, func() { c.SetDeadline(time.Unix(1, 0)) })}
}

// open connects to the proxy, without TLS.
func (x *exam) dial() (net.Conn, error) {
	if x.Through != "" {
		c, err := x.Table.Dial(x.ctx, &upstream.Request{Route: x.Through, Target: x.Spec.Address, Deadline: time.Now().Add(2 * x.Timeout), Retry: once}, nil)
		if err != nil {
			return nil, err
		}
		return x.hold(upstream.WithEarly(c.Conn, c.Early, c)), nil
	}
	ctx, cancel := context.WithTimeout(x.ctx, x.Timeout)
	defer cancel()
	c, err := x.hop.ConnectTo(ctx, x.at)
	if err != nil {
		return nil, err
	}
	return x.hold(c), nil
}

var once = &connmodel.Retry{Attempts: 1}

// talk connects to the proxy, with TLS where it is spoken to with it, as the gateway would.
func (x *exam) talk() (net.Conn, error) {
	c, err := x.dial()
	if err != nil {
		return nil, err
	}
	config := x.hop.ClientTLS(true)
	if config == nil {
		return c, nil
	}
	t := tls.Client(c, config)
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}
