package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"viaduct/policies"
)

// Kind is a program whose configuration is read.
type Kind string

// The programs. Environment is HTTP_PROXY and its kin.
const (
	Cntlm       Kind = "cntlm"
	Px          Kind = "px"
	Squid       Kind = "squid"
	Environment Kind = "environment"
)

// Kinds are all of them.
var Kinds = []string{string(Cntlm), string(Px), string(Squid), string(Environment)}

const (
	maxText  = 4 << 20 // bytes of all files together
	maxLine  = 64 << 10
	maxFiles = 256
	maxDepth = 16 // of includes, as Squid has it
	maxLeft  = 2000
)

// Options say what to read. Name and Text are the first file; Read and Glob find those it includes.
type Options struct {
	Kind    Kind
	Name    string
	Text    []byte
	Read    func(path string) ([]byte, error)
	Glob    func(pattern string) ([]string, error)
	Environ func(string) (string, bool)
}

// Result is a policy and what did not get into it.
type Result struct {
	Kind   Kind
	Policy []byte
	Left   []Left
}

// Left is a line of the original that did not carry over. Text holds no password.
type Left struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
	Why  string `json:"why"`
}

// Guess finds the kind of a file by its name, else by what is in it; "" = it cannot be told.
func Guess(name string, text []byte) Kind {
	base := strings.ToLower(filepath.Base(name))
	for _, g := range []struct {
		part string
		kind Kind
	}{{"cntlm", Cntlm}, {"squid", Squid}, {"px.ini", Px}} {
		if strings.Contains(base, g.part) {
			return g.kind
		}
	}
	score := map[Kind]int{}
	for line := range strings.Lines(string(text[:min(len(text), 256<<10)])) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		word = strings.ToLower(strings.TrimSpace(strings.SplitN(word, "\t", 2)[0]))
		switch word {
		case "http_access", "cache_peer", "acl", "http_port", "never_direct", "cache_peer_access":
			score[Squid]++
		case "username", "domain", "proxy", "noproxy", "passntlmv2", "passnt", "passlm", "listen", "auth":
			if !strings.HasPrefix(strings.TrimSpace(rest), "=") {
				score[Cntlm]++
			} else {
				score[Px]++
			}
		case "[proxy]", "[settings]", "[client]":
			score[Px] += 2
		}
	}
	best := Kind("")
	for _, k := range []Kind{Squid, Px, Cntlm} {
		if score[k] > 0 && (best == "" || score[k] > score[best]) {
			best = k
		}
	}
	return best
}

// Import reads a configuration. An error names the file and the line.
func Import(o Options) (*Result, error) {
	if o.Environ == nil {
		o.Environ = func(string) (string, bool) { return "", false }
	}
	if o.Kind == Environment {
		text, diags := policies.Default(o.Environ)
		if diags.HasErrors() {
			return nil, diags.Err()
		}
		r := &Result{Kind: Environment, Policy: text}
		for _, d := range diags.List {
			r.Left = append(r.Left, Left{File: string(Environment), Text: d.Summary, Why: d.Detail})
		}
		return r, nil
	}
	if err := readable(o.Name, o.Text); err != nil {
		return nil, err
	}
	d := &document{o: &o}
	var err error
	switch o.Kind {
	case Cntlm:
		err = d.cntlm()
	case Px:
		err = d.px()
	case Squid:
		err = d.squid()
	default:
		err = fmt.Errorf("%q is no program whose configuration can be read", string(o.Kind))
	}
	if err != nil {
		return nil, err
	}
	text, err := d.text()
	if err != nil {
		return nil, err
	}
	return &Result{Kind: o.Kind, Policy: text, Left: d.left}, nil
}

// readable refuses what is no text, with the line where it stops being one.
func readable(name string, text []byte) error {
	if len(text) > maxText {
		return fmt.Errorf("%s: it is longer than %d bytes, and no configuration", name, maxText)
	}
	line := 1
	for l := range bytes.Lines(text) {
		switch {
		case bytes.IndexByte(l, 0) >= 0:
			return fmt.Errorf("%s:%d: there is a NUL byte: it is no text file", name, line)
		case len(l) > maxLine:
			return fmt.Errorf("%s:%d: the line is longer than %d bytes", name, line, maxLine)
		case !utf8.Valid(l) && bytes.ContainsFunc(l, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' && r != '\f' }):
			return fmt.Errorf("%s:%d: it is no text file", name, line)
		}
		line++
	}
	return nil
}

// read gets another file for the one at a line.
func (d *document) read(at place, path string) ([]byte, error) {
	if d.files++; d.files > maxFiles {
		return nil, at.errorf("more than %d files are named", maxFiles)
	}
	if d.o.Read == nil {
		return nil, at.errorf("%s cannot be read: there are no other files here", path)
	}
	text, err := d.o.Read(path)
	if err == nil {
		if d.size += len(text); d.size > maxText {
			err = fmt.Errorf("all files together are longer than %d bytes", maxText)
		}
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	if err != nil {
		return nil, at.errorf("%s cannot be read: %v", path, err)
	}
	if err := readable(path, text); err != nil {
		return nil, at.errorf("%v", err)
	}
	return text, nil
}

// place is a line of a file.
type place struct {
	file string
	line int
}

func (p place) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", p.file, p.line, fmt.Sprintf(format, args...))
}
