package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
)

const planLong = `Replays the connections of the journal through another policy, by the code that decides in the service, and says which would
move, from where to where and by which rule: first those that would be refused, then those that would be let through, then those that would go
another way, each with how many flows, bytes, clients and users, and examples that "viaduct connection ID" shows. Nothing is dialled, resolved
or fetched; a gateway may run and write the journal meanwhile.

It is compared with what was really done, as the records have it; or, with --against, with what another policy would do with the same connections.

Nothing is guessed. A rule may ask for what no record knows: the addresses of a name that nobody had looked up, header fields that were not kept
(see records.headers of the gateway block), what could be reached then (network.reachable), a list of which there is no copy here. Where the outcome depends on it,
the flow is counted under "cannot be told", with the rule and what it asks for. PAC scripts are not asked: a route that one chooses in is
compared by its name. Countries are those of the database of today; the time that rules see is that of the flow.

Proxies are compared by their names, and pools and chains by whether the way that was gone is still one of theirs.

` + sinceHelp + `

Exit codes: 0 nothing moves, 1 something moves or cannot be told, 2 usage, 255 it could not be found out: the policy has errors, or there is no journal.`

// planQuestion is what plan is asked.
type planQuestion struct {
	src       source
	against   []string
	journal   string
	period    period
	where     string
	listeners []string
	groups    int
	examples  int
	quiet     bool
	asJSON    bool
}

func newPlan() *cobra.Command {
	var q planQuestion
	c := &cobra.Command{
		Use:   "plan NEW...",
		Short: "Say which recorded connections another policy would send elsewhere",
		Long:  planLong,
		Example: "  viaduct plan next.hcl\n" +
			"  viaduct plan --since 24h --listener lan next.hcl && viaduct reload\n" +
			"  viaduct plan --where 'client.user == \"ann\"' next.hcl\n" +
			"  viaduct plan --against viaduct.hcl --json next.hcl",
		RunE: func(c *cobra.Command, args []string) error { return q.run(c, args) },
	}
	q.src.flags(c)
	f := c.Flags()
	f.StringArrayVar(&q.against, "against", nil, "file or directory of the policy to compare with, in place of what was done; may be repeated")
	f.StringVar(&q.journal, "journal", "", "directory of the journal; default: where the policy has it, or else the gateway that runs")
	f.StringVar(&q.period.since, "since", "7d", "replay what ended since then")
	f.StringVar(&q.period.until, "until", "", "replay what ended before that")
	f.StringVar(&q.where, "where", "", "replay connections for which this holds, an expression as for viaduct connections")
	f.StringArrayVar(&q.listeners, "listener", nil, "replay flows of this listener; may be repeated")
	f.IntVar(&q.groups, "groups", 20, "how many groups of each kind are listed; the rest is counted")
	f.IntVar(&q.examples, "examples", 3, "how many targets of each group are listed")
	f.BoolVar(&q.quiet, "no-progress", false, "draw no progress bar; on what is no terminal none is drawn anyway")
	f.BoolVar(&q.asJSON, "json", false, "print JSON")
	complete(c, "listener", listenerNames, &q.src)
	_ = c.MarkFlagFilename("against", "hcl", "json")
	_ = c.MarkFlagDirname("journal")
	return c
}

// planTrouble is the end of a command that could not find out what it was asked.
func planTrouble(format string, args ...any) error {
	return &exitError{exitTrouble, fmt.Errorf(format, args...)}
}

