package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// planReport is the answer of plan, and its JSON form. Names are only ever added to it.
type planReport struct {
	Policy  []string   `json:"policy"`            // files of the new one
	Against []string   `json:"against,omitempty"` // files of what it is compared with; absent = with what was done
	Journal string     `json:"journal"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until,omitempty"`

	First *time.Time `json:"first,omitempty"` // when the first of the flows began
	Last  *time.Time `json:"last,omitempty"`
	Flows int64      `json:"flows"` // that were replayed

	Changes bool `json:"changes"` // something would be done otherwise, or it cannot be told

	Denied  planPart `json:"newly_refused"`
	Allowed planPart `json:"newly_allowed"`
	Moved   planPart `json:"moved"`
	Open    planPart `json:"undecided"` // it cannot be told, because a rule asks for what no record knows
	Gone    planPart `json:"listeners_gone"`

	Same      int64 `json:"same"`
	OtherRule int64 `json:"same_by_other_rule"`
	NotAsked  int64 `json:"not_asked"` // no policy was asked: they failed before
	Scripted  int64 `json:"by_pac"`    // where the route leaves the choice to a PAC script, which is not asked

	Generations []planGeneration `json:"generations"` // of the configurations that decided
	Notes       []string         `json:"notes,omitempty"`
	Unread      []string         `json:"unread_files,omitempty"` // of the journal
}

type planGeneration struct {
	Generation uint64 `json:"generation"`
	Flows      int64  `json:"flows"`
	Latest     bool   `json:"latest,omitempty"`
}

// planPart is all of one kind.
type planPart struct {
	planCounts
	Groups     []planGroupJSON `json:"groups"`
	MoreGroups int             `json:"more_groups,omitempty"` // that are counted above and not listed
}

type planCounts struct {
	Flows       int64 `json:"flows"`
	Up          int64 `json:"bytes_up"`
	Down        int64 `json:"bytes_down"`
	Clients     int   `json:"clients"`
	MoreClients bool  `json:"more_clients,omitempty"` // there were more
	Users       int   `json:"users"`
	MoreUsers   bool  `json:"more_users,omitempty"`
}

type planGroupJSON struct {
	planCounts
	From planFate  `json:"from"`
	To   planFate  `json:"to"`
	Rule *planRule `json:"rule,omitempty"` // of the new policy: that takes them, or that asks for what is not known
	Was  *planRule `json:"was_rule,omitempty"`

	First time.Time `json:"first"`
	Last  time.Time `json:"last"`

	Examples    []planExample `json:"examples"`
	MoreTargets int           `json:"more_targets,omitempty"` // beside those of the examples; at least

	of *planGroup
}

type planFate struct {
	Outcome string `json:"outcome"` // via, refused, none, undecided, gone
	Route   string `json:"route,omitempty"`
	Server  string `json:"server,omitempty"`
	TLS     string `json:"tls,omitempty"`
	Why     string `json:"why,omitempty"`
}

type planExample struct {
	Target string       `json:"target"`
	Flows  int64        `json:"flows"`
	ID     connmodel.ID `json:"id"` // of the latest
	Time   time.Time    `json:"time"`
	Client string       `json:"client,omitempty"`
	User   string       `json:"user,omitempty"`
}

func (f *fate) json() planFate {
	outcome := map[fateKind]string{fateVia: "via", fateRefused: "refused", fateNone: "none", fateOpen: "undecided", fateGone: "gone"}[f.kind]
	return planFate{Outcome: outcome, Route: f.route, Server: f.server.String(), TLS: string(f.tls), Why: f.why}
}

func (g *planGroup) counts() planCounts {
	return planCounts{g.flows, g.up, g.down, len(g.clients.seen), g.clients.more, len(g.users.seen), g.users.more}
}

func (r *planRule) orNil() *planRule {
	if r.Policy == "" {
		return nil
	}
	return r
}

// report makes the answer, with at most groups groups of each kind and examples examples of each.
func (t *planTally) report(groups, examples int) *planReport {
	r := &planReport{Flows: t.flows, Same: t.same, OtherRule: t.otherRule, NotAsked: t.notAsked, Scripted: t.scripted, Generations: []planGeneration{}}
	if !t.first.IsZero() {
		r.First, r.Last = &t.first, &t.last
	}
	for kind, part := range r.parts() {
		all := t.total(kind)
		part.planCounts, part.Groups = all.counts(), []planGroupJSON{}
		list := t.sorted(kind)
		for _, g := range list[:min(len(list), groups)] {
			part.Groups = append(part.Groups, g.report(examples))
		}
		if part.MoreGroups = len(list) - len(part.Groups); t.restGroups[kind] > 0 {
			part.MoreGroups++
		}
		r.Changes = r.Changes || all.flows > 0
	}
	for g, n := range t.generation {
		r.Generations = append(r.Generations, planGeneration{g, n, g == t.latest})
	}
	slices.SortFunc(r.Generations, func(a, b planGeneration) int { return int(int64(a.Generation) - int64(b.Generation)) })
	return r
}

