package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"viaduct/policies/pac"
	"viaduct/upstream/resolve"
)

const pacLong = `Looks at PAC scripts (proxy auto-configuration): what they answer, run by the engine and within the bounds
that the gateway runs them.`

func newPAC() *cobra.Command {
	c := &cobra.Command{
		Use:     "pac",
		Short:   "Look at PAC scripts",
		Long:    pacLong,
		Example: "  viaduct pac eval proxy.pac https://www.example.com/\n  viaduct pac eval http://wpad.corp.example/wpad.dat http://intranet/ https://www.example.com/\n  viaduct pac convert proxy.pac > viaduct.hcl",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError("what of the script? eval or convert")
		},
	}
	c.AddCommand(newPACEval(), newPACConvert())
	return c
}

const pacEvalLong = `Runs a PAC script for each URL and shows the entries that it gives, in order, with the time it took, what
it said by alert, and the parts of its answer that mean nothing. The script sees what browsers show it: no
user and no fragment, and of https URLs no path.

The script is a file, - for standard input, or an http or https URL, which is got without a proxy.
Names that it asks for are looked up by the resolver of this machine; --no-dns makes all of them unknown.
With --urls the URLs of a file are asked after those given, one on each line, blank lines and lines that
begin with # left out.

Exit codes: 0 every URL has entries, 1 the script cannot be read or gave none for one of them, 2 usage.`

// pacEvaluation is the answer for one URL, and its JSON form.
type pacEvaluation struct {
	URL      string   `json:"url"`                // as the script was given it
	Host     string   `json:"host"`               // as the script was given it
	Answer   string   `json:"answer,omitempty"`   // as the script said it
	Entries  []string `json:"entries,omitempty"`  // what it means, in order
	Problems []string `json:"problems,omitempty"` // parts of the answer that are no entries
	Error    string   `json:"error,omitempty"`
	Reason   string   `json:"reason,omitempty"` // of the error, in a word
	Alerts   []string `json:"alerts,omitempty"`
	Lookups  int      `json:"lookups"`           // names looked up
	Unasked  int      `json:"unasked,omitempty"` // names not looked up, because there were too many or they took too long
	Millis   float64  `json:"ms"`                // of the script, look-ups aside
	DNS      float64  `json:"dns_ms"`
}

func newPACEval() *cobra.Command {
	var asJSON, noDNS bool
	var list string
	c := &cobra.Command{
		Use:     "eval FILE|URL URL...",
		Short:   "Show what a PAC script answers",
		Long:    pacEvalLong,
		Example: "  viaduct pac eval proxy.pac https://www.example.com/\n  viaduct pac eval --no-dns --json http://wpad.corp.example/wpad.dat http://intranet/ http://10.1.2.3/x",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && list == "" {
				return usageError("no URL to ask the script for: name some behind it, or a file of them with --urls")
			}
			queries := make([]pac.Query, len(args)-1)
			for i, u := range args[1:] {
				q, err := pac.QueryForURL(u)
				if err != nil {
					return usageError("%q: %w", u, err)
				}
				queries[i] = q
			}
			if list != "" {
				more, err := pacQueries(list)
				if err != nil {
					return err
				}
				if queries = append(queries, more...); len(queries) == 0 {
					return fmt.Errorf("%s: there is no URL in it", list)
				}
			}
			text, err := pacText(c.Context(), c.InOrStdin(), args[0])
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			o := pac.Options{CacheFor: -1, Engines: 1}
			if !noDNS {
				o.Resolver = resolve.System()
			}
			s, err := pac.New(c.Context(), text, o)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			defer s.Close()
			failed := false
			out := make([]pacEvaluation, len(queries))
			for i, q := range queries {
				out[i] = evaluatePAC(c.Context(), s, q)
				failed = failed || out[i].Error != ""
			}
			if asJSON {
				err = writeJSON(c.OutOrStdout(), out)
			} else {
				err = printPAC(c.OutOrStdout(), out)
			}
			if err == nil && failed {
				err = quiet(exitProblems)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&noDNS, "no-dns", false, "look no names up: all of them are unknown to the script")
	c.Flags().StringVar(&list, "urls", "", "a `file` with more URLs, one on each line")
	return c
}

// maxPACQueries bounds a file of URLs.
const maxPACQueries = 1_000_000

// pacQueries reads a file of URLs.
func pacQueries(path string) ([]pac.Query, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []pac.Query
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		u := strings.TrimSpace(in.Text())
		if u == "" || strings.HasPrefix(u, "#") {
			continue
		}
		q, err := pac.QueryForURL(u)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %q: %w", path, n, u, err)
		}
		if all = append(all, q); len(all) > maxPACQueries {
			return nil, fmt.Errorf("%s: more than %d URLs", path, maxPACQueries)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// pacText gets a script: from a file, standard input, or a web server.
func pacText(ctx context.Context, stdin io.Reader, from string) (string, error) {
	switch {
	case from == "-":
		body, err := io.ReadAll(io.LimitReader(stdin, pac.MaxSource+1))
		if err != nil {
			return "", err
		}
		return pac.Decode(body, "")
	case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
		got, err := pac.NewFetcher(pac.FetchOptions{Retries: 1}).Fetch(ctx, from, nil)
		if err != nil {
			return "", err
		}
		return got.Text, nil
	}
	text, err := pac.ReadFile(from)
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return text, err
}

func evaluatePAC(ctx context.Context, s *pac.Script, q pac.Query) pacEvaluation {
	a, err := s.Find(ctx, q)
	return evaluation(q, a, err)
}

func evaluation(q pac.Query, a pac.Answer, err error) pacEvaluation {
	out := pacEvaluation{URL: q.URL, Host: q.Host, Answer: a.Text, Problems: a.Problems, Alerts: a.Alerts, Lookups: a.Lookups, Unasked: a.Unasked,
		Millis: millis(a.Run), DNS: millis(a.DNS)}
	for _, e := range a.Entries {
		out.Entries = append(out.Entries, e.String())
	}
	if err != nil {
		out.Error = err.Error()
		var se *pac.ScriptError
		if errors.As(err, &se) {
			out.Reason = string(se.Reason)
		}
	}
	return out
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func printPAC(w io.Writer, all []pacEvaluation) error {
	p := palette(colourful(w))
	for _, e := range all {
		verdict := p.good(strings.Join(e.Entries, "; "))
		if e.Error != "" {
			verdict = p.bad(printable(e.Error))
		}
		took := fmt.Sprintf("(%.2f ms", e.Millis)
		if e.Lookups > 0 {
			took += fmt.Sprintf(", %s looked up in %.0f ms", count(e.Lookups, "name"), e.DNS)
		}
		fmt.Fprintf(w, "%s  %s  %s\n", printable(e.URL), verdict, p.faint(took+")"))
		for _, x := range e.Problems {
			fmt.Fprintf(w, "      ignored: %s\n", printable(x))
		}
		for _, a := range e.Alerts {
			fmt.Fprintf(w, "      alert: %s\n", printable(a))
		}
		if e.Unasked > 0 {
			fmt.Fprintf(w, "      %s not looked up: there were too many, or they took too long\n", count(e.Unasked, "name"))
		}
	}
	return nil
}
