package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router"
	"viaduct/upstream/auth"
	"viaduct/upstream/doctor"
)

// journey is what all ways of a run share.
type journey struct {
	*practice
	q     *traceQuery
	x     *explainer
	guard *auth.Guard
	e     *explanation
	try   *router.Try // nil = it is not made: denied, refused, or not decided
	no    *connmodel.ConnError
	ask   bool     // a request is sent
	tls   bool     // TLS with the server is made by whoever sits at the client's place
	sni   string   // ... for this name
	alpn  []string // ... and these protocols
	out   *tracePrinter
	notes []string
	about int // of the notes, those that are not about the plan

	hadLogin map[string]bool // upstreams for which the policy has a credential
}

// prepare explains, and plans the flow.
func (q *traceQuery) prepare(ctx context.Context, p *practice, target string) (*journey, error) {
	q.src = q.control.source
	l, err := q.listenerOf(p.cfg)
	if err != nil {
		return nil, err
	}
	f, err := q.facts(p.cfg, l, target)
	if err != nil {
		return nil, err
	}
	if f.Protocol == connmodel.ProtocolUDP {
		return nil, usageError("datagrams have no connection that could be traced; \"viaduct explain %s\" says where they go", shown(target))
	}
	j := &journey{practice: p, q: q}
	q.client443(f)
	if q.via != "" {
		if q.via, err = j.route(q.via); err != nil {
			return nil, err
		}
	}
	if p.mute == "" {
		j.guard = auth.NewGuard(filepath.Join(p.state, "auth"), nil)
		p.cfg.Upstreams.Guard = j.guard
	}
	j.silence()
	if j.x, err = newExplainer(p.cfg, &q.question); err == nil {
		if j.e, err = j.x.flow(ctx, l, f); err == nil {
			j.differs()
			j.about = len(j.notes)
			j.plan()
			return j, nil
		}
	}
	j.close()
	return nil, err
}

// client443 makes the question that of a client that speaks TLS, where trace will be one, so that rules which ask for its first bytes are told.
func (q *traceQuery) client443(f *connmodel.Facts) {
	if f.Protocol == connmodel.ProtocolHTTP || !(q.tls || q.inside != nil || f.Target.Port == 443) {
		return
	}
	if !q.hello {
		q.hello, q.sni = true, sniOf(f.Target.Host)
	}
	if q.alpn == nil {
		q.alpn = []string{"h2", "http/1.1"}
	}
	if q.asks {
		q.alpn = []string{"http/1.1"}
	}
}

// route finds the route of --via, where the kind may be left out.
func (j *journey) route(name string) (string, error) {
	all := routeNames(j.cfg)
	for i := range j.cfg.PACs {
		all = append(all, j.cfg.PACs[i].Route())
	}
	for _, kind := range []string{"", "upstream.", "pool.", "chain.", "pac."} {
		if slices.Contains(all, kind+name) {
			return kind + name, nil
		}
	}
	return "", usageError("--via %s: there is no such route; there are: %s", quotedArg(name), strings.Join(all, ", "))
}

// silence takes away what must not be shown, or cannot be.
func (j *journey) silence() {
	c := &j.cfg.Upstreams
	c.Upstreams, j.hadLogin = slices.Clone(c.Upstreams), map[string]bool{}
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		j.hadLogin[u.Name] = u.Auth != nil
		switch {
		case u.Auth == nil:
		case j.mute != "":
			u.Auth = nil
		case j.unreadable[u.Name] != "":
			a := *u.Auth
			a.Unread, u.Auth = true, &a
		}
	}
}

func (j *journey) close() {
	if j.x != nil {
		j.x.close()
	}
	if j.guard != nil {
		j.guard.Close()
	}
}

