package expr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net/netip"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"

	"viaduct/policies/match"
)

func networks() map[string]function.Function {
	return map[string]function.Function{
		"cidr":         cidrFunction,
		"cidrcontains": cidrContainsFunction,
		"cidrhost":     cidrHostFunction,
		"cidrnetmask":  cidrNetmaskFunction,
		"cidrsubnet":   cidrSubnetFunction,
	}
}

var cidrFunction = function.New(&function.Spec{
	Description:  "Reports whether one of the networks holds the address, or one of the addresses of a list.",
	Params:       []function.Parameter{{Name: "address", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true}},
	VarParam:     &function.Parameter{Name: "network", Type: cty.DynamicPseudoType},
	Type:         cidrType,
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		var list []netip.Prefix
		for i, a := range args[1:] {
			texts, err := stringsOf(a)
			if err != nil {
				return cty.NilVal, function.NewArgError(i+1, err)
			}
			for _, t := range texts {
				p, err := match.ParseNetwork(t)
				if err != nil {
					return cty.NilVal, function.NewArgError(i+1, err)
				}
				list = append(list, p)
			}
		}
		return held(args[0], list)
	},
})

func cidrType(args []cty.Value) (cty.Type, error) {
	if len(args) < 2 {
		return cty.NilType, errors.New(`a network is missing, as in cidr("10.0.0.1", "10.0.0.0/8")`)
	}
	return cty.Bool, nil
}

var cidrContainsFunction = function.New(&function.Spec{
	Description:  "Reports whether a network holds an address.",
	Params:       []function.Parameter{{Name: "network", Type: cty.DynamicPseudoType}, {Name: "address", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true}},
	Type:         function.StaticReturnType(cty.Bool),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		return cidrFunction.Call([]cty.Value{args[1], args[0]})
	},
})

// held reports whether one of the networks holds the address, or one of a list of them.
func held(v cty.Value, list []netip.Prefix) (cty.Value, error) {
	if v.IsNull() {
		return cty.False, nil
	}
	texts, err := stringsOf(v)
	if err != nil {
		return cty.NilVal, function.NewArgError(0, err)
	}
	for _, t := range texts {
		a := parseTextAddress(t)
		for _, p := range list {
			if p.Contains(a) {
				return cty.True, nil
			}
		}
	}
	return cty.False, nil
}

// stringsOf is a text or a list of texts.
func stringsOf(v cty.Value) ([]string, error) {
	t := v.Type()
	switch {
	case v.IsNull():
	case t == cty.String:
		return []string{v.AsString()}, nil
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		var list []string
		for it := v.ElementIterator(); it.Next(); {
			_, el := it.Element()
			if el.IsNull() || el.Type() != cty.String {
				return nil, fmt.Errorf("a list of texts is needed, and one element is %s", el.Type().FriendlyName())
			}
			list = append(list, el.AsString())
		}
		return list, nil
	}
	return nil, fmt.Errorf("a text or a list of texts is needed, not %s", t.FriendlyName())
}

var cidrNetmaskFunction = function.New(&function.Spec{
	Description:  "The netmask of an IPv4 network: 255.255.0.0 for a /16.",
	Params:       []function.Parameter{{Name: "network", Type: cty.String}},
	Type:         function.StaticReturnType(cty.String),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := match.ParseNetwork(args[0].AsString())
		switch {
		case err != nil:
			return cty.NilVal, function.NewArgError(0, err)
		case !p.Addr().Is4():
			return cty.NilVal, function.NewArgErrorf(0, "only IPv4 networks have a netmask")
		}
		var mask [4]byte
		binary.BigEndian.PutUint32(mask[:], uint32(uint64(0xffffffff)<<(32-p.Bits())))
		return cty.StringVal(netip.AddrFrom4(mask).String()), nil
	},
})

var cidrHostFunction = function.New(&function.Spec{
	Description:  "The address with a number in a network; a negative number counts from the end.",
	Params:       []function.Parameter{{Name: "network", Type: cty.String}, {Name: "number", Type: cty.Number}},
	Type:         function.StaticReturnType(cty.String),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := match.ParseNetwork(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		number, err := wholeNumber(args[1], 1)
		if err != nil {
			return cty.NilVal, err
		}
		a, ok := offset(p, number)
		if !ok {
			return cty.NilVal, function.NewArgErrorf(1, "%s has no address with this number", p)
		}
		return cty.StringVal(a.String()), nil
	},
})

// offset is the address with a number in a network.
func offset(p netip.Prefix, number int64) (netip.Addr, bool) {
	size := new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits()))
	n := big.NewInt(number)
	if number < 0 {
		n.Add(n, size)
	}
	if n.Sign() < 0 || n.Cmp(size) >= 0 {
		return netip.Addr{}, false
	}
	base := p.Masked().Addr().AsSlice()
	n.Add(n, new(big.Int).SetBytes(base))
	return netip.AddrFromSlice(n.FillBytes(base))
}

var cidrSubnetFunction = function.New(&function.Spec{
	Description: "The subnet with a number, longer by newbits than the network.",
	Params: []function.Parameter{
		{Name: "network", Type: cty.String}, {Name: "newbits", Type: cty.Number}, {Name: "number", Type: cty.Number},
	},
	Type:         function.StaticReturnType(cty.String),
	RefineResult: notNull,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := match.ParseNetwork(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		bits, err := wholeNumber(args[1], 1)
		if err != nil {
			return cty.NilVal, err
		}
		number, err := wholeNumber(args[2], 2)
		if err != nil {
			return cty.NilVal, err
		}
		sub, problem := subnet(p, bits, number)
		if problem != "" {
			return cty.NilVal, errors.New(problem)
		}
		return cty.StringVal(sub.String()), nil
	},
})

func subnet(p netip.Prefix, newbits, number int64) (sub netip.Prefix, problem string) {
	rest := int64(p.Addr().BitLen() - p.Bits())
	switch {
	case newbits < 0 || newbits > rest:
		return sub, fmt.Sprintf("%s can be longer by 0 to %d bits", p, rest)
	case number < 0 || newbits < 63 && number >= 1<<newbits:
		return sub, fmt.Sprintf("there is no subnet with number %d", number)
	}
	base := p.Masked().Addr().AsSlice()
	n := new(big.Int).Lsh(big.NewInt(number), uint(rest-newbits))
	n.Add(n, new(big.Int).SetBytes(base))
	a, _ := netip.AddrFromSlice(n.FillBytes(base))
	return netip.PrefixFrom(a, p.Bits()+int(newbits)), ""
}

func wholeNumber(v cty.Value, arg int) (n int64, err error) {
	if err := gocty.FromCtyValue(v, &n); err != nil {
		return 0, function.NewArgErrorf(arg, "a whole number is needed")
	}
	return n, nil
}
