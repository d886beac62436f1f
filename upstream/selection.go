package upstream

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// exploration is one in how many choices of "fastest" goes to the member that was measured longest ago, so that old averages are found out.
const exploration = 32

// defaultFailBack is that of PoolSpec.
const defaultFailBack = 10 * time.Second

// warmFloor is the share of a member that has just come back, of what it will have in the end.
const warmFloor = 0.05

// selectFrom chooses from a set that is not empty and in written order.
func (p *pool) selectFrom(set []*member, d *dialing, now time.Time) *member {
	if len(set) == 1 {
		return set[0]
	}
	switch p.spec.Select {
	case SelectRoundRobin:
		return set[int(p.turn.Add(1)-1)%len(set)]
	case SelectRandom:
		return set[rand.IntN(len(set))]
	case SelectLeastConnections:
		return p.least(set)
	case SelectFastest:
		return fastest(set)
	case SelectHash:
		return p.hashed(set, d)
	}
	return p.first(set, now)
}

// first returns the first member that has been well for long enough, or else the first. One that is half-open is let through as it is: that is
// how it is found out whether it is back.
func (p *pool) first(set []*member, now time.Time) *member {
	if p.spec.FailBack < 0 {
		return set[0]
	}
	for _, m := range set {
		if m.bad.Load() {
			return m
		}
		if since, back := m.well(now); !back || since >= p.spec.FailBack {
			return m
		}
	}
	return set[0]
}

// outdated reports whether a connection by way of chosen, kept from before, is not one that a flow would be given now: chosen is out, or for
// first_healthy a member before it would be taken, or tried. Other selections have no order that a kept connection could be against.
func (p *pool) outdated(chosen *member, now time.Time) bool {
	if chosen.bad.Load() {
		return true
	}
	if p.spec.Select != SelectFirstHealthy {
		return false
	}
	for _, m := range p.members {
		if m == chosen {
			return false
		}
		if !m.available(now) || !m.route.usable(now) {
			continue
		}
		if since, back := m.well(now); m.bad.Load() || !back || p.spec.FailBack < 0 || since >= p.spec.FailBack {
			return true
		}
	}
	return false
}

// spreads reports whether the selection gives each member a share of the flows.
func (p *pool) spreads() bool {
	switch p.spec.Select {
	case SelectRoundRobin, SelectRandom, SelectLeastConnections, SelectFastest:
		return true
	}
	return false
}

// warm leaves members out of a set that came back a short while ago, so often that their share grows evenly until WarmUp is over; not all of
// them. Members that are half-open are let through one request at a time anyway.
func (p *pool) warm(set []*member, now time.Time) []*member {
	if p.spec.WarmUp <= 0 || len(set) < 2 || !p.spreads() {
		return set
	}
	kept := 0
	for i, m := range set {
		if since, back := m.well(now); back && since < p.spec.WarmUp && !m.bad.Load() &&
			rand.Float64() >= max(float64(since)/float64(p.spec.WarmUp), warmFloor) {
			continue
		}
		set[kept], set[i] = set[i], set[kept]
		kept++
	}
	if kept == 0 {
		return set
	}
	return set[:kept]
}

// least returns the member with the fewest connections; equals take turns.
func (p *pool) least(set []*member) *member {
	from := int(p.turn.Add(1) - 1)
	var best *member
	for i := range set {
		m := set[(from+i)%len(set)]
		if best == nil || m.open.Load() < best.open.Load() {
			best = m
		}
	}
	return best
}

// fastest returns the member with the least average; one that was never measured goes first.
func fastest(set []*member) *member {
	best := set[0]
	if rand.IntN(exploration) == 0 {
		for _, m := range set[1:] {
			if m.pace.at.Load() < best.pace.at.Load() {
				best = m
			}
		}
		return best
	}
	for _, m := range set[1:] {
		if m.pace.mean.Load() < best.pace.mean.Load() {
			best = m
		}
	}
	return best
}

// hashed is rendezvous hashing: every key ranks all members, so that one that leaves moves only its own keys.
func (p *pool) hashed(set []*member, d *dialing) *member {
	var key uint64
	if p.spec.HashBy == HashByTarget {
		key = hashString(d.q.Target.Host)
	} else {
		key = hashAddr(d.q.Client)
	}
	best, top := set[0], mix(key^set[0].seed)
	for _, m := range set[1:] {
		if score := mix(key ^ m.seed); score > top {
			best, top = m, score
		}
	}
	return best
}

// hashString is FNV-1a: the same in every process, so that gateways side by side agree.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

func hashAddr(a netip.Addr) uint64 {
	b := a.Unmap().As16()
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
