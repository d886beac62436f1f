package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func TestRewrap(t *testing.T) {
	for in, want := range map[string]string{
		"":                               "",
		"a b c d e f":                    "a b c d\ne f",
		"a b\nc d":                       "a b c d",
		"a b\n\nc d\n":                   "a b\n\nc d\n",
		"a:\n\n  x    y  long line\n\nb": "a:\n\n  x    y  long line\n\nb",
		"muchtoolong a":                  "muchtoolong\na",
		"äö ü é":                         "äö ü é",
	} {
		if got := rewrap(in, 8); got != want {
			t.Errorf("%q: %q, expected %q", in, got, want)
		}
	}
}

// TestHelp holds the help of every command to what all of them have.
func TestHelp(t *testing.T) {
	root, _ := newRoot()
	names := map[string]bool{}
	eachCommand(root, func(c *cobra.Command) {
		path := c.CommandPath()
		if c.Parent() == root {
			if names[c.Name()] {
				t.Errorf("%s is there twice", path)
			}
			names[c.Name()] = true
		}
		if strings.HasPrefix(path, "viaduct completion ") || c.Hidden {
			return // cobra's own
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[0] < 'A' || c.Short[0] > 'Z' {
			t.Errorf("%s: short help %q", path, c.Short)
		}
		var b bytes.Buffer
		c.SetOut(&b)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			// Examples are as long as they are, to be copied; tables may be a little wider.
			most := helpWidth
			if strings.HasPrefix(line, "  ") {
				most += 12
			}
			if utf8.RuneCountInString(line) > most && !strings.HasPrefix(line, "  viaduct") {
				t.Errorf("%s: a line of %d: %s", path, utf8.RuneCountInString(line), line)
			}
		}
		if c.Name() == "help" || c.Name() == "completion" || c.Name() == "version" {
			return
		}
		if c.Example == "" {
			t.Errorf("%s has no example", path)
		}
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: an example that is not indented: %s", path, line)
			}
		}
		if !c.HasSubCommands() && !strings.Contains(c.Long+c.Parent().Long, "Exit codes:") {
			t.Errorf("%s does not say how it exits", path)
		}
		if f := c.Flags().Lookup("json"); f != nil && !strings.Contains(f.Usage, "JSON") && !strings.Contains(f.Usage, "records") {
			t.Errorf("%s --json: %s", path, f.Usage)
		}
	})
	for name := range groupOf {
		if !names[name] {
			t.Logf("there is no command %q", name)
		}
	}
	for name := range names {
		if groupOf[name] == "" && name != "help" && name != "completion" && name != "version" {
			t.Errorf("%s is in no group of the help", name)
		}
	}
}
