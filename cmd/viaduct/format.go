package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"viaduct/policies"
)

const fmtLong = `Rewrites policy files in the usual layout. Comments stay. HCL-JSON is left alone.

A PATH is a file, a directory (its *.hcl files, with --recursive those below too), or - for standard
input, which is written to standard output. Without a PATH it is the present directory. The names of
files that are not in the usual layout are printed.

With --check nothing is written, and with --diff what would change is shown; --write=false, too, writes
nothing.

Exit codes: 0 all is in the usual layout, or was brought to it; 1 with --check: some are not;
2 usage; 255 a file could not be read, parsed or written.`

// formatter is one run of fmt.
type formatter struct {
	check, diff, write, recursive, asJSON bool

	in      io.Reader
	out     io.Writer
	errs    io.Writer
	changed []string
	failed  bool
}

func newFmt() *cobra.Command {
	var f formatter
	c := &cobra.Command{
		Use:     "fmt [PATH...]",
		Short:   "Bring policy files to the usual layout",
		Long:    fmtLong,
		Example: "  viaduct fmt\n  viaduct fmt --check --diff --recursive /etc/viaduct\n  viaduct fmt - < viaduct.hcl",
		RunE: func(c *cobra.Command, args []string) error {
			f.in, f.out, f.errs = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
			return f.run(args)
		},
	}
	c.Flags().BoolVar(&f.check, "check", false, "write nothing; exit 1 if a file is not in the usual layout")
	c.Flags().BoolVar(&f.diff, "diff", false, "show what changes")
	c.Flags().BoolVar(&f.write, "write", true, "write the files")
	c.Flags().BoolVarP(&f.recursive, "recursive", "r", false, "directories below, too")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print the list of files as JSON")
	return c
}

func (f *formatter) run(args []string) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	f.changed = []string{}
	for _, path := range args {
		if path == "-" {
			if len(args) > 1 {
				return usageError("- stands alone")
			}
			if f.asJSON {
				return usageError("- and --json do not go together")
			}
			f.stdin()
			break
		}
		f.path(path)
	}
	if f.asJSON {
		if err := writeJSON(f.out, f.changed); err != nil {
			return err
		}
	}
	switch {
	case f.failed:
		return quiet(exitTrouble)
	case f.check && len(f.changed) > 0:
		return quiet(exitProblems)
	}
	return nil
}

func (f *formatter) trouble(err error) {
	f.failed = true
	fmt.Fprintln(f.errs, "viaduct:", err)
}

// maxPolicyFile bounds one file, as reading a policy does.
const maxPolicyFile = 8 << 20

func (f *formatter) stdin() {
	src, err := io.ReadAll(io.LimitReader(f.in, maxPolicyFile+1))
	if err == nil && len(src) > maxPolicyFile {
		err = fmt.Errorf("standard input is longer than %d bytes", maxPolicyFile)
	}
	if err != nil {
		f.trouble(err)
		return
	}
	out, ok := f.format("<stdin>", src)
	if !ok {
		return
	}
	same := bytes.Equal(src, out)
	if !same {
		f.changed = append(f.changed, "<stdin>")
	}
	switch {
	case f.diff:
		f.showDiff("<stdin>", src, out)
	case !f.check:
		if _, err := f.out.Write(out); err != nil {
			f.trouble(err)
		}
	}
}

// format says what is wrong when src is no policy.
func (f *formatter) format(name string, src []byte) (out []byte, ok bool) {
	out, diags := policies.Format(name, src)
	if !diags.HasErrors() {
		return out, true
	}
	f.failed = true
	if err := diags.WriteText(f.errs, colourful(f.errs)); err != nil {
		f.trouble(err)
	}
	return nil, false
}

// path formats a file, or the files of a directory.
func (f *formatter) path(path string) {
	st, err := os.Stat(path)
	if err != nil {
		f.trouble(err)
		return
	}
	if !st.IsDir() {
		f.file(path, st.Mode())
		return
	}
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			f.trouble(err)
			return nil
		case d.IsDir() && p != path && (!f.recursive || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(p, ".hcl") && !strings.HasPrefix(d.Name(), "."):
			if st, err := os.Stat(p); err != nil {
				f.trouble(err)
			} else if st.Mode().IsRegular() {
				f.file(p, st.Mode())
			}
		}
		return nil
	})
	if err != nil {
		f.trouble(err)
	}
}

func (f *formatter) file(path string, mode fs.FileMode) {
	src, err := os.ReadFile(path)
	if err != nil {
		f.trouble(err)
		return
	}
	if len(src) > maxPolicyFile {
		f.trouble(fmt.Errorf("%s is longer than %d bytes", path, maxPolicyFile))
		return
	}
	out, ok := f.format(path, src)
	if !ok || bytes.Equal(src, out) {
		return
	}
	f.changed = append(f.changed, path)
	if !f.asJSON {
		fmt.Fprintln(f.out, path)
	}
	if f.diff {
		f.showDiff(path, src, out)
	}
	if f.write && !f.check {
		if err := replaceFile(path, out, mode); err != nil {
			f.trouble(err)
		}
	}
}

// replaceFile writes beside the file and renames, so that a full disk leaves the old one whole. A link is followed.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".viaduct-fmt-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after the rename
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Chmod(mode.Perm())
	}
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
