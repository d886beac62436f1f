// Command viaduct is the gateway and its tools: it runs a policy, checks it, formats it, explains what it would do with a
// connection, tests it, and talks to a gateway that runs.
//
// It holds no logic of the data path: wire.go joins the packages that do, and each command is a file of its own.
package main

import (
	"fmt"
	"os"
)

func main() { os.Exit(execute(os.Args[1:])) }

func execute(args []string) int {
	root, started := newRoot()
	root.SetArgs(args)
	code, say := codeOf(root.Execute(), *started)
	if say != nil {
		fmt.Fprintln(os.Stderr, "viaduct:", say)
		if code == exitUsage {
			fmt.Fprintln(os.Stderr, `See "viaduct --help", or "viaduct COMMAND --help".`)
		}
	}
	return code
}
