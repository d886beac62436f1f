package flowtest

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"viaduct/connmodel"
)

// Filter makes a filter of at most depth levels over all fields, with values that flows of this package have and such as they do not.
func Filter(r *rand.Rand, depth int) *connmodel.Filter {
	if depth > 0 {
		switch r.IntN(5) {
		case 0, 1:
			f := &connmodel.Filter{Op: pick(r, []connmodel.FilterOp{connmodel.FilterAnd, connmodel.FilterOr})}
			for range r.IntN(4) {
				f.Args = append(f.Args, Filter(r, depth-1))
			}
			return f
		case 2:
			return &connmodel.Filter{Op: connmodel.FilterNot, Args: []*connmodel.Filter{Filter(r, depth-1)}}
		}
	}
	if r.IntN(12) == 0 {
		limit := int64(r.IntN(3)) * 1000
		return &connmodel.Filter{Op: connmodel.FilterFunc, Func: func(f *connmodel.Flow) bool { return f.Up >= limit }}
	}
	return Test(r, pick(r, connmodel.FilterFields()))
}

// Test makes a comparison of one field.
func Test(r *rand.Rand, field *connmodel.FilterField) *connmodel.Filter {
	if field.Type == connmodel.FilterMap {
		field = field.At(pick(r, []string{"tls", "note", "a.b", "'"}))
	}
	f := &connmodel.Filter{Field: field}
	like := field.Get(Flow(r)) // of a flow like those that are asked
	switch field.Type {
	case connmodel.FilterText:
		f.Cmp = pick(r, []connmodel.FilterCmp{connmodel.FilterEqual, connmodel.FilterNotEqual, connmodel.FilterIn, connmodel.FilterUnder, connmodel.FilterContains, connmodel.FilterPrefix, connmodel.FilterSuffix, connmodel.FilterMatches})
		v := Value(r, like)
		f.Value = v
		if n := len(v.Text); n > 0 && half(r) && f.Cmp != connmodel.FilterIn { // a part of it
			from := r.IntN(n)
			f.Value.Text = v.Text[from : from+r.IntN(n-from+1)]
		}
		if f.Cmp == connmodel.FilterMatches {
			f.Value = connmodel.FilterValue{Pattern: regexp.MustCompile(regexp.QuoteMeta(strings.ToValidUTF8(f.Value.Text, "")) + pick(r, []string{"", "$", ".*"}))}
		}
	case connmodel.FilterTexts:
		f.Cmp, f.Value = connmodel.FilterHas, connmodel.FilterValue{Type: connmodel.FilterText, Text: Text(r)}
		if len(like.Texts) > 0 {
			f.Value.Text = pick(r, like.Texts)
		}
	case connmodel.FilterBool:
		f.Cmp, f.Value = pick(r, []connmodel.FilterCmp{connmodel.FilterEqual, connmodel.FilterNotEqual}), connmodel.FilterValue{Type: connmodel.FilterBool, Bool: half(r)}
	case connmodel.FilterNumber, connmodel.FilterTime:
		f.Cmp = pick(r, []connmodel.FilterCmp{connmodel.FilterEqual, connmodel.FilterNotEqual, connmodel.FilterLess, connmodel.FilterLessEqual, connmodel.FilterGreater, connmodel.FilterGreaterEqual, connmodel.FilterIn, connmodel.FilterIsNull})
		f.Value = Value(r, like)
		if f.Value.Type == connmodel.FilterNull {
			f.Cmp = connmodel.FilterIsNull
		}
	case connmodel.FilterAddress:
		f.Cmp = pick(r, []connmodel.FilterCmp{connmodel.FilterEqual, connmodel.FilterNotEqual, connmodel.FilterIn, connmodel.FilterWithin, connmodel.FilterIsNull})
		f.Value = Value(r, like)
		if f.Cmp == connmodel.FilterWithin {
			f.Value = connmodel.FilterValue{}
			for range r.IntN(3) {
				f.Value.Prefixes = append(f.Value.Prefixes, netip.MustParsePrefix(pick(r, []string{"10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "::/0", "2001:db8::/32", "127.0.0.0/8"})))
			}
		} else if f.Value.Type == connmodel.FilterNull {
			f.Cmp = connmodel.FilterIsNull
		}
	}
	if f.Cmp == connmodel.FilterIn {
		f.Value = connmodel.FilterValue{}
		for range r.IntN(4) {
			if v := Value(r, like); v.Type != connmodel.FilterNull {
				f.Value.List = append(f.Value.List, v)
			}
		}
	}
	return f
}

// Value is like, or another value of its type.
func Value(r *rand.Rand, like connmodel.FilterValue) connmodel.FilterValue {
	switch {
	case half(r):
	case like.Type == connmodel.FilterText:
		like.Text = Text(r)
	case like.Type == connmodel.FilterNumber:
		like.Number += pick(r, []float64{-1, 0.5, 1, 1e6, -0.000001})
	case like.Type == connmodel.FilterTime:
		like.Time = like.Time.Add(pick(r, []time.Duration{-time.Nanosecond, time.Nanosecond, time.Microsecond, -time.Hour, time.Hour}))
	case like.Type == connmodel.FilterAddress:
		like.Address = netip.MustParseAddr(pick(r, Addresses))
	}
	return like
}
