package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/policies/lists"
	fetch "viaduct/policies/source"
	"viaduct/router/admin"
)

const listLong = `The lists of hosts and networks of a policy: how those of a running gateway are, a look at their web
servers now, and what a file or URL would be as a list.

Exit codes: 0 done, 1 it failed or the gateway is not reachable, 2 usage; of check and fetch see there.`

func newList() *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "Show lists of hosts and networks, get them anew, and check them",
		Long:    listLong,
		Example: "  viaduct list status\n  viaduct list refresh ads\n  viaduct list check https://lists.example/hosts.txt ads.example",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError("what of the lists? status, refresh, check or fetch")
		},
	}
	c.AddCommand(newListStatus(), newListRefresh(), newListCheck(), newListFetch())
	return c
}

func newListStatus() *cobra.Command {
	var k control
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show how the lists of a running gateway are",
		Long:    "Shows the lists of a running gateway: how many entries each has, from when it is, and what was wrong with\nthe last look at its web server.\n\n" + controlHelp,
		Example: "  viaduct list status\n  viaduct list status --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := k.status(c)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), append([]admin.ListStatus{}, s.Lists...))
			}
			printLists(c.OutOrStdout(), s)
			return nil
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printLists(w io.Writer, s *admin.Status) {
	if len(s.Lists) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "LIST\tFROM\tSTATE\tENTRIES\tLEFT OUT\tAGE\tLAST ERROR\n")
	for _, l := range s.Lists {
		age, state := "-", l.State
		if l.Since != nil {
			age = time.Duration(l.Age * float64(time.Second)).Round(time.Second).String()
		}
		if l.Looking {
			state += fmt.Sprintf(" (getting it, %s)", bytesText(l.Read))
		}
		from := l.From
		if l.Via != "" {
			from += " via " + l.Via
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", l.Name, from, state, l.Entries, l.Unsupported+l.Wrong, age, printable(l.Error))
	}
	t.Flush() // the next one of w's writers reports the error
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

func newListRefresh() *cobra.Command {
	var k control
	var asJSON, force bool
	c := &cobra.Command{
		Use:   "refresh NAME",
		Short: "Look at the web server of a list now",
		Long: "Lets a running gateway look at the web server of the list NAME now, and says what came of it. What cannot be\n" +
			"used leaves the copy in use where it is. With --force the list is got whole, also when the server says that it has not\n" +
			"changed, and taken however much smaller than the copy in use it is.\n\n" + controlHelp,
		Example: "  viaduct list refresh ads\n  viaduct list refresh --force ads",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var res admin.ListResult
			path := "/v1/lists/" + url.PathEscape(args[0]) + "/refresh"
			if force {
				path += "?force=true"
			}
			if _, err := k.ask(c.Context(), http.MethodPost, path, &res); err != nil {
				return err
			}
			switch {
			case asJSON:
				if err := writeJSON(c.OutOrStdout(), &res); err != nil || res.Error == "" {
					return err
				}
				return quiet(exitProblems)
			case res.Error != "":
				return fmt.Errorf("list %s: %s", args[0], res.Error)
			}
			what := "has not changed"
			if res.Changed {
				what = "is new"
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "list %s %s: %d entries\n", args[0], what, res.Entries)
			return err
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVar(&force, "force", false, "get it whole, and take it however small it is")
	return c
}

// listCheck is what a list was found to be, and its JSON form.
type listCheck struct {
	From        string      `json:"from"`
	Type        string      `json:"type"`
	Format      string      `json:"format"`
	Entries     int         `json:"entries"`
	Exceptions  int         `json:"exceptions"`
	Unsupported int         `json:"unsupported"`
	Wrong       int         `json:"wrong"`
	FirstWrong  string      `json:"first_wrong,omitempty"`
	Size        int64       `json:"size_bytes"`
	Took        float64     `json:"took_ms"`
	Asked       []listAsked `json:"asked,omitempty"`
}

type listAsked struct {
	Host  string `json:"host"`
	In    bool   `json:"in"`
	Entry string `json:"entry,omitempty"` // that takes it, or takes it back
}

func newListCheck() *cobra.Command {
	var o lists.Options
	var format, kind string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check FILE|URL [HOST|ADDRESS...]",
		Short: "Read a file or URL as a list, and ask it",
		Long: "Reads a file, or gets a URL without a proxy, as a list block would, says how many entries it has and what was left\n" +
			"out, and whether the hosts or addresses named are in it, by which entry.\n\n" +
			"Exit codes: 0 it is a list, and what was named is in it, 1 it is not, or something named is not in it, 2 usage.",
		Example: "  viaduct list check ads.txt\n  viaduct list check --format adblock https://lists.example/filter.txt ads.example www.example.com\n  viaduct list check --type networks drop.txt 192.0.2.7",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Format = lists.Format(format)
			switch {
			case kind != "hosts" && kind != "networks":
				return usageError("--type %s: a list is of hosts or networks", kind)
			case o.Format != lists.Lines && o.Format != lists.HostsFile && o.Format != lists.Adblock && o.Format != lists.Auto:
				return usageError("--format %s: the formats are lines, hosts_file, adblock and auto", format)
			}
			o.Networks = kind == "networks"
			out := listCheck{From: args[0], Type: kind, Format: format}
			begun := time.Now()
			set, err := readList(c.Context(), args[0], o)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			out.Took = millis(time.Since(begun))
			r := set.Report
			out.Entries, out.Exceptions, out.Unsupported, out.Wrong, out.FirstWrong, out.Size = r.Entries, r.Exceptions, r.Unsupported, r.Wrong, r.FirstWrong, r.Size
			missing := false
			for _, h := range args[1:] {
				a, err := askList(set, h, o.Networks)
				if err != nil {
					return usageError("%s: %w", h, err)
				}
				missing = missing || !a.In
				out.Asked = append(out.Asked, a)
			}
			if asJSON {
				err = writeJSON(c.OutOrStdout(), &out)
			} else {
				err = out.print(c.OutOrStdout(), r)
			}
			if err == nil && missing {
				err = quiet(exitProblems)
			}
			return err
		},
	}
	c.Flags().StringVar(&kind, "type", "hosts", "what is in it: hosts or networks")
	c.Flags().StringVar(&format, "format", "auto", "how hosts are written: lines, hosts_file, adblock or auto")
	c.Flags().BoolVar(&o.Subdomains, "subdomains", false, "every name stands for those below it, too")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func readList(ctx context.Context, from string, o lists.Options) (*lists.Set, error) {
	if !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://") {
		f, err := os.Open(from)
		if pe := new(os.PathError); errors.As(err, &pe) {
			err = pe.Err
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return lists.Parse(f, "", o)
	}
	if err := fetch.CheckURL(from, "a list"); err != nil {
		return nil, err
	}
	got, err := fetch.NewFetcher(fetch.Options{Timeout: lists.UsualTimeout, Retries: 1, Raw: true}).Fetch(ctx, from, fetch.Validators{})
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	return lists.Parse(got.Body, got.ContentType, o)
}

func askList(set *lists.Set, text string, networks bool) (listAsked, error) {
	host, err := connmodel.CanonicalHost(text)
	if err != nil {
		return listAsked{}, err
	}
	a := listAsked{Host: host}
	if networks {
		ip := connmodel.Address{Host: host, Port: 1}.IP()
		if !ip.IsValid() {
			return a, errors.New("a list of networks is asked for an address")
		}
		a.In = set.Network(ip)
		return a, nil
	}
	a.Entry, a.In = set.Entry(host)
	return a, nil
}

func (x *listCheck) print(w io.Writer, r lists.Report) error {
	p := palette(colourful(w))
	fmt.Fprintf(w, "%s, %s, read in %.0f ms\n", r, bytesText(r.Size), x.Took)
	for _, a := range x.Asked {
		switch {
		case a.In && a.Entry != "":
			fmt.Fprintf(w, "%s  %s  by %s\n", p.good("in "), a.Host, a.Entry)
		case a.In:
			fmt.Fprintf(w, "%s  %s\n", p.good("in "), a.Host)
		case a.Entry != "":
			fmt.Fprintf(w, "%s  %s  an exception takes it back: %s\n", p.bad("not"), a.Host, a.Entry)
		default:
			fmt.Fprintf(w, "%s  %s\n", p.bad("not"), a.Host)
		}
	}
	return nil
}

func newListFetch() *cobra.Command {
	var src source
	c := &cobra.Command{
		Use:   "fetch [NAME...]",
		Short: "Get the lists of a policy where no gateway runs",
		Long: "Gets the lists of a policy that come from web servers, or those named, and keeps the copies where a gateway looks for\n" +
			"them at its start, and explain and test do. It connects directly: a list with via is got by a gateway alone.\n\n" + sourceHelp + "\n\n" +
			"Exit codes: 0 all of them are there, 1 one could not be had, 2 usage.",
		Example: "  viaduct list fetch --config viaduct.hcl\n  viaduct list fetch --config viaduct.hcl ads",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, diags, err := src.load(nil)
			if err != nil {
				return err
			}
			if cfg == nil {
				return policyErrors(c, diags, false)
			}
			return fetchLists(c, cfg, args)
		},
	}
	src.flags(c)
	return c
}

