package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"viaduct/policies"
)

const validateLong = `Reads a policy and prints everything that is wrong with it, and what to do. Nothing is opened or dialled.
Unreadable files, unset variables of the environment and missing credentials are warnings here, so that
a policy can be checked on a desk without the secrets; "run" and "reload" refuse them. Commands that
secrets come from are run with --run-commands alone.

` + sourceHelp + `

Exit codes: 0 the policy can be used (there may be warnings), 1 it has errors, 2 usage.`

func newValidate() *cobra.Command {
	var src source
	var asJSON bool
	c := &cobra.Command{
		Use:     "validate [PATH...]",
		Short:   "Check a policy",
		Long:    validateLong,
		Example: "  viaduct validate /etc/viaduct\n  viaduct validate --json viaduct.hcl",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, diags, err := src.load(args)
			if err != nil {
				return err
			}
			if cfg != nil {
				_, table, _, problems, err := wireUp(cfg, nil)
				if err != nil {
					return err
				}
				table.Close()
				if diags.List = append(diags.List, problems...); problems.HasErrors() {
					cfg = nil
				}
			}
			if asJSON {
				err = writeJSON(c.OutOrStdout(), diags)
			} else {
				err = printValidation(c, cfg, diags)
			}
			if err == nil && diags.HasErrors() {
				err = quiet(exitProblems)
			}
			return err
		},
	}
	src.flags(c)
	c.Flags().BoolVar(&src.runCommands, "run-commands", false, "run the commands that secrets come from, as the gateway would")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printValidation(c *cobra.Command, cfg *policies.Config, diags policies.Diagnostics) error {
	w := c.OutOrStdout()
	p := palette(colourful(w))
	if err := diags.WriteText(w, bool(p)); err != nil {
		return err
	}
	if len(diags.List) > 0 {
		fmt.Fprintln(w)
	}
	if err := diags.WriteNotes(w, bool(p)); err != nil {
		return err
	}
	if len(diags.Notes) > 0 {
		fmt.Fprintln(w)
	}
	errors, warnings := diags.Count()
	problems := count(errors, "error") + ", " + count(warnings, "warning")
	if cfg == nil {
		_, err := fmt.Fprintf(w, "%s: %s\n", p.bad("The policy cannot be used"), problems)
		return err
	}
	rules := 0
	for _, program := range cfg.Programs {
		rules += len(program.Rules())
	}
	if len(diags.List) == 0 {
		problems = "nothing found wrong"
	}
	_, err := fmt.Fprintf(w, "%s: %s; %s, %s, %s, %s\n", p.good("The policy can be used"), problems,
		count(len(cfg.Listeners), "listener"), count(len(cfg.Upstreams.Upstreams), "upstream"), count(rules, "rule"), count(len(cfg.Tests), "test"))
	return err
}
