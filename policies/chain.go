package policies

import (
	"github.com/hashicorp/hcl/v2"

	"viaduct/upstream"
)

// chainBlock is hops one after the other.
type chainBlock struct {
	src  *hcl.Block
	spec upstream.ChainSpec
}

var chainSchema = schema(attrs("hops"))

func (l *loader) buildChain(x *chainBlock) {
	b := l.open(x.src, chainSchema)
	x.spec.Name = x.src.Labels[0]
	if !b.need("hops", "the proxies on the way, the first is nearest to us, such as [pool.corp, upstream.jump]") {
		return
	}
	e := b.attrs["hops"].Expr
	items, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		l.errorAt(e.Range(), "Not a list", "The hops of a chain are a list of names: [pool.corp, upstream.jump].")
		return
	}
	x.spec.Hops = l.hops(e, items)
}
