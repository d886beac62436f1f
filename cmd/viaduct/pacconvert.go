package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/policies/pac"
)

const pacConvertLong = `Reads a PAC script and prints a policy that says the same, as far as it is made of if, else and return with
dnsDomainIs, shExpMatch, isPlainHostName, localHostOrDomainIs, host ==, isInNet, and &&, || and ! between
them. What is of another shape stands in comments with its line: it did not carry over.

Both are then asked about hosts that are made of those in the script, without name servers, and the comments at the
end name the hosts and every difference. Read them before you use the policy.

Exit codes: 0 converted and the same on all hosts compared, 1 it could not be read, something did not carry over,
or there are differences, 2 usage.`

func newPACConvert() *cobra.Command {
	return &cobra.Command{
		Use:     "convert FILE|URL",
		Short:   "Say in a policy what a PAC script says",
		Long:    pacConvertLong,
		Example: "  viaduct pac convert proxy.pac > viaduct.hcl",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := pacText(c.Context(), c.InOrStdin(), args[0])
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			read, err := pac.Convert(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			x := &pacConversion{read: read, from: args[0], upstreams: map[pac.Entry]string{}, pools: map[string]string{}, means: map[string]string{}}
			policy, err := x.policy()
			if err != nil {
				return err
			}
			compared, differences, err := x.compare(c.Context(), text, policy)
			if err != nil {
				return err
			}
			if _, err := c.OutOrStdout().Write(append(policy, compared...)); err != nil {
				return err
			}
			if len(read.Left)+differences > 0 || x.odd > 0 {
				w := c.ErrOrStderr()
				fmt.Fprintf(w, "%s did not carry over, %s: see the comments\n", count(len(read.Left)+x.odd, "part"), count(differences, "difference"))
				return quiet(exitProblems)
			}
			return nil
		},
	}
}

// pacConversion makes a policy of a script that has been read.
type pacConversion struct {
	read      *pac.Converted
	from      string
	upstreams map[pac.Entry]string // names
	pools     map[string]string    // names, by their members
	means     map[string]string    // routes to what the script would say
	blocks    strings.Builder
	odd       int // answers that mean nothing
}

// policy is the text, laid out.
func (x *pacConversion) policy() ([]byte, error) {
	var rules strings.Builder
	for i, r := range x.read.Rules {
		fmt.Fprintf(&rules, "rule \"%d line %d\" {\n", i+1, r.Line)
		for _, m := range r.Match {
			writeMatch(&rules, "match", m)
		}
		fmt.Fprintf(&rules, "%s\n}\n", x.outcome(r.Answer))
	}
	o := "deny { reason = \"the PAC script gives no way\" }"
	if x.read.Otherwise != "" {
		o = x.outcome(x.read.Otherwise)
	}
	fmt.Fprintf(&rules, "otherwise {\n%s\n}\n", o)
	var b strings.Builder
	fmt.Fprintf(&b, "# Made of %s by \"viaduct pac convert\".\n", printable(x.from))
	for _, l := range x.read.Left {
		fmt.Fprintf(&b, "# NOT CARRIED OVER: %s\n", printable(l))
	}
	fmt.Fprintf(&b, "\nlistener \"desk\" {\naddress = \"127.0.0.1:3128\"\n}\n\n%spolicy \"default\" {\n%s}\n", x.blocks.String(), rules.String())
	text, diags := policies.Format("converted.hcl", []byte(b.String()))
	if diags.HasErrors() {
		return nil, fmt.Errorf("the policy that was made cannot be read: %w", diags.Err())
	}
	return text, nil
}

func writeMatch(b *strings.Builder, word string, m pac.ConvertedMatch) {
	if len(m.Hosts)+len(m.Addresses)+len(m.Not) == 0 {
		return
	}
	fmt.Fprintf(b, "%s {\n", word)
	if m.Hosts != nil {
		fmt.Fprintf(b, "host = %s\n", quotedList(m.Hosts))
	}
	if m.Addresses != nil {
		fmt.Fprintf(b, "address = %s\n", quotedList(m.Addresses))
	}
	for _, n := range m.Not {
		writeMatch(b, "not", n)
	}
	b.WriteString("}\n")
}

