package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"viaduct/policies/importer"
)

const importLong = `Reads the configuration of another program and prints a policy that says the same:

  cntlm        cntlm.conf
  px           px.ini
  squid        squid.conf: http_port, acl, http_access, cache_peer and cache_peer_access, never_direct
               and always_direct, with the files that it includes
  environment  HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY of this process

The kind is told by the name of the file, or by what is in it. What has no counterpart is named at
the top of the policy, with its line and why, and so is what is to be done before the policy is used.
Nothing is more open than it was: where something cannot be said exactly, less is allowed. Passwords do
not get into the policy. What is printed can be loaded, and is laid out as "viaduct fmt" does; ask it
with "viaduct explain" about the hosts you care for before you use it.

Exit codes: 0 all carried over, 1 something did not, or it could not be read, 2 usage.`

// importing is one run of import.
type importing struct {
	from, output  string
	force, asJSON bool
}

func newImport() *cobra.Command {
	var x importing
	c := &cobra.Command{
		Use:     "import [--from KIND] FILE",
		Short:   "Make a policy of the configuration of cntlm, Px or Squid",
		Long:    importLong,
		Example: "  viaduct import /etc/cntlm.conf > viaduct.hcl\n  viaduct import --from squid --output viaduct.hcl /etc/squid/squid.conf\n  viaduct import environment",
		Args:    cobra.RangeArgs(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return x.run(c, args)
		},
	}
	c.Flags().StringVar(&x.from, "from", "", "what the file is of: "+strings.Join(importer.Kinds, ", "))
	c.Flags().StringVarP(&x.output, "output", "o", "", "write the policy to this file, which must not be there yet")
	c.Flags().BoolVar(&x.force, "force", false, "with --output: replace a file that is there")
	c.Flags().BoolVar(&x.asJSON, "json", false, "print what did not carry over as JSON, with the policy in it")
	_ = c.RegisterFlagCompletionFunc("from", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return importer.Kinds, cobra.ShellCompDirectiveNoFileComp
	}) // fails only where the flag does not exist
	return c
}

// imported is the JSON form.
type imported struct {
	From   string          `json:"from"`
	File   string          `json:"file,omitempty"`
	Output string          `json:"output,omitempty"`
	Policy string          `json:"policy,omitempty"` // without --output
	Left   []importer.Left `json:"not_carried_over"`
}

func (x *importing) run(c *cobra.Command, args []string) error {
	o := importer.Options{Kind: importer.Kind(x.from), Read: readImported, Glob: filepath.Glob, Environ: os.LookupEnv}
	if x.from == "" && len(args) == 1 && args[0] == string(importer.Environment) {
		o.Kind, args = importer.Environment, nil
	}
	switch known := strings.Join(importer.Kinds, ", "); {
	case o.Kind != "" && !strings.Contains(", "+known+",", ", "+string(o.Kind)+","):
		return usageError("--from %s: it can be %s", x.from, known)
	case o.Kind == importer.Environment && len(args) > 0:
		return usageError("the environment is in no file")
	case o.Kind != importer.Environment && len(args) == 0:
		return usageError("name the file to import, or environment")
	case x.force && x.output == "":
		return usageError("--force is about --output")
	}
	if len(args) == 1 {
		o.Name = args[0]
		text, err := importText(c.InOrStdin(), o.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
		o.Text = text
		if o.Kind == "" {
			if o.Kind = importer.Guess(o.Name, text); o.Kind == "" {
				return fmt.Errorf("%s: it cannot be told what it is of: say --from cntlm, px or squid", o.Name)
			}
		}
	}
	r, err := importer.Import(o)
	if err != nil {
		return err
	}
	if err := x.write(c.OutOrStdout(), o.Name, r); err != nil {
		return err
	}
	if n := len(r.Left); n > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "%s did not carry over: see the comments at the top\n", count(n, "line"))
		return quiet(exitProblems)
	}
	return nil
}

// write puts the policy where it is wanted.
func (x *importing) write(out io.Writer, name string, r *importer.Result) error {
	if x.output != "" {
		if err := writeNew(x.output, r.Policy, x.force); err != nil {
			return err
		}
	}
	if !x.asJSON {
		if x.output != "" {
			return nil
		}
		_, err := out.Write(r.Policy)
		return err
	}
	j := imported{From: string(r.Kind), File: name, Output: x.output, Left: r.Left}
	if j.Left == nil {
		j.Left = []importer.Left{}
	}
	if x.output == "" {
		j.Policy = string(r.Policy)
	}
	return writeJSON(out, &j)
}

// writeNew writes a file that is not there yet, unless force says that it may be replaced: then as a whole.
func writeNew(path string, content []byte, force bool) error {
	if _, err := os.Stat(path); err == nil && force {
		return replaceFile(path, content, 0o644)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; --force replaces it", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path) // nothing half written stays
	}
	return err
}

// maxImported is a little more than the importer takes, so that it says what is wrong.
const maxImported = 5 << 20

func importText(in io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(in, maxImported))
	}
	return readImported(name)
}

// readImported reads a regular file, as far as it makes sense.
func readImported(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, plainPath(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plainPath(err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxImported))
}

func plainPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
