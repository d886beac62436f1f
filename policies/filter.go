package policies

import (
	"time"

	"viaduct/connmodel"
	"viaduct/policies/expr"
)

// FilterOptions are what a filter is compiled with: see there.
type FilterOptions = expr.FilterOptions

// CompileFilter makes a filter of records from an expression over the names of [connmodel.FilterFields], in the language of conditions. It is nil if the
// diagnostics hold an error, and for a blank text, which wants every flow. The expression may come from anybody: see [expr.CompileFilter].
func CompileFilter(src string, o FilterOptions) (*connmodel.Filter, Diagnostics) {
	f, list := expr.CompileFilter(src, o)
	if len(list) == 0 {
		return f, Diagnostics{}
	}
	return f, Diagnostics{List: list, sources: map[string][]byte{expr.FilterFile: []byte(src)}}
}

// ParseMoment reads a time as filters and commands take it: how long ago ("1h", "7d"; "+7d" is to come), "now", a time of RFC 3339, a date, with or
// without a time of day, or a time of today, in zone; nil = the local one. The error is the end of a sentence that begins with the text.
func ParseMoment(s string, now time.Time, zone *time.Location) (time.Time, error) {
	return expr.ParseMoment(s, now, zone)
}
