package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
)

const resolveLong = `Looks names up as the gateway would: by the resolver of the policy, split by domain, over the routes
to its servers. Says which addresses there are, who said so, and how long that took. The cache of a
running gateway is neither asked nor filled.

Without --resolver it is that of the gateway block, or the machine's where there is none.

Exit codes: 0 all names have addresses, 1 some have none or the policy has errors, 2 usage.`

func newResolve() *cobra.Command {
	var src source
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use:     "resolve NAME...",
		Short:   "Look names up as the gateway would",
		Long:    resolveLong,
		Example: "  viaduct resolve --config /etc/viaduct intranet.corp.example www.example.com\n  viaduct resolve --resolver lab x.lab.example --json",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			hosts := make([]string, len(args))
			for i, a := range args {
				h, err := connmodel.CanonicalHost(a)
				if err != nil {
					return usageError("%w", err)
				}
				hosts[i] = h
			}
			cfg, diags, err := src.load(nil)
			if err != nil {
				return err
			}
			if cfg == nil {
				return diags.Err()
			}
			set, table, err := openForTools(cfg)
			if err != nil {
				return err
			}
			defer table.Close()
			defer set.leave(nil)
			r := set.forListener(cfg, "")
			if name != "" {
				if r = set.named(name); r == nil {
					known := append([]string{policies.SystemResolver}, namesOf(set)...)
					return usageError("--resolver %s: the policy has no such resolver; there are %s", name, strings.Join(known, ", "))
				}
			}
			failed := false
			out := make([]lookedUp, len(hosts))
			for i, h := range hosts {
				start := time.Now()
				a, err := resolve.Find(c.Context(), r, h)
				out[i] = lookUpSaid(h, &a, time.Since(start), err)
				failed = failed || err != nil
			}
			if asJSON {
				err = writeJSON(c.OutOrStdout(), out)
			} else {
				err = printLookups(c.OutOrStdout(), out)
			}
			if err == nil && failed {
				err = quiet(exitProblems)
			}
			return err
		},
	}
	src.flags(c)
	c.Flags().StringVar(&name, "resolver", "", "which resolver of the policy is asked; system is the machine's")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func namesOf(set resolverSet) (names []string) {
	for n := range set {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// openForTools makes resolvers and routes for a command that looks names up: nothing is checked in the background.
func openForTools(cfg *policies.Config) (resolverSet, *upstream.Table, error) {
	_, table, set, _, err := wireUp(cfg, nil)
	return set, table, err
}

func printLookups(w io.Writer, all []lookedUp) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i := range all {
		x := &all[i]
		if x.Error != "" {
			fmt.Fprintf(t, "%s\t%s\t%.1f ms\n", x.Name, palette(colourful(w)).bad(printable(x.Error)), x.Took)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f ms\t%s\n", x.Name, strings.Join(x.Addresses, " "), x.Took, x.words())
	}
	return t.Flush()
}
