package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"viaduct/connmodel"
)

// flowPage writes everything about one flow for people. Whatever came by the network goes through printable.
type flowPage struct {
	bytes.Buffer
	p    palette
	zone *time.Location
	d    drawing
	now  time.Time
}

// printFlow writes the page of f. today is what the present policy would decide; nil = it was not asked.
func printFlow(w io.Writer, f *connmodel.Flow, zone *time.Location, now time.Time, today *todayAnswer) error {
	if zone == nil {
		zone = time.Local
	}
	g := &flowPage{p: palette(colourful(w)), zone: zone, now: now}
	g.d = drawing{width: min(terminalWidth(w), 160), unicode: unicodeTerminal(), p: g.p}
	g.head(f)
	g.decision(f)
	g.way(f)
	g.times(f)
	g.certificates(f)
	g.metadata(f)
	if today != nil {
		g.today(f, today)
	}
	_, err := w.Write(g.Bytes())
	return err
}

// line writes one fact with its label.
func (g *flowPage) line(label, format string, args ...any) {
	fmt.Fprintf(g, "%-9s %s\n", label, fmt.Sprintf(format, args...))
}

func (g *flowPage) when(t time.Time) string {
	return t.In(g.zone).Format("Mon 2006-01-02 15:04:05.000 MST")
}

func (g *flowPage) head(f *connmodel.Flow) {
	what := strings.ToUpper(string(f.Protocol)) + " " + f.Target.String()
	if r := f.Request; r != nil && r.Method != "" {
		what = r.Method + " " + r.Scheme + "://" + f.Target.String() + r.Path
	}
	fmt.Fprintf(g, "%s\n", g.p.bold(printable(what)))
	g.line("result", "%s", g.result(f))
	g.line("id", "%s  session %s", f.ID, f.Session)
	if c := f.Client; c != nil {
		from := "a Unix socket"
		if c.From().IsValid() {
			from = c.From().String()
		}
		who := printable(from)
		if c.User != "" {
			who += " as " + printable(c.User)
		}
		if c.Listener != "" {
			who += " on listener " + printable(c.Listener)
		}
		if c.Proxied != nil && c.Peer.IsValid() {
			who += ", by the load balancer " + c.Peer.String()
		}
		g.line("client", "%s", who)
		if c.TLSEstablished() && c.TLSInfo != nil {
			g.line("", "speaks %s", tlsFacts(c.TLSInfo))
		}
		if h := c.Hello; h != nil {
			var parts []string
			for _, x := range [][2]string{{"sni", h.SNI}, {"alpn", strings.Join(h.ALPN, ",")}, {"ja4", h.JA4}} {
				if x[1] != "" {
					parts = append(parts, x[0]+" "+printable(x[1]))
				}
			}
			g.line("", "begins TLS with %s", orDash(strings.Join(parts, ", ")))
		}
	}
	end := "open since " + tookShort(g.now.Sub(f.Start))
	if !f.End.IsZero() {
		end = "took " + tookShort(f.End.Sub(f.Start))
	}
	g.line("time", "%s, %s", g.when(f.Start), end)
	g.line("bytes", "%d up, %d down", f.Up, f.Down)
	if f.Reply != nil && f.Reply.Code != 0 {
		early := ""
		if f.Reply.Early {
			early = ", before the server was reached"
		}
		g.line("answered", "%d after %s%s", f.Reply.Code, tookShort(f.Reply.Time.Sub(f.Start)), early)
	}
	if r := f.Request; r != nil && !r.Tunnel.IsZero() {
		g.line("within", "the tunnel of flow %s", r.Tunnel)
	}
	if f.Truncated {
		g.line("note", "the record was cut to stay bounded: something is missing below")
	}
	if f.Panicked {
		g.line("note", "%s", g.p.bad("a fault of Viaduct ended it: please report it"))
	}
}