func (q *planQuestion) run(c *cobra.Command, args []string) error {
	switch {
	case len(args)+len(q.src.config) == 0:
		return usageError("plan what? Write the files or directories of the new policy")
	case q.groups < 0 || q.examples < 0:
		return usageError("--groups and --examples are numbers of what is listed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, next, closeNext, err := q.side(c, q.src.paths(args))
	if err != nil {
		return err
	}
	defer closeNext()
	var old *planSide
	if q.against != nil {
		var closeOld func()
		if _, old, closeOld, err = q.side(c, q.against); err != nil {
			return err
		}
		defer closeOld()
	}
	query, err := q.query(c, cfg)
	if err != nil {
		return err
	}
	dir, err := q.place(ctx, cfg, q.src.paths(args))
	if err != nil {
		return err
	}
	r, err := journal.OpenReader(dir)
	if err != nil {
		return planTrouble("%w; --journal says where another is", err)
	}
	var unread []string
	r.Skipped = func(path string, err error) { unread = append(unread, path+": "+err.Error()) }
	replay := newPlanReplay(next, old)
	bar := q.progress(c, replay, query)
	err = r.Each(ctx, query, replay.take)
	bar.end()
	switch {
	case ctx.Err() != nil:
		return planTrouble("interrupted")
	case err != nil:
		return planTrouble("%w", err)
	}
	report := replay.tally().report(q.groups, q.examples)
	report.Policy, report.Journal, report.Since, report.Unread, report.Notes = cfg.Files, dir, query.Since.UTC(), unread, next.notes
	if old != nil {
		report.Against = old.cfg.Files
		report.Notes = append(report.Notes, old.notes...)
	}
	if !query.Until.IsZero() {
		until := query.Until.UTC()
		report.Until = &until
	}
	if q.asJSON {
		err = writeJSON(c.OutOrStdout(), report)
	} else {
		err = report.print(c.OutOrStdout())
	}
	switch {
	case err != nil:
		return planTrouble("%w", err)
	case len(unread) > 0:
		return quiet(exitTrouble)
	case report.Changes:
		return quiet(exitProblems)
	}
	return nil
}

// side loads a policy and joins it as for the service. done lets go of it.
func (q *planQuestion) side(c *cobra.Command, paths []string) (cfg *policies.Config, s *planSide, done func(), err error) {
	src := source{config: paths, vars: q.src.vars}
	cfg, diags, err := src.load(nil)
	if err != nil {
		return nil, nil, nil, err
	}
	if cfg == nil {
		var e *exitError
		if err := policyErrors(c, diags, q.asJSON); errors.As(err, &e) {
			return nil, nil, nil, &exitError{exitTrouble, e.err}
		}
		return nil, nil, nil, planTrouble("%w", err)
	}
	if len(cfg.Listeners) == 0 {
		return nil, nil, nil, planTrouble("%s has no listener, so every connection would be refused", said(cfg.Files))
	}
	notes := keptLists(cfg)
	rc, table, _, _, err := wireUp(cfg, nil)
	if err != nil {
		return nil, nil, nil, planTrouble("%w", err)
	}
	s = newPlanSide(cfg, rc)
	s.notes = notes
	if cfg.Gateway.GeoIP != nil {
		s.notes = append(s.notes, "Countries are those of the database of today.")
	}
	return cfg, s, func() { table.Close() }, nil
}

// progressEvery is how often the bar moves.
const progressEvery = 200 * time.Millisecond

// planBar is a progress bar on a terminal. The nil one draws nothing.
type planBar struct {
	w      io.Writer
	replay *planReplay
	since  time.Time // of the window, which is replayed from its end
	until  time.Time
	began  time.Time
	stop   chan struct{}
	done   sync.WaitGroup
}

func (q *planQuestion) progress(c *cobra.Command, r *planReplay, query journal.Query) *planBar {
	f, ok := c.ErrOrStderr().(*os.File)
	if !ok || q.quiet || os.Getenv("TERM") == "dumb" {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	b := &planBar{w: f, replay: r, since: query.Since, until: query.Until, began: time.Now(), stop: make(chan struct{})}
	if b.until.IsZero() {
		b.until = b.began
	}
	b.done.Go(b.run)
	return b
}

func (b *planBar) run() {
	t := time.NewTicker(progressEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			fmt.Fprint(b.w, "\r\x1b[K"+b.line(time.Now()))
		case <-b.stop:
			fmt.Fprint(b.w, "\r\x1b[K")
			return
		}
	}
}

// line is what the bar says. How far the replay has come is told by the time that it has come to: how many records there are is not known.
func (b *planBar) line(now time.Time) string {
	const width = 30
	part := 0.0
	if at := b.replay.at.Load(); at != 0 && b.until.After(b.since) {
		part = min(max(b.until.Sub(time.Unix(0, at)).Seconds()/b.until.Sub(b.since).Seconds(), 0), 1)
	}
	n, filled := b.replay.done.Load(), int(part*width)
	bar := make([]byte, width)
	for i := range bar {
		if bar[i] = '.'; i < filled {
			bar[i] = '='
		}
	}
	rate := ""
	if s := now.Sub(b.began).Seconds(); s > 0.5 {
		rate = fmt.Sprintf("  %s/s", big(int64(float64(n)/s)))
	}
	return fmt.Sprintf("replaying [%s] %3.0f %%  %s%s", bar, part*100, bigCount(n, "flow"), rate)
}

func (b *planBar) end() {
	if b == nil {
		return
	}
	close(b.stop)
	b.done.Wait()
}

// query says which records are replayed.
func (q *planQuestion) query(c *cobra.Command, cfg *policies.Config) (query journal.Query, err error) {
	zone := cfg.Gateway.Timezone
	if zone == nil {
		zone = time.Local
	}
	query = journal.Query{Light: true, Parallel: true}
	now := time.Now()
	if query.Since, query.Until, err = q.period.times(now, zone); err != nil {
		return query, err
	}
	if q.where != "" {
		o := policies.FilterOptions{Now: now, Zone: zone}
		if db := cfg.Gateway.GeoIP; db != nil {
			o.Country = func(a netip.Addr) string { return db.Country(connmodel.Embedded(a)).Letters() }
		}
		f, diags := policies.CompileFilter(q.where, o)
		if diags.HasErrors() {
			w := c.ErrOrStderr()
			if err := diags.WriteText(w, colourful(w)); err != nil {
				return query, planTrouble("%w", err)
			}
			return query, usageError("--where is no filter of connections")
		}
		query.Filter = f
	}
	if len(q.listeners) > 0 {
		only := &connmodel.Filter{Op: connmodel.FilterTest, Field: connmodel.FilterFieldNamed("listener"), Cmp: connmodel.FilterIn}
		for _, name := range q.listeners {
			only.Value.List = append(only.Value.List, connmodel.FilterValue{Type: connmodel.FilterText, Text: name})
		}
		query.Filter = connmodel.FilterAll(query.Filter, only)
	}
	return query, nil
}
