package main

import (
	"os"
	"time"

	"viaduct/policies"
	"viaduct/router"
	"viaduct/router/admin"
	"viaduct/router/intercept"
	"viaduct/upstream"
)

// Status implements admin.Gateway.
func (s *service) Status() *admin.Status {
	v := buildVersion()
	st := &admin.Status{
		Version: v.Version, Revision: v.Revision, GoVersion: v.Go,
		PID: os.Getpid(), Started: s.started, Uptime: time.Since(s.started).Seconds(), State: admin.StateRunning,
		LastReload: *s.last.Load(), Files: []string{}, Listeners: []admin.ListenerStatus{}, Upstreams: []admin.UpstreamStatus{}, Pools: []admin.PoolStatus{},
		Journal: s.journal.status(), Records: s.records.status(),
	}
	n := s.router.Stats()
	if s.draining.Load() {
		st.State = admin.StateDraining
	}
	if st.Drain = s.drained.status(n.SessionsOpen); st.Drain != nil {
		st.State = st.Drain.State
	}
	st.Sessions = admin.SessionCounts{Open: n.SessionsOpen, Streams: n.StreamsOpen, Total: n.Sessions, Flows: n.Flows}
	st.Panics = n.Panics
	if d := s.open.Load(); d != nil {
		st.Door = d.Status()
	}
	st.Network = s.network.status()
	st.Opened = openedStatus(s.router.Config(), &n.Opened)
	cur := s.now.Load()
	if cur == nil {
		return st
	}
	st.Generation, st.Name = cur.generation, cur.cfg.Gateway.Name
	st.StateDir, _ = stateDir(cur.cfg.Gateway.State) // where there is none the log has said so
	st.Files = append(st.Files, cur.cfg.Files...)
	st.Unverified = cur.cfg.Unverified()
	bound, ends := s.router.Addrs(), s.router.CertificatesEnd()
	for _, l := range cur.cfg.Listeners {
		x := admin.ListenerStatus{Name: l.Name, Network: l.Network, Address: l.Address, Policy: l.Policy}
		if a := bound[l.Name]; a != nil {
			x.Address = a.String()
		}
		if end, ok := ends[l.Name]; ok {
			x.TLS, x.CertificateEnd = true, maybe(end)
		}
		st.Listeners = append(st.Listeners, x)
	}
	for _, u := range cur.routes.Status() {
		st.Upstreams = append(st.Upstreams, upstreamStatus(&u))
	}
	st.Traces = cur.traces.status()
	st.GeoIP = cur.geoip.status()
	st.PACs = cur.pacs.status(cur.cfg)
	st.Lists = cur.lists.status(cur.cfg)
	named(st.PACs, cur.routes.Choosers())
	st.Resolvers = cur.resolvers.status(cur.cfg)
	for _, r := range cur.reach.Status() {
		st.Reach = append(st.Reach, reachStatus(&r))
	}
	for _, p := range cur.routes.Pools() {
		x := admin.PoolStatus{Name: p.Name, Select: p.Select, RetriesRefused: p.RetriesRefused, Members: []admin.MemberStatus{}}
		for _, m := range p.Members {
			x.Members = append(x.Members, memberStatus(&m))
		}
		st.Pools = append(st.Pools, x)
	}
	return st
}

// labelNames are the names that metrics are labelled with.
func labelNames(cfg *policies.Config) (n admin.Names) {
	for i := range cfg.Listeners {
		n.Listeners = append(n.Listeners, cfg.Listeners[i].Name)
	}
	for i := range cfg.Upstreams.Upstreams {
		n.Upstreams = append(n.Upstreams, cfg.Upstreams.Upstreams[i].Name)
	}
	for policy, p := range cfg.Programs {
		n.Rules = append(n.Rules, [2]string{policy, ""}) // that no rule took
		for _, rule := range p.Rules() {
			n.Rules = append(n.Rules, [2]string{policy, rule.Rule})
		}
	}
	return n
}

// vitals is what the history of the gateway wants to know every second.
func (s *service) vitals() (v admin.Vitals) {
	v.Open, v.Up, v.Down = s.router.Carried()
	cur := s.now.Load()
	if cur == nil {
		return v
	}
	for _, u := range cur.routes.Status() {
		x := upstreamStatus(&u)
		v.Upstreams = append(v.Upstreams, admin.UpstreamVital{Name: x.Name, State: x.State, Up: x.Up, Open: x.Open, Attempts: x.Attempts, Failures: x.Failures})
	}
	return v
}

// openedStatus returns nil where no tunnel is opened.
func openedStatus(c *router.Config, n *router.OpenedStats) *admin.OpenedStatus {
	if (c == nil || c.CA == nil) && n.Tunnels+n.Rejected == 0 {
		return nil
	}
	o := &admin.OpenedStatus{Tunnels: n.Tunnels, Rejected: n.Rejected, Passed: n.Passed, Learnt: n.Learnt, Minted: n.Minted, Kept: n.Kept}
	if c != nil && c.CA != nil {
		o.CA, o.SHA256, o.NotAfter = c.CA.Cert.Subject.CommonName, c.CA.Fingerprint(), maybe(c.CA.Cert.NotAfter)
	}
	return o
}