func (r *planReport) parts() map[planKind]*planPart {
	return map[planKind]*planPart{planDenied: &r.Denied, planAllowed: &r.Allowed, planMoved: &r.Moved, planOpen: &r.Open, planGone: &r.Gone}
}

func (g *planGroup) report(examples int) planGroupJSON {
	j := planGroupJSON{planCounts: g.counts(), From: g.from.json(), To: g.to.json(), Rule: g.by.orNil(), Was: g.was.orNil(), First: g.first.UTC(), Last: g.last.UTC(), Examples: []planExample{}, of: g}
	for name, t := range g.targets {
		x := planExample{Target: name, Flows: t.flows, ID: t.id, Time: t.at.UTC(), User: t.user}
		if t.client.IsValid() {
			x.Client = t.client.String()
		}
		j.Examples = append(j.Examples, x)
	}
	slices.SortFunc(j.Examples, func(a, b planExample) int {
		if a.Flows != b.Flows {
			return int(min(max(b.Flows-a.Flows, -1), 1))
		}
		return strings.Compare(a.Target, b.Target)
	})
	if n := len(j.Examples); n > examples {
		j.Examples, j.MoreTargets = j.Examples[:examples:examples], n-examples
	}
	return j
}

// planTitles are the kinds in the order in which they are told.
var planTitles = []struct {
	kind  planKind
	title string
}{
	{planDenied, "newly refused"}, {planAllowed, "newly let through"}, {planMoved, "moved"}, {planOpen, "cannot be told"}, {planGone, "listeners that are gone"},
}

// print writes the answer for people.
func (r *planReport) print(w io.Writer) error {
	p := palette(colourful(w))
	against := "what was done"
	if r.Against != nil {
		against = said(r.Against)
	}
	fmt.Fprintf(w, "%s against %s, by %s", p.bold(said(r.Policy)), against, bigCount(r.Flows, "flow"))
	if r.First != nil {
		fmt.Fprintf(w, " of %s to %s", planTime(*r.First), planTime(*r.Last))
	}
	fmt.Fprintf(w, "\n%s\n", p.faint("journal "+printable(r.Journal)))
	if r.Flows == 0 {
		_, err := fmt.Fprintln(w, "\nThe journal has no flows of that time, so this says nothing of the policy.")
		return err
	}
	parts := r.parts()
	for _, t := range planTitles {
		if part := parts[t.kind]; part.Flows > 0 {
			part.print(w, p, t.kind, t.title)
		}
	}
	fmt.Fprintln(w)
	if !r.Changes {
		fmt.Fprintln(w, p.good("Nothing moves."))
	}
	stay := "the same is done with " + bigCount(r.Same, "flow")
	if r.OtherRule > 0 {
		stay += fmt.Sprintf(", with %s of them by another rule", big(r.OtherRule))
	}
	fmt.Fprintln(w, upperFirstOf(stay)+".")
	if r.NotAsked > 0 {
		fmt.Fprintf(w, "%s never came as far as a policy (garbage, a login that failed, a PAC script that was fetched).\n", upperFirstOf(bigCount(r.NotAsked, "flow")))
	}
	if r.Scripted > 0 {
		fmt.Fprintf(w, "%s go where a PAC script says. The scripts are not asked.\n", upperFirstOf(bigCount(r.Scripted, "flow")))
	}
	r.printGenerations(w)
	for _, n := range r.Notes {
		fmt.Fprintln(w, printable(n))
	}
	for _, n := range r.Unread {
		fmt.Fprintln(w, p.bad("not read: ")+printable(n))
	}
	return nil
}

// printGenerations says by how many configurations the old decisions were made.
func (r *planReport) printGenerations(w io.Writer) {
	if len(r.Generations) < 2 || r.Against != nil {
		return
	}
	var older int64
	var latest uint64
	for _, g := range r.Generations {
		if g.Latest {
			latest = g.Generation
		} else {
			older += g.Flows
		}
	}
	fmt.Fprintf(w, "The decisions were made by %s of the configuration: %s of them by others than the latest (%d).\n",
		bigCount(int64(len(r.Generations)), "generation"), big(older), latest)
}

