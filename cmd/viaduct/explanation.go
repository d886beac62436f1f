package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/policies/pac"
	"viaduct/router"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
)

// explanation is the answer of explain, and its JSON form.
type explanation struct {
	Target   string      `json:"target"`
	Protocol string      `json:"protocol"`
	Method   string      `json:"method,omitempty"`
	Path     string      `json:"path,omitempty"`
	Scheme   string      `json:"scheme,omitempty"` // of a request
	Client   string      `json:"client"`
	User     string      `json:"user,omitempty"`
	Listener string      `json:"listener"`
	Policy   string      `json:"policy"`
	Time     time.Time   `json:"time"`
	Resolved []string    `json:"resolved,omitempty"` // addresses that rules were told
	SNI      string      `json:"sni,omitempty"`      // of the TLS client in the tunnel, where rules were told
	ALPN     []string    `json:"alpn_offers,omitempty"`
	JA4      string      `json:"ja4,omitempty"`
	Accept   []string    `json:"accept,omitempty"` // why the client would not get as far as the policy
	Reach    []reachStep `json:"reach,omitempty"`  // what rules asked network.reachable about
	Rules    []ruleStep  `json:"rules"`
	// Open says why there is no decision: a fact is missing.
	Open       string    `json:"open,omitempty"`
	Outcome    string    `json:"outcome,omitempty"` // via, deny
	Rule       string    `json:"rule,omitempty"`
	File       string    `json:"file,omitempty"`
	Line       int       `json:"line,omitempty"`
	Status     int       `json:"status,omitempty"` // of a denial
	Reason     string    `json:"reason,omitempty"`
	Via        string    `json:"via,omitempty"`
	Server     string    `json:"server,omitempty"`         // dialled in place of the target
	Name       string    `json:"name,omitempty"`           // that the client asks for inside, where a firewall sends its connection here
	VerifyName bool      `json:"verify_name,omitempty"`    // it must have the address of the target
	SendName   bool      `json:"send_name,omitempty"`      // it is dialled, or told to the next hop
	Header     int       `json:"proxy_protocol,omitempty"` // version of the PROXY protocol header that the server is sent
	TLS        string    `json:"tls,omitempty"`
	TLSName    string    `json:"tls_server_name,omitempty"` // sent and checked
	Unverified bool      `json:"tls_unverified,omitempty"`  // the server may show any certificate (verify = false)
	PAC        []pacStep `json:"pac,omitempty"`             // what the scripts say that choose in the route
	Route      []hopStep `json:"route,omitempty"`
	ResolvedBy string    `json:"resolved_by,omitempty"` // who turns the name of the server into an address: viaduct, upstreams by name; literal = it is one
	Refused    string    `json:"refused,omitempty"`     // why the destination is not allowed
	Tags       []string  `json:"tags,omitempty"`
	// Shadow is what the shadow policy of the listener says; nil = it has none.
	Shadow *shadowStep `json:"shadow,omitempty"`
	// Lookup is who said which addresses the name has; nil = the command line did, or nobody was asked.
	Lookup *lookedUp `json:"lookup,omitempty"`
	// Resolver is that of the policy for names that are looked up here; "" = the machine's.
	Resolver string `json:"resolver,omitempty"`
	// Inside is what is done with the request of an https:// URL, where the tunnel is opened.
	Inside *explanation `json:"inside,omitempty"`

	asked answered
}

// answered is what an explanation was made of, for those who go on from it.
type answered struct {
	facts    *connmodel.Facts
	decision *connmodel.Decision // nil = there is none
	trace    *connmodel.Trace
	choices  upstream.Choices // what scripts said
	hops     []upstream.HopInfo
}

