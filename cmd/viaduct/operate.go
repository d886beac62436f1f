package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/router/admin"
)

// This file has the commands by which an operator changes what a running gateway does.

const drainLong = `Tells a running gateway to take no client any more, for good, and to let what is under way end, as SIGTERM
does. Unlike then it goes on answering status, so that whoever restarts gateways one by one sees when it is
empty; with --exit it ends when that is so. Waits until nothing is left, unless --no-wait says not to.

What is left after the timeout is cut: that of --timeout, else that of the policy (drain_timeout). --timeout
none never cuts. Asked for again, a drain takes up the new timeout. It cannot be taken back.

` + controlHelp + `

Exit codes: 0 nothing is left (or the drain has begun, with --no-wait), 1 something was cut, or the gateway
is not reachable, 2 usage.`

func newDrain() *cobra.Command {
	var k control
	var timeout string
	var exit, noWait, asJSON bool
	c := &cobra.Command{
		Use:     "drain",
		Short:   "Tell a running gateway to take no clients any more",
		Long:    drainLong,
		Example: "  viaduct drain --timeout 10m\n  viaduct drain --exit --no-wait",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q := url.Values{}
			if timeout != "" {
				q.Set("timeout", timeout)
			}
			if exit {
				q.Set("exit", "true")
			}
			d, err := k.open()
			if err != nil {
				return err
			}
			defer d.close()
			var res admin.DrainResult
			if _, err := d.ask(c.Context(), http.MethodPost, "/v1/drain?"+q.Encode(), nil, &res); err != nil {
				return err
			}
			if !noWait {
				if res, err = waitDrained(c.Context(), d, c.ErrOrStderr(), res); err != nil {
					return err
				}
			}
			if asJSON {
				err = writeJSON(c.OutOrStdout(), res)
			} else {
				_, err = fmt.Fprintln(c.OutOrStdout(), drainWords(&res))
			}
			if err == nil && res.Cut > 0 {
				err = quiet(exitProblems)
			}
			return err
		},
	}
	k.flags(c)
	f := c.Flags()
	f.StringVar(&timeout, "timeout", "", "after which what is left is cut: 90s, 10m, 1h, or none")
	f.BoolVar(&exit, "exit", false, "end the gateway when nothing is left")
	f.BoolVar(&noWait, "no-wait", false, "do not wait until nothing is left")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// waitDrained asks until nothing is left. A gateway that ends with its drain may be gone before it is asked again: it was empty then, or cut
// what was left.
func waitDrained(ctx context.Context, d *doorClient, notes io.Writer, res admin.DrainResult) (admin.DrainResult, error) {
	told := -1
	for res.State != admin.StateDrained {
		if res.Open != told {
			fmt.Fprintf(notes, "viaduct: %s left\n", count(res.Open, "connection"))
			told = res.Open
		}
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		var s admin.Status
		if _, err := d.ask(ctx, http.MethodGet, "/v1/status", nil, &s); err != nil {
			if res.Exit && ctx.Err() == nil {
				res.State, res.Open = admin.StateDrained, 0
				return res, nil
			}
			return res, err
		}
		if s.Drain == nil {
			return res, fmt.Errorf("the gateway at %s is another one now, which does not drain", d.address)
		}
		res = *s.Drain
	}
	return res, nil
}

func drainWords(r *admin.DrainResult) string {
	switch {
	case r.State != admin.StateDrained && r.Deadline == nil:
		return fmt.Sprintf("draining: %s left, which may take their time", count(r.Open, "connection"))
	case r.State != admin.StateDrained:
		return fmt.Sprintf("draining: %s left, until %s", count(r.Open, "connection"), r.Deadline.Local().Format("2006-01-02 15:04:05"))
	case r.Cut > 0:
		return fmt.Sprintf("drained: %s cut", count(r.Cut, "connection"))
	}
	return "drained: nothing is left"
}

const closeLong = `Ends an open connection at once. ID is that of records, logs and error pages; some characters of its
beginning or its end will do where they are its own. The record says close_reason admin. With a plain HTTP
request goes the connection that it came by; a UDP target of an association is deaf for ten seconds.

` + controlHelp + `

Exit codes: 0 it is ended, 1 there is none of that id, it has ended already, or the gateway is not
reachable, 2 usage.`

func newClose() *cobra.Command {
	var k control
	var asJSON bool
	c := &cobra.Command{
		Use:     "close ID",
		Short:   "End an open connection",
		Long:    closeLong,
		Example: "  viaduct close 5a6b7c8d",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var res struct {
				Closed connmodel.ID `json:"closed"`
			}
			if _, err := k.ask(c.Context(), http.MethodDelete, "/v1/connections/"+url.PathEscape(args[0]), &res); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), res)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is ended\n", res.Closed)
			return err
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

const upstreamDrainLong = `Takes the upstream NAME out of service: pools and PAC scripts pass it over, and what leads through it alone is
refused, with an error that says so. Connections through it go on. It stays so over reloads, until
"viaduct upstream undrain NAME" or the end of the process.

` + controlHelp + `

Exit codes: 0 done, 1 there is no such upstream or the gateway is not reachable, 2 usage.`

func newUpstreamDrain() *cobra.Command {
	return upstreamService("drain", "Take an upstream out of service for connections to come", upstreamDrainLong)
}

func newUpstreamUndrain() *cobra.Command {
	return upstreamService("undrain", "Take an upstream into service again",
		"Takes an upstream into service again that \"viaduct upstream drain NAME\" has taken out of it.\n\n"+controlHelp+"\n\nExit codes: 0 done, 1 there is no such upstream or the gateway is not reachable, 2 usage.")
}

func upstreamService(verb, short, long string) *cobra.Command {
	var k control
	var asJSON bool
	c := &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Long:    long,
		Example: "  viaduct upstream " + verb + " corp_a",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var res admin.UpstreamDrain
			if _, err := k.ask(c.Context(), http.MethodPost, "/v1/upstreams/"+url.PathEscape(args[0])+"/"+verb, &res); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), res)
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), upstreamDrainWords(&res))
			return err
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		s, err := k.status(c)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, u := range s.Upstreams {
			names = append(names, u.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

func upstreamDrainWords(r *admin.UpstreamDrain) string {
	state, was := "in service", "in service already"
	if r.Drained {
		state, was = "out of service", "out of service already"
	}
	text := r.Upstream + " is " + state
	if !r.Changed {
		text = r.Upstream + " was " + was
	}
	if r.Drained {
		text += fmt.Sprintf("; %s go on through it", count(int(r.Open), "connection"))
	}
	return text
}