// plan makes of the decision what is dialled.
func (j *journey) plan() {
	q, a := j.q, &j.e.asked
	j.try, j.no, j.notes = nil, nil, j.notes[:j.about]
	if len(j.e.Accept) > 0 {
		j.notes = append(j.notes, "the client would not be let in: "+j.e.Accept[0]+"; what follows is what would come after that")
	}
	if a.decision == nil || a.decision.Denied() || j.e.Open != "" {
		return
	}
	d, alpn := q.edited(a.decision), q.alpn
	j.try, j.no = router.NewTry(j.x.rc, a.facts, d, nil, alpn)
	j.ask = a.facts.Protocol == connmodel.ProtocolHTTP
	opened := d.TLS.Opens() && !j.ask
	j.tls, j.sni, j.alpn = q.hello && !j.ask && !opened && !d.TLS.ToServer(), q.sni, alpn
	if j.tls && j.sni == "" {
		j.sni = a.facts.Target.Host // an address is verified without being sent
	}
	j.ask = j.ask || q.inside != nil && q.asks
	if in := j.e.Inside; opened && in != nil && j.no == nil {
		if in.asked.decision == nil || in.asked.decision.Denied() {
			j.try = nil
			return
		}
		j.try, j.no = router.NewTry(j.x.rc, in.asked.facts, q.edited(in.asked.decision), j.try, []string{"http/1.1"})
		j.ask = true
	}
	switch {
	case j.no == nil && j.e.Refused != "" && q.via == "":
		j.no = &connmodel.ConnError{Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Message: j.e.Refused}
	case d.VerifyName && a.facts.NamedInside():
		j.notes = append(j.notes, "the rule holds the name against the address (verify_name); that is not done here")
	}
}

// edited is a decision with the route of --via.
func (q *traceQuery) edited(d *connmodel.Decision) *connmodel.Decision {
	if q.via == "" {
		return d
	}
	other := *d
	other.Route = q.via
	return &other
}

// differs notes where a running gateway has another policy than the one that was read here.
func (j *journey) differs() {
	g := j.gateway
	if g == nil {
		return
	}
	ours, theirs := filesOf(j.cfg.Files), filesOf(g.Files)
	who := fmt.Sprintf("the running gateway (process %d, generation %d)", g.PID, g.Generation)
	switch {
	case len(theirs) == 0 != (len(ours) == 0), !slices.Equal(ours, theirs):
		what := "the default policy"
		if len(theirs) > 0 {
			what = said(theirs)
		}
		j.notes = append(j.notes, who+" has another policy: "+shown(what))
	default:
		for _, name := range ours {
			if st, err := os.Stat(name); err == nil && st.ModTime().After(g.LastReload.Time) {
				j.notes = append(j.notes, fmt.Sprintf("%s has not read %s since it was changed; \"viaduct reload\" makes it", who, shown(name)))
				return
			}
		}
	}
}

