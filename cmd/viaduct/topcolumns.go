package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/router/admin"
)

// topItem is a row: of one of these.
type topItem struct {
	key    string
	flow   *connmodel.Flow
	rate   float64 // of an open flow, bytes a second
	member *topMember
	rule   *admin.RuleStatus
}

// topMember is an upstream, or a member of a pool or of a PAC script.
type topMember struct {
	name, address, state, check, why string
	open                             int64
	attempts, failures               uint64
	connect                          float64 // ms; 0 = not known
}

// topColumn is a column of a table. Columns come and go with the width of the terminal.
type topColumn struct {
	title string
	width int // 0 = takes what the others leave
	right bool
	rank  int // 0 = always there; the others come in this order while there is room
	text  func(*topModel, *topItem) string
	order func(m *topModel, a, b *topItem) int
}

// textColumn is a column that is ordered by what it shows.
func textColumn(title string, width, rank int, text func(*topModel, *topItem) string) topColumn {
	return topColumn{title, width, false, rank, text, func(m *topModel, a, b *topItem) int { return strings.Compare(text(m, a), text(m, b)) }}
}

// numberColumn is one that is ordered by a number.
func numberColumn[T cmp.Ordered](title string, width, rank int, value func(*topModel, *topItem) T, text func(T) string) topColumn {
	return topColumn{title, width, true, rank, func(m *topModel, i *topItem) string { return text(value(m, i)) },
		func(m *topModel, a, b *topItem) int { return cmp.Compare(value(m, a), value(m, b)) }}
}

// topRanks is how many ranks of columns there are.
const topRanks = 9

// topOrder is how the tables are ordered at first.
var topOrder = [topViews]struct {
	column int
	down   bool
}{topOpen: {1, false}, topEnded: {1, true}, topUpstreams: {0, false}, topRules: {0, true}}

