package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
	"viaduct/policies"
)

const connectionLong = `Says everything about one connection: who asked for what, the decision with the rule and where it stands, every attempt hop by hop with
its errors, where the time went, the certificates that were seen with what was found of them, who ended it, and what the present
policy would decide for it today (by the code of "viaduct explain"; nothing is looked up or dialled for that, and what the record does
not know is said, not guessed).

ID is the whole id, or its beginning or end, as long as that is of one connection alone: the last column of "viaduct connections" will
do. It may be a connection that is open: then the running gateway is asked.

In "times" every bar has its place on one scale, which stands below it. A thin line is what took less than a cell.

` + recordsHelp + `
` + controlHelp + `

Exit codes: 0 shown, 1 there is no such connection or it could not be asked for, 2 usage.`

// connectionQuery is what the command line asks.
type connectionQuery struct {
	past
	asJSON bool
}

func newConnection() *cobra.Command {
	var q connectionQuery
	c := &cobra.Command{
		Use:     "connection ID",
		Short:   "Say everything about one connection",
		Long:    connectionLong,
		Example: "  viaduct connection 1f2e3d4c\n  viaduct connection 019abcde-0000-7000-8000-0123456789ab --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.notes, q.guess = c.ErrOrStderr(), true
			return q.run(c.Context(), c.OutOrStdout(), args[0])
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, given string) ([]string, cobra.ShellCompDirective) {
			q.notes, q.guess = io.Discard, true
			return q.completeIDs(c.Context(), args, given), cobra.ShellCompDirectiveNoFileComp
		},
	}
	q.past.flags(c)
	c.Flags().BoolVar(&q.asJSON, "json", false, "print JSON: the record, and the answer of explain")
	return c
}

func (q *connectionQuery) run(ctx context.Context, w io.Writer, id string) error {
	id = strings.ToLower(id)
	if id == "" || len(id) > 36 || strings.Trim(id, "0123456789abcdef-") != "" {
		return usageError("%q is no part of an id: these are of hexadecimal digits, as in the last column of \"viaduct connections\"", id)
	}
	if len(id) < 4 {
		return usageError("%q is too short: write four characters of the id at least", id)
	}
	f, err := q.find(ctx, id)
	if err != nil {
		return err
	}
	today := q.askToday(ctx, f)
	if q.asJSON {
		return writeJSON(w, struct {
			Connection *connmodel.Flow `json:"connection"`
			Open       bool            `json:"open"`
			Today      *todayAnswer    `json:"today"`
		}{f, f.End.IsZero(), today})
	}
	return printFlow(w, f, q.zone(), time.Now(), today)
}

// find looks into the journal, and asks the gateway for what is not there: it may be open.
func (q *connectionQuery) find(ctx context.Context, id string) (*connmodel.Flow, error) {
	f, trouble := q.inJournal(ctx, id)
	if f != nil {
		return f, nil
	}
	var many *severalError
	if errors.As(trouble, &many) {
		return nil, trouble
	}
	f, err := q.open1(ctx, id)
	var no *problemError
	switch {
	case f != nil:
		return f, nil
	case errors.As(err, &no) && no.status == http.StatusNotFound && trouble == nil:
		return nil, fmt.Errorf("there is no connection %s, neither in the journal nor among those that are open", id)
	case errors.As(err, &no) && no.status != http.StatusNotFound:
		return nil, err
	case trouble != nil:
		return nil, fmt.Errorf("%w; %w", trouble, err)
	}
	return nil, fmt.Errorf("the journal has no connection %s, and whether one is open cannot be asked: %w", id, err)
}

// severalError says that a part of an id is of several connections.
type severalError struct {
	id   string
	list []connmodel.ID
}

func (e *severalError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is of several connections; write more of the one that is meant:", e.id)
	for _, id := range e.list {
		b.WriteString("\n  " + id.String())
	}
	if len(e.list) >= journal.MaxFound {
		b.WriteString("\n  and perhaps more")
	}
	return b.String()
}

// inJournal looks a connection up by a part of its id. Neither a flow nor an error: the journal does not have it.
func (q *connectionQuery) inJournal(ctx context.Context, id string) (*connmodel.Flow, error) {
	r, _, err := q.past.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close(ctx)
	list, err := r.Find(ctx, id)
	switch {
	case err != nil || len(list) == 0:
		return nil, err
	case len(list) > 1:
		return nil, &severalError{id, list}
	}
	f, err := r.Get(ctx, list[0])
	if errors.Is(err, journal.ErrNotFound) { // it went meanwhile
		return nil, nil
	}
	return f, err
}

// open1 asks the gateway.
func (q *connectionQuery) open1(ctx context.Context, id string) (*connmodel.Flow, error) {
	d, err := q.control.open()
	if err != nil {
		return nil, err
	}
	defer d.close()
	var answer struct {
		Connection *connmodel.Flow `json:"connection"`
	}
	if _, err := d.ask(ctx, http.MethodGet, "/v1/connections/"+url.PathEscape(id), nil, &answer); err != nil {
		return nil, err
	}
	if answer.Connection == nil {
		return nil, fmt.Errorf("the gateway at %s answers without a connection", d.address)
	}
	return answer.Connection, nil
}

// askToday asks the present policy: the one that the command line names, else the default one, if the flow was decided by that. nil = neither.
func (q *connectionQuery) askToday(ctx context.Context, f *connmodel.Flow) *todayAnswer {
	cfg, err := q.policy()
	if err == nil && cfg == nil && len(q.paths(nil)) == 0 && f.Decision != nil && f.Decision.File == policies.DefaultFile {
		cfg, _, err = q.load(nil)
	}
	if err != nil || cfg == nil {
		return nil
	}
	t, err := todayFor(ctx, cfg, f)
	if err != nil {
		return &todayAnswer{From: said(cfg.Files), Problem: "it cannot be said: " + err.Error()}
	}
	return t
}

// completeIDs offers the ends of the ids of recent connections.
func (q *connectionQuery) completeIDs(ctx context.Context, args []string, given string) (list []string) {
	if len(args) > 0 {
		return nil
	}
	r, _, err := q.past.open(ctx)
	if err != nil {
		return nil
	}
	defer r.Close(ctx)
	r.Each(ctx, journal.Query{Limit: 50, Light: true}, func(f *connmodel.Flow) error { //nolint:errcheck // what is there is offered
		if id := f.ID.Short(); strings.HasPrefix(id, given) {
			list = append(list, id+"\t"+printable(whoShort(f)+" "+targetShort(f)))
		}
		return nil
	})
	return list
}
