package main

import (
	"github.com/spf13/cobra"
)

const rootLong = `Viaduct carries connections across a landscape of proxies: clients connect by HTTP or SOCKS,
a policy decides for each connection where it goes and through which proxies, and every hop of
the way is recorded.

Without a policy of your own, "viaduct run" listens on 127.0.0.1:3128 and takes its upstreams
from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

Exit codes: 0 all is well, 1 problems were found or the command failed, 2 the command line is
wrong; 255 from fmt, plan and "upstream check" when it could not be found out.`

// newRoot builds the command line. started becomes true when a command was found and its arguments are right.
func newRoot() (root *cobra.Command, started *bool) {
	started = new(bool)
	root = &cobra.Command{
		Use:           "viaduct",
		Short:         "A routing gateway between clients and proxies",
		Long:          rootLong,
		Example:       "  viaduct run\n  viaduct run /etc/viaduct\n  viaduct explain --config viaduct.hcl https://www.example.com/",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			*started = true
		},
	}
	v := buildVersion()
	root.Version = v.Version
	root.SetVersionTemplate(v.text())
	root.Flags().Bool("version", false, "print the version")
	root.AddCommand(newRun(), newValidate(), newFmt(), newExplain(), newTrace(), newCert(), newTest(), newReload(), newStatus(), newDashboard(), newUpstream(), newCA(), newPAC(), newList(), newImport(), newResolve(), newConnections(), newConnection(), newVersion())
	root.AddCommand(newPlan())
	root.AddCommand(newJournal())
	root.AddCommand(newDrain(), newClose())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.AddCommand(newTop())
	exemplify(root)
	arrange(root)
	return root, started
}

// exemplify gives an example to the commands that are cobra's own.
func exemplify(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			c.Example = "  source <(viaduct completion bash)\n  viaduct completion fish > ~/.config/fish/completions/viaduct.fish"
		case "help":
			c.Example = "  viaduct help explain"
		}
	}
}
