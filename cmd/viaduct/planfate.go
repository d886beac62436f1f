package main

import (
	"fmt"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router"
)

// fate is what becomes of a flow by a policy, as far as plan compares it. It is comparable.
type fate struct {
	kind   fateKind
	route  string
	server connmodel.Address // dialled instead of the target; zero = the target
	tls    connmodel.TLSMode // "" = passthrough
	why    string            // of fateRefused: what refuses it where no rule does; of fateOpen: what is not known; of fateVia: by which proxies
}

type fateKind uint8

const (
	fateVia     fateKind = iota
	fateRefused          // by a rule, or by what stands in for one
	fateNone             // there was no decision, because a fact that a rule asked for could not be had
	fateOpen             // it cannot be told
	fateGone             // its listener is not there any more
)

func (f *fate) text() string {
	switch f.kind {
	case fateRefused:
		if f.why != "" {
			return "refused: " + f.why
		}
		return "refused"
	case fateNone:
		return "refused: a rule asked for what could not be found out"
	case fateOpen:
		return f.why
	case fateGone:
		return "there is no such listener"
	}
	s := "via " + f.route
	if !f.server.IsZero() {
		s += " to " + f.server.String()
	}
	if f.tls != "" {
		s += ", tls " + string(f.tls)
	}
	if f.why != "" {
		s += ", " + f.why
	}
	return s
}

// fateOf is that of a decision.
func fateOf(d *connmodel.Decision) fate {
	if d.Denied() {
		return fate{kind: fateRefused}
	}
	f := fate{kind: fateVia, route: d.Route, server: d.Server}
	if m := d.TLS.ModeOf(); m != connmodel.TLSPassthrough {
		f.tls = m
	}
	return f
}

// planRule is the rule that decided, or that asks.
type planRule struct {
	Policy string `json:"policy"`
	Rule   string `json:"rule"` // "" = none took it
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
}

func ruleOf(d *connmodel.Decision) planRule {
	return planRule{d.Policy, d.Rule, d.File, d.Line}
}

func (r planRule) text() string {
	switch {
	case r.Policy == "":
		return ""
	case r.Rule == "":
		return "no rule of policy " + printable(r.Policy)
	case r.File == "":
		return fmt.Sprintf("rule %q", printable(r.Rule))
	}
	return fmt.Sprintf("rule %q (%s:%d)", printable(r.Rule), printable(r.File), r.Line)
}

// misdirectedWhy is why a request in a tunnel is refused that is for another host.
const misdirectedWhy = "the request is for another host than its tunnel (421)"

// planSide is a policy that flows are asked of.
type planSide struct {
	cfg       *policies.Config
	listeners map[string]*planListener
	checker   *router.TargetChecker
	ways      planWays
	notes     []string // on what the answers rest
}

// planListener is a listener with the policy that decides there.
type planListener struct {
	l       *policies.Listener
	routed  *router.Listener
	program *policies.Program
}

func newPlanSide(cfg *policies.Config, rc *router.Config) *planSide {
	s := &planSide{cfg: cfg, listeners: map[string]*planListener{}, checker: router.NewTargetChecker(rc), ways: newPlanWays(cfg)}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		s.listeners[l.Name] = &planListener{l: l, routed: listenerNamed(rc, l.Name), program: cfg.Programs[l.Policy]}
	}
	return s
}

// judge says what becomes of f, and by which rule. f is in the time zone of the policy when it returns.
func (s *planSide) judge(f *connmodel.Facts) (fate, planRule) {
	at := s.listeners[f.Listener]
	if at == nil {
		return fate{kind: fateGone, why: f.Listener}, planRule{}
	}
	if zone := s.cfg.Gateway.Timezone; zone != nil {
		f.Time = f.Time.In(zone)
	} else {
		f.Time = f.Time.Local()
	}
	moved := f.Protocol == connmodel.ProtocolForward && f.Tunnel.IsZero() && f.Target != at.l.Target && !at.l.Target.IsZero()
	if moved { // the listener is for another target now, and what was known of the old one says nothing
		f.Target, f.TargetIP, f.Addresses = at.l.Target, at.l.Target.IP(), nil
		f.Have &^= connmodel.NeedAddresses
	}
	if why := atTheDoor(at.l, f); len(why) > 0 {
		return fate{kind: fateRefused, why: why[0]}, planRule{}
	}
	v := at.program.Judge(f)
	if v.Decision == nil {
		open := fate{kind: fateOpen, why: lackingOf(v.Need)}
		if v.List != "" {
			open.why = "list." + v.List + ", of which there is no copy here"
		}
		return open, ruleOf(v.Asks)
	}
	to, by := fateOf(v.Decision), ruleOf(v.Decision)
	if to.kind != fateVia {
		return to, by
	}
	if f.Misdirected() && !v.Decision.NamesHost {
		return fate{kind: fateRefused, why: misdirectedWhy}, by
	}
	if moved && to.server.IsZero() {
		to.server = f.Target
	}
	if s.checker.Refuses(at.routed, v.Decision, router.Destination(f, v.Decision), f.Addresses) != nil {
		return fate{kind: fateRefused, why: destinationWhy}, by
	}
	return to, by
}