// result says how it went and who ended it.
func (g *flowPage) result(f *connmodel.Flow) string {
	switch e := f.Error; {
	case f.Decision != nil && f.Decision.Denied():
		return g.p.warn("denied") + deniedWords(f.Decision)
	case e != nil:
		s := g.p.bad("failed") + ": " + printable(e.Error())
		s += fmt.Sprintf(" (%s at %s", e.Kind, e.Phase)
		if e.Code != 0 {
			s += fmt.Sprintf(", %s %d", printable(e.CodeOf), e.Code)
		}
		if e.Blame != "" {
			s += ", to be blamed on the " + printable(string(e.Blame))
		}
		return s + ")" + endWords(f)
	case f.End.IsZero():
		return g.p.good("open")
	case f.Response != nil && f.Response.Status != 0:
		return fmt.Sprintf("answered with %d%s", f.Response.Status, endWords(f))
	}
	return "ok" + endWords(f)
}

func deniedWords(d *connmodel.Decision) string {
	s := ""
	if d.Denial != nil && d.Denial.Status != 0 {
		s = fmt.Sprintf(" with %d", d.Denial.Status)
	}
	if d.Denial != nil && d.Denial.Reason != "" {
		s += ": " + printable(d.Denial.Reason)
	}
	return s
}

func endWords(f *connmodel.Flow) string {
	s := ""
	if f.Reason != "" && f.Reason != connmodel.CloseFailed && f.Reason != connmodel.CloseDenied {
		s = ", " + printable(strings.ReplaceAll(string(f.Reason), "_", " "))
	}
	if f.First != "" {
		s += ", the " + printable(string(f.First)) + " closed first"
	}
	return s
}

func (g *flowPage) decision(f *connmodel.Flow) {
	d := f.Decision
	fmt.Fprintln(g)
	if d == nil {
		g.line("decision", "%s", g.p.bad("none could be made"))
		return
	}
	by := "no rule took it"
	if d.Rule != "" {
		by = fmt.Sprintf("rule %q", printable(d.Rule))
	}
	if d.File != "" {
		by += fmt.Sprintf(", %s:%d", printable(d.File), d.Line)
	}
	by += fmt.Sprintf(", policy %s, generation %d", printable(d.Policy), d.Generation)
	if d.Denied() {
		g.line("decision", "%s (%s)", g.p.warn("refused"), by)
	} else {
		g.line("decision", "%s (%s)", g.p.good("via "+printable(d.Route)), by)
	}
	if !d.Server.IsZero() {
		g.line("server", "%s in place of %s", printable(d.Server.String()), printable(f.Target.String()))
	}
	if len(d.Tags) > 0 {
		g.line("tags", "%s", printable(strings.Join(d.Tags, ", ")))
	}
	if f.Trace != nil {
		t := &connmodel.Trace{}
		for _, s := range f.Trace.Steps {
			s.Rule, s.File, s.Reason = printable(s.Rule), printable(s.File), printable(s.Reason)
			t.Steps = append(t.Steps, s)
		}
		fmt.Fprintln(g, "trace")
		printTrace(g, g.p, "  ", t)
	}
	for _, v := range d.Shadow {
		g.line("shadow", "rule %q (%s:%d) would have %s", printable(v.Rule), printable(v.File), v.Line, g.wouldHave(v.Outcome, v.Route, d))
	}
	if s := d.ShadowPolicy; s != nil {
		if s.Undecided != "" {
			g.line("shadow", "policy %s is undecided: %s", printable(s.Policy), printable(s.Undecided))
		} else {
			g.line("shadow", "policy %s, rule %q (%s:%d) would have %s", printable(s.Policy), printable(s.Rule), printable(s.File), s.Line, g.wouldHave(s.Outcome, s.Route, d))
		}
	}
}

func (g *flowPage) wouldHave(o connmodel.Outcome, route string, d *connmodel.Decision) string {
	s := "refused it"
	if o == connmodel.OutcomeVia {
		s = "sent it via " + printable(route)
	}
	if o == d.Outcome && (o == connmodel.OutcomeDeny || route == d.Route) {
		return s + ", as was done"
	}
	return g.p.warn(s)
}

