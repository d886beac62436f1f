package upstream

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"viaduct/connmodel"
)

// ChooserStatus is a dynamic route at a moment: what its chooser has named.
type ChooserStatus struct {
	Name    string         // "pac.corp"
	OnError string         // the route when the chooser fails; OnErrorDeny, or OnErrorNext where that is so in pools alone
	Members []MemberStatus // declared upstreams and direct, by name
	Others  []MemberStatus // proxies that are not declared, those that are out first; at most maxOthers
	Other   OthersStatus
	// RetriesRefused is attempts that were not made because the budget was used up.
	RetriesRefused uint64
}

// OthersStatus is the proxies that are not declared, together.
type OthersStatus struct {
	Known int // named, and not yet forgotten
	Out   int // of those, that are passed over now
	Open  int64
}

// maxOthers bounds the proxies that are told one by one.
const maxOthers = 50

// Choosers returns all dynamic routes, by name.
func (t *Table) Choosers() []ChooserStatus {
	now := time.Now()
	var out []ChooserStatus
	for _, r := range t.routes {
		if r != nil && r.dynamic != nil {
			out = append(out, r.dynamic.status(now))
		}
	}
	slices.SortFunc(out, func(a, b ChooserStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (d *dynamic) status(now time.Time) ChooserStatus {
	s := ChooserStatus{Name: d.spec.Name, OnError: d.spec.OnError, RetriesRefused: d.budget.refusals()}
	switch {
	case s.OnError != "":
	case d.spec.Refuse:
		s.OnError = OnErrorDeny
	default:
		s.OnError = OnErrorNext
	}
	d.mu.Lock()
	members := make([]*member, 0, len(d.members))
	for _, m := range d.members {
		members = append(members, m)
	}
	d.mu.Unlock()
	for _, m := range members {
		x := m.status(d.spec.Name, now)
		if m.route.name == connmodel.RouteDirect || strings.HasPrefix(m.route.name, "upstream.") {
			s.Members = append(s.Members, x)
			continue
		}
		s.Others = append(s.Others, x)
		s.Other.Known++
		s.Other.Open += x.Open
		if x.State == StateEjected || x.State == StateDown {
			s.Other.Out++
		}
	}
	slices.SortFunc(s.Members, func(a, b MemberStatus) int { return cmp.Compare(a.Route, b.Route) })
	slices.SortFunc(s.Others, func(a, b MemberStatus) int {
		return cmp.Or(cmp.Compare(rank(a.State), rank(b.State)), cmp.Compare(a.Route, b.Route))
	})
	s.Others = s.Others[:min(len(s.Others), maxOthers)]
	return s
}

// rank puts members that are out before others.
func rank(state string) int {
	if state == StateHealthy {
		return 1
	}
	return 0
}
