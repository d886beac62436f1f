package main

import (
	"github.com/spf13/cobra"

	"viaduct/policies"
)

// complete offers names for a flag, taken from the policy that the command line names so far. "viaduct completion SHELL" is
// cobra's; this makes it know the policy.
func complete(c *cobra.Command, flag string, names func(*policies.Config) []string, src *source) {
	err := c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		cfg, _, err := src.load(nil)
		if err != nil || cfg == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(cfg), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}
