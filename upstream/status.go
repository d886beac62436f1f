package upstream

import (
	"fmt"
	"slices"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
)

// UpstreamStatus is a declared upstream at a moment, for status and metrics.
type UpstreamStatus struct {
	Name           string
	Scheme         string
	Address        connmodel.Address
	Open           int64 // connections and attempts under way
	MaxConnections int
	Drained        bool   // an operator took it out of service
	Attempts       uint64 // since the process started, or the upstream changed
	Failures       uint64 // of those, by its own fault
	InARow         uint64 // of those failures, since it last did its part
	Worked         bool   // it did its part at least once
	LastError      string // "" = none yet
	LastErrorTime  time.Time
	Members        []MemberStatus // its places in pools

	// Of upstreams that are checked by themselves.
	Check *CheckStatus // nil = it is not
	Down  bool         // the checks say so
	Since time.Time    // when it went down, or came back; zero = it was never down
	Why   string       // it is down

	// Of proxies that are shown a credential which somebody guards.
	Credential      string             // by name; "" = none
	Schemes         []string           // that may be used
	CredentialState string             // "unproven", "proving", "proven", "closed"; "" = nobody guards it
	CredentialSince time.Time          // zero = since the start
	CredentialWhy   string             // why it is closed
	SecretSince     time.Time          // since when its secret is the one that it is; zero = it has none
	Clients         *auth.ClientStatus // of the clients' own logins, where it is shown those; nil = it is not
}

// MemberStatus is a member of a pool at a moment.
type MemberStatus struct {
	Pool      string // "pool.corp"
	Route     string // "upstream.corp_a"
	State     string // "healthy", "ejected", "half_open", "down" (an active check says so, or a credential is closed)
	Until     time.Time
	Failures  int    // in a row
	Worked    bool   // it did its part at least once, for a connection or an active check
	Ejections uint64 // since it is known
	Open      int64
	Connect   time.Duration // moving average of the time to connect; 0 = not known
	LastError string
	Since     time.Time    // when it was taken out, or came back; zero = it was never out
	Why       string       // it is out
	Check     *CheckStatus // active checks; nil = there are none
}

// CheckStatus is what active checks are about, and how the last one went.
type CheckStatus struct {
	Check    string    // what is asked
	At       time.Time // of the last one; zero = there was none yet
	Took     time.Duration
	OK       bool
	Short    string // why it went well without going all the way
	Status   int    // of the answer to an http check
	Error    string
	InARow   int       // checks like the last one
	Next     time.Time // when the next one is due
	Made     uint64
	Failures uint64
}

// HopInfo is one step of a route, for people: a proxy, a choice, or the direct connection.
type HopInfo struct {
	Kind       string // "upstream", "pool", "direct"
	Name       string // of the upstream; "pool.corp"; "direct"
	Scheme     string
	Address    connmodel.Address
	ServerName string   // verified on an https proxy; "" = no TLS, or not verified
	Unverified bool     // TLS that takes any certificate
	Credential string   // by name
	FromClient bool     // it is what the client of the flow has proved
	Schemes    []string // of authentication that may be used, where there is a choice or no usual one
	ResolvedBy string   // who turns the name of what comes next into an address: "upstream", "viaduct"; "" for pools
	Select     string   // of a pool
	HashBy     string
	Members    []MemberInfo // of a pool
}

// MemberInfo is one member of a pool in HopInfo.
type MemberInfo struct {
	Route string
	State string // as in MemberStatus
	Hops  []HopInfo
}

// Describe returns the route hop by hop, or false when there is none of that name.
func (t *Table) Describe(name string) ([]HopInfo, bool) {
	r := t.routes[name]
	if r == nil {
		return nil, false
	}
	return r.describe(), true
}

func (r *route) describe() []HopInfo {
	switch {
	case r.dynamic != nil:
		return []HopInfo{{Kind: "dynamic", Name: r.name}}
	case r.pool != nil:
		info := HopInfo{Kind: "pool", Name: r.name, Select: r.pool.spec.Select}
		if info.Select == SelectHash {
			info.HashBy = r.pool.spec.HashBy
			if info.HashBy == "" {
				info.HashBy = HashByClient
			}
		}
		now := time.Now()
		for _, m := range r.pool.members {
			info.Members = append(info.Members, MemberInfo{Route: m.route.name, State: m.state(now), Hops: m.route.describe()})
		}
		return []HopInfo{info}
	case r.way == nil:
		var all []HopInfo
		for _, p := range r.parts {
			all = append(all, p.describe()...)
		}
		return all
	case len(r.way.hops) == 0:
		return []HopInfo{{Kind: "direct", Name: connmodel.RouteDirect, ResolvedBy: "viaduct"}}
	}
	var all []HopInfo
	for _, h := range r.way.hops {
		info := HopInfo{Kind: "upstream", Name: h.spec.Name, Scheme: h.spec.Scheme, Address: h.spec.Address,
			ServerName: h.verified, Unverified: h.tls != nil && h.verified == "", Credential: h.credential, FromClient: h.fromClient(), ResolvedBy: "viaduct"}
		if h.takesNames() {
			info.ResolvedBy = "upstream"
		}
		if h.auth != nil && len(h.spec.Auth.Schemes) > 0 && !slices.Equal(h.spec.Auth.Schemes, []string{auth.Basic}) {
			info.Schemes = h.auth.Schemes()
		}
		all = append(all, info)
	}
	return all
}

