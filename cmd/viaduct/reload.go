package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"viaduct/router/admin"
)

const reloadLong = `Asks a running gateway to read its policy again, as SIGHUP does, and says how that went. When
something is wrong with the policy, the gateway goes on with the one it has.

` + controlHelp + `

Exit codes: 0 reloaded, 1 refused or not reachable, 2 usage.`

func newReload() *cobra.Command {
	var k control
	var asJSON bool
	c := &cobra.Command{
		Use:     "reload",
		Short:   "Ask a running gateway to read its policy again",
		Long:    reloadLong,
		Example: "  viaduct reload\n  viaduct reload --admin unix:/run/viaduct/admin.sock",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var res admin.ReloadResult
			refused, err := k.ask(c.Context(), http.MethodPost, "/v1/reload", &res)
			if err != nil {
				return err
			}
			if asJSON {
				if err := writeJSON(c.OutOrStdout(), res); err != nil {
					return err
				}
			} else if err := printReload(c, &res); err != nil {
				return err
			}
			if refused || !res.OK {
				return quiet(exitProblems)
			}
			return nil
		},
	}
	k.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printReload(c *cobra.Command, res *admin.ReloadResult) error {
	p := palette(colourful(c.OutOrStdout()))
	if err := printDiagnostics(c, p, res.Diagnostics); err != nil {
		return err
	}
	if res.OK {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s: configuration %d is in force (%.0f ms)\n", p.good("reloaded"), res.Generation, res.Took)
		return err
	}
	if len(res.Diagnostics) == 0 || string(res.Diagnostics) == "null" {
		fmt.Fprintln(c.OutOrStdout(), res.Error)
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s: the gateway goes on with configuration %d\n", p.bad("not reloaded"), res.Generation)
	return err
}

// printDiagnostics prints what the gateway found in its policy.
func printDiagnostics(c *cobra.Command, p palette, raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	var d struct {
		Diagnostics []struct {
			Severity, Summary, Detail, File, Snippet string
			Line, Column                             int
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("the gateway's diagnostics cannot be read: %w", err)
	}
	for _, x := range d.Diagnostics {
		place := ""
		if x.File != "" {
			place = p.bold(fmt.Sprintf("%s:%d:%d", x.File, x.Line, x.Column)) + ": "
		}
		severity := p.bad(x.Severity)
		if x.Severity == "warning" {
			severity = p.paint("33", x.Severity)
		}
		fmt.Fprintf(c.OutOrStdout(), "%s%s: %s\n", place, severity, x.Summary)
		if x.Snippet != "" {
			fmt.Fprintf(c.OutOrStdout(), "  %s\n", x.Snippet)
		}
		if x.Detail != "" {
			fmt.Fprintf(c.OutOrStdout(), "  %s\n", x.Detail)
		}
	}
	return nil
}
