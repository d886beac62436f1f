package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
)

const connectionsLong = `Shows connections, one a line: when, who, what for, by which way, how it went or which hop failed, the bytes up and down, how
long it took, and the end of its id, which "viaduct connection" takes. They are in the order in which they ended, the newest last, as in
a log: what was asked for stands next to the prompt, and --follow goes on below it.

--where wants an expression in the language of conditions of policies, over the same names (target.host, client.address, user,
tls.sni, ...) and over what only a record knows: error.kind, error.hop_name, route_used, bytes, duration, ... For instance
'error && error.hop_name == "jump"', 'duration > "5s" || bytes > 1e9', 'cidr(client.address, "10.0.0.0/8") && !denied'. All names:

%s

--since and --until are about when connections ended; with --open, about when they began. ` + sinceHelp + `
Without --since it is the last hour; a table has at most 100 lines, unless --limit says otherwise (0 = all of them).

--csv is for spreadsheets: what would be taken for a formula has an apostrophe before it. --har is an HTTP archive (1.2); a tunnel is a
CONNECT in it. --json is a record a line.

` + recordsHelp + `
` + controlHelp + `

Exit codes: 0 done, also when nothing was found; 1 the journal or the gateway could not be asked; 2 usage.`

// connectionsQuery is what the command line asks.
type connectionsQuery struct {
	past
	period
	where                string
	open, follow         bool
	limit                int
	asJSON, asCSV, asHAR bool

	out, errs io.Writer
	filter    *connmodel.Filter
	from, to  time.Time
	limited   bool // --limit was given
}

func newConnections() *cobra.Command {
	var q connectionsQuery
	c := &cobra.Command{
		Use:   "connections",
		Short: "Show connections of the past, or those that are open",
		Long:  fmt.Sprintf(connectionsLong, fieldList()),
		Example: "  viaduct connections\n" +
			"  viaduct connections --since 1d --where 'error && !denied'\n" +
			"  viaduct connections --open --where 'duration > \"1h\"'\n" +
			"  viaduct connections --follow --where 'user == \"anna\"'\n" +
			"  viaduct connections --since 7d --where 'shadow.differs' --csv > differences.csv",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q.out, q.errs, q.notes, q.guess = c.OutOrStdout(), c.ErrOrStderr(), c.ErrOrStderr(), true
			q.limited = c.Flags().Changed("limit")
			return q.run(c)
		},
	}
	q.past.flags(c)
	f := c.Flags()
	f.StringVar(&q.since, "since", "", "those that ended since then (default 1h)")
	f.StringVar(&q.until, "until", "", "those that ended until then")
	f.StringVarP(&q.where, "where", "w", "", "those for which this expression holds")
	f.BoolVar(&q.open, "open", false, "those that are open now; the running gateway is asked")
	f.BoolVarP(&q.follow, "follow", "f", false, "show those that end from now on, until ctrl-C")
	f.IntVarP(&q.limit, "limit", "n", 0, "at most so many, the newest; 0 = all")
	f.BoolVar(&q.asJSON, "json", false, "print records, one a line")
	f.BoolVar(&q.asCSV, "csv", false, "print a table for spreadsheets")
	f.BoolVar(&q.asHAR, "har", false, "print an HTTP archive")
	if err := c.RegisterFlagCompletionFunc("where", completeFields); err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
	return c
}

// fieldList is the table of fields for the help.
func fieldList() string {
	var b strings.Builder
	line := " "
	for _, f := range connmodel.FilterFields() {
		name := f.Name
		switch f.Name {
		case "request.header":
			name = `request.header["name"]`
		case "metadata":
			name = "metadata.NAME"
		}
		if len(line)+1+len(name) > 110 {
			b.WriteString(line + "\n")
			line = " "
		}
		line += " " + name
	}
	b.WriteString(line)
	return b.String()
}

const tableLimit = 100

