package expr

import "viaduct/connmodel"

// tri is the value of a condition when facts may be missing: Kleene's logic of three values.
type tri uint8

const (
	no tri = iota
	yes
	unknown // depends on facts that have to be gathered
)

func known(v bool) tri {
	if v {
		return yes
	}
	return no
}

// lacksAddresses reports whether target.addresses would have to be resolved. A literal target is its own address.
func lacksAddresses(f *connmodel.Facts) bool {
	return f.Have&connmodel.NeedAddresses == 0 && !f.TargetIP.IsValid()
}

// outcome is the three-valued form of a condition; it is only asked when addresses are lacking.
func (n *node) outcome() func(*connmodel.Facts) tri {
	if n.tri != nil {
		return n.tri
	}
	test, reach := n.test, n.reach
	if reach == nil {
		return func(f *connmodel.Facts) tri { return known(test(f)) }
	}
	return func(f *connmodel.Facts) tri {
		if reach(f) {
			return unknown
		}
		return known(test(f))
	}
}

// setOutcome gives a condition its three-valued form.
func (n *node) setOutcome(t func(*connmodel.Facts) tri) {
	n.tri = t
	n.reach = func(f *connmodel.Facts) bool { return t(f) == unknown }
}

// reaches joins what operands reach that are all evaluated.
func reaches(operands ...*node) func(*connmodel.Facts) bool {
	var all func(*connmodel.Facts) bool
	for _, o := range operands {
		r := o.reach
		switch prev := all; {
		case r == nil:
		case prev == nil:
			all = r
		default:
			all = func(f *connmodel.Facts) bool { return prev(f) || r(f) }
		}
	}
	return all
}
