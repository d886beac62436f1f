package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/doctor"
)

// tracePrinter writes a trace for people, as it goes: steps as those of a check. nil = nobody is told.
type tracePrinter struct {
	checkPrinter
	waits string // what the terminal says is waited for
}

func newTracePrinter(w, err io.Writer) *tracePrinter {
	return &tracePrinter{checkPrinter: checkPrinter{w: w, err: err, p: palette(colourful(w)), live: colourful(err)}}
}

func (t *tracePrinter) begin(way string) {
	fmt.Fprintf(t.w, "%-9s %s\n", "trace", t.p.bold(shown(way)))
}

func (t *tracePrinter) part(p *part) {
	t.calm()
	t.waits = ""
	switch {
	case p.again != "":
		fmt.Fprintf(t.w, "%-9s %s, attempt %d\n", "again", t.p.bold(shown(p.again)), p.attempt)
	case p.step != nil:
		t.step(p.step)
	default:
		fmt.Fprintln(t.w, p.head)
	}
}

// waitFor says on a terminal what is under way.
func (t *tracePrinter) waitFor(f *connmodel.Flow, _ bool) {
	if !t.live || f.Server == nil || len(f.Server.Attempts) == 0 {
		return
	}
	a := &f.Server.Attempts[len(f.Server.Attempts)-1]
	if len(a.Hops) == 0 || !a.End.IsZero() {
		return
	}
	h := &a.Hops[len(a.Hops)-1]
	who := shown(h.Upstream)
	if h.Upstream == "" {
		who = "the server"
	}
	since := time.Since(h.Start).Truncate(time.Second)
	if text := fmt.Sprintf("waiting for %s at %s, %s", who, h.Address, since); since > 0 && text != t.waits {
		t.waits = text
		t.progress(text)
	}
}

// verdict writes what came of one way.
func (t *tracePrinter) verdict(x *traced) {
	t.calm()
	fmt.Fprintf(t.w, "%-9s %s\n", "total", inShort(time.Duration(x.Took*float64(time.Millisecond))))
	t.last(x.Reached, x.Says, x.Advice)
}

// last writes the sentence that says what it means, and what to try.
func (t *tracePrinter) last(good bool, says string, advice doctor.Advice) {
	if t == nil {
		return
	}
	word := t.p.bad("FAILED")
	switch {
	case good && advice.Code != "":
		word = t.p.paint("33", "WARNING")
	case good:
		word = t.p.good("OK")
	}
	fmt.Fprintf(t.w, "%-9s %s  %s\n", "verdict", word, shown(says))
	if advice.Means != "" {
		fmt.Fprintf(t.w, "%-9s %s\n", "means", advice.Means)
	}
	if advice.Try != "" {
		fmt.Fprintf(t.w, "%-9s %s\n", "try", advice.Try)
	}
}

// line is one of several traces of the same.
func (t *tracePrinter) line(n int, x *traced) {
	if t == nil {
		return
	}
	word := t.p.good("ok  ")
	if !x.Reached {
		word = t.p.bad("FAIL")
	}
	var parts []string
	for _, s := range x.Steps {
		if s.Took > 0 && s.Step.Name != "open" && s.Step.Name != "reply" {
			who := s.Upstream
			if who == "" {
				who = "server"
			}
			parts = append(parts, shown(who)+" "+s.Step.Name+" "+inShort(time.Duration(s.Took*float64(time.Millisecond))))
		}
	}
	what := strings.Join(parts, ", ")
	if !x.Reached {
		what = shown(x.Says)
	}
	fmt.Fprintf(t.w, "%s  %3d  %8s  %s\n", word, n, inShort(time.Duration(x.Took*float64(time.Millisecond))), what)
}

// table sums all ways up.
func (t *tracePrinter) table(res *traceResult) {
	fmt.Fprintln(t.w)
	w := tabwriter.NewWriter(t.w, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "WAY\tPOLICY\tREACHED\tTOOK\tWHAT\n")
	for _, x := range res.Traces {
		of, reached, what := "-", "no", shown(x.Says)
		if x.OfRule {
			of = "decides"
		}
		if x.Reached {
			reached = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", shown(x.Way), of, reached, inShort(time.Duration(x.Took*float64(time.Millisecond))), what)
	}
	w.Flush()
	if res.Left > 0 {
		fmt.Fprintf(t.w, "at least %d more ways were not tried\n", res.Left)
	}
	fmt.Fprintf(t.w, "%s\n", res.Says)
}
