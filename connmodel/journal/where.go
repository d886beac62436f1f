package journal

import (
	"math"
	"strings"

	"viaduct/connmodel"
)

// where turns f into a condition on the table block that holds for every block in which there may be a record that f means; "" = all blocks. Match has
// the last word, so a condition may let too much through, but never too little.
//
// No text of f's ever is part of the SQL: values are bound. Conditions are of a bounded size, for SQLite bounds theirs.
func where(f *connmodel.Filter) (sql string, args []any) {
	w := &whereMaker{room: maxTerms}
	t := w.of(f, false)
	if w.room < 0 {
		return "", nil
	}
	return t.sql, t.args
}

// maxTerms bounds the comparisons of a condition: SQLite takes expressions up to 1,000 deep, and chains are that.
const maxTerms = 400

// term is a condition; "" in sql holds for all blocks.
type term struct {
	sql  string
	args []any
}

type whereMaker struct{ room int }

var everyBlock = term{}

func cond(sql string, args ...any) term { return term{sql, args} }

// of is the condition for f, or for what f does not mean.
func (w *whereMaker) of(f *connmodel.Filter, not bool) term {
	if f == nil {
		if not {
			return cond("0")
		}
		return everyBlock
	}
	switch f.Op {
	case connmodel.FilterNot:
		return w.of(f.Args[0], !not)
	case connmodel.FilterAnd:
		return w.join(f.Args, not, not)
	case connmodel.FilterOr:
		return w.join(f.Args, not, !not)
	case connmodel.FilterTest:
		if w.room--; w.room < 0 {
			return everyBlock
		}
		if not {
			return w.testNot(f)
		}
		return w.test(f)
	}
	return everyBlock
}

// join is the condition for all of args, or for any of them. Records of one block may satisfy them that no one record satisfies together: the block is looked
// at then.
func (w *whereMaker) join(args []*connmodel.Filter, not, either bool) term {
	var parts []string
	var bound []any
	for _, a := range args {
		t := w.of(a, not)
		if t.sql == "" {
			if either {
				return everyBlock
			}
			continue
		}
		parts, bound = append(parts, t.sql), append(bound, t.args...)
	}
	switch {
	case len(parts) == 0 && either:
		return cond("0")
	case len(parts) == 0:
		return everyBlock
	case either:
		return term{"(" + strings.Join(parts, " OR ") + ")", bound}
	}
	return term{"(" + strings.Join(parts, " AND ") + ")", bound}
}

// test is the condition for one comparison.
func (w *whereMaker) test(f *connmodel.Filter) term {
	v := &f.Value
	if f.Cmp == connmodel.FilterNotEqual {
		g := *f
		g.Cmp = connmodel.FilterEqual
		return w.testNot(&g)
	}
	switch f.Field.Name {
	case "id":
		return ofID(f)
	case "error":
		return counted(f, "errors", false)
	case "denied":
		return counted(f, "denied", false)
	case "shadow.differs":
		return counted(f, "differs", false)
	case "bytes", "bytes_up", "bytes_down":
		return atMost(f, "max_bytes", 1)
	case "duration":
		return atMost(f, "max_duration", 1e6)
	case "duration_ms":
		return atMost(f, "max_duration", 1e3)
	case "started":
		return times(f, "first_start", "last_start")
	case "ended":
		return times(f, "first_end", "last_end")
	case "outcome":
		if f.Cmp == connmodel.FilterEqual && v.Text == string(connmodel.OutcomeDeny) {
			return cond("denied > 0")
		}
		return everyBlock
	}
	if isError(f) {
		t := w.words(f)
		if t.sql == "" {
			return cond("errors > 0")
		}
		return term{"(errors > 0 AND " + t.sql + ")", t.args}
	}
	return w.words(f)
}

// isError reports whether what f wants only a record with a failure has.
func isError(f *connmodel.Filter) bool {
	if !strings.HasPrefix(f.Field.Name, "error.") {
		return false
	}
	switch f.Cmp {
	case connmodel.FilterEqual, connmodel.FilterPrefix, connmodel.FilterSuffix, connmodel.FilterContains:
		return f.Value.Type != connmodel.FilterText || f.Value.Text != ""
	case connmodel.FilterIn:
		for i := range f.Value.List {
			if x := &f.Value.List[i]; x.Type == connmodel.FilterText && x.Text == "" {
				return false
			}
		}
		return true
	case connmodel.FilterLess, connmodel.FilterLessEqual, connmodel.FilterGreater, connmodel.FilterGreaterEqual:
		return true
	}
	return false
}

