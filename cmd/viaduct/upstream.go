package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"viaduct/router/admin"
)

const upstreamLong = `The proxies of a running gateway, and the credentials that they are shown. A credential that a proxy
rejected is closed: it is not shown again, also after a restart, until its secret changes or it is
opened here. That keeps the account from being locked.

drain takes a proxy out of service for connections to come, undrain brings it back.

check looks at a proxy from here, step by step, and says what is wrong; it needs no running gateway.

` + controlHelp + `

Exit codes: 0 done, 1 it failed or the gateway is not reachable, 2 usage; of check see there.`

func newUpstream() *cobra.Command {
	c := &cobra.Command{
		Use:     "upstream",
		Short:   "Show proxies, check them, open closed credentials, take them out of service",
		Long:    upstreamLong,
		Example: "  viaduct upstream list\n  viaduct upstream check corp\n  viaduct upstream reset corp",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError("what of the upstreams? list, check, reset, drain or undrain")
		},
	}
	c.AddCommand(newUpstreamList(), newUpstreamCheck(), newUpstreamReset(), newUpstreamDrain(), newUpstreamUndrain())
	return c
}

func newUpstreamList() *cobra.Command {
	var k control
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the proxies and what is known of their credentials",
		Long:    "Lists the declared proxies of a running gateway with the state of the credential of each.\n\n" + controlHelp,
		Example: "  viaduct upstream list\n  viaduct upstream list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := k.status(c)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), s.Upstreams)
			}
			return printCredentials(c, s.Upstreams)
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printCredentials(c *cobra.Command, all []admin.UpstreamStatus) error {
	w := c.OutOrStdout()
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "UPSTREAM\tADDRESS\tSTATE\tCREDENTIAL\tSCHEMES\tIT IS\tSECRET SINCE\n")
	for _, u := range all {
		name, schemes, state, since := "-", "-", "-", "-"
		if x := u.Credential; x != nil {
			name, schemes, state = x.Name, cmp.Or(strings.Join(x.Schemes, ", "), "-"), x.State
			if x.SecretSince != nil {
				since = x.SecretSince.Local().Format("2006-01-02 15:04:05")
			}
			if n := x.Clients; n != nil {
				state = fmt.Sprintf("%s: %d proven, %d closed, %d unproven", state, n.Proven, n.Closed, n.Unproven)
			}
		}
		fmt.Fprintf(t, "%s\t%s://%s\t%s\t%s\t%s\t%s\t%s\n", u.Name, u.Scheme, u.Address, u.State, name, schemes, state, since)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, u := range all {
		if x := u.Credential; x != nil && isClosed(x) {
			if _, err := fmt.Fprintln(w, closedLine(u.Name, x)); err != nil {
				return err
			}
		}
	}
	return nil
}