// filesOf makes names of files comparable; those of the default policy are none.
func filesOf(names []string) (all []string) {
	for _, n := range names {
		if n == policies.DefaultFile {
			continue
		}
		if a, err := filepath.Abs(n); err == nil {
			n = a
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// travel makes the journey by each way, and says what came of it.
func (j *journey) travel(ctx context.Context, c *cobra.Command) *traceResult {
	res := &traceResult{Version: 1, Explain: j.e, Traces: []*traced{}, Notes: j.notes}
	if !j.q.asJSON {
		w := c.OutOrStdout()
		j.out = newTracePrinter(w, c.ErrOrStderr())
		j.e.print(w)
		fmt.Fprintln(w)
		for _, n := range j.notes {
			fmt.Fprintf(w, "%-9s %s\n", "note", n)
		}
		if j.mute != "" {
			fmt.Fprintf(w, "%-9s no credential is shown: %s\n", "note", shown(j.mute))
		}
	}
	if j.mute != "" {
		res.Notes = append(res.Notes, "no credential is shown: "+j.mute)
	}
	if via := j.q.via; via != "" && j.try != nil && via != j.e.asked.decision.Route {
		res.Notes = append(res.Notes, via+" is gone, as --via says, in place of "+j.e.asked.decision.Route)
		if j.out != nil {
			fmt.Fprintf(j.out.w, "%-9s %s\n", "note", res.Notes[len(res.Notes)-1])
		}
	}
	switch {
	case j.try == nil || j.no != nil:
		res.Says = j.notMade()
		j.out.last(false, res.Says, doctor.Advise(j.no, doctor.Scene{}))
		return res
	case j.q.all:
		j.every(ctx, res)
	case j.q.count > 1:
		j.again(ctx, res)
	default:
		t := j.go1(ctx, traceWay{route: j.try.Request().Route, rule: j.q.via == ""})
		res.Traces, res.Reached, res.Says = append(res.Traces, t), t.Reached, t.Says
	}
	return res
}

// notMade says why nothing is dialled.
func (j *journey) notMade() string {
	e := j.e
	if e.Inside != nil && e.Outcome != string(connmodel.OutcomeDeny) {
		e = e.Inside
	}
	switch {
	case j.no != nil:
		return "not made: " + j.no.Message
	case e.Open != "":
		return "not made: the policy comes to no decision, as " + e.Open
	}
	by := "no rule takes it"
	if e.Rule != "" {
		by = fmt.Sprintf("rule %q, %s:%d", e.Rule, e.File, e.Line)
	}
	text := "not made: the policy denies it (" + by + ")"
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// again repeats the same, each time as if it were the first: no connection is kept. The first is printed whole, the others on a line.
func (j *journey) again(ctx context.Context, res *traceResult) {
	var took []time.Duration
	out := j.out
	defer func() { j.out = out }()
	w := traceWay{route: j.try.Request().Route, rule: j.q.via == ""}
	for n := 1; n <= j.q.count; n++ {
		if n > 1 && !sleep(ctx, betweenRuns) {
			break
		}
		t := j.go1(ctx, w)
		if res.Traces = append(res.Traces, t); t.Reached {
			took = append(took, time.Duration(t.Took*float64(time.Millisecond)))
		}
		if n == 1 && out != nil {
			fmt.Fprintln(out.w)
		}
		out.line(n, t)
		j.out = nil
		if ctx.Err() != nil || n == j.q.count {
			break
		}
		if err := j.renew(); err != nil {
			break
		}
	}
	res.Reached = len(took) > 0
	res.Says = fmt.Sprintf("%d of %d reached", len(took), len(res.Traces))
	if len(took) > 0 {
		slices.Sort(took)
		var sum time.Duration
		for _, d := range took {
			sum += d
		}
		res.Says += fmt.Sprintf("; fastest %s, mean %s, median %s, slowest %s", inShort(took[0]), inShort(sum/time.Duration(len(took))), inShort(took[len(took)/2]), inShort(took[len(took)-1]))
	}
	if out != nil {
		fmt.Fprintf(out.w, "\n%s\n", res.Says)
	}
}

// renew makes all anew, so that no connection is left of what was dialled before.
func (j *journey) renew() error {
	x, err := j.x.anew()
	if err != nil {
		return err
	}
	j.x.close()
	j.x = x
	j.plan()
	return nil
}

// sleep waits, and reports whether the wait was not cut short.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// every tries all ways that the decided route may take, and then the other routes of the policy.
func (j *journey) every(ctx context.Context, res *traceResult) {
	ways, left := j.ways(ctx)
	res.Left = left
	for i, w := range ways {
		if ctx.Err() != nil {
			res.Left += len(ways) - i
			break
		}
		if j.out != nil && i > 0 {
			fmt.Fprintln(j.out.w)
		}
		if i > 0 && j.renew() != nil {
			break
		}
		t := j.go1(ctx, w)
		res.Traces = append(res.Traces, t)
		res.Reached = res.Reached || t.Reached && t.OfRule
	}
	works, of := 0, 0
	for _, t := range res.Traces {
		if t.OfRule {
			if of++; t.Reached {
				works++
			}
		}
	}
	res.Says = fmt.Sprintf("%d of the %d ways that the policy decides on reach %s", works, of, j.try.Server())
	if of == 1 {
		res.Says = fmt.Sprintf("the way that the policy decides on reaches %s", j.try.Server())
		if works == 0 {
			res.Says = fmt.Sprintf("the way that the policy decides on does not reach %s", j.try.Server())
		}
	}
	if j.out != nil {
		j.out.table(res)
	}
}
