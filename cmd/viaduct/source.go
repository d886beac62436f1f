package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"viaduct/policies"
)

// source is where a command takes its policy from.
type source struct {
	config []string
	vars   []string

	runCommands bool // those that secrets come from
}

const sourceHelp = `The policy is taken from the PATHs (files, or directories with *.hcl and *.hcl.json files), or from
--config, or from VIADUCT_CONFIG (several are separated by colons). Without any, it is the default
policy: HTTP and SOCKS on 127.0.0.1:3128 for this machine, upstreams from HTTP_PROXY, HTTPS_PROXY,
ALL_PROXY and NO_PROXY.`

func (s *source) flags(c *cobra.Command) {
	c.Flags().StringArrayVarP(&s.config, "config", "c", nil, "file or directory of the policy; may be repeated")
	c.Flags().StringArrayVar(&s.vars, "var", nil, "value of a variable, NAME=VALUE; may be repeated (VIADUCT_VAR_NAME does the same)")
	_ = c.MarkFlagFilename("config", "hcl", "json") // fails only where the flag does not exist
}

// paths returns what to read: what the command line names, else the environment; none = the default policy.
func (s *source) paths(args []string) []string {
	all := append(append([]string(nil), s.config...), args...)
	if len(all) > 0 {
		return all
	}
	for _, p := range filepath.SplitList(os.Getenv("VIADUCT_CONFIG")) {
		if p != "" {
			all = append(all, p)
		}
	}
	return all
}

// options prepares reading: of paths, or of the default policy, with what is to be said of the environment it is made from.
func (s *source) options(paths []string) (o policies.Options, notes policies.Diagnostics, err error) {
	o = policies.Options{Paths: paths, Environ: os.LookupEnv, Vars: map[string]string{}}
	for _, v := range s.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return o, notes, usageError("--var %s: write NAME=VALUE", v)
		}
		if _, twice := o.Vars[name]; twice {
			return o, notes, usageError("--var %s is given twice", name)
		}
		o.Vars[name] = value
	}
	if len(paths) == 0 {
		var text []byte
		text, notes = policies.Default(os.LookupEnv)
		o.Source = map[string][]byte{policies.DefaultFile: text}
	}
	return o, notes, nil
}

// load reads a policy for a command that opens nothing: what is missing on this machine is a warning. The notes on the
// environment come first among the diagnostics; like all others, errors among them leave no policy.
func (s *source) load(args []string) (*policies.Config, policies.Diagnostics, error) {
	o, notes, err := s.options(s.paths(args))
	if err != nil {
		return nil, notes, err
	}
	o.Lenient = true
	if s.runCommands {
		o.Command = commands{}.run(context.Background())
	}
	cfg, diags := policies.Load(o)
	if notes.HasErrors() {
		cfg = nil
	}
	diags.List = append(notes.List, diags.List...)
	return cfg, diags, nil
}

// defaultWarnings prints to standard error what is to be said of the default policy: whoever asks about it has no file to
// validate.
func defaultWarnings(c *cobra.Command, cfg *policies.Config, diags policies.Diagnostics) error {
	if said(cfg.Files) != "the default policy" {
		return nil
	}
	w := c.ErrOrStderr()
	return diags.WriteText(w, colourful(w))
}

// said is what makes the source readable in logs.
func said(files []string) string {
	if len(files) == 1 && files[0] == policies.DefaultFile {
		return "the default policy"
	}
	if len(files) > 3 {
		return fmt.Sprintf("%s and %d more", files[0], len(files)-1)
	}
	return strings.Join(files, ", ")
}
