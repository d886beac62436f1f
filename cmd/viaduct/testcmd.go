package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
)

const testLong = `Runs the test blocks of a policy: each is decided by the code that serves, and compared with what it
expects. Rules that no test reaches are listed. Nothing is opened, dialled or resolved.

` + sourceHelp + `

Exit codes: 0 all tests passed, 1 one failed or the policy has errors, 2 usage.`

func newTest() *cobra.Command {
	var src source
	var asJSON, verbose bool
	c := &cobra.Command{
		Use:     "test [PATH...]",
		Short:   "Run the tests of a policy",
		Long:    testLong,
		Example: "  viaduct test /etc/viaduct\n  viaduct test --json viaduct.hcl partner.test.hcl",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, diags, err := src.load(args)
			if err != nil {
				return err
			}
			if cfg == nil {
				return policyErrors(c, diags, asJSON)
			}
			if err := defaultWarnings(c, cfg, diags); err != nil {
				return err
			}
			for _, n := range keptLists(cfg) {
				fmt.Fprintln(c.ErrOrStderr(), n)
			}
			rep := policies.RunTests(cfg)
			if asJSON {
				err = writeJSON(c.OutOrStdout(), rep)
			} else {
				err = printTests(c.OutOrStdout(), &rep, verbose)
			}
			if err == nil && rep.Failed() > 0 {
				err = quiet(exitProblems)
			}
			return err
		},
	}
	src.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the rules that were tried for tests that passed, too")
	return c
}

// policyErrors prints why a policy cannot be used.
func policyErrors(c *cobra.Command, diags policies.Diagnostics, asJSON bool) error {
	if asJSON {
		if err := writeJSON(c.OutOrStdout(), diags); err != nil {
			return err
		}
		return quiet(exitProblems)
	}
	w := c.ErrOrStderr()
	if err := diags.WriteText(w, colourful(w)); err != nil {
		return err
	}
	n, _ := diags.Count()
	return &exitError{exitProblems, fmt.Errorf("the policy has %s", count(n, "error"))}
}

func printTests(w io.Writer, rep *policies.Report, verbose bool) error {
	p := palette(colourful(w))
	for _, r := range rep.Results {
		verdict := p.good("pass")
		if !r.Pass {
			verdict = p.bad("FAIL")
		}
		fmt.Fprintf(w, "%s  %s  %s\n", verdict, r.Name, p.faint(fmt.Sprintf("(%s:%d)", r.File, r.Line)))
		for _, d := range r.Differences {
			fmt.Fprintf(w, "      %s\n", d)
		}
		if verbose || !r.Pass {
			printTrace(w, p, "        ", r.Trace)
		}
	}
	if len(rep.Unreached) > 0 {
		fmt.Fprintln(w, "\nRules that no test reaches:")
		for _, u := range rep.Unreached {
			fmt.Fprintf(w, "      %s  %s\n", u.Policy+"/"+u.Rule, p.faint(fmt.Sprintf("(%s:%d)", u.File, u.Line)))
		}
	}
	failed := rep.Failed()
	_, err := fmt.Fprintf(w, "\n%s: %d passed, %d failed, %s not reached\n", count(len(rep.Results), "test"), len(rep.Results)-failed, failed, count(len(rep.Unreached), "rule"))
	return err
}

// printTrace prints every rule that was tried, and why it did or did not match.
func printTrace(w io.Writer, p palette, indent string, t *connmodel.Trace) {
	if t == nil {
		return
	}
	wide := 0
	for _, s := range t.Steps {
		wide = min(max(wide, len(s.Rule)), 40)
	}
	for _, s := range t.Steps {
		mark := p.faint("no ")
		switch {
		case s.Matched && s.Shadow:
			mark = p.bold("yes, but shadow")
		case s.Matched:
			mark = p.good("yes")
		}
		fmt.Fprintf(w, "%s%s  %-*s  %s  %s\n", indent, mark, wide, s.Rule, p.faint(fmt.Sprintf("%s:%d", s.File, s.Line)), s.Reason)
	}
}