// way writes the attempts hop by hop.
func (g *flowPage) way(f *connmodel.Flow) {
	s := f.Server
	if s == nil {
		return
	}
	fmt.Fprintln(g)
	used := s.Route
	if used == "" {
		used = "nothing was reached"
	}
	if s.Reused {
		used += ", a connection kept from before"
	}
	g.line("way", "%s", printable(used))
	if s.ResolvedBy != "" {
		g.line("resolved", "by %s", printable(s.ResolvedBy))
	}
	for i := range s.Attempts {
		a := &s.Attempts[i]
		verdict := g.p.good("connected")
		switch {
		case a.Error != nil && slices.ContainsFunc(a.Hops, func(h connmodel.HopResult) bool { return h.Error != nil }): // said there
			verdict = g.p.bad("failed")
		case a.Error != nil:
			verdict = g.p.bad("failed") + ": " + printable(a.Error.Error())
		case a.End.IsZero():
			verdict = "under way"
		}
		fmt.Fprintf(g, "  attempt %d  %s  %s\n", a.Number, printable(orDash(a.Route)), verdict)
		for j := range a.Hops {
			g.hop(&a.Hops[j])
		}
	}
	if s.Truncated {
		fmt.Fprintln(g, "  there were more attempts or hops than are kept")
	}
}

func (g *flowPage) hop(h *connmodel.HopResult) {
	name := h.Upstream
	if name == "" {
		name = "server"
	}
	line := fmt.Sprintf("    %d. %s  %s %s", h.Index, printable(name), printable(h.Protocol), printable(h.Address.String()))
	var more []string
	if h.Peer.IsValid() && connmodel.AddressFrom(h.Peer) != h.Address {
		more = append(more, "at "+h.Peer.String())
	}
	if h.Credential != "" {
		rounds := ""
		if h.AuthRounds > 1 {
			rounds = fmt.Sprintf(" in %d rounds", h.AuthRounds)
		}
		more = append(more, fmt.Sprintf("credential %q%s", printable(h.Credential), rounds))
	}
	if h.Reused {
		more = append(more, "on a connection that other flows share")
	}
	if h.ProxyProto != 0 {
		more = append(more, fmt.Sprintf("told of the client by a PROXY header, version %d", h.ProxyProto))
	}
	if h.BoundAddr != "" {
		more = append(more, "says that it uses "+printable(h.BoundAddr))
	}
	if r := h.Resolved; r != nil {
		more = append(more, fmt.Sprintf("name from resolver %s, %s", printable(r.Resolver), printable(r.From)))
	}
	if t := h.TLSInfo; t != nil {
		more = append(more, tlsFacts(t))
	}
	if len(more) > 0 {
		line += "  " + g.p.faint(strings.Join(more, ", "))
	}
	fmt.Fprintln(g, line)
	if h.Error != nil {
		fmt.Fprintf(g, "       %s\n", g.p.bad(printable(fmt.Sprintf("%s at %s: %s", h.Error.Kind, h.Error.Phase, h.Error.Message))))
	}
}

func (g *flowPage) times(f *connmodel.Flow) {
	list := bars(f, g.now)
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(g, "\n%s\n", g.p.bold("times"))
	g.d.waterfall(g, list) // a buffer takes everything
}

