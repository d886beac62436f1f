package policies

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
)

// Bounds of what is read as policy. Lists have their own.
const (
	maxFiles    = 1000
	maxFileSize = 8 << 20
)

// readSources finds the files of o.Paths: a file as it is named, of a directory those called *.hcl, *.hcl.json (so also
// *.test.hcl), in lexical order, not those below it.
func (l *loader) readSources(o Options) {
	for _, name := range slices.Sorted(keysOf(o.Source)) {
		l.source(name, o.Source[name])
	}
	for _, path := range o.Paths {
		st, err := os.Stat(path)
		switch {
		case err != nil:
			l.unplaced(hcl.DiagError, "Cannot read policy", reasonOf(err, path))
		case st.IsDir():
			l.readDirectory(path)
		default:
			l.readPolicy(path)
		}
	}
	if len(l.files) == 0 && !l.diags.HasErrors() {
		l.unplaced(hcl.DiagError, "No policy file", "Name a file, or a directory that holds files called *.hcl or *.hcl.json.")
	}
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (l *loader) readDirectory(dir string) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		l.unplaced(hcl.DiagError, "Cannot read policy", reasonOf(err, dir))
		return
	}
	found := false
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".hcl") && !strings.HasSuffix(name, ".hcl.json") {
			continue
		}
		found = true
		l.readPolicy(filepath.Join(dir, name))
	}
	if !found {
		l.unplaced(hcl.DiagError, "No policy file", fmt.Sprintf("The directory %s holds no file called *.hcl or *.hcl.json.", dir))
	}
}

func (l *loader) readPolicy(path string) {
	src, err := readBounded(path, maxFileSize)
	if err != nil {
		l.unplaced(hcl.DiagError, "Cannot read policy", reasonOf(err, path))
		return
	}
	l.source(path, src)
}

// source parses one file. A file that is named twice is read once.
func (l *loader) source(name string, src []byte) {
	if l.sources[name] != nil {
		return
	}
	if len(l.files) >= maxFiles {
		if len(l.files) == maxFiles {
			l.unplaced(hcl.DiagError, "Too many files", fmt.Sprintf("More than %d policy files.", maxFiles))
		}
		return
	}
	l.sources[name] = append([]byte{}, src...)
	f, diags := parse(name, src)
	l.ofHCL(diags)
	l.names = append(l.names, name)
	if f != nil {
		l.files = append(l.files, f)
	}
}

func isJSON(name string) bool { return strings.HasSuffix(name, ".json") }

// parse reads one file, with what it does to the parsers bounded: they recurse.
func parse(name string, src []byte) (*hcl.File, hcl.Diagnostics) {
	if len(src) > maxFileSize {
		return nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "File too large",
			Detail: fmt.Sprintf("%s is longer than %d MiB. Large sets of hosts belong into a list.", name, maxFileSize>>20)}}
	}
	if isJSON(name) {
		switch r, verdict := scanJSON(name, src); verdict {
		case "deep":
			return nil, tooDeep(r)
		case "huge":
			return nil, tooHuge(r)
		}
		return json.Parse(plainCallsJSON(src), name)
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	if r, deep := deepHCL(tokens); deep {
		return nil, tooDeep(r)
	}
	if r, huge := hugeNumber(tokens); huge {
		return nil, tooHuge(r)
	}
	return hclsyntax.ParseConfig(plainCalls(src, tokens), name, hcl.InitialPos)
}

// Bounds of nesting. The largest sensible policy is two orders of magnitude below.
const (
	maxNesting   = 200
	maxQuestions = 5000 // a ? b : c ? d : … nests without brackets
)

func tooDeep(r hcl.Range) hcl.Diagnostics {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Nested too deep",
		Detail: fmt.Sprintf("Brackets, operators or templates are nested more than %d levels deep here.", maxNesting), Subject: &r}}
}

// deepHCL finds the place where the file nests too deep for a parser that recurses.
func deepHCL(tokens hclsyntax.Tokens) (hcl.Range, bool) {
	depth, unary, questions := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp,
			hclsyntax.TokenTemplateControl, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd,
			hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			depth = max(0, depth-1)
		case hclsyntax.TokenQuestion:
			questions++
		}
		if t.Type == hclsyntax.TokenBang || t.Type == hclsyntax.TokenMinus {
			unary++
		} else if t.Type != hclsyntax.TokenNewline {
			unary = 0
		}
		if depth > maxNesting || unary > maxNesting || questions > maxQuestions {
			return t.Range, true
		}
	}
	return hcl.Range{}, false
}

// hugeNumber finds a number with an exponent of more than three digits. In a template it would be written out, all zeros of it, which
// takes minutes for nine bytes.
func hugeNumber(tokens hclsyntax.Tokens) (hcl.Range, bool) {
	for _, t := range tokens {
		if t.Type == hclsyntax.TokenNumberLit && hugeExponent(t.Bytes) {
			return t.Range, true
		}
	}
	return hcl.Range{}, false
}

func hugeExponent(number []byte) bool {
	i := bytes.IndexAny(number, "eE")
	return i >= 0 && len(bytes.TrimLeft(number[i+1:], "+-0")) > 3
}

func tooHuge(r hcl.Range) hcl.Diagnostics {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Number too large",
		Detail: "The exponent of a number has at most three digits.", Subject: &r}}
}

// scanJSON finds the place where a file in JSON nests too deep ("deep"), or has a number that is too large ("huge").
func scanJSON(name string, src []byte) (place hcl.Range, verdict string) {
	depth, quoted, digits := 0, false, 0 // digits of a number, or of its exponent when they are negative
	pos := hcl.InitialPos
	for i, c := range src {
		switch {
		case quoted:
			if c == '"' && !escaped(src, i) {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth = max(0, depth-1)
		}
		switch {
		case quoted:
			digits = 0
		case digits < 0 && (c >= '1' && c <= '9' || c == '0' && digits < -1):
			digits--
		case digits < 0 && (c == '+' || c == '-' || c == '0'):
		case digits > 0 && (c == 'e' || c == 'E'):
			digits = -1
		case c >= '0' && c <= '9':
			digits++
		case c != '.':
			digits = 0
		}
		if depth > maxNesting {
			return hcl.Range{Filename: name, Start: pos, End: pos}, "deep"
		}
		if digits < -4 {
			return hcl.Range{Filename: name, Start: pos, End: pos}, "huge"
		}
		pos.Byte++
		pos.Column++
		if c == '\n' {
			pos.Line, pos.Column = pos.Line+1, 1
		}
	}
	return hcl.Range{}, ""
}

// escaped reports whether an odd number of backslashes stands before src[i].
func escaped(src []byte, i int) bool {
	n := 0
	for i > n && src[i-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// readBounded reads a file that may be no longer than most, and that is a file: a device or pipe could go on for ever.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, errors.New("it is a directory")
	}
	if st.Size() > most {
		return nil, fmt.Errorf("it is longer than %d bytes", most)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("it is longer than %d bytes", most)
	}
	return b, err
}

// reasonOf says in a sentence why path could not be read.
func reasonOf(err error, path string) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("There is no %s.", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("Permission to read %s is missing: check its owner and mode.", path)
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Sprintf("%s cannot be read: %v.", path, err)
}
