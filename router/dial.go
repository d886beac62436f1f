package router

import (
	"context"
	"net"
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/proxyproto"
)

// plan is what is about to be dialled for one flow: the decision, perhaps edited by hooks.
type plan struct {
	d        *connmodel.Decision
	to       connmodel.ServerPlan
	addrs    []netip.Addr          // resolved for the decision; valid for the target alone
	resolved *connmodel.Resolution // where addrs are from
	ip       netip.Addr            // of to.Address when it is a literal
	timeouts connmodel.Timeouts
	plain    bool                  // a plain HTTP request
	switches bool                  // ... that asks for another protocol (Upgrade)
	login    bool                  // ... with a body that can be sent once
	via      string                // Via of the CONNECT requests to proxies
	proved   *upstream.ClientLogin // of the client, for proxies that are shown it; nil = none is, or it has proved nothing
	header   *proxyproto.Header    // tells the server whose connection it is; nil = nothing

	choices   upstream.Choices                    // what PAC scripts said
	datagrams func(v6 bool) (*net.UDPConn, error) // as in upstream.Request; nil = a connection
	own       *packetPorts                        // with datagrams
	offer     *upstream.TLSOffer                  // what the server is asked for in the name of a TLS client; nil = what the policy says
}

// planOf is what a decision alone says of the dialling.
func planOf(g *generation, f *connmodel.Facts, d *connmodel.Decision) plan {
	pl := plan{d: d, timeouts: g.cfg.Limits.timeouts(d), plain: f.Protocol == connmodel.ProtocolHTTP}
	pl.to = connmodel.ServerPlan{Address: Destination(f, d), Route: d.Route, TLS: d.TLS}
	if !d.Server.IsZero() {
		pl.to.Address = d.Server
	}
	return pl
}

// newPlan turns a decision into a plan and lets hooks edit or refuse it. An edited address passes the same check as any other.
func (s *session) newPlan(p *pin, rec *connmodel.Recorder, f *connmodel.Facts, d *connmodel.Decision) (plan, *connmodel.ConnError) {
	pl := planOf(p.gen, f, d)
	pl.via = s.via
	pl.switches = pl.plain && s.req.Upgrade != ""
	pl.proved = s.login(p, f)
	if pl.via == "" {
		pl.via = "1.1 " + s.r.proxyName(p)
	}
	if d.ProxyProtocol != 0 {
		pl.header = s.introduction(d.ProxyProtocol, f)
	}
	if o := s.inner; o != nil {
		o.inside(f, &pl)
	} else if pl.plain && pl.to.TLS.Opens() {
		pl.to.TLS = nil // there is nothing to open
	}
	h := s.r.opt.Hooks
	if f.Request != nil {
		if err := h.CallRequest(&s.life, rec, &pl.to); err != nil {
			return pl, refusedByHook("request", err)
		}
	}
	if err := h.CallServerConnect(&s.life, rec, &pl.to); err != nil {
		return pl, refusedByHook("server_connect", err)
	}
	if s.inner != nil {
		pl.offer = s.inner.offer(f, &pl)
	}
	return pl, checkPlan(p, &pl, f)
}

// checkPlan looks at the address before anything is resolved or dialled.
func checkPlan(p *pin, pl *plan, f *connmodel.Facts) *connmodel.ConnError {
	pl.addrs, pl.resolved = nil, nil
	switch {
	case pl.to.Address != f.Target:
		pl.ip = pl.to.Address.IP()
	case f.NamedInside():
		pl.ip = pl.to.Address.IP() // a name that was found inside, where the client asked for an address
		if pl.d.VerifyName && !pl.ip.IsValid() {
			pl.addrs = []netip.Addr{f.TargetIP} // it is one of the name's
		}
	default:
		pl.ip, pl.addrs, pl.resolved = f.TargetIP, f.Addresses, f.Resolved
	}
	if err := p.gen.checkName(p.l, pl.d, pl.to.Address, pl.ip); err != nil {
		return err
	}
	// When the name was resolved for a rule, a refused address is refused also where a proxy would resolve it again.
	for _, ip := range pl.addrs {
		if err := p.gen.checkAddress(p.l, pl.d, pl.to.Address, ip, pl.to.Address.Port); err != nil {
			return err
		}
	}
	return nil
}