func upstreamStatus(u *upstream.UpstreamStatus) admin.UpstreamStatus {
	x := admin.UpstreamStatus{
		Name: u.Name, Scheme: u.Scheme, Address: u.Address.String(), Open: u.Open, MaxConnections: u.MaxConnections,
		Drained: u.Drained, Attempts: u.Attempts, Failures: u.Failures, LastError: u.LastError, LastErrorTime: maybe(u.LastErrorTime),
	}
	if u.CredentialState != "" {
		x.Credential = &admin.CredentialStatus{Name: u.Credential, Schemes: u.Schemes, State: u.CredentialState, Since: maybe(u.CredentialSince), Why: u.CredentialWhy}
	}
	if x.Credential == nil && u.Credential != "" {
		x.Credential = &admin.CredentialStatus{Name: u.Credential, Schemes: append([]string{}, u.Schemes...), State: admin.CredentialUnguarded}
	}
	if n := u.Clients; n != nil {
		x.Credential = &admin.CredentialStatus{Name: u.Credential, Schemes: []string{"basic"}, State: admin.CredentialOfClients,
			Clients: &admin.ClientLogins{Proven: n.Proven, Closed: n.Closed, Unproven: n.Unproven}}
	}
	if x.Credential != nil {
		x.Credential.SecretSince = maybe(u.SecretSince)
	}
	x.Check, x.Since, x.Why = checkStatus(u.Check), maybe(u.Since), u.Why
	worked, inARow := u.Worked, u.InARow
	if c := u.Check; c != nil && !c.At.IsZero() { // more is known than flows have found out
		worked = worked || c.OK
		if !c.OK {
			inARow = max(inARow, uint64(c.InARow))
		}
	}
	x.State = wellbeing(admin.StateUp, worked, inARow)
	if u.Down {
		x.State = admin.StateDown
	}
	for _, m := range u.Members {
		if m.State == upstream.StateEjected || m.State == upstream.StateDown {
			x.State = admin.StateDown
		}
	}
	if u.CredentialState == admin.CredentialClosed && x.State != admin.StateDown {
		x.State = admin.StateFailing
	}
	x.Up = x.State == admin.StateUp || x.State == admin.StateUnknown
	return x
}

// manyFailures in a row are more than bad luck. Before anything else has worked, one is enough.
const manyFailures = 3

// wellbeing says how something is that nobody has taken out: well, when it is known to be.
func wellbeing(well string, worked bool, inARow uint64) string {
	switch {
	case inARow >= manyFailures, inARow > 0 && !worked:
		return admin.StateFailing
	case !worked:
		return admin.StateUnknown
	}
	return well
}

func memberStatus(m *upstream.MemberStatus) admin.MemberStatus {
	state := m.State
	if state == upstream.StateHealthy {
		state = wellbeing(state, m.Worked, uint64(m.Failures))
	}
	return admin.MemberStatus{
		Route: m.Route, State: state, Until: maybe(m.Until), Failures: m.Failures, Ejections: m.Ejections, Open: m.Open,
		Connect: float64(m.Connect.Microseconds()) / 1000, LastError: m.LastError, Since: maybe(m.Since), Why: m.Why, Check: checkStatus(m.Check),
	}
}

// named adds to the status of scripts what became of the proxies that they named.
func named(all []admin.PACStatus, choosers []upstream.ChooserStatus) {
	for i := range all {
		p := &all[i]
		for j := range choosers {
			c := &choosers[j]
			if c.Name != "pac."+p.Name {
				continue
			}
			p.OnError, p.RetriesRefused = c.OnError, c.RetriesRefused
			p.Undeclared = admin.UndeclaredStatus{Known: c.Other.Known, Out: c.Other.Out, Open: c.Other.Open}
			for _, m := range c.Members {
				p.Members = append(p.Members, memberStatus(&m))
			}
			for _, m := range c.Others {
				p.Others = append(p.Others, memberStatus(&m))
			}
		}
	}
}

// maybe is nil for "never".
func maybe(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// ResetCredential implements admin.Gateway.
func (s *service) ResetCredential(name string) admin.ResetResult {
	res := admin.ResetResult{Upstream: name}
	cur := s.now.Load()
	if cur == nil {
		return res
	}
	var err error
	if res.Was, res.Found, err = cur.routes.ResetCredential(name); err != nil {
		res.Error = err.Error()
	}
	return res
}

// authorityPEM is the certificate that clients are to trust, as it is on the disk: after a rotation they get the new one before the gateway
// uses it.
func (s *service) authorityPEM() []byte {
	cur := s.now.Load()
	if cur == nil {
		return nil
	}
	f, err := authorityFiles(&cur.cfg.Gateway)
	if err != nil {
		return nil
	}
	certs, err := intercept.LoadCerts(f)
	if err != nil {
		return nil
	}
	return intercept.PEM(certs[0])
}