// ResetCredential opens the credential of a declared upstream again, where it was closed because a proxy rejected it. ok is false when there is
// no upstream of that name, or none with a guarded credential.
func (t *Table) ResetCredential(name string) (was string, ok bool, err error) {
	h := t.hop(name)
	if h != nil && h.fromClient() && h.guard != nil {
		n, err := h.guard.ResetClients(name)
		switch n {
		case 0:
			return "closed for no client", true, err
		case 1:
			return "closed for 1 login of a client", true, err
		}
		return fmt.Sprintf("closed for %d logins of clients", n), true, err
	}
	if h == nil || h.pair() == nil {
		return "", false, nil
	}
	p := h.pair()
	state, _, _ := p.Status()
	return state.String(), true, p.Reset()
}

// Status returns all declared upstreams in their order, with their places in pools.
func (t *Table) Status() []UpstreamStatus {
	pools := t.Pools()
	choosers := t.Choosers()
	out := make([]UpstreamStatus, 0, len(t.hops))
	for _, h := range t.hops {
		s := UpstreamStatus{Name: h.spec.Name, Scheme: h.spec.Scheme, Address: h.spec.Address, Open: h.state.open.Load(),
			MaxConnections: h.spec.MaxConnections, Drained: h.out.Load(), Attempts: h.state.attempts.Load(), Failures: h.state.failures.Load(),
			InARow: h.state.row.Load(), Worked: h.state.worked.Load()}
		if f := h.state.last.Load(); f != nil {
			s.LastError, s.LastErrorTime = f.err.Error(), f.at
		}
		s.SecretSince = h.taken
		if h.fromClient() && h.guard != nil {
			n := h.guard.Clients(h.spec.Name)
			s.Clients = &n
		}
		if s.Credential = h.credential; h.auth != nil {
			s.Schemes = h.auth.Schemes()
		}
		if p := h.pair(); p != nil {
			var state auth.State
			state, s.CredentialSince, s.CredentialWhy = p.Status()
			s.CredentialState = state.String()
		}
		if h.vital != nil {
			h.vital.mu.Lock()
			s.Check, s.Down, s.Since, s.Why = h.vital.checks.status(), h.vital.checks.down, h.vital.said.since, h.vital.said.why
			h.vital.mu.Unlock()
		}
		for _, p := range pools {
			for _, m := range p.Members {
				if m.Route == "upstream."+h.spec.Name {
					s.Members = append(s.Members, m)
				}
			}
		}
		for _, c := range choosers {
			for _, m := range c.Members {
				if m.Route == "upstream."+h.spec.Name {
					s.Members = append(s.Members, m)
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// PoolStatus is a pool at a moment.
type PoolStatus struct {
	Name           string
	Select         string
	Members        []MemberStatus
	RetriesRefused uint64 // because the budget was used up
}

// Pools returns all pools.
func (t *Table) Pools() []PoolStatus {
	now := time.Now()
	out := make([]PoolStatus, 0, len(t.pools))
	for _, p := range t.pools {
		s := PoolStatus{Name: p.name, Select: p.spec.Select, RetriesRefused: p.budget.refusals()}
		for _, m := range p.members {
			s.Members = append(s.Members, m.status(p.name, now))
		}
		out = append(out, s)
	}
	return out
}

func (b *budget) refusals() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// States of a member.
const (
	StateHealthy  = "healthy"
	StateEjected  = "ejected"
	StateHalfOpen = "half_open"
	StateDown     = "down"
)

func (h *health) state(now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stateLocked(now)
}

func (h *health) stateLocked(now time.Time) string {
	switch {
	case h.checks.down:
		return StateDown
	case h.until.IsZero():
		return StateHealthy
	case now.Before(h.until):
		return StateEjected
	}
	return StateHalfOpen
}

func (m *member) status(pool string, now time.Time) MemberStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := MemberStatus{Pool: pool, Route: m.route.name, State: m.stateLocked(now), Until: m.until, Failures: m.failures, Worked: m.worked,
		Ejections: m.total, Open: m.open.Load(), Connect: time.Duration(m.pace.mean.Load()), Since: m.said.since, Why: m.said.why, Check: m.checks.status()}
	if m.lastErr != nil {
		s.LastError = m.lastErr.Error()
	}
	if w := m.route.way; w != nil {
		for _, h := range w.hops {
			if h.vital != nil && h.vital != m.health {
				h.vital.shadow(&s)
			}
			if no := h.closed(); no != nil {
				s.State, s.LastError, s.Why = StateDown, no.Error(), no.Error()
			}
		}
	}
	return s
}

// status returns how the checks are; nil = there are none. Called with health.mu held.
func (v *findings) status() *CheckStatus {
	if v.of == nil {
		return nil
	}
	s := &CheckStatus{Check: v.of.String(), At: v.last.At, Took: v.last.Took, OK: v.last.Err == nil && !v.last.At.IsZero(), Short: v.last.Short, Status: v.last.Status,
		InARow: max(v.hits, v.misses), Next: v.next, Made: v.made, Failures: v.failed}
	if v.last.Err != nil {
		s.Error = v.last.Err.Message
	}
	return s
}

// shadow puts what the checks of an upstream itself say over the status of a member that goes through it.
func (h *health) shadow(s *MemberStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.Check == nil {
		s.Check = h.checks.status()
	}
	if h.checks.down {
		s.State, s.Since, s.Why = StateDown, h.said.since, h.said.why
		if s.LastError == "" && h.lastErr != nil {
			s.LastError = h.lastErr.Error()
		}
	}
}
