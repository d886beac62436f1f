package expr

import "viaduct/connmodel"

// tri is the value of a condition when facts may be missing: Kleene's logic of three values. Everything above yes is the third one, that
// depends on facts that have to be gathered, and says on which.
type tri uint8

const (
	no tri = iota
	yes
)

// unknown is the value that depends on facts; need is not 0.
func unknown(need connmodel.Need) tri { return tri(need) << 1 }

// need is what the value depends on; 0 = it is known.
func (t tri) need() connmodel.Need { return connmodel.Need(t >> 1) }

func known(v bool) tri {
	if v {
		return yes
	}
	return no
}

// outcome is the three-valued form of a condition; it is only asked when facts are lacking.
func (n *node) outcome() func(*connmodel.Facts) tri {
	if n.tri != nil {
		return n.tri
	}
	test, reach := n.test, n.reach
	if reach == nil {
		return func(f *connmodel.Facts) tri { return known(test(f)) }
	}
	return func(f *connmodel.Facts) tri {
		if need := reach(f); need != 0 {
			return unknown(need)
		}
		return known(test(f))
	}
}

// setOutcome gives a condition its three-valued form.
func (n *node) setOutcome(t func(*connmodel.Facts) tri) {
	n.tri = t
	n.reach = func(f *connmodel.Facts) connmodel.Need { return t(f).need() }
}

// reaches joins what operands reach that are all evaluated.
func reaches(operands ...*node) func(*connmodel.Facts) connmodel.Need {
	var all func(*connmodel.Facts) connmodel.Need
	for _, o := range operands {
		r := o.reach
		switch prev := all; {
		case r == nil:
		case prev == nil:
			all = r
		default:
			all = func(f *connmodel.Facts) connmodel.Need { return prev(f) | r(f) }
		}
	}
	return all
}

// lacking is what reach is of a name whose fact has to be gathered.
func lacking(need connmodel.Need) func(*connmodel.Facts) connmodel.Need {
	return func(f *connmodel.Facts) connmodel.Need { return f.Lacks(need) }
}