// words is the condition for a comparison of a field whose values stand in words.
func (w *whereMaker) words(f *connmodel.Filter) term {
	if !hasWords(f.Field) {
		return everyBlock
	}
	v := &f.Value
	name := "\n" + f.Field.Name + "="
	switch f.Cmp {
	case connmodel.FilterEqual:
		return w.word(f.Field, v)
	case connmodel.FilterHas:
		return w.word(f.Field, &connmodel.FilterValue{Type: connmodel.FilterText, Text: v.Text})
	case connmodel.FilterIn:
		if w.room -= len(v.List); w.room < 0 {
			return everyBlock
		}
		var parts []string
		var args []any
		for i := range v.List {
			t := w.word(f.Field, &v.List[i])
			if t.sql == "" {
				return everyBlock
			}
			parts, args = append(parts, t.sql), append(args, t.args...)
		}
		if len(parts) == 0 {
			return cond("0")
		}
		return term{"(" + strings.Join(parts, " OR ") + ")", args}
	case connmodel.FilterUnder:
		if v.Text == "" || len(v.Text) > maxWord-1 {
			return everyBlock
		}
		return cond("(cut OR instr(words, ?) OR instr(words, ?))", []byte(name+v.Text+"\n"), []byte("."+v.Text+"\n"))
	case connmodel.FilterPrefix:
		if len(v.Text) > maxWord {
			return everyBlock
		}
		return cond(inWords, []byte(name+v.Text))
	case connmodel.FilterSuffix:
		if v.Text == "" || len(v.Text) > maxWord {
			return everyBlock
		}
		return cond(inWords, []byte(v.Text+"\n"))
	case connmodel.FilterContains:
		if v.Text == "" || len(v.Text) > maxWord {
			return everyBlock
		}
		return cond(inWords, []byte(v.Text))
	case connmodel.FilterMatches:
		if v.Pattern == nil {
			return cond("0")
		}
		if prefix, _ := v.Pattern.LiteralPrefix(); prefix != "" && len(prefix) <= maxWord && strings.ToValidUTF8(prefix, "") == prefix && !strings.Contains(prefix, "\ufffd") {
			return cond(inWords, []byte(prefix))
		}
	}
	return everyBlock
}

// inWords holds where a text stands in words, or may have been left out of them.
const inWords = "(cut OR instr(words, ?))"

// word is the condition for a field to have the value v.
func (w *whereMaker) word(field *connmodel.FilterField, v *connmodel.FilterValue) term {
	if field.Type != v.Type && !(field.Type == connmodel.FilterTexts && v.Type == connmodel.FilterText) {
		return cond("0") // values of different types are never equal
	}
	x := *v
	x.Number += 0 // never -0
	text, ok := wordOf(&x)
	if !ok {
		return everyBlock
	}
	pattern, ok := wordPattern(field, text)
	if !ok {
		return everyBlock
	}
	return cond(inWords, pattern)
}

// ofID looks for an id.
func ofID(f *connmodel.Filter) term {
	if f.Cmp != connmodel.FilterEqual {
		return everyBlock
	}
	id, err := connmodel.ParseID(f.Value.Text)
	switch {
	case err != nil || id.String() != f.Value.Text:
		return cond("0")
	case id.IsZero():
		return everyBlock
	}
	return cond("(min_id <= ? AND max_id >= ?)", id[:], id[:])
}

// counted is the condition for what is true or false of a record, of which the block knows how often it is true.
func counted(f *connmodel.Filter, column string, not bool) term {
	if f.Value.Type != connmodel.FilterBool || f.Cmp != connmodel.FilterEqual {
		return everyBlock
	}
	if f.Value.Bool != not {
		return cond(column + " > 0")
	}
	return cond(column + " < n")
}

// atMost is the condition for a number of which the block knows the largest, in units of 1/scale. A difference of two units is left for rounding.
func atMost(f *connmodel.Filter, column string, scale float64) term {
	if f.Value.Type != connmodel.FilterNumber {
		return everyBlock
	}
	switch f.Cmp {
	case connmodel.FilterEqual, connmodel.FilterGreater, connmodel.FilterGreaterEqual:
		least := math.Floor(f.Value.Number*scale) - 2
		if least <= 0 || !(least < 1<<62) {
			return everyBlock
		}
		return cond(column+" >= ?", int64(least))
	}
	return everyBlock
}

// times is the condition for a time of which the block knows the first and the last.
func times(f *connmodel.Filter, first, last string) term {
	if f.Cmp == connmodel.FilterIn {
		return everyBlock
	}
	if f.Value.Type != connmodel.FilterTime {
		return everyBlock
	}
	at := f.Value.Time.UnixMicro()
	switch f.Cmp {
	case connmodel.FilterEqual:
		return cond("("+first+" <= ? AND "+last+" >= ?)", at, at)
	case connmodel.FilterLess, connmodel.FilterLessEqual:
		return cond(first+" <= ?", at)
	case connmodel.FilterGreater, connmodel.FilterGreaterEqual:
		return cond(last+" >= ?", at)
	}
	return everyBlock
}

// testNot is the condition for a comparison that does not hold.
func (w *whereMaker) testNot(f *connmodel.Filter) term {
	g := *f
	switch f.Cmp {
	case connmodel.FilterNotEqual:
		g.Cmp = connmodel.FilterEqual
		return w.test(&g)
	case connmodel.FilterEqual:
		switch f.Field.Name {
		case "error":
			return counted(f, "errors", true)
		case "denied":
			return counted(f, "denied", true)
		case "shadow.differs":
			return counted(f, "differs", true)
		}
		if f.Field.Type == connmodel.FilterText && f.Value.Type == connmodel.FilterText && f.Value.Text == "" && strings.HasPrefix(f.Field.Name, "error.") {
			return cond("errors > 0")
		}
	case connmodel.FilterLess: // of what is never null
		if strings.HasPrefix(f.Field.Name, "bytes") || strings.HasPrefix(f.Field.Name, "duration") {
			g.Cmp = connmodel.FilterGreaterEqual
			return w.test(&g)
		}
	case connmodel.FilterLessEqual:
		if strings.HasPrefix(f.Field.Name, "bytes") || strings.HasPrefix(f.Field.Name, "duration") {
			g.Cmp = connmodel.FilterGreater
			return w.test(&g)
		}
	}
	return everyBlock
}
