package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"viaduct/router/admin"
)

const statusLong = `Prints how a running gateway is: its configuration and how reading it went last, listeners, upstreams
and pools with their health, and counters.

` + controlHelp + `

When the policy cannot be read, the default place is asked all the same.

Exit codes: 0 the gateway runs, 1 it is not reachable, 2 usage.`

func newStatus() *cobra.Command {
	var k control
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Say how a running gateway is",
		Long:    statusLong,
		Example: "  viaduct status\n  viaduct status --config /etc/viaduct --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := k.status(c)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), s)
			}
			return printStatus(c.OutOrStdout(), s)
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printStatus(w io.Writer, s *admin.Status) error {
	p := palette(colourful(w))
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "gateway\tviaduct %s, %s, started %s ago, process %d\n", s.Version, s.State, time.Duration(s.Uptime*float64(time.Second)).Round(time.Second), s.PID)
	fmt.Fprintf(t, "configuration\t%d, from %s\n", s.Generation, said(s.Files))
	fmt.Fprintf(t, "last reading\t%s\n", reloadLine(p, &s.LastReload))
	if d := s.Drain; d != nil {
		fmt.Fprintf(t, "drain\t%s\n", drainWords(d))
	}
	fmt.Fprintf(t, "sessions\t%d open, %d since the start, %d flows recorded\n", s.Sessions.Open, s.Sessions.Total, s.Sessions.Flows)
	if x := s.Traces; x != nil {
		line := fmt.Sprintf("%d flows to %s", x.Flows, printable(x.Endpoint))
		if lost := x.Dropped; lost > 0 {
			line += fmt.Sprintf(", %d dropped", lost)
		}
		if x.Failed > 0 {
			line += fmt.Sprintf(", %d spans not taken", x.Failed)
		}
		if x.Error != "" {
			line += ", " + p.bad("failing: "+printable(x.Error))
		}
		fmt.Fprintf(t, "traces\t%s\n", line)
	}
	if j := s.Journal; j != nil {
		fmt.Fprintf(t, "journal\t%s\n", journalLine(p, j))
	}
	for i := range s.Records {
		r := &s.Records[i]
		line := fmt.Sprintf("%d written to %s, %d dropped", r.Written, printable(r.To), r.Dropped)
		if r.Error != "" {
			line += ", " + p.bad("failing: "+printable(r.Error))
		}
		label := ""
		if i == 0 {
			label = "records"
		}
		fmt.Fprintf(t, "%s\t%s\n", label, line)
	}
	if n := s.Network; n.Last != nil {
		fmt.Fprintf(t, "network\tchanged %d times, last at %s: %s\n", n.Changes, n.Last.Local().Format("2006-01-02 15:04:05"), n.What)
	}
	for i, x := range s.Unverified {
		label := ""
		if i == 0 {
			label = "not verified"
		}
		fmt.Fprintf(t, "%s\t%s\n", label, p.bad(x+": any certificate is taken (verify = false)"))
	}
	if o := s.Opened; o != nil {
		line := fmt.Sprintf("%d tunnels, %d clients rejected our certificate, %d passed through because of that", o.Tunnels, o.Rejected, o.Passed)
		if o.NotAfter != nil {
			line += fmt.Sprintf("; authority %q until %s", o.CA, o.NotAfter.UTC().Format(time.DateOnly))
		}
		fmt.Fprintf(t, "opened\t%s\n", line)
	}
	if g := s.GeoIP; g != nil {
		line := fmt.Sprintf("%s, built %s, from %s since %s", g.Type, g.Built.UTC().Format(time.DateOnly), printable(g.Path), g.Since.Local().Format("2006-01-02 15:04:05"))
		if g.Old {
			line += ", " + p.bad("old")
		}
		if g.Error != "" {
			line += ", " + p.bad("the file that is there now is not in use: "+printable(g.Error))
		}
		if g.Broken > 0 {
			line += ", " + p.bad(fmt.Sprintf("%d look-ups met broken data", g.Broken))
		}
		fmt.Fprintf(t, "geoip\t%s\n", line)
	}
	if s.Panics > 0 {
		fmt.Fprintf(t, "panics\t%s\n", p.bad(fmt.Sprint(s.Panics)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printListeners(w, s)
	printUpstreams(w, s)
	printPACs(w, s)
	if len(s.Lists) > 0 {
		fmt.Fprintln(w)
	}
	printLists(w, s)
	printResolvers(w, s)
	printReach(w, s)
	return printPools(w, s)
}

func journalLine(p palette, j *admin.JournalStatus) string {
	line := fmt.Sprintf("%d records written to %s, ", j.Written, printable(j.Dir))
	dropped := fmt.Sprintf("%d dropped", j.Dropped)
	if j.Dropped > 0 {
		dropped = p.bad(dropped)
	}
	line += dropped
	if j.Files > 0 {
		line += fmt.Sprintf("; %s in %s", bytesText(j.Bytes), count(j.Files, "file"))
		if j.Oldest != nil {
			line += " since " + j.Oldest.UTC().Format(time.DateOnly)
		}
	}
	if j.SetAside > 0 {
		line += ", " + p.bad(fmt.Sprintf("%d damaged set aside", j.SetAside))
	}
	if j.State != admin.JournalWriting {
		line += ", " + p.bad(j.State+": "+printable(j.Error))
	}
	return line
}

func reloadLine(p palette, r *admin.ReloadResult) string {
	at := r.Time.Local().Format("2006-01-02 15:04:05")
	if r.OK {
		return p.good("applied") + " at " + at
	}
	first, _, _ := strings.Cut(r.Error, "\n")
	return p.bad("refused") + " at " + at + ": " + printable(first)
}

func printListeners(w io.Writer, s *admin.Status) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "\nLISTENER\tADDRESS\tPOLICY\n")
	for _, l := range s.Listeners {
		fmt.Fprintf(t, "%s\t%s\t%s", l.Name, l.Address, l.Policy)
		if l.CertificateEnd != nil {
			fmt.Fprintf(t, "\tTLS, certificate until %s", l.CertificateEnd.UTC().Format("2006-01-02 15:04 MST"))
		}
		fmt.Fprintln(t)
	}
	t.Flush() // the next one of w's writers reports the error
}

