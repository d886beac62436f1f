package policies

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// poolBlock is routes that stand in for each other.
type poolBlock struct {
	src  *hcl.Block
	spec upstream.PoolSpec
}

var (
	poolSchema  = schema(attrs("members", "select", "hash_by", "fail_back", "warm_up"), blocks("health", "retry", "eject"))
	retrySchema = schema(attrs("attempts", "backoff", "max_backoff", "deadline", "on"))
	ejectSchema = schema(attrs("failures", "time", "max_time", "disabled"))
)

func (l *loader) buildPool(x *poolBlock) {
	b := l.open(x.src, poolSchema)
	s := &x.spec
	s.Name = x.src.Labels[0]
	if b.need("members", "the routes that stand in for each other, such as [upstream.a, upstream.b]") {
		s.Members = l.members(b.attrs["members"].Expr, s.Name)
	}
	s.Select = b.oneOf("select", upstream.SelectFirstHealthy, upstream.SelectRoundRobin, upstream.SelectRandom,
		upstream.SelectLeastConnections, upstream.SelectFastest, upstream.SelectHash)
	s.HashBy = b.oneOf("hash_by", upstream.HashByClient, upstream.HashByTarget)
	if b.has("hash_by") && s.Select != upstream.SelectHash {
		l.errorAt(b.rng("hash_by"), "Without effect", `"hash_by" says what select = "hash" looks at.`)
	}
	s.FailBack, s.WarmUp = b.failBack(), b.duration("warm_up")
	if first := s.Select == "" || s.Select == upstream.SelectFirstHealthy; b.has("fail_back") && !first {
		l.errorAt(b.attrs["fail_back"].NameRange, "Without effect", `"fail_back" says when select = "first_healthy" goes back to a member that comes before others.`)
	} else if b.has("warm_up") && (first || s.Select == upstream.SelectHash) {
		l.errorAt(b.attrs["warm_up"].NameRange, "Without effect", `"warm_up" is for selections that give each member a share: "round_robin", "random", "least_connections" and "fastest".`)
	}
	s.Health = l.health(b.one("health"))
	s.Retry = l.retry(b.one("retry"))
	if e := b.one("eject"); e != nil {
		c := l.open(e, ejectSchema)
		s.Eject = upstream.EjectSpec{Disabled: c.boolean("disabled", false), Failures: c.number("failures", 1, 1000), Time: c.duration("time"), MaxTime: c.duration("max_time")}
		if s.Eject.MaxTime != 0 && s.Eject.MaxTime < s.Eject.Time {
			l.errorAt(c.rng("max_time"), "Wrong duration", `"max_time" is shorter than "time".`)
		}
	}
}

// members reads the routes of a pool; a list within the list is a chain.
func (l *loader) members(e hcl.Expression, pool string) []string {
	items, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		l.errorAt(e.Range(), "Not a list", "The members of a pool are a list of names: [upstream.a, upstream.b].")
		return nil
	}
	if len(items) == 0 {
		l.errorAt(e.Range(), "Empty list", "A pool needs at least one member.")
		return nil
	}
	var members []string
	for i, item := range items {
		name := l.route(item, fmt.Sprintf("%s/%d", pool, i+1))
		switch {
		case name == "":
		case slices.Contains(members, name):
			l.errorAt(item.Range(), "Duplicate member", fmt.Sprintf("%s is a member of this pool already.", name))
		default:
			members = append(members, name)
		}
	}
	return members
}

// retryKinds are the kinds of failure that another attempt may cure.
var retryKinds = []string{
	string(connmodel.KindRefused), string(connmodel.KindUnreachable), string(connmodel.KindTimeout), string(connmodel.KindDNS),
	string(connmodel.KindTLS), string(connmodel.KindProtocol), string(connmodel.KindReset), string(connmodel.KindEOF), string(connmodel.KindLimit),
}

// retry reads a retry block, which may be nil.
func (l *loader) retry(x *hcl.Block) *connmodel.Retry {
	if x == nil {
		return nil
	}
	b := l.open(x, retrySchema)
	r := &connmodel.Retry{
		Attempts: b.number("attempts", 1, 100), Backoff: b.duration("backoff"),
		MaxBackoff: b.duration("max_backoff"), Deadline: b.duration("deadline"),
	}
	if r.MaxBackoff != 0 && r.MaxBackoff < r.Backoff {
		l.errorAt(b.rng("max_backoff"), "Wrong duration", `"max_backoff" is shorter than "backoff".`)
	}
	for _, e := range b.entries("on") {
		k := e.text
		if !slices.Contains(retryKinds, k) {
			l.errorAt(e.r, "Unknown value", fmt.Sprintf("Attempts can be repeated on %s.%s", oneOf(retryKinds), didYouMean(k, retryKinds)))
			continue
		}
		r.On = append(r.On, connmodel.Kind(k))
	}
	return r
}

// hostPort reads an address, canonical.
func (b *block) hostPort(name string) connmodel.Address {
	s := b.text(name)
	if s == "" {
		return connmodel.Address{}
	}
	a, err := connmodel.ParseAddress(s)
	if err != nil {
		b.l.errorAt(b.rng(name), "Wrong address", fmt.Sprintf("%s Write host:port, with brackets round an IPv6 address.", upperFirst(err.Error())))
	}
	return a
}