func refusedByHook(name string, err error) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Code: 403, CodeOf: "http",
		Message: "refused by hook " + name + ": " + err.Error(), Blame: connmodel.BlameClient, Cause: err,
	}
}

// dial reaches the server through the plan's route. Hooks may ask for another dial after a failure, within the deadline. It is given up
// when the client leaves.
func (s *session) dial(p *pin, rec *connmodel.Recorder, pl *plan, f *connmodel.Facts) (*upstream.Conn, *connmodel.ConnError) {
	now := time.Now()
	s.r.dials.begin(s, now)
	defer s.r.dials.end(s)
	return s.reachServer(&s.life, p, rec, pl, f, now.Add(pl.timeouts.Connect))
}

// reachServer is dial for callers who watch the client themselves.
func (s *session) reachServer(ctx context.Context, p *pin, rec *connmodel.Recorder, pl *plan, f *connmodel.Facts, deadline time.Time) (*upstream.Conn, *connmodel.ConnError) {
	h := s.r.opt.Hooks
	var tried upstream.Tried
	for again := 0; ; again++ {
		q := pl.request(p, f)
		q.Connected = s.r.connected(p.gen)
		q.Deadline, q.Tried = deadline, &tried
		c, err := p.gen.cfg.Routes.Dial(ctx, &q, rec)
		if err == nil || h == nil || again == connmodel.MaxHookAgain || s.life.ended() != "" {
			return c, err
		}
		more, refused := h.CallServerConnectError(&s.life, rec, &pl.to, err)
		if refused != nil {
			return nil, refusedByHook("server_connect_error", refused)
		}
		if !more || !time.Now().Before(deadline) {
			return nil, err
		}
		if e := checkPlan(p, pl, f); e != nil {
			return nil, e
		}
	}
}

// request is what the dialling is asked for.
func (pl *plan) request(p *pin, f *connmodel.Facts) upstream.Request {
	path := ""
	if pl.plain && f.Request != nil {
		path = f.Request.Path
	}
	return upstream.Request{
		Choices: &pl.choices, Path: path, Route: pl.to.Route, Target: pl.to.Address, Addrs: pl.addrs, Resolved: pl.resolved, Resolver: p.l.Resolver, LocalResolve: pl.d.LocalResolve,
		Plain: pl.plain, Switches: pl.switches, Login: pl.login,
		// A proxy that is given another address in absolute-form would tell the server that address as its Host.
		PlainConnect: pl.d.PlainConnect || pl.to.Address != f.Target,
		TLS:          pl.to.TLS, Offer: pl.offer, Retry: pl.d.Retry, Client: f.Client.Addr(),
		Via: pl.via, Proved: pl.proved, Header: pl.header, Datagrams: pl.datagrams,
		Check: func(ip netip.Addr) error {
			if e := p.gen.checkAddress(p.l, pl.d, pl.to.Address, ip, pl.to.Address.Port); e != nil {
				return e
			}
			if pl.datagrams != nil && pl.own.has(netip.AddrPortFrom(ip, pl.to.Address.Port)) {
				return refusal("%s is a socket of this gateway itself", netip.AddrPortFrom(ip, pl.to.Address.Port))
			}
			return nil
		},
	}
}

// login is what the client has proved, where a proxy of the configuration may be shown it.
func (s *session) login(p *pin, f *connmodel.Facts) *upstream.ClientLogin {
	if f.Protocol == connmodel.ProtocolUDP || !p.gen.cfg.Routes.FromClient() {
		return nil
	}
	x := s.desk.proved
	if s.inner != nil {
		x = s.inner.proved
	}
	if x.user == "" {
		return nil
	}
	return &upstream.ClientLogin{User: x.user, Password: upstream.NewSecret(x.password)}
}
