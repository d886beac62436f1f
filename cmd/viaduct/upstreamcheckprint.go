package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"viaduct/upstream/doctor"
)

// checkPrinter writes a check for people, step by step as it goes.
type checkPrinter struct {
	w, err  io.Writer
	p       palette
	live    bool // err is a terminal: progress may be written over
	waiting bool
}

func (c *checkPrinter) begin(o *doctor.Options) {
	through := ""
	if o.Through != "" {
		through = " through " + o.Through
	}
	target := o.Target.String()
	if o.TargetFrom != "" {
		target += " (" + o.TargetFrom + ")"
	}
	fmt.Fprintf(c.w, "%s at %s://%s%s, target %s\n", c.p.bold("upstream."+o.Spec.Name), o.Spec.Scheme, o.Spec.Address, through, target)
}

// step writes what was seen, and under it what it means. The doctor has made everything of the proxy's fit for a terminal.
func (c *checkPrinter) step(s *doctor.Step) {
	c.calm()
	mark := c.p.good("ok  ")
	switch s.Status {
	case doctor.Fail:
		mark = c.p.bad("FAIL")
	case doctor.Warn:
		mark = c.p.paint("33", "warn")
	case doctor.Skip:
		mark = c.p.faint("-   ")
	}
	took := ""
	if s.Status != doctor.Skip {
		took = inShort(time.Duration(s.Took * float64(time.Millisecond)))
	}
	fmt.Fprintf(c.w, "%s  %-9s %8s  %s\n", mark, s.Name, took, s.Says)
	more := func(label, text string) {
		if text != "" {
			fmt.Fprintf(c.w, "%26s%-6s %s\n", "", label, text)
		}
	}
	for _, d := range s.Detail {
		fmt.Fprintf(c.w, "%26s%s\n", "", c.p.faint(d))
	}
	more("means", s.Means)
	more("try", s.Try)
}

// inShort writes a time in three digits or so.
func inShort(d time.Duration) string {
	switch {
	case d < 50*time.Microsecond:
		return "<0.1ms"
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// progress says on a terminal what is waited for.
func (c *checkPrinter) progress(text string) {
	if !c.live {
		return
	}
	fmt.Fprintf(c.err, "\r\x1b[K%s", text)
	c.waiting = true
}

// calm takes the progress away.
func (c *checkPrinter) calm() {
	if c.waiting {
		fmt.Fprint(c.err, "\r\x1b[K")
		c.waiting = false
	}
}

func (c *checkPrinter) verdict(r *doctor.Report) {
	word := c.p.good("OK")
	switch r.Verdict {
	case doctor.Fail:
		word = c.p.bad("FAILED")
	case doctor.Warn:
		word = c.p.paint("33", "WARNINGS")
	}
	fmt.Fprintf(c.w, "verdict  %s  %s (%s)\n", word, r.Says, inShort(time.Duration(r.Took*float64(time.Millisecond))))
}

// table sums several checks up.
func (c *checkPrinter) table(all []*doctor.Report) {
	fmt.Fprintln(c.w)
	t := tabwriter.NewWriter(c.w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "UPSTREAM\tADDRESS\tTHROUGH\tVERDICT\tTOOK\tWHAT\n")
	for _, r := range all {
		through := r.Through
		if through == "" {
			through = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Upstream, r.URL, through, strings.ToUpper(string(r.Verdict)), inShort(time.Duration(r.Took*float64(time.Millisecond))), r.Says)
	}
	t.Flush()
}
