package main

import (
	"bytes"
	"fmt"

	"github.com/rogpeppe/go-internal/diff"
)

// showDiff prints what formatting changes, in the form that patch takes.
func (f *formatter) showDiff(name string, before, after []byte) {
	text := diff.Diff(name, before, name+" (formatted)", after)
	p := palette(colourful(f.out))
	for line := range bytes.Lines(text) {
		s := string(bytes.TrimSuffix(line, []byte("\n")))
		switch {
		case len(s) > 0 && s[0] == '+':
			s = p.good(s)
		case len(s) > 0 && s[0] == '-':
			s = p.bad(s)
		}
		if _, err := fmt.Fprintln(f.out, s); err != nil {
			f.trouble(err)
			return
		}
	}
}