type ruleStep struct {
	Rule    string `json:"rule"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Matched bool   `json:"matched"`
	Shadow  bool   `json:"shadow,omitempty"`
	Reason  string `json:"reason"`
}

// hopStep is one step of a route.
type hopStep struct {
	Kind       string       `json:"kind"` // upstream, pool, direct
	Name       string       `json:"name"`
	Scheme     string       `json:"scheme,omitempty"`
	Address    string       `json:"address,omitempty"`
	ServerName string       `json:"server_name,omitempty"`
	Unverified bool         `json:"unverified,omitempty"` // it may show any certificate (verify = false)
	Credential string       `json:"credential,omitempty"`
	FromClient bool         `json:"from_client,omitempty"` // it is the user and password that the client has proved
	Schemes    []string     `json:"auth_schemes,omitempty"`
	ResolvedBy string       `json:"resolved_by,omitempty"` // who turns the name of the next hop, or of the server, into an address
	Select     string       `json:"select,omitempty"`
	HashBy     string       `json:"hash_by,omitempty"`
	Members    []memberStep `json:"members,omitempty"`
}

type memberStep struct {
	Route string    `json:"route"`
	Hops  []hopStep `json:"hops"`
}

// explainFlow decides f as the service would, and looks at the way it would take.
func explainFlow(ctx context.Context, cfg *policies.Config, l *policies.Listener, f *connmodel.Facts, q *question) (*explanation, error) {
	x, err := newExplainer(cfg, q)
	if err != nil {
		return nil, err
	}
	defer x.close()
	return x.flow(ctx, l, f)
}

func (x *explainer) close() {
	if x.table != nil {
		x.table.Close()
		x.resolvers.leave(nil)
	}
}

// explainer answers questions about a configuration, joined as for the service.
type explainer struct {
	cfg       *policies.Config
	q         *question
	once      *pacOnce
	rc        *router.Config
	table     *upstream.Table // the caller closes it
	resolvers resolverSet
	knows     []upstream.ReachStatus // what a running gateway knows of what can be reached
}

func newExplainer(cfg *policies.Config, q *question) (x *explainer, err error) {
	keptLists(cfg) // without a copy the explanation says so
	return (&explainer{cfg: cfg, q: q, once: &pacOnce{cfg: cfg, noDNS: q.noDNS}}).anew()
}

// anew is the same with a table and resolvers of its own.
func (x *explainer) anew() (*explainer, error) {
	y, err := &explainer{cfg: x.cfg, q: x.q, once: x.once}, error(nil)
	y.rc, y.table, y.resolvers, _, err = wireUp(y.cfg, y.once.chooser) // problems of other listeners are not asked about
	return y, err
}

// flow explains one.
func (x *explainer) flow(ctx context.Context, l *policies.Listener, f *connmodel.Facts) (*explanation, error) {
	cfg, q, resolvers := x.cfg, x.q, x.resolvers
	e := &explanation{
		Target: f.Target.String(), Protocol: string(f.Protocol), User: f.User, Listener: l.Name, Policy: l.Policy, Time: f.Time,
		Accept: atTheDoor(l, f), Rules: []ruleStep{},
	}
	if f.Client.IsValid() {
		e.Client = f.Client.Addr().String()
	}
	if r := f.Request; r != nil {
		e.Method, e.Path, e.Scheme = r.Method, r.Path, f.Scheme
	}
	reach, err := newReachOnce(ctx, cfg, q.reach, q.told, q.noDNS)
	if err != nil {
		return nil, err
	}
	reach.knows = x.knows
	f.Reach = reach
	d, need, trace := cfg.Programs[l.Policy].Explain(f)
	for d == nil {
		had := f.Have
		if err := q.gatherAll(ctx, f, need, resolvers.forListener(cfg, l.Name), e); err != nil {
			return nil, err
		}
		if f.Have == had {
			break
		}
		d, need, trace = cfg.Programs[l.Policy].Explain(f)
	}
	e.hello(f)
	for _, a := range f.Addresses {
		e.Resolved = append(e.Resolved, a.String())
	}
	if trace != nil {
		for _, s := range trace.Steps {
			e.Rules = append(e.Rules, ruleStep(s))
		}
	}
	e.Reach = reach.steps()
	e.asked.facts, e.asked.trace = f, trace
	if d == nil {
		e.Open = stillOpen(f, need)
		return e, nil
	}
	if e.Open = reach.open(); e.Open != "" {
		return e, nil
	}
	e.Resolver = cmp.Or(l.Resolver, cfg.Gateway.Resolver)
	e.asked.decision = d
	e.decided(ctx, x.rc, x.table, f, d, x.once)
	e.shadowed(cfg, l, f, d)
	if d.TLS.Opens() && q.inside != nil && f.Request == nil {
		in := *f
		in.Request, in.Scheme, in.Tunnel = q.inside, "https", f.Target
		e.Inside, err = x.flow(ctx, l, &in)
	}
	return e, err
}

// atTheDoor says why the client would be turned away before any rule is asked.
func atTheDoor(l *policies.Listener, f *connmodel.Facts) (why []string) {
	if len(l.Clients) > 0 && f.Client.IsValid() && !within(l.Clients, f.Client.Addr()) {
		why = append(why, fmt.Sprintf("the listener takes no clients from %s", f.Client.Addr()))
	}
	if l.Users != nil && f.User == "" {
		why = append(why, "the listener asks for a user and password (see --user)")
	}
	if p := listenerWord(f.Protocol); !contains(l.Protocols, p) {
		why = append(why, fmt.Sprintf("the listener does not speak %s", p))
	} else if f.Protocol == connmodel.ProtocolUDP {
		switch {
		case l.UDP == nil:
			why = append(why, "the listener takes no datagrams: it has no udp block")
		case l.UDP.Nowhere:
			why = append(why, "no rule of the policy leads datagrams anywhere, so UDP ASSOCIATE is refused")
		}
	}
	return why
}

// listenerWord is what a policy calls the protocol.
func listenerWord(p connmodel.Protocol) string {
	switch p {
	case connmodel.ProtocolSOCKS4, connmodel.ProtocolSOCKS4a:
		return policies.ProtocolSOCKS4
	case connmodel.ProtocolSOCKS5, connmodel.ProtocolUDP:
		return policies.ProtocolSOCKS5
	case connmodel.ProtocolForward:
		return policies.ProtocolForward
	case connmodel.ProtocolRedirect, connmodel.ProtocolTProxy:
		return string(p)
	}
	return policies.ProtocolHTTP
}

func within(networks []netip.Prefix, ip netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(connmodel.Embedded(ip)) || p.Contains(ip) {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// stillOpen says which question the command line leaves open.
func stillOpen(f *connmodel.Facts, need connmodel.Need) string {
	if need&connmodel.NeedAddresses != 0 {
		return "a rule asks for the " + need.String() + " of " + f.Target.Host + ": say which with --resolve IP,…, or look it up with --resolve policy"
	}
	early := ""
	switch f.Protocol {
	case connmodel.ProtocolConnect, connmodel.ProtocolSOCKS4, connmodel.ProtocolSOCKS4a, connmodel.ProtocolSOCKS5:
		early = "; the gateway would tell it yes and wait for that"
	}
	return "a rule asks what the client says first in its tunnel" + early + ": say it with --sni NAME (and --alpn, --ja4), or --sni \"\" for one that speaks no TLS"
}

// gatherAll gets the facts that a rule asks for, as far as the command line says them. A client that speaks TLS, or is said to be silent,
// sends no plain request.
func (q *question) gatherAll(ctx context.Context, f *connmodel.Facts, need connmodel.Need, r resolve.Resolver, e *explanation) error {
	if need&connmodel.NeedAddresses != 0 {
		return q.gather(ctx, f, r, e)
	}
	if q.inner != nil && f.Protocol != connmodel.ProtocolConnect { // it is no ClientHello
		if need&(connmodel.NeedRequest|connmodel.NeedName) != 0 {
			f.Request = q.inner
			if host, _ := q.inner.Header.Lookup("Host", 0); f.KernelSent() {
				if h, _, err := net.SplitHostPort(host); err == nil {
					host = h
				}
				if err := f.Named(host); err != nil {
					return usageError("--header Host: %w", err)
				}
				need |= connmodel.NeedHello | connmodel.NeedRequest
			}
		}
		f.Have |= need &^ connmodel.NeedName
		return nil
	}
	if !q.hello && need&(connmodel.NeedHello|connmodel.NeedName) != 0 {
		return nil
	}
	if q.sni != "" || q.alpn != nil || q.ja4 != "" {
		f.Hello = &connmodel.ClientHello{SNI: q.sni, ALPN: q.alpn, JA4: q.ja4}
		f.Named(q.sni)
	}
	if need&connmodel.NeedName != 0 {
		need |= connmodel.NeedHello | connmodel.NeedRequest
	}
	f.Have |= need &^ connmodel.NeedName
	return nil
}

// hello notes what rules were told of the client's first bytes.
func (e *explanation) hello(f *connmodel.Facts) {
	if h := f.Hello; h != nil {
		e.SNI, e.ALPN, e.JA4 = h.SNI, h.ALPN, h.JA4
	}
}

// gather gets the addresses that a rule asks for, as the command line says.
func (q *question) gather(ctx context.Context, f *connmodel.Facts, r resolve.Resolver, e *explanation) error {
	if len(q.resolve) == 0 {
		return nil
	}
	if len(q.resolve) == 1 && (q.resolve[0] == "system" || q.resolve[0] == "policy") {
		if q.resolve[0] == "system" {
			r = resolve.System()
		}
		start := time.Now()
		a, err := resolve.Find(ctx, r, f.Target.Host)
		if err == nil && len(a.Addrs) == 0 {
			err = errors.New("the name has no address")
		}
		if err != nil {
			return fmt.Errorf("%s cannot be resolved, so the gateway would refuse the connection: %w", f.Target.Host, err)
		}
		said := lookUpSaid(f.Target.Host, &a, time.Since(start), nil)
		e.Lookup, f.Addresses = &said, a.Addrs
	} else {
		for _, s := range q.resolve {
			a, err := netip.ParseAddr(s)
			if err != nil || a.Zone() != "" {
				return usageError("--resolve %s: write IP addresses, or policy, or system", s)
			}
			f.Addresses = append(f.Addresses, a.Unmap())
		}
	}
	f.Have |= connmodel.NeedAddresses
	return nil
}

func (e *explanation) decided(ctx context.Context, rc *router.Config, table *upstream.Table, f *connmodel.Facts, d *connmodel.Decision, once *pacOnce) {
	e.Outcome, e.Rule, e.File, e.Line, e.Tags = string(d.Outcome), d.Rule, d.File, d.Line, d.Tags
	if d.Denied() {
		if d.Denial != nil {
			e.Status, e.Reason = d.Denial.Status, d.Denial.Reason
		}
		return
	}
	e.Via = d.Route
	if !d.Server.IsZero() {
		e.Server = d.Server.String()
	}
	if e.Header = d.ProxyProtocol; f.KernelSent() {
		e.VerifyName, e.SendName = d.VerifyName, d.SendName
		if f.NamedInside() {
			e.Name = f.Target.Host
		}
	}
	if d.TLS != nil {
		e.TLS = string(d.TLS.Mode)
		if c := d.TLS.Config; c != nil {
			if e.TLSName = d.TLS.ServerName; e.TLSName == "" {
				e.TLSName = f.Target.Host
				if e.Server != "" && (d.TLS.Mode != connmodel.TLSIntercept || !d.Server.IP().IsValid()) { // else it is what the client asks for
					e.TLSName = d.Server.Host
				}
			}
			e.Unverified = c.InsecureSkipVerify
		}
	}
	hops, _ := table.Describe(d.Route) // load has checked that there is such a route
	q := requestOf(f, d)
	q.Choices = &e.asked.choices
	if chosen, ok := table.Choose(ctx, q); ok {
		hops = chosen.Hops
		e.chosen(once, q, &chosen)
	}
	e.Route, e.asked.hops = hopSteps(hops), hops
	e.ResolvedBy = resolvedBy(f, d, hops)
	if f.Protocol == connmodel.ProtocolUDP {
		if e.Refused = router.CheckDatagrams(rc, d); e.Refused != "" {
			return
		}
	}
	if e.Refused != "" {
		return
	}
	if refused := router.CheckTarget(rc, listenerNamed(rc, f.Listener), d, router.Destination(f, d), f.Addresses); refused != nil {
		e.Refused = refused.Message
	}
}

// pacStep is what a PAC script says of the flow.
type pacStep struct {
	Route   string `json:"route"`
	From    string `json:"from"`
	To      string `json:"to,omitempty"`       // the next hop, which it was asked the way to; "" = it was asked about the target
	OnError string `json:"on_error,omitempty"` // because the script gave no entries: the route that is taken; deny; next = the other members of the pool
	pacEvaluation
}

// requestOf is the question that the service would dial with, as far as a chooser looks at it.
func requestOf(f *connmodel.Facts, d *connmodel.Decision) *upstream.Request {
	q := &upstream.Request{Route: d.Route, Target: f.Target, Plain: f.Protocol == connmodel.ProtocolHTTP}
	if !d.Server.IsZero() {
		q.Target = d.Server
	}
	if q.Plain && f.Request != nil {
		q.Path = f.Request.Path
	}
	return q
}

// chosen notes what the scripts said.
func (e *explanation) chosen(once *pacOnce, q *upstream.Request, c *upstream.Choice) {
	for _, a := range c.Asked {
		to, path := q.Target, q.Path
		if !a.To.IsZero() {
			to, path = a.To, ""
		}
		x := once.said[a.Route+" "+pac.QueryFor(to, path).URL]
		if x.Route = a.Route; !a.To.IsZero() {
			x.To = a.To.String()
		}
		if a.Err != nil {
			x.Error, x.OnError = a.Err.Error(), a.OnError
		}
		e.PAC = append(e.PAC, x)
	}
	if c.Err != nil {
		e.Refused = "refused: " + c.Err.Error()
		if len(c.Asked) == 1 { // why is said of the script
			e.Refused = "refused: " + c.Asked[0].Route + " gives no way, and the policy says to refuse then"
		}
	}
}

func listenerNamed(rc *router.Config, name string) *router.Listener {
	for i := range rc.Listeners {
		if rc.Listeners[i].Name == name {
			return &rc.Listeners[i]
		}
	}
	return nil
}

func hopSteps(hops []upstream.HopInfo) []hopStep {
	out := make([]hopStep, 0, len(hops))
	for _, h := range hops {
		s := hopStep{Kind: h.Kind, Name: h.Name, Scheme: h.Scheme, Address: h.Address.String(), ServerName: h.ServerName, Unverified: h.Unverified, Credential: h.Credential, FromClient: h.FromClient, Schemes: h.Schemes,
			ResolvedBy: h.ResolvedBy, Select: h.Select, HashBy: h.HashBy}
		for _, m := range h.Members {
			s.Members = append(s.Members, memberStep{m.Route, hopSteps(m.Hops)})
		}
		out = append(out, s)
	}
	return out
}

// resolvedBy says where the server's name becomes an address.
func resolvedBy(f *connmodel.Facts, d *connmodel.Decision, hops []upstream.HopInfo) string {
	server := router.Destination(f, d)
	if !d.Server.IsZero() {
		server = d.Server
	}
	if server.IP().IsValid() {
		return "literal"
	}
	if d.LocalResolve {
		return "viaduct"
	}
	who := map[string]bool{}
	var names []string
	for _, n := range lastOf(hops) {
		if !who[n] {
			who[n] = true
			names = append(names, n)
		}
	}
	return strings.Join(names, " or ")
}

// lastOf returns who resolves, for each way that the route may take.
func lastOf(hops []upstream.HopInfo) []string {
	if len(hops) == 0 {
		return nil
	}
	h := hops[len(hops)-1]
	if h.Kind == "pool" {
		var all []string
		for _, m := range h.Members {
			all = append(all, lastOf(m.Hops)...)
		}
		return all
	}
	if h.ResolvedBy == "upstream" {
		return []string{h.Name}
	}
	return []string{"viaduct"}
}