func printUpstreams(w io.Writer, s *admin.Status) {
	if len(s.Upstreams) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "\nUPSTREAM\tADDRESS\tSTATE\tCHECK\tOPEN\tATTEMPTS\tFAILURES\tLAST ERROR\n")
	for _, u := range s.Upstreams {
		if u.Drained {
			u.State += ", drained"
		}
		fmt.Fprintf(t, "%s\t%s://%s\t%s\t%s\t%d\t%d\t%d\t%s\n", u.Name, u.Scheme, u.Address, u.State, checkWords(u.Check), u.Open, u.Attempts, u.Failures, printable(u.LastError))
	}
	t.Flush() // as above
	p := palette(colourful(w))
	for _, u := range s.Upstreams {
		if c := u.Credential; c != nil && isClosed(c) {
			fmt.Fprintf(w, "%s\n", p.bad(closedLine(u.Name, c)))
		}
	}
}

// isClosed reports whether something is not shown that an upstream rejected.
func isClosed(c *admin.CredentialStatus) bool {
	return c.State == admin.CredentialClosed || c.Clients != nil && c.Clients.Closed > 0
}

// closedLine says of a credential that it is not used, why, and what is to be done.
func closedLine(upstream string, c *admin.CredentialStatus) string {
	if n := c.Clients; n != nil {
		return fmt.Sprintf("%s has rejected %s of clients, which they had proved here: the log names them. Their passwords have to be the same at both ends; \"viaduct upstream reset %s\" lets them be tried again.",
			upstream, count(n.Closed, "login"), upstream)
	}
	since := ""
	if c.Since != nil {
		since = " since " + c.Since.Local().Format("2006-01-02 15:04:05")
	}
	return fmt.Sprintf("credential %q of %s is closed%s: %s. It is used again when its secret changes, or after \"viaduct upstream reset %s\".", c.Name, upstream, since, c.Why, upstream)
}