// destinationWhy is why a flow is refused whose rule does not open where it goes.
const destinationWhy = "the destination is one that a rule must list itself (loopback, link-local, metadata, the gateway)"

// lackingOf says what a record does not know.
func lackingOf(n connmodel.Need) string {
	return strings.Join(connmodel.Missing(n).Words(), " and ")
}

// wasOf is what became of a recorded flow. asked is false for one that no policy was asked about.
func wasOf(r *connmodel.Flow, f *connmodel.Facts) (was fate, by planRule, asked bool) {
	d, e := r.Decision, r.Error
	switch {
	case d != nil:
		was, by = fateOf(d), ruleOf(d)
	case e != nil && !r.Target.IsZero() && (e.Phase == connmodel.PhaseResolve || e.Phase == connmodel.PhaseDecide || e.Phase == connmodel.PhaseSniff):
		return fate{kind: fateNone}, planRule{}, true
	default:
		return fate{}, planRule{}, false
	}
	if was.kind == fateVia && e != nil && e.Kind == connmodel.KindDenied && e.Side == connmodel.SideViaduct && e.Phase == connmodel.PhaseDecide {
		switch {
		case e.Code == 421:
			was = fate{kind: fateRefused, why: misdirectedWhy}
		case e.Code == 0 && destinationKnown(d, f): // of others it is not known what the check would say of a new decision
			was = fate{kind: fateRefused, why: destinationWhy}
		}
	}
	return was, by, true
}

// destinationKnown reports whether it is known from a record what the check of the destination looks at.
func destinationKnown(d *connmodel.Decision, f *connmodel.Facts) bool {
	server := d.Server
	if server.IsZero() {
		server = router.Destination(f, d)
		if len(f.Addresses) > 0 {
			return true
		}
	}
	return server.IP().IsValid() || server.Host == "localhost" || strings.HasSuffix(server.Host, ".localhost")
}

// planWays knows what routes consist of.
type planWays struct {
	next   map[string][]string // pool and chain -> members, hops
	chain  map[string]bool
	script map[string]bool // routes that a PAC script chooses in
}

func newPlanWays(cfg *policies.Config) planWays {
	w := planWays{next: map[string][]string{}, chain: map[string]bool{}, script: map[string]bool{}}
	for i := range cfg.Upstreams.Pools {
		p := &cfg.Upstreams.Pools[i]
		w.next["pool."+p.Name] = p.Members
	}
	for i := range cfg.Upstreams.Chains {
		c := &cfg.Upstreams.Chains[i]
		w.next["chain."+c.Name], w.chain["chain."+c.Name] = c.Hops, true
	}
	for route := range w.next {
		w.script[route] = w.asksScript(route, 0)
	}
	return w
}

// maxWayDepth bounds how deep routes are looked into; load refuses circles.
const maxWayDepth = 32

func (w planWays) asksScript(route string, depth int) bool {
	if strings.HasPrefix(route, "pac.") {
		return true
	}
	if depth > maxWayDepth {
		return false
	}
	for _, n := range w.next[route] {
		if w.asksScript(n, depth+1) {
			return true
		}
	}
	return false
}

// scripted reports whether a PAC script chooses in the route.
func (w planWays) scripted(route string) bool {
	return w.script[route] || strings.HasPrefix(route, "pac.")
}

// inPlace is what a chain that was written in place consists of; "" for other routes. Its name is that of its rule, so the name says nothing of the way.
func (w planWays) inPlace(route string) string {
	if !strings.HasPrefix(route, "chain.") || !strings.Contains(route, "/") {
		return ""
	}
	return strings.Join(w.next[route], " > ")
}

// fits reports whether a way that a flow went ("corp_a > jump", "direct") is one of those that the route has. It is true where that is not known: of routes
// that a script chooses in.
func (w planWays) fits(route, went string) bool {
	if went == "" || w.scripted(route) {
		return true
	}
	for _, rest := range w.walk(route, [][]string{strings.Split(went, " > ")}, 0) {
		if len(rest) == 0 {
			return true
		}
	}
	return false
}

// walk takes the route off the front of each of the ways, and returns what is left of those that begin with it.
func (w planWays) walk(route string, ways [][]string, depth int) (rest [][]string) {
	if depth > maxWayDepth || len(ways) == 0 {
		return nil
	}
	next, made := w.next[route]
	switch {
	case w.chain[route]:
		for _, hop := range next {
			ways = w.walk(hop, ways, depth+1)
		}
		return ways
	case made:
		for _, member := range next {
			rest = append(rest, w.walk(member, ways, depth+1)...)
		}
		return rest[:min(len(rest), 64)]
	}
	name := strings.TrimPrefix(route, "upstream.")
	for _, way := range ways {
		if name == connmodel.RouteDirect { // among hops it adds none, and has no name
			rest = append(rest, way)
		}
		if len(way) > 0 && way[0] == name {
			rest = append(rest, way[1:])
		}
	}
	return rest
}
