package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
	"viaduct/router/admin"
)

// This file lets the control door read the journal and compile filters.

// compileFilter implements admin.Sources.Compile.
func (s *service) compileFilter(expression string) (*connmodel.Filter, error) {
	var o policies.FilterOptions
	if cur := s.now.Load(); cur != nil {
		o.Zone = cur.cfg.Gateway.Timezone
	}
	f, diags := policies.CompileFilter(expression, o)
	if diags.HasErrors() {
		var text strings.Builder
		if err := diags.WriteText(&text, false); err != nil {
			return nil, err
		}
		return nil, &admin.BadRequest{Detail: strings.TrimSpace(text.String())} // with the caret below the mistake
	}
	return f, nil
}

// journalDir is where the journal of the configuration in force is; "" = none is wanted.
func (s *service) journalDir() string {
	s.journal.mu.RLock()
	defer s.journal.mu.RUnlock()
	return s.journal.want.dir
}

// journalRecords implements admin.Records.
type journalRecords struct{ r *journal.Reader }

// journalled implements admin.Sources.Records.
func (s *service) journalled() admin.Records {
	if r := s.reader(); r != nil {
		return journalRecords{r}
	}
	return nil
}

// reader opens the journal for reading; nil = there is none.
func (s *service) reader() *journal.Reader {
	dir := s.journalDir()
	if dir == "" {
		return nil
	}
	r, err := journal.OpenReader(dir)
	if err != nil {
		return nil
	}
	return r
}

// Each implements admin.Records.
func (j journalRecords) Each(ctx context.Context, q admin.RecordQuery, yield func(*connmodel.Flow) error) error {
	return found(j.r.Each(ctx, journal.Query{Since: q.Since, Until: q.Until, Filter: q.Filter, Limit: q.Limit, After: q.After}, yield))
}

// Get implements admin.Records.
func (j journalRecords) Get(ctx context.Context, id connmodel.ID) (*connmodel.Flow, error) {
	f, err := j.r.Get(ctx, id)
	return f, found(err)
}

// Find implements admin.Records.
func (j journalRecords) Find(ctx context.Context, prefix string) ([]connmodel.ID, error) {
	ids, err := j.r.Find(ctx, prefix)
	return ids, found(err)
}

// found makes what the journal says of a record that is not there what the door says.
func found(err error) error {
	if errors.Is(err, journal.ErrNotFound) {
		return admin.ErrNotFound
	}
	return err
}

// Bounds of what is counted of shadow verdicts.
const (
	maxDifferences   = 1000
	maxShadowClients = 1000
	shadowExamples   = 3
)

// shadowReport implements admin.Sources.Shadow.
func (s *service) shadowReport(ctx context.Context, since time.Time) (*admin.ShadowReport, error) {
	r := s.reader()
	if r == nil {
		return nil, nil
	}
	c := shadowCount{report: &admin.ShadowReport{Since: since, Until: time.Now(), Differences: []admin.ShadowDifference{}}, by: map[shadowKey]*shadowLine{}}
	err := r.Each(ctx, journal.Query{Since: since, Light: true}, func(f *connmodel.Flow) error { c.add(f); return nil })
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		c.report.Partial = true
	case err != nil:
		return nil, err
	}
	return c.done(), nil
}

type shadowKey struct{ rule, from, to, by string }

type shadowLine struct {
	admin.ShadowDifference
	clients map[string]struct{}
}

// shadowCount counts what differs.
type shadowCount struct {
	report *admin.ShadowReport
	by     map[shadowKey]*shadowLine
}

func (c *shadowCount) add(f *connmodel.Flow) {
	d := f.Decision
	if d == nil || len(d.Shadow) == 0 && d.ShadowPolicy == nil {
		return
	}
	c.report.Flows++
	rule, from := d.Policy+"/"+d.Rule, outcomeWord(d.Outcome, d.Route)
	differs := false
	for i := range d.Shadow {
		if v := &d.Shadow[i]; v.Outcome != d.Outcome || v.Route != d.Route {
			differs = true
			c.line(shadowKey{rule, from, outcomeWord(v.Outcome, v.Route), d.Policy + "/" + v.Rule}, f)
		}
	}
	if p := d.ShadowPolicy; p != nil && (p.Undecided != "" || p.Differs(d)) {
		to := outcomeWord(p.Outcome, p.Route)
		if p.Undecided != "" {
			to = "undecided"
		} else {
			differs = true
		}
		c.line(shadowKey{rule, from, to, p.Policy + "/" + p.Rule}, f)
	}
	if differs {
		c.report.Differ++
	}
}

func outcomeWord(o connmodel.Outcome, route string) string {
	if o == connmodel.OutcomeDeny {
		return string(o)
	}
	return route
}

func (c *shadowCount) line(k shadowKey, f *connmodel.Flow) {
	l := c.by[k]
	if l == nil {
		if len(c.by) >= maxDifferences {
			c.report.Partial = true
			return
		}
		l = &shadowLine{ShadowDifference: admin.ShadowDifference{Rule: k.rule, From: k.from, To: k.to, By: k.by, Examples: []connmodel.ID{}}, clients: map[string]struct{}{}}
		c.by[k] = l
	}
	l.Flows++
	l.Bytes += f.Up + f.Down
	if f.Client != nil && len(l.clients) < maxShadowClients {
		l.clients[f.Client.From().Addr().String()] = struct{}{}
	}
	if len(l.Examples) < shadowExamples {
		l.Examples = append(l.Examples, f.ID)
	}
}

func (c *shadowCount) done() *admin.ShadowReport {
	for _, l := range c.by {
		l.Clients = len(l.clients)
		c.report.Differences = append(c.report.Differences, l.ShadowDifference)
	}
	slices.SortFunc(c.report.Differences, func(a, b admin.ShadowDifference) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.By, b.By), cmp.Compare(a.To, b.To))
	})
	return c.report
}