// fetchLists gets the lists of a policy that are named; none named = all of them.
func fetchLists(c *cobra.Command, cfg *policies.Config, names []string) error {
	w, failed, found := c.OutOrStdout(), false, map[string]bool{}
	for i := range cfg.Lists {
		x := &cfg.Lists[i]
		if x.URL == "" || len(names) > 0 && !slices.Contains(names, x.Name) {
			continue
		}
		found[x.Name] = true
		if err := fetchOne(c.Context(), w, cfg, x); err != nil {
			failed = true
			fmt.Fprintf(c.ErrOrStderr(), "list %s: %v\n", x.Name, err)
		}
	}
	for _, n := range names {
		if !found[n] {
			return usageError("the policy has no list %q that comes from a URL", n)
		}
	}
	if failed {
		return quiet(exitProblems)
	}
	return nil
}

func fetchOne(ctx context.Context, w io.Writer, cfg *policies.Config, x *policies.List) error {
	if x.Via != "" {
		return fmt.Errorf("it is got via %s, which a running gateway does alone", x.Via)
	}
	keep, err := keptList(cfg, x)
	if err != nil {
		return err
	}
	d := net.Dialer{Timeout: 30 * time.Second}
	var mu sync.Mutex
	last := ""
	s := lists.Open(listOptions(x, keep, func(ctx context.Context, _ string, to connmodel.Address) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", to.String())
	}, func(problem bool, text string) {
		mu.Lock()
		defer mu.Unlock()
		if problem && strings.Contains(text, "cannot be kept") {
			last = text
		}
	}))
	defer s.Close()
	if err := s.Refresh(ctx, false); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	if last != "" {
		return errors.New(last)
	}
	st := s.Status()
	_, err = fmt.Fprintf(w, "list %s: %s, kept in %s\n", x.Name, st.Report, cmp.Or(keep, "nothing"))
	return err
}
