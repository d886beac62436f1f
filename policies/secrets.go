package policies

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"viaduct/upstream"
)

// SecretCommand is a command whose output is a secret.
type SecretCommand struct {
	Argv    []string      // the program by its full path, and its arguments
	Refresh time.Duration // how often it is run again; 0 = at a reload alone
}

// minRefresh bounds how often a command is run.
const minRefresh = time.Second

// Credentials reads once more what the upstreams of c are shown, by name, from the same text of the policy: files and commands may say something else
// by now. o is as for Load; its Paths and Source are not looked at.
func (c *Config) Credentials(o Options) (map[string]*upstream.Auth, Diagnostics) {
	o.Paths, o.Source, o.Lenient = nil, c.sources, false
	l := newLoader(o)
	l.readSources(l.o)
	all := map[string]*upstream.Auth{}
	if !l.diags.HasErrors() {
		l.readBlocks()
		l.evaluateScope()
		for _, u := range l.upstreams {
			name := u.src.Labels[0]
			for i := range c.Upstreams.Upstreams {
				if s := &c.Upstreams.Upstreams[i]; s.Name == name && s.Auth != nil {
					if a := l.open(u.src, upstreamSchema).one("auth"); a != nil {
						all[name] = l.auth(a, s.Scheme, s.Address.Host)
					}
				}
			}
		}
	}
	d := l.diagnostics()
	if d.HasErrors() {
		return nil, d
	}
	return all, d
}

// watches notes a file that a secret comes from.
func (l *loader) watches(path string) { l.secretFiles = append(l.secretFiles, path) }

// netrc reads a login for a machine; without one it is that of the upstream whose auth block is being read.
func (l *loader) netrc(dir string, args []string) (netrcEntry, error) {
	if len(args) > 3 {
		return netrcEntry{}, fmt.Errorf("it takes a path, a machine and a login, and no more")
	}
	machine, login := l.authHost, l.authUser
	if len(args) > 1 {
		machine = args[1]
	}
	if len(args) > 2 {
		login = args[2]
	}
	if machine == "" {
		return netrcEntry{}, fmt.Errorf("say for which machine, as in netrc(%q, \"proxy.corp.example\"): it goes without saying in an auth block alone", args[0])
	}
	full := pathOf(hcl.Range{Filename: dir + "/x"}, args[0])
	l.watches(full)
	if l.o.ReadFile == nil {
		if err := checkNetrcMode(full); err != nil {
			return netrcEntry{}, fmt.Errorf("%s: %w", full, err)
		}
	}
	b, err := l.readData(full, maxNetrc)
	if err != nil {
		return netrcEntry{}, fmt.Errorf("%s", reasonOf(err, full))
	}
	all, err := parseNetrc(string(b))
	if err != nil {
		return netrcEntry{}, fmt.Errorf("%s: %w", full, err)
	}
	e, ok := findNetrc(all, machine, login)
	if !ok {
		of := ""
		if login != "" {
			of = fmt.Sprintf(" of %q", login)
		}
		return netrcEntry{}, fmt.Errorf("%s has no password%s for the machine %q, and no default", full, of, machine)
	}
	return e, nil
}

// netrcFunction makes netrc() and netrc_login() for files in dir.
func (l *loader) netrcFunction(dir, description string, mark bool, pick func(netrcEntry) string) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: "path", Type: cty.String, AllowMarked: true}},
		VarParam:    &function.Parameter{Name: "machine", Type: cty.String, AllowMarked: true},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			var texts []string
			for _, a := range args {
				if a.IsMarked() {
					l.errorAt(l.at, "Cannot read netrc", "Where a secret is found cannot be a secret itself.")
					return cty.UnknownVal(cty.String).Mark(secretMark), nil
				}
				texts = append(texts, a.AsString())
			}
			hide := func(v cty.Value) cty.Value {
				if mark {
					return v.Mark(secretMark)
				}
				return v
			}
			e, err := l.netrc(dir, texts)
			if err != nil {
				l.missing(l.at, "Cannot read netrc", upperFirst(err.Error()))
				return hide(cty.UnknownVal(cty.String)), nil
			}
			return hide(cty.StringVal(pick(e))), nil
		},
	})
}

// commandFunction makes command().
func (l *loader) commandFunction() function.Function {
	return function.New(&function.Spec{
		Description: "What a command prints, run without a shell.",
		Params:      []function.Parameter{{Name: "argv", Type: cty.DynamicPseudoType, AllowMarked: true}},
		VarParam:    &function.Parameter{Name: "refresh", Type: cty.String, AllowMarked: true},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			unknown := cty.UnknownVal(cty.String).Mark(secretMark)
			c, err := readCommand(args)
			if err != nil { // HCL would not show it, for what stands in an auth block is hidden
				l.errorAt(l.at, "Wrong command", upperFirst(err.Error()))
				return unknown, nil
			}
			l.secretCommands = append(l.secretCommands, c)
			if l.o.Command == nil {
				l.noteAt(l.at, "Command not run", fmt.Sprintf("%s is run by \"viaduct run\", and not here: what it prints is not known. \"viaduct validate --run-commands\" runs it.", c.Argv[0]))
				return unknown, nil
			}
			out, err := l.o.Command(c)
			if err == nil {
				out, err = oneLine(out)
			}
			if err != nil {
				l.missing(l.at, "Command failed", fmt.Sprintf("%s: %s", c.Argv[0], strings.TrimSuffix(err.Error(), ".")+"."))
				return unknown, nil
			}
			return cty.StringVal(out).Mark(secretMark), nil
		},
	})
}

// oneLine takes the line break at the end away. What is left is the secret.
func oneLine(out string) (string, error) {
	out = strings.TrimSuffix(strings.TrimSuffix(out, "\n"), "\r")
	switch {
	case out == "":
		return "", fmt.Errorf("it printed nothing")
	case strings.ContainsAny(out, "\r\n"):
		return "", fmt.Errorf("it printed several lines, and a secret is one: let it print that one alone")
	}
	return out, nil
}

func readCommand(args []cty.Value) (c SecretCommand, err error) {
	for _, a := range args {
		if a.ContainsMarked() {
			return c, fmt.Errorf("the arguments of a program are for everybody on this machine to see, so a secret cannot be among them")
		}
	}
	v := args[0]
	if v.IsNull() || !v.IsWhollyKnown() || !(v.Type().IsTupleType() || v.Type().IsListType()) {
		return c, fmt.Errorf(`write the program and its arguments as a list, such as ["/usr/bin/pass", "show", "corp"]; there is no shell`)
	}
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		if e.IsNull() || e.Type() != cty.String || strings.ContainsRune(e.AsString(), 0) {
			return c, fmt.Errorf("the program and its arguments are texts")
		}
		c.Argv = append(c.Argv, e.AsString())
	}
	if len(c.Argv) == 0 || len(c.Argv) > 100 || !strings.HasPrefix(c.Argv[0], "/") {
		return c, fmt.Errorf(`the program is named by its full path, such as "/usr/bin/pass"`)
	}
	if len(args) > 2 {
		return c, fmt.Errorf("there are the command, and how often it is run again")
	}
	if len(args) == 2 {
		d, ok := parseDuration(args[1].AsString())
		if !ok || d < minRefresh || d > maxDuration {
			return c, fmt.Errorf(`how often it is run again is a time span of at least "1s", such as "15m"`)
		}
		c.Refresh = d
	}
	return c, nil
}
