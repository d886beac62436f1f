package expr

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

// header compiles request.header["name"].
func (c *compiler) header(n *name, rng hcl.Range, steps []step) (*node, []step) {
	if len(steps) == 0 {
		return c.errorf(rng, wrongType, `request.header is not a value by itself: name a field, as in request.header["user-agent"].`), nil
	}
	key := steps[0].key
	field, ok := key.text()
	switch {
	case key.kind == kindBad:
		return key, nil
	case !ok:
		return c.errorf(key.rng, notHere, `The name of a header field must be a text that is known at load, as in request.header["user-agent"].`), nil
	case !isToken(field):
		return c.errorf(steps[0].rng, invalidArgument, "%q cannot be the name of a header field.", field), nil
	}
	field = strings.ToLower(field)
	c.used(n.name+`["`+field+`"]`, func(dst []byte, f *connmodel.Facts) []byte {
		switch v := headerValue(f, field); {
		case v == "" && f.LacksField(field):
			return append(dst, "(not recorded)"...)
		case v == "" || !connmodel.SecretField(field):
			return appendQuoted(dst, v)
		}
		return append(dst, "(hidden)"...)
	})
	if !slices.Contains(c.headers, field) {
		c.headers = append(c.headers, field)
	}
	x := flow(kindString, hcl.RangeBetween(rng, steps[0].rng))
	c.gathers(n, x)
	c.needs |= connmodel.NeedHeader
	x.reach = func(f *connmodel.Facts) connmodel.Need {
		if need := f.Lacks(n.need); need != 0 {
			return need
		}
		if f.LacksField(field) {
			return connmodel.NeedHeader
		}
		return 0
	}
	x.str = func(f *connmodel.Facts) string { return headerValue(f, field) }
	x.domain.name = n.name
	if c.record != nil {
		x.field = connmodel.FilterFieldNamed(n.name).At(field)
	}
	return x, steps[1:]
}

// isToken reports whether s can be a field name (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