func (q *connectionsQuery) run(c *cobra.Command) error {
	if err := q.check(); err != nil {
		return err
	}
	now := time.Now()
	zone := q.zone()
	var err error
	if q.from, q.to, err = q.times(now, zone); err != nil {
		return err
	}
	if q.from.IsZero() && !q.open {
		q.from = now.Add(-time.Hour)
		if !q.to.IsZero() && q.to.Before(now) {
			q.from = q.to.Add(-time.Hour)
		}
	}
	if err := q.compile(now, zone); err != nil {
		return err
	}
	table := !q.asJSON && !q.asCSV && !q.asHAR
	if table && !q.limited {
		q.limit = tableLimit
		if q.follow {
			q.limit = 10
		}
	}
	ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	w, err := q.writer(zone, now)
	if err != nil {
		return err
	}
	switch {
	case q.open:
		err = q.showOpen(ctx, w)
	case q.follow:
		err = q.showNew(ctx, w)
	default:
		err = q.showPast(ctx, w)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil { // ctrl-C is how it ends
		err = nil
		if !q.follow {
			err = quiet(exitProblems)
		}
	}
	if e := w.end(); err == nil {
		err = e
	}
	return err
}

// check finds what does not go together.
func (q *connectionsQuery) check() error {
	forms := 0
	for _, x := range []bool{q.asJSON, q.asCSV, q.asHAR} {
		if x {
			forms++
		}
	}
	switch {
	case q.limit < 0:
		return usageError("--limit %d: write how many, or 0 for all", q.limit)
	case forms > 1:
		return usageError("--json, --csv and --har are forms of the same: write one of them")
	case q.follow && q.open:
		return usageError("--follow shows what ends, and --open what has not ended: write one of them")
	case q.follow && q.until != "":
		return usageError("--follow goes on until ctrl-C: leave --until away")
	case q.follow && q.asHAR:
		return usageError("--har is one document with an end: with --follow write --json")
	}
	return nil
}

// compile reads --where. What is wrong with it is shown with the place.
func (q *connectionsQuery) compile(now time.Time, zone *time.Location) error {
	f, diags := policies.CompileFilter(q.where, policies.FilterOptions{Now: now, Zone: zone, Country: q.country()})
	if len(diags.List) > 0 {
		if err := diags.WriteText(q.errs, colourful(q.errs)); err != nil {
			return err
		}
	}
	if diags.HasErrors() {
		return quiet(exitUsage)
	}
	q.filter = f
	return nil
}

func (q *connectionsQuery) writer(zone *time.Location, now time.Time) (flowWriter, error) {
	switch {
	case q.asJSON:
		return newNDJSON(q.out), nil
	case q.asCSV:
		return newCSV(q.out)
	case q.asHAR:
		return newHAR(q.out)
	}
	y, m, d := now.In(zone).Date()
	days := q.from.Before(time.Date(y, m, d, 0, 0, 0, 0, zone))
	return newTable(q.out, zone, days), nil
}

// showPast shows what the journal has. The newest come last: those of a limit are found from the end, and then written in order.
func (q *connectionsQuery) showPast(ctx context.Context, w flowWriter) error {
	r, _, err := q.past.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close(ctx)
	jq := journal.Query{Since: q.from, Until: q.to, Filter: q.filter, Oldest: true, Light: q.light()}
	n, more, err := q.newest(ctx, r, jq, w)
	switch {
	case err != nil:
		return err
	case n == 0:
		fmt.Fprintf(q.errs, "viaduct: no connection ended %s%s\n", q.periodWords(), q.whereWords())
	case more && !q.limited:
		fmt.Fprintf(q.errs, "viaduct: these are the newest %d of those that ended %s; --limit 0 shows all, --limit N so many\n", n, q.periodWords())
	}
	return nil
}

// light says that no more of a record is needed than lists and filters look at: then the whole records need not be read.
func (q *connectionsQuery) light() bool { return !q.asJSON && !q.asHAR }

// heldFlows is how many records are held at most to bring them into the order of a log.
const heldFlows = 1000

// newest writes the newest records of a question, as many as the limit wants, the oldest of them first. more says that there were others.
func (q *connectionsQuery) newest(ctx context.Context, r *journal.Reader, jq journal.Query, w flowWriter) (n int, more bool, err error) {
	put := func(f *connmodel.Flow) error {
		n++
		return w.flow(f)
	}
	if q.limit == 0 {
		err = r.Each(ctx, jq, put)
		return n, false, err
	}
	back := jq
	back.Oldest, back.Limit = false, q.limit+1
	if q.limit <= heldFlows {
		var held []*connmodel.Flow
		err = r.Each(ctx, back, func(f *connmodel.Flow) error {
			held = append(held, f)
			return nil
		})
		if more = len(held) > q.limit; more {
			held = held[:q.limit]
		}
		for i := len(held) - 1; i >= 0 && err == nil; i-- {
			err = put(held[i])
		}
		return n, more, err
	}
	// Too many to be held: the first is found, and those after it are read again.
	var first connmodel.ID
	count := 0
	back.Light = true
	err = r.Each(ctx, back, func(f *connmodel.Flow) error {
		if count++; count > q.limit {
			more = true
			return nil
		}
		first = f.ID
		return nil
	})
	if err != nil || count == 0 {
		return 0, false, err
	}
	f, err := r.Get(ctx, first)
	if err != nil {
		return 0, false, err
	}
	if err := put(f); err != nil {
		return n, more, err
	}
	jq.After, jq.Limit = first, q.limit-1
	err = r.Each(ctx, jq, put)
	return n, more, err
}

func (q *connectionsQuery) periodWords() string {
	zone := q.zone()
	s := "since " + q.from.In(zone).Format("2006-01-02 15:04:05")
	if !q.to.IsZero() {
		s += " until " + q.to.In(zone).Format("2006-01-02 15:04:05")
	}
	return s
}

func (q *connectionsQuery) whereWords() string {
	if q.filter == nil {
		return ""
	}
	return " for which that holds"
}

// pollEvery is how often a journal is looked at for new records; the gateway writes them down within a second.
const pollEvery = 500 * time.Millisecond

// showNew shows the last few, and those that end from now on.
func (q *connectionsQuery) showNew(ctx context.Context, w flowWriter) error {
	r, _, err := q.past.open(ctx)
	var none *errNoJournal
	if errors.As(err, &none) && q.dir == "" { // the gateway tells of them, too
		if e := q.listen(ctx, w); e == nil || !errors.As(e, new(*noDoor)) {
			return e
		}
	}
	if err != nil {
		return err
	}
	defer r.Close(ctx)
	jq := journal.Query{Since: q.from, Oldest: true}
	if q.limit > 0 {
		if _, _, err := q.newest(ctx, r, journal.Query{Since: q.from, Filter: q.filter, Oldest: true, Light: q.light()}, w); err != nil {
			return err
		}
	}
	// From here on every record is looked at once, whether it is meant or not: the search goes on from the last.
	if jq.After, err = lastEnded(ctx, r); err != nil {
		return err
	}
	if jq.After.IsZero() {
		jq.Since = time.Now()
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := w.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		err := r.Each(ctx, jq, func(f *connmodel.Flow) error {
			jq.After = f.ID
			if q.filter.Match(f) {
				return w.flow(f)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// lastEnded is the record that ended last; zero = there is none.
func lastEnded(ctx context.Context, r *journal.Reader) (id connmodel.ID, err error) {
	err = r.Each(ctx, journal.Query{Limit: 1, Light: true}, func(f *connmodel.Flow) error {
		id = f.ID
		return nil
	})
	return id, err
}

// completeFields offers the names that a filter can ask, for the word at its end.
func completeFields(_ *cobra.Command, _ []string, given string) ([]string, cobra.ShellCompDirective) {
	from := len(given)
	for from > 0 && (given[from-1] == '.' || given[from-1] == '_' || given[from-1] >= 'a' && given[from-1] <= 'z') {
		from--
	}
	var list []string
	for _, f := range connmodel.FilterFields() {
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			if strings.HasPrefix(name, given[from:]) {
				list = append(list, given[:from]+name+"\t"+f.Meaning)
			}
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
