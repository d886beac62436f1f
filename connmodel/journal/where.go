package journal

import (
	"math"
	"strings"
	"time"

	"viaduct/connmodel"
)

// where turns f into a condition on the table block that holds for every block in which there may be a record that f means; "" = all blocks. Match has
// the last word, so a condition may let too much through, but never too little: what cannot be told of a block as a whole (that some record is not of
// that host) becomes no condition.
func where(f *connmodel.Filter) (sql string, args []any) {
	if f == nil {
		return "", nil
	}
	switch f.Op {
	case connmodel.FilterAnd: // each that can be told
		var parts []string
		for _, a := range f.Args {
			if p, with := where(a); p != "" {
				parts, args = append(parts, p), append(args, with...)
			}
		}
		return strings.Join(parts, " AND "), args
	case connmodel.FilterOr: // only if every one can be told
		if len(f.Args) == 0 {
			return "0", nil
		}
		var parts []string
		for _, a := range f.Args {
			p, with := where(a)
			if p == "" {
				return "", nil
			}
			parts, args = append(parts, "("+p+")"), append(args, with...)
		}
		return "(" + strings.Join(parts, " OR ") + ")", args
	case connmodel.FilterTest:
		return whereTest(f)
	}
	return "", nil // FilterNot, FilterFunc
}

// counted are truths of which a block counts how many records have them.
var counted = map[string]string{"error": "errors > 0", "denied": "denied > 0", "shadow.differs": "differs > 0"}

// greatest are numbers of which a block has the greatest.
var greatest = map[string]struct {
	column string
	unit   float64 // of the column, in that of the field
}{
	"bytes": {"max_bytes", 1}, "bytes_up": {"max_bytes", 1}, "bytes_down": {"max_bytes", 1},
	"duration": {"max_duration", 1e6}, "duration_ms": {"max_duration", 1e3},
}

func whereTest(f *connmodel.Filter) (sql string, args []any) {
	name := f.Field.Name
	if name == "error" || name == "denied" || name == "shadow.differs" {
		if f.Cmp == connmodel.FilterEqual && f.Value.Type == connmodel.FilterBool && f.Value.Bool {
			return counted[name], nil
		}
		return "", nil
	}
	if g, ok := greatest[name]; ok && f.Value.Type == connmodel.FilterNumber {
		if f.Cmp == connmodel.FilterGreater || f.Cmp == connmodel.FilterGreaterEqual || f.Cmp == connmodel.FilterEqual {
			if least := math.Floor(f.Value.Number*g.unit) - 1; least > 0 && least < 1<<62 {
				return g.column + " >= ?", []any{int64(least)}
			}
		}
		return "", nil
	}
	switch name {
	case "ended":
		return whereTime(f, "first_end", "last_end")
	case "started":
		return whereTime(f, "first_start", "last_start")
	}
	switch f.Cmp {
	case connmodel.FilterEqual:
		return whereWords(f.Field, []connmodel.FilterValue{f.Value})
	case connmodel.FilterIn:
		return whereWords(f.Field, f.Value.List)
	case connmodel.FilterHas:
		return whereWords(f.Field, []connmodel.FilterValue{{Type: connmodel.FilterText, Text: f.Value.Text}})
	case connmodel.FilterPrefix:
		return whereText(f, "\n"+name+"=", "")
	case connmodel.FilterUnder, connmodel.FilterSuffix:
		return whereText(f, "", "\n")
	case connmodel.FilterContains:
		return whereText(f, "", "")
	}
	return "", nil
}

// whereTime compares with the first and the last time of the block.
func whereTime(f *connmodel.Filter, first, last string) (string, []any) {
	if f.Value.Type != connmodel.FilterTime || f.Value.Time.Before(time.UnixMicro(math.MinInt64/2)) {
		return "", nil
	}
	at := f.Value.Time.UnixMicro()
	switch f.Cmp {
	case connmodel.FilterLess, connmodel.FilterLessEqual:
		return first + " <= ?", []any{at}
	case connmodel.FilterGreater, connmodel.FilterGreaterEqual:
		return last + " >= ?", []any{at}
	case connmodel.FilterEqual:
		return first + " <= ? AND " + last + " >= ?", []any{at, at}
	}
	return "", nil
}

// maxChoices bounds the conditions that one list becomes.
const maxChoices = 100

// whereWords wants one of the values among the words of the block.
func whereWords(field *connmodel.FilterField, values []connmodel.FilterValue) (string, []any) {
	if len(values) > maxChoices {
		return "", nil
	}
	if len(values) == 0 {
		return "0", nil
	}
	parts := []string{"cut"}
	var args []any
	for i := range values {
		text, ok := wordOf(&values[i])
		if !ok {
			return "", nil
		}
		pattern, ok := wordPattern(field, text)
		if !ok {
			return "", nil
		}
		parts, args = append(parts, "instr(words, ?) > 0"), append(args, pattern)
	}
	return "(" + strings.Join(parts, " OR ") + ")", args
}

// whereText wants a part of a value among the words.
func whereText(f *connmodel.Filter, before, after string) (string, []any) {
	text := f.Value.Text
	if f.Value.Type != connmodel.FilterText || text == "" || !hasWords(f.Field) || len(text) > maxWord || strings.Contains(text, "\n") {
		return "", nil
	}
	return "(cut OR instr(words, ?) > 0)", []any{[]byte(before + text + after)}
}