// topColumns are the columns of the tables.
var topColumns = [topViews][]topColumn{
	topOpen: {
		textColumn("ID", 8, 8, flowID),
		numberColumn("AGE", 6, 0, func(m *topModel, i *topItem) time.Duration { return m.now().Sub(i.flow.Start) }, shortTime),
		textColumn("CLIENT", 15, 3, flowClient),
		textColumn("USER", 12, 7, flowUser),
		textColumn("PROTO", 7, 6, flowProtocol),
		textColumn("TARGET", 0, 0, flowTarget),
		textColumn("RULE", 16, 5, flowRule),
		textColumn("ROUTE", 14, 4, flowRoute),
		numberColumn("UP", 7, 5, func(_ *topModel, i *topItem) int64 { return i.flow.Up }, shortBytes),
		numberColumn("DOWN", 7, 1, func(_ *topModel, i *topItem) int64 { return i.flow.Down }, shortBytes),
		numberColumn("RATE", 9, 2, func(_ *topModel, i *topItem) float64 { return i.rate }, shortRate),
	},
	topEnded: {
		textColumn("ID", 8, 8, flowID),
		{title: "ENDED", width: 8, text: func(_ *topModel, i *topItem) string { return i.flow.End.Local().Format(time.TimeOnly) },
			order: func(_ *topModel, a, b *topItem) int { return a.flow.End.Compare(b.flow.End) }},
		numberColumn("TOOK", 7, 3, func(_ *topModel, i *topItem) time.Duration { return i.flow.End.Sub(i.flow.Start) }, shortTime),
		textColumn("CLIENT", 15, 2, flowClient),
		textColumn("USER", 12, 7, flowUser),
		textColumn("PROTO", 7, 6, flowProtocol),
		textColumn("TARGET", 0, 0, flowTarget),
		textColumn("RULE", 16, 5, flowRule),
		textColumn("ROUTE", 14, 4, flowRoute),
		numberColumn("UP", 7, 5, func(_ *topModel, i *topItem) int64 { return i.flow.Up }, shortBytes),
		numberColumn("DOWN", 7, 1, func(_ *topModel, i *topItem) int64 { return i.flow.Down }, shortBytes),
		textColumn("RESULT", 14, 0, flowResult),
	},
	topUpstreams: {
		textColumn("NAME", 18, 0, func(m *topModel, i *topItem) string { return m.text(i.member.name) }),
		textColumn("ADDRESS", 26, 5, func(m *topModel, i *topItem) string { return m.text(i.member.address) }),
		textColumn("STATE", 9, 0, func(m *topModel, i *topItem) string { return m.text(i.member.state) }),
		textColumn("CHECK", 14, 7, func(m *topModel, i *topItem) string { return m.text(i.member.check) }),
		numberColumn("OPEN", 6, 1, func(_ *topModel, i *topItem) int64 { return i.member.open }, func(n int64) string { return strconv.FormatInt(n, 10) }),
		numberColumn("TRIES", 8, 3, func(_ *topModel, i *topItem) uint64 { return i.member.attempts }, shortCount),
		numberColumn("FAILED", 7, 2, func(_ *topModel, i *topItem) uint64 { return i.member.failures }, shortCount),
		numberColumn("CONNECT", 8, 4, func(_ *topModel, i *topItem) float64 { return i.member.connect }, func(v float64) string {
			if v == 0 {
				return "-"
			}
			return fmt.Sprintf("%.1f ms", v)
		}),
		textColumn("LAST ERROR", 0, 0, func(m *topModel, i *topItem) string { return m.text(i.member.why) }),
	},
	topRules: {
		numberColumn("FLOWS", 8, 0, func(_ *topModel, i *topItem) uint64 { return i.rule.Flows }, func(n uint64) string {
			if n == 0 {
				return "never"
			}
			return shortCount(n)
		}),
		{title: "LAST", width: 8, rank: 3, text: func(_ *topModel, i *topItem) string {
			if i.rule.Last == nil || i.rule.Last.IsZero() {
				return "-"
			}
			return i.rule.Last.Local().Format(time.TimeOnly)
		}, order: func(_ *topModel, a, b *topItem) int { return orZero(a.rule.Last).Compare(orZero(b.rule.Last)) }},
		textColumn("POLICY", 12, 4, func(m *topModel, i *topItem) string { return m.text(i.rule.Policy) }),
		textColumn("RULE", 0, 0, func(m *topModel, i *topItem) string {
			name := m.text(cmp.Or(i.rule.Rule, "(no rule)"))
			if i.rule.Shadow {
				name += " (shadow)"
			}
			return name
		}),
		numberColumn("OPEN", 6, 2, func(_ *topModel, i *topItem) int { return i.rule.Open }, strconv.Itoa),
		textColumn("ROUTE", 20, 1, func(m *topModel, i *topItem) string {
			if i.rule.Outcome == string(connmodel.OutcomeDeny) {
				return "deny"
			}
			return m.text(i.rule.Route)
		}),
		textColumn("AT", 22, 5, func(m *topModel, i *topItem) string { return m.text(fmt.Sprintf("%s:%d", i.rule.File, i.rule.Line)) }),
	},
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func flowID(_ *topModel, i *topItem) string       { return i.flow.ID.Short() }
func flowProtocol(m *topModel, i *topItem) string { return m.text(string(i.flow.Protocol)) }

func flowTarget(m *topModel, i *topItem) string { return m.text(i.flow.Target.String()) }

func flowClient(m *topModel, i *topItem) string {
	c := i.flow.Client
	if c == nil {
		return "-"
	}
	if ip := c.From().Addr(); ip.IsValid() {
		return ip.Unmap().String()
	}
	return "unix"
}

func flowUser(m *topModel, i *topItem) string {
	if i.flow.Client == nil || i.flow.Client.User == "" {
		return "-"
	}
	return m.text(i.flow.Client.User)
}

func flowRule(m *topModel, i *topItem) string {
	if i.flow.Decision == nil {
		return "-"
	}
	return m.text(i.flow.Decision.Rule)
}

func flowRoute(m *topModel, i *topItem) string {
	switch d, s := i.flow.Decision, i.flow.Server; {
	case d != nil && d.Denied():
		return "deny"
	case s != nil && s.Route != "":
		return m.text(s.Route)
	case s != nil && s.Via != "":
		return m.text(s.Via)
	case d != nil:
		return m.text(d.Route)
	}
	return "-"
}

// flowResult says how a flow ended: why it failed and at whose hands, or who closed it.
func flowResult(m *topModel, i *topItem) string {
	f := i.flow
	e := f.Error
	switch {
	case f.Decision != nil && f.Decision.Denied():
		return "denied"
	case e == nil:
		return strings.ReplaceAll(m.text(string(f.Reason)), "_", " ")
	case e.Side == connmodel.SideHop && e.HopName != "":
		return m.text(string(e.Kind)) + " " + m.text(e.HopName)
	}
	return m.text(string(e.Kind)) + " " + m.text(string(e.Side))
}

// upstreamItems are the upstreams, and below them the members of pools and what PAC scripts named.
func upstreamItems(s *admin.Status) []topItem {
	var items []topItem
	add := func(x *topMember) {
		items = append(items, topItem{key: x.name + "\x00" + strconv.Itoa(len(items)), member: x})
	}
	for i := range s.Upstreams {
		u := &s.Upstreams[i]
		add(&topMember{name: u.Name, address: u.Scheme + "://" + u.Address, state: u.State, check: checkWords(u.Check), why: cmp.Or(u.Why, ownWords(u.LastError, u.Name)),
			open: u.Open, attempts: u.Attempts, failures: u.Failures})
	}
	members := func(of string, list []admin.MemberStatus) {
		for i := range list {
			x := &list[i]
			add(&topMember{name: of + " " + strings.TrimPrefix(x.Route, "upstream."), state: x.State, check: checkWords(x.Check), why: cmp.Or(x.Why, x.LastError), open: x.Open, connect: x.Connect})
		}
	}
	for i := range s.Pools {
		members(s.Pools[i].Name, s.Pools[i].Members)
	}
	for i := range s.PACs {
		members("pac."+s.PACs[i].Name, s.PACs[i].Members)
		members("pac."+s.PACs[i].Name, s.PACs[i].Others)
	}
	return items
}

// ownWords takes from an error the hop that it names, where the row is about that hop.
func ownWords(text, name string) string {
	if rest, ok := strings.CutPrefix(text, "hop 1 ("+name+"): "); ok {
		return rest
	}
	return text
}

// shortTime writes a duration into six characters.
func shortTime(d time.Duration) string {
	switch s := d.Seconds(); {
	case d < 0:
		return "0"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case s < 100:
		return fmt.Sprintf("%.1fs", s)
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(s)%60)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// scaled writes a number with a prefix, in at most four characters and the unit.
func scaled(v, step float64, units []string) string {
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v /= step
		i++
	}
	switch {
	case i == 0 && v == float64(int64(v)):
		return fmt.Sprintf("%d%s", int64(v), units[0])
	case v < 9.95:
		return fmt.Sprintf("%.1f%s", v, units[i])
	}
	return fmt.Sprintf("%.0f%s", v, units[i])
}

var byteUnits = []string{" B", " kB", " MB", " GB", " TB", " PB"}

func shortBytes(n int64) string { return scaled(float64(n), 1000, byteUnits) }

func shortRate(v float64) string {
	if v == 0 {
		return "-"
	}
	return scaled(float64(int64(v)), 1000, byteUnits) + "/s"
}

func shortCount(n uint64) string {
	if n < 1_000_000 {
		return strconv.FormatUint(n, 10)
	}
	return scaled(float64(n), 1000, []string{"", "k", "M", "G", "T"})
}
