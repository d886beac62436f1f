package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const traceLong = `Explains what the gateway would do with a connection (as "viaduct explain" does), and then makes it: through
the same proxies, with the same credentials, TLS, name servers, source address and retries. Each part of each
hop is printed as it happens, with its time: the name that was looked up, the TCP connection, TLS, the login,
what the proxy answered. At last comes the far end, and what it means and what to try where it was not reached.

  https:// and port 443   a TLS handshake with the server, with the name and the certificates it shows
  http://                 one request (HEAD, or --method), its status and the time to its first byte
  anything else           the connection alone; --tls makes a handshake in it
  https:// with --method  the request as well; where the rule opens TLS it is made in any case

It needs no running gateway and no client, and asks none of both: --client, --user and --listener only say for
whom rules decide. A connection that the policy denies, or a destination that it refuses, is not made.

--all tries every member of the pools on the way, every proxy that a script names, and then the other upstreams, pools and
chains of the policy, one after the other, and prints a table. --via goes another way than the one decided.

No credential is shown that the gateway would not show: one that was rejected is closed, one that is not proven is
shown once, and that is written down first, in the directory of state of the gateway. Where that belongs to another user
nothing is shown; run the command as that user. --no-credentials shows none in any case.

`

const traceCodes = `

Exit codes: 0 the server was reached (with --all: by the way that the policy decides, or a member of it), 1 it was not, or the
policy denies it, 2 usage.`

// traceQuery is what the command line of trace says.
type traceQuery struct {
	control
	question
	via      string
	all, tls bool
	mute     bool
	asks     bool // --method was given
	timeout  time.Duration
	count    int
}

// Bounds of trace.
const (
	maxWays     = 64      // that --all tries
	maxCount    = 1000    // of --count
	maxFetched  = 1 << 20 // octets of the body of an answer that are read
	betweenRuns = time.Second
)

func newTrace() *cobra.Command {
	q := traceQuery{question: question{client: "127.0.0.1"}}
	c := &cobra.Command{
		Use:   "trace URL|HOST:PORT",
		Short: "Make a connection as the gateway would, and show each hop of it",
		Long:  traceLong + controlHelp + traceCodes,
		Example: "  viaduct trace https://www.example.com/\n" +
			"  viaduct trace -c viaduct.hcl --client 10.20.1.7 --user ann api.partner.example:443\n" +
			"  viaduct trace -c viaduct.hcl --all https://www.example.com/\n" +
			"  viaduct trace -c viaduct.hcl --via pool.corp --count 10 http://intranet/\n" +
			"  viaduct trace -c viaduct.hcl --json db.corp.example:5432",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.told = c.Flags().Changed("reachable")
			q.hello = c.Flags().Changed("sni") || c.Flags().Changed("alpn") || c.Flags().Changed("ja4")
			q.asks = c.Flags().Changed("method")
			return q.run(c, args)
		},
	}
	q.control.flags(c)
	q.question.flags(c, "HEAD", []string{"policy"})
	f := c.Flags()
	f.StringVar(&q.via, "via", "", "go this way in place of the one decided: direct, upstream.NAME, pool.NAME, chain.NAME")
	f.BoolVar(&q.all, "all", false, "try every member and every other route, and print a table in the end")
	f.BoolVar(&q.tls, "tls", false, "make a TLS handshake with the server, whatever its port")
	f.BoolVar(&q.mute, "no-credentials", false, "show no credential, neither to a proxy nor to a KDC")
	f.DurationVar(&q.timeout, "timeout", 30*time.Second, "how long each way may take, with everything")
	f.IntVar(&q.count, "count", 1, "repeat so many times, a second apart, and print the times")
	complete(c, "via", routeNames, &q.control.source)
	return c
}

// traceResult is the JSON form.
type traceResult struct {
	Version int          `json:"version"` // of this form: 1
	Reached bool         `json:"reached"` // by the way that was decided, or a member of it
	Says    string       `json:"says"`
	Notes   []string     `json:"notes,omitempty"`
	Explain *explanation `json:"explain"`
	Traces  []*traced    `json:"traces"`             // none where the connection is denied or refused
	Left    int          `json:"left_out,omitempty"` // ways that --all did not try
}

func (q *traceQuery) run(c *cobra.Command, args []string) error {
	switch {
	case q.timeout <= 0:
		return usageError("--timeout is a length of time, such as 10s")
	case q.count < 1 || q.count > maxCount:
		return usageError("--count: write a number from 1 to %d", maxCount)
	case q.all && (q.via != "" || q.count > 1):
		return usageError("--all tries each way once: leave out --via and --count")
	case q.method != "HEAD" && q.method != "GET" && q.method != "OPTIONS":
		return usageError("--method %s: a trace changes nothing, so HEAD, GET and OPTIONS are sent alone", quotedArg(q.method))
	}
	target := ""
	if len(args) > 0 {
		target = args[0]
	}
	p, err := q.control.practise(c, q.mute, q.asJSON)
	if err != nil {
		return lookFailed(err)
	}
	defer p.resolvers.leave(nil)
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p.ask(ctx, q.control, q.mute)
	j, err := q.prepare(ctx, p, target)
	if err != nil {
		return err
	}
	defer j.close()
	res := j.travel(ctx, c)
	if q.asJSON {
		if err := writeJSON(c.OutOrStdout(), res); err != nil {
			return err
		}
	}
	if !res.Reached {
		return quiet(exitProblems)
	}
	return nil
}

// lookFailed is an error of the look at a proxy, which has a code of its own for what trace calls a problem.
func lookFailed(err error) error {
	var e *exitError
	if errors.As(err, &e) && e.code == exitTrouble {
		return &exitError{exitProblems, e.err}
	}
	return err
}