func (part *planPart) print(w io.Writer, p palette, kind planKind, title string) {
	paint := p.bold
	if kind == planDenied {
		paint = p.bad
	}
	fmt.Fprintf(w, "\n%s  %s\n", paint(title), part.words())
	for i := range part.Groups {
		g := &part.Groups[i]
		fmt.Fprintf(w, "  %s\n", g.headline(kind))
		if line := g.rules(kind); line != "" {
			fmt.Fprintf(w, "    %s\n", line)
		}
		if len(part.Groups) > 1 {
			fmt.Fprintf(w, "    %s\n", g.words())
		}
		width, digits := 0, 0
		for _, x := range g.Examples {
			width, digits = max(width, min(len(printable(x.Target)), 50)), max(digits, len(big(x.Flows)))
		}
		for _, x := range g.Examples {
			who := x.Client
			if x.User != "" {
				who = strings.TrimSpace(who + " as " + printable(x.User))
			}
			fmt.Fprintf(w, "    %-*s  %*s  %s  %s  %s\n", width, printable(x.Target), digits, big(x.Flows), p.faint(x.ID.String()), planTime(x.Time), who)
		}
		if g.MoreTargets > 0 {
			fmt.Fprintf(w, "    %s\n", p.faint(g.moreWords()))
		}
	}
	if part.MoreGroups > 0 {
		fmt.Fprintf(w, "  %s\n", p.faint(fmt.Sprintf("and %s more, with the rest of the flows (--groups N shows more)", bigCount(int64(part.MoreGroups), "group"))))
	}
}

// headline says from where to where.
func (g *planGroupJSON) headline(kind planKind) string {
	switch kind {
	case planOpen:
		if g.Rule == nil {
			return "the record does not know " + printable(g.To.Why)
		}
		if strings.HasPrefix(g.To.Why, "list.") {
			return fmt.Sprintf("%s needs %s", g.Rule.text(), printable(g.To.Why))
		}
		if rest, ok := strings.CutPrefix(g.To.Why, "the other policy asks for "); ok {
			return fmt.Sprintf("%s, of what it is compared with, asks for what the record does not know: %s", g.Rule.text(), printable(rest))
		}
		return fmt.Sprintf("%s asks for what the record does not know: %s", g.Rule.text(), printable(g.To.Why))
	case planGone:
		return printable(g.To.Why)
	}
	return printable(g.of.from.text()) + "  ->  " + printable(g.of.to.text())
}

// rules says by which rule, and by which it was.
func (g *planGroupJSON) rules(kind planKind) string {
	var parts []string
	switch {
	case kind == planGone:
		return ""
	case kind == planOpen && g.From.Outcome == "undecided":
		return ""
	case kind == planOpen:
		parts = append(parts, "before "+printable(g.of.from.text()))
		if g.Was != nil {
			parts = append(parts, "by "+g.Was.text())
		}
		return strings.Join(parts, ", ")
	}
	if g.Rule != nil {
		parts = append(parts, "by "+g.Rule.text())
	}
	if g.Was != nil {
		parts = append(parts, "before "+g.Was.text())
	}
	return strings.Join(parts, ", ")
}

// moreWords says how many targets are not shown. Those beyond the bound of a group are not told apart.
func (g *planGroupJSON) moreWords() string {
	if g.of.moreTargets {
		return fmt.Sprintf("and more than %s", bigCount(int64(g.MoreTargets), "other target"))
	}
	return "and " + bigCount(int64(g.MoreTargets), "other target")
}

func (c *planCounts) words() string {
	parts := []string{bigCount(c.Flows, "flow")}
	some := func(n int, more bool, what string) {
		switch {
		case more:
			parts = append(parts, fmt.Sprintf("more than %s %ss", big(int64(n)), what))
		case n > 0:
			parts = append(parts, bigCount(int64(n), what))
		}
	}
	some(c.Clients, c.MoreClients, "client")
	some(c.Users, c.MoreUsers, "user")
	parts = append(parts, planBytes(c.Up)+" up", planBytes(c.Down)+" down")
	return strings.Join(parts, ", ")
}

func planTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// big writes a number with its thousands apart.
func big(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func bigCount(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return big(n) + " " + what + "s"
}

func planBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for f >= unit && i < 4 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

func upperFirstOf(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
