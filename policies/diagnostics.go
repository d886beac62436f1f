package policies

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
)

// Diagnostics is everything that was found wrong, with the sources it was found in. The zero value says that all is well.
type Diagnostics struct {
	List hcl.Diagnostics
	// Notes are what is right and yet good to know, such as which rule makes a client wait. They are in no count.
	Notes   hcl.Diagnostics
	sources map[string][]byte
	hidden  hidden
}

// newDiagnostics makes the list one that can be shown. foreign tells which of it HCL wrote.
func newDiagnostics(list hcl.Diagnostics, sources map[string][]byte, h hidden, foreign func(*hcl.Diagnostic) bool) Diagnostics {
	for _, x := range list {
		h.seal(x, sources, foreign(x))
	}
	return Diagnostics{List: list, sources: sources, hidden: h}
}

// HasErrors reports whether something in the list keeps the configuration from being used.
func (d Diagnostics) HasErrors() bool { return d.List.HasErrors() }

// Count returns the numbers of errors and warnings.
func (d Diagnostics) Count() (errors, warnings int) {
	for _, x := range d.List {
		if x.Severity == hcl.DiagError {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// Error makes Diagnostics an error of one line a problem, for logs; see WriteText for people.
func (d Diagnostics) Error() string {
	var b strings.Builder
	for _, x := range d.List {
		if x.Severity != hcl.DiagError {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		if x.Subject != nil {
			fmt.Fprintf(&b, "%s:%d: ", x.Subject.Filename, x.Subject.Start.Line)
		}
		b.WriteString(x.Summary)
		if x.Detail != "" {
			b.WriteString(": " + x.Detail)
		}
	}
	return b.String()
}

// Err returns d as an error if it has errors, else nil.
func (d Diagnostics) Err() error {
	if !d.HasErrors() {
		return nil
	}
	return d
}

// Append adds those of o, for instance what Load says of the policy that Default wrote.
func (d *Diagnostics) Append(o Diagnostics) {
	d.List = append(d.List, o.List...)
	d.Notes = append(d.Notes, o.Notes...)
	for name, src := range o.sources {
		if d.sources == nil {
			d.sources, d.hidden = make(map[string][]byte), hidden{}
		}
		d.sources[name], d.hidden[name] = src, o.hidden[name]
	}
}

// sorted puts problems in the order of the files and lines, those without a place first.
func (d *Diagnostics) sorted(files []string) {
	order := make(map[string]int, len(files))
	for i, f := range files {
		order[f] = i + 1
	}
	slices.SortStableFunc(d.List, func(a, b *hcl.Diagnostic) int {
		switch {
		case a.Subject == nil || b.Subject == nil:
			return boolInt(a.Subject != nil) - boolInt(b.Subject != nil)
		case a.Subject.Filename != b.Subject.Filename:
			if n := order[a.Subject.Filename] - order[b.Subject.Filename]; n != 0 {
				return n
			}
			return strings.Compare(a.Subject.Filename, b.Subject.Filename)
		}
		return a.Subject.Start.Byte - b.Subject.Start.Byte
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Colours of the terminal, by severity.
const (
	red, yellow, bold, plain = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
)

// WriteText writes every problem with its place, the line it stands in, a caret under it, and what to do.
func (d Diagnostics) WriteText(w io.Writer, color bool) error {
	for i, x := range d.List {
		var b strings.Builder
		if i > 0 {
			b.WriteByte('\n')
		}
		d.writeOne(&b, x, color)
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// WriteNotes writes the notes in the same form.
func (d Diagnostics) WriteNotes(w io.Writer, color bool) error {
	notes := d
	notes.List, notes.Notes = d.Notes, d.Notes
	return notes.WriteText(w, color)
}

func (d Diagnostics) writeOne(b *strings.Builder, x *hcl.Diagnostic, color bool) {
	paint := func(code, s string) string {
		if !color {
			return s
		}
		return code + s + plain
	}
	severity, code := "error", red
	if x.Severity == hcl.DiagWarning {
		severity, code = "warning", yellow
	}
	if slices.Contains(d.Notes, x) {
		severity, code = "note", bold
	}
	if x.Subject != nil {
		fmt.Fprintf(b, "%s: ", paint(bold, fmt.Sprintf("%s:%d:%d", printable(x.Subject.Filename), x.Subject.Start.Line, x.Subject.Start.Column)))
	}
	fmt.Fprintf(b, "%s: %s\n", paint(code, severity), paint(bold, printable(x.Summary)))
	if line, from, width, ok := d.snippet(x.Subject); ok {
		fmt.Fprintf(b, "  %s\n  %s%s\n", printable(line), blank(printable(line[:from])), paint(code, strings.Repeat("^", width)))
	}
	for _, s := range wrap(printable(x.Detail), 100) {
		b.WriteString("  " + s + "\n")
	}
}

// maxSnippet is how much of a long line is shown.
const maxSnippet = 160

// snippet finds the line that r begins in, the byte where it begins there and how many characters to underline.
func (d Diagnostics) snippet(r *hcl.Range) (line string, from, width int, ok bool) {
	if r == nil {
		return "", 0, 0, false
	}
	src, have := d.sources[r.Filename]
	if !have || r.Start.Byte > len(src) || r.Start.Byte < 0 {
		return "", 0, 0, false
	}
	start := strings.LastIndexByte(string(src[:r.Start.Byte]), '\n') + 1
	end := len(src)
	if i := strings.IndexByte(string(src[r.Start.Byte:]), '\n'); i >= 0 {
		end = r.Start.Byte + i
	}
	from = r.Start.Byte - start
	to := min(max(r.End.Byte, r.Start.Byte), end) - start
	line, cut := d.hidden.line(r.Filename, src, start, end)
	if cut >= 0 && to >= cut { // all of the mark is underlined, however much it hides
		from, to = min(from, cut), len(line)
	}
	if len(line) > maxSnippet {
		cut := max(0, min(from-20, len(line)-maxSnippet))
		line, from, to = line[cut:min(cut+maxSnippet, len(line))], from-cut, min(to-cut, maxSnippet)
	}
	from = min(from, len(line))
	to = max(from, min(to, len(line)))
	width = max(1, len([]rune(line[from:to])))
	return strings.ToValidUTF8(printable(line), "?"), min(from, len(printable(line))), width, true
}

// blank replaces all but tabs by spaces, so that what follows stands under what followed s.
func blank(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, s)
}

// printable keeps control characters of a policy file away from the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && r != '\n' && !unicode.IsPrint(r) { // marks that turn the direction of writing, and what cannot be seen, too
			return '?'
		}
		return r
	}, s)
}

// wrap breaks text at blanks.
func wrap(text string, width int) []string {
	var lines []string
	for part := range strings.SplitSeq(text, "\n") {
		line := ""
		for word := range strings.FieldsSeq(part) {
			switch {
			case line == "":
				line = word
			case len(line)+1+len(word) > width:
				lines = append(lines, line)
				line = word
			default:
				line += " " + word
			}
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// MarshalJSON writes {"valid", "errors", "warnings", "diagnostics": [{"severity", "summary", "detail", "file", "line",
// "column", "end_line", "end_column", "snippet"}]}, and "notes" of the same form, if there are any.
func (d Diagnostics) MarshalJSON() ([]byte, error) {
	type one struct {
		Severity  string `json:"severity"`
		Summary   string `json:"summary"`
		Detail    string `json:"detail,omitempty"`
		File      string `json:"file,omitempty"`
		Line      int    `json:"line,omitempty"`
		Column    int    `json:"column,omitempty"`
		EndLine   int    `json:"end_line,omitempty"`
		EndColumn int    `json:"end_column,omitempty"`
		Snippet   string `json:"snippet,omitempty"`
	}
	all, notes := make([]one, 0, len(d.List)), []one(nil)
	for i, x := range slices.Concat(d.List, d.Notes) {
		o := one{Severity: "error", Summary: x.Summary, Detail: x.Detail}
		if x.Severity == hcl.DiagWarning {
			o.Severity = "warning"
		}
		if i >= len(d.List) {
			o.Severity = "note"
		}
		if r := x.Subject; r != nil {
			o.File, o.Line, o.Column, o.EndLine, o.EndColumn = r.Filename, r.Start.Line, r.Start.Column, r.End.Line, r.End.Column
			o.Snippet, _, _, _ = d.snippet(r)
		}
		if i >= len(d.List) {
			notes = append(notes, o)
			continue
		}
		all = append(all, o)
	}
	errors, warnings := d.Count()
	return json.Marshal(struct {
		Valid       bool  `json:"valid"`
		Errors      int   `json:"errors"`
		Warnings    int   `json:"warnings"`
		Diagnostics []one `json:"diagnostics"`
		Notes       []one `json:"notes,omitempty"`
	}{errors == 0, errors, warnings, all, notes})
}