// certificates writes the chains that were seen, of the hops and of the server.
func (g *flowPage) certificates(f *connmodel.Flow) {
	type chain struct {
		of string
		t  *connmodel.TLSInfo
	}
	var list []chain
	if f.Server != nil {
		for i := range f.Server.Attempts {
			for j := range f.Server.Attempts[i].Hops {
				h := &f.Server.Attempts[i].Hops[j]
				if h.TLSInfo == nil || slices.ContainsFunc(list, func(c chain) bool { return c.t == h.TLSInfo }) {
					continue
				}
				list = append(list, chain{cmpOr(h.Upstream, "server"), h.TLSInfo})
			}
		}
		if t := f.Server.TLSInfo; t != nil && !slices.ContainsFunc(list, func(c chain) bool { return c.of == "server" }) {
			list = append(list, chain{"server", t})
		}
	}
	if c := f.Client; c != nil && c.TLSInfo != nil && len(c.TLSInfo.Certificates) > 0 {
		list = append(list, chain{"client", c.TLSInfo})
	}
	for _, c := range list {
		if len(c.t.Certificates) == 0 && c.t.Verdict == "" {
			continue
		}
		verdict := g.p.good(string(c.t.Verdict))
		if c.t.Verdict != connmodel.ChainOK {
			verdict = g.p.bad(printable(orDash(string(c.t.Verdict))))
		}
		if c.t.Problem != "" {
			verdict += ": " + printable(c.t.Problem)
		}
		if c.t.Unverified {
			verdict += ", " + g.p.bad("NOT VERIFIED (verify = false)")
		}
		fmt.Fprintf(g, "\n%s of %s  %s\n", g.p.bold("certificates"), printable(c.of), verdict)
		for i := range c.t.Certificates {
			x := &c.t.Certificates[i]
			fmt.Fprintf(g, "  %s  from %s\n", printable(orDash(x.Subject)), printable(orDash(x.Issuer)))
			dates := fmt.Sprintf("%s to %s", x.NotBefore.In(g.zone).Format(time.DateOnly), x.NotAfter.In(g.zone).Format(time.DateOnly))
			if x.Verdict != connmodel.CertOK && x.Verdict != "" {
				dates += " " + g.p.bad(printable(string(x.Verdict)))
			}
			fmt.Fprintf(g, "    %s, %s, %s\n", dates, printable(x.KeyType), printable(x.Pin))
			if names := append(slices.Clone(x.SANs.DNS), x.SANs.IP...); i == 0 && len(names) > 0 {
				more := ""
				if len(names) > 6 {
					more, names = fmt.Sprintf(" and %d more", len(names)-6), names[:6]
				}
				fmt.Fprintf(g, "    for %s%s\n", printable(strings.Join(names, ", ")), more)
			}
		}
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (g *flowPage) metadata(f *connmodel.Flow) {
	if len(f.Metadata) == 0 {
		return
	}
	fmt.Fprintf(g, "\n%s\n", g.p.bold("metadata"))
	keys := make([]string, 0, len(f.Metadata))
	for k := range f.Metadata {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(g, "  %s = %s\n", printable(k), printable(f.Metadata[k]))
	}
}

// today writes what the present policy would decide.
func (g *flowPage) today(f *connmodel.Flow, t *todayAnswer) {
	fmt.Fprintf(g, "\n%s  %s\n", g.p.bold("today"), printable(t.From))
	switch {
	case t.Problem != "":
		fmt.Fprintf(g, "  %s\n", printable(t.Problem))
		return
	case t.Explanation == nil:
		return
	case t.Explanation.Open != "":
		fmt.Fprintf(g, "  %s: %s\n", g.p.warn("undecided"), printable(t.Explanation.Open))
	}
	if e := t.Explanation; e.Open == "" {
		by := "no rule would take it"
		if e.Rule != "" {
			by = fmt.Sprintf("rule %q", printable(e.Rule))
		}
		if e.File != "" {
			by += fmt.Sprintf(", %s:%d", printable(e.File), e.Line)
		}
		what := g.p.good("via " + printable(e.Via))
		if e.Outcome == string(connmodel.OutcomeDeny) {
			what = g.p.warn("refused")
		}
		same := ", " + g.p.warn("another decision than then")
		if t.Same {
			same = ", as then"
		}
		fmt.Fprintf(g, "  %s (%s)%s\n", what, by, same)
		if e.Refused != "" {
			fmt.Fprintf(g, "  %s\n", g.p.bad(printable(e.Refused)))
		}
	}
	for _, m := range t.Missing {
		fmt.Fprintf(g, "  %s\n", g.p.faint("the record does not know "+printable(m)))
	}
}