func printPACs(w io.Writer, s *admin.Status) {
	if len(s.PACs) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "\nPAC\tFROM\tSTATE\tAGE\tCALLS\tKNOWN\tFAILURES\tON ERROR\tLAST ERROR\n")
	for _, p := range s.PACs {
		age := "-"
		if p.Since != nil && p.Age > 0 {
			age = time.Duration(p.Age * float64(time.Second)).Round(time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", p.Name, p.From, p.State, age, p.Calls, p.Hits, p.Failures, p.OnError, printable(p.Error))
	}
	t.Flush() // as above
}

func printResolvers(w io.Writer, s *admin.Status) {
	if len(s.Resolvers) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprint(t, "\nRESOLVER\tDOMAIN\tSERVER\tSTATE\tQUERIES\tFAILURES\tLATENCY\tLAST ERROR\n")
	for _, r := range s.Resolvers {
		fmt.Fprintf(t, "%s\t\t%d names kept\t\t%d (%d kept)\t%d\t\t\n", r.Name, r.Entries, r.Lookups, r.Hits, r.Failures)
		for _, x := range r.Servers {
			domain, state, took := x.Domain, "up", "-"
			if domain == "" {
				domain = "*"
			}
			if x.Latency > 0 {
				took = fmt.Sprintf("%.1f ms", x.Latency)
			}
			switch {
			case x.Results == nil:
				fmt.Fprintf(t, "\t%s\t%s\t\t\t\t\t\n", domain, x.Server)
				continue
			case x.Resting:
				state = "resting"
			case x.Latency == 0 && x.Failures == 0:
				state = "unknown"
			}
			server := x.Server
			if x.Via != "" {
				server += " via " + x.Via
			}
			fmt.Fprintf(t, "\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", domain, server, state, x.Queries, x.Failures, took, printable(x.LastError))
		}
	}
	t.Flush() // as above
}

func printPools(w io.Writer, s *admin.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(s.Pools) > 0 {
		fmt.Fprint(t, "\nPOOL\tMEMBER\tSTATE\tCHECK\tOPEN\tCONNECT\tLAST ERROR\n")
	}
	for _, pool := range s.Pools {
		printMembers(t, fmt.Sprintf("%s (%s)", strings.TrimPrefix(pool.Name, "pool."), pool.Select), pool.Members)
	}
	named := false
	for _, p := range s.PACs {
		if !named && len(p.Members)+len(p.Others) > 0 {
			fmt.Fprint(t, "\nPAC\tHAS NAMED\tSTATE\tCHECK\tOPEN\tCONNECT\tLAST ERROR\n")
			named = true
		}
		printMembers(t, p.Name, p.Members)
		few := p.Others[:min(len(p.Others), fewOthers)]
		printMembers(t, p.Name, few)
		if more := p.Undeclared.Known - len(few); more > 0 {
			fmt.Fprintf(t, "%s\tand %d more that are not declared\t\t\t\t\t\n", p.Name, more)
		}
	}
	return t.Flush()
}

// fewOthers is how many proxies that nobody declared are printed for a script.
const fewOthers = 10

func printMembers(t io.Writer, of string, members []admin.MemberStatus) {
	for _, m := range members {
		state, connect := m.State, "-"
		if m.Until != nil && m.State == "ejected" {
			state += " until " + m.Until.Local().Format("15:04:05")
		}
		if m.Since != nil && m.State == "healthy" {
			state += " since " + m.Since.Local().Format("15:04:05")
		}
		if m.Connect > 0 {
			connect = fmt.Sprintf("%.1f ms", m.Connect)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", of, m.Route, state, checkWords(m.Check), m.Open, connect, printable(cmp.Or(m.Why, m.LastError)))
	}
}
