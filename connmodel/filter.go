package connmodel

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Filter says which flows are meant: plain data, a tree that a store can translate as far as it is able to, and that Match gives its meaning. A
// store translates to a superset and applies Match to what comes out, so that no store can change what a filter means. nil is every flow.
//
// A Filter is made by package policies from an expression, or by hand, and is not changed afterwards: it may be used from any goroutine.
type Filter struct {
	Op   FilterOp
	Args []*Filter // of FilterAnd, FilterOr and FilterNot, which has one

	// Of FilterTest: the field, never nil there, how it is compared, and with what.
	Field *FilterField
	Cmp   FilterCmp
	Value FilterValue

	// Func is the whole of FilterFunc: what no store can translate. It must not keep or change the flow.
	Func func(*Flow) bool
}

// FilterOp is what a node of a Filter does.
type FilterOp uint8

// The operations. FilterAnd without arguments is true, FilterOr without arguments false.
const (
	FilterTest FilterOp = iota
	FilterAnd
	FilterOr
	FilterNot
	FilterFunc
)

// FilterCmp is how a field is compared with a value.
type FilterCmp uint8

// The comparisons. What is null satisfies FilterIsNull and FilterNotEqual alone, as in conditions of policies.
const (
	FilterEqual        FilterCmp = iota
	FilterNotEqual               // the opposite of FilterEqual
	FilterLess                   // numbers and times; so the three that follow
	FilterLessEqual              //
	FilterGreater                //
	FilterGreaterEqual           //
	FilterIn                     // the field is equal to one of Value.List
	FilterHas                    // the field, a list of texts, has Value.Text as an element
	FilterUnder                  // the field, a host, is Value.Text or a name below it
	FilterWithin                 // the field, an address, is in one of Value.Prefixes
	FilterContains               // the field, a text, has Value.Text as a part
	FilterPrefix                 // ... begins with it
	FilterSuffix                 // ... ends with it
	FilterMatches                // Value.Pattern matches somewhere in the field, a text
	FilterIsNull                 // there is no value; only numbers, times and addresses can be null
)

// FilterType is the type of a field and of a value.
type FilterType uint8

// The types.
const (
	FilterNull    FilterType = iota // no value
	FilterText                      // FilterValue.Text; never null, "" stands for what is not there
	FilterNumber                    // FilterValue.Number; whole numbers are exact up to 2 to the power of 53
	FilterBool                      // FilterValue.Bool
	FilterTime                      // FilterValue.Time, of which microseconds count
	FilterAddress                   // FilterValue.Address
	FilterTexts                     // FilterValue.Texts
	FilterMap                       // of fields alone: At gives the field of a key, which is a text
)

var filterTypes = [...]string{"null", "text", "number", "bool", "time", "IP address", "list of texts", "map of texts"}

// String names the type as the manual does.
func (t FilterType) String() string { return filterTypes[t] }

// FilterValue is the value of a field, or what one is compared with. Only the part that belongs to Type is set.
type FilterValue struct {
	Type    FilterType
	Text    string
	Number  float64
	Bool    bool
	Time    time.Time
	Address netip.Addr
	Texts   []string

	List     []FilterValue  // for FilterIn
	Prefixes []netip.Prefix // for FilterWithin
	Pattern  *regexp.Regexp // for FilterMatches
}

// FilterAll is the filter that wants all of list; those that are nil are left out.
func FilterAll(list ...*Filter) *Filter {
	list = slices.DeleteFunc(slices.Clone(list), func(f *Filter) bool { return f == nil })
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return &Filter{Op: FilterAnd, Args: list}
}

// Match reports whether the flow is meant.
func (f *Filter) Match(flow *Flow) bool {
	if f == nil {
		return true
	}
	switch f.Op {
	case FilterAnd:
		for _, a := range f.Args {
			if !a.Match(flow) {
				return false
			}
		}
		return true
	case FilterOr:
		for _, a := range f.Args {
			if a.Match(flow) {
				return true
			}
		}
		return false
	case FilterNot:
		return !f.Args[0].Match(flow)
	case FilterFunc:
		return f.Func(flow)
	}
	return f.test(f.Field.Get(flow))
}

// test compares the value of the field.
func (f *Filter) test(v FilterValue) bool {
	if v.Type == FilterNull {
		return f.Cmp == FilterIsNull || f.Cmp == FilterNotEqual
	}
	switch w := &f.Value; f.Cmp {
	case FilterEqual:
		return v.equal(w)
	case FilterNotEqual:
		return !v.equal(w)
	case FilterLess:
		return v.compare(w, -1, -1)
	case FilterLessEqual:
		return v.compare(w, -1, 0)
	case FilterGreater:
		return v.compare(w, 1, 1)
	case FilterGreaterEqual:
		return v.compare(w, 0, 1)
	case FilterIn:
		return slices.ContainsFunc(w.List, func(w FilterValue) bool { return v.equal(&w) })
	case FilterHas:
		return v.Type == FilterTexts && slices.Contains(v.Texts, w.Text)
	case FilterUnder:
		return v.Type == FilterText && under(v.Text, w.Text)
	case FilterWithin:
		return v.Type == FilterAddress && slices.ContainsFunc(w.Prefixes, func(p netip.Prefix) bool { return p.Contains(v.Address) })
	case FilterContains:
		return v.Type == FilterText && strings.Contains(v.Text, w.Text)
	case FilterPrefix:
		return v.Type == FilterText && strings.HasPrefix(v.Text, w.Text)
	case FilterSuffix:
		return v.Type == FilterText && strings.HasSuffix(v.Text, w.Text)
	case FilterMatches:
		return v.Type == FilterText && w.Pattern != nil && w.Pattern.MatchString(v.Text)
	}
	return false // FilterIsNull, of what is not null
}

// equal compares values; those of different types are never equal.
func (v *FilterValue) equal(w *FilterValue) bool {
	if v.Type != w.Type {
		return false
	}
	switch v.Type {
	case FilterText:
		return v.Text == w.Text
	case FilterNumber:
		return v.Number == w.Number
	case FilterBool:
		return v.Bool == w.Bool
	case FilterTime:
		return v.Time.UnixMicro() == w.Time.UnixMicro()
	case FilterAddress:
		return v.Address == w.Address
	case FilterTexts:
		return slices.Equal(v.Texts, w.Texts)
	}
	return false
}

// compare reports whether v compared with w gives something from lo to hi: -1 less, 0 equal, 1 greater.
func (v *FilterValue) compare(w *FilterValue, lo, hi int) bool {
	if v.Type != w.Type {
		return false
	}
	c := 0
	switch v.Type {
	case FilterNumber:
		c = order(v.Number, w.Number)
	case FilterTime:
		c = order(v.Time.UnixMicro(), w.Time.UnixMicro())
	default:
		return false
	}
	return lo <= c && c <= hi
}

func order[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// under reports whether host is name or below it.
func under(host, name string) bool {
	return host == name || len(host) > len(name) && strings.HasSuffix(host, name) && host[len(host)-len(name)-1] == '.'
}