func quotedList(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// outcome is `via = …` for an answer; what is no answer is refused, with a comment.
func (x *pacConversion) outcome(answer string) string {
	entries, problems, err := pac.ParseResult(answer)
	if err != nil {
		x.odd++
		return fmt.Sprintf("# NOT CARRIED OVER: the answer %s\ndeny { reason = \"the PAC script gives no way\" }", printable(answer))
	}
	note := ""
	if len(problems) > 0 {
		x.odd += len(problems)
		note = fmt.Sprintf("# NOT CARRIED OVER: %s\n", printable(strings.Join(problems, "; ")))
	}
	var routes, said []string
	for _, e := range entries {
		routes, said = append(routes, x.route(e)), append(said, e.String())
	}
	route := routes[0]
	if len(routes) > 1 {
		key := strings.Join(routes, ", ")
		name := x.pools[key]
		if name == "" {
			name = fmt.Sprintf("pac_%d", len(x.pools)+1)
			x.pools[key] = name
			fmt.Fprintf(&x.blocks, "pool %q {\nmembers = [%s]\nretry {\nattempts = %d\n}\n}\n\n", name, key, len(routes))
		}
		route = "pool." + name
	}
	x.means[route] = strings.Join(said, "; ")
	return note + "via = " + route
}

// route is the name of the upstream that an entry is made into.
func (x *pacConversion) route(e pac.Entry) string {
	if e.Kind == pac.Direct {
		return connmodel.RouteDirect
	}
	name := x.upstreams[e]
	if name == "" {
		name = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, strings.ToLower(e.Address.Host))
		name = fmt.Sprintf("%s_%s_%d", strings.ToLower(string(e.Kind)), strings.Trim(name, "_"), e.Address.Port)
		x.upstreams[e] = name
		fmt.Fprintf(&x.blocks, "upstream %q {\nurl = \"%s://%s\"\n}\n\n", name, schemesOf[e.Kind][0], e.Address)
	}
	return "upstream." + name
}

// compare asks both about the hosts, and puts into comments what came out.
func (x *pacConversion) compare(ctx context.Context, text string, policy []byte) (comment []byte, differences int, err error) {
	cfg, diags := policies.Load(policies.Options{Source: map[string][]byte{"converted.hcl": policy}, Environ: os.LookupEnv})
	if cfg == nil {
		return nil, 0, fmt.Errorf("the policy that was made cannot be used: %w", diags.Err())
	}
	s, err := pac.New(ctx, text, pac.Options{Engines: 1, CacheFor: -1})
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	var b, diff strings.Builder
	var hosts []string
	for _, h := range x.read.Hosts {
		a, err := connmodel.MakeAddress(h, 443)
		if err != nil {
			continue
		}
		hosts = append(hosts, h)
		scripted := "no entries"
		if got, err := s.Find(ctx, pac.QueryFor(a, "")); err == nil {
			var said []string
			for _, e := range got.Entries {
				said = append(said, e.String())
			}
			scripted = strings.Join(said, "; ")
		}
		if ours := x.decided(cfg, a); ours != scripted {
			differences++
			fmt.Fprintf(&diff, "#   %s: the script says %s, the policy %s\n", h, printable(scripted), ours)
		}
	}
	fmt.Fprintf(&b, "\n# Compared on %s (as https, without name servers), with %s:\n", count(len(hosts), "host"), count(differences, "difference"))
	b.WriteString(diff.String())
	for line := range slices.Chunk(hosts, 6) {
		fmt.Fprintf(&b, "#   %s\n", strings.Join(line, " "))
	}
	return []byte(b.String()), differences, nil
}

// decided is what the policy does with a host, in the words of the script. Names have no address, as for the script.
func (x *pacConversion) decided(cfg *policies.Config, a connmodel.Address) string {
	f := &connmodel.Facts{Listener: "desk", Target: a, TargetIP: a.IP(), Protocol: connmodel.ProtocolConnect,
		Client: netip.MustParseAddrPort("127.0.0.1:40000"), Have: connmodel.NeedAddresses}
	d, _, _ := cfg.Programs["default"].Explain(f)
	if d == nil || d.Denied() {
		return "no entries"
	}
	return x.means[d.Route]
}
