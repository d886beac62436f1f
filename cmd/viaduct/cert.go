package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router"
	"viaduct/upstream"
	"viaduct/upstream/certcheck"
	"viaduct/upstream/resolve"
)

const certLong = `Connects to a server the way the gateway would, makes a TLS handshake with it whatever it shows, and prints
its certificates, everything that is wrong with them, and their pins, ready for "pins" of a policy.

The way is the one that the policy decides for the target, or --via: "direct", an upstream, a pool or a
chain. Where the rule that takes the target makes TLS itself (mode = "upgrade"), its ca, pins, server_name
and the like hold here too; else the certificate is checked as any client would, against the authorities
that this machine trusts. upstream.NAME looks at an https proxy of the policy, with its tls block.

` + sourceHelp + `

Exit codes: 0 the certificate would be accepted, 1 it would not, or there was none to be had, 2 usage.`

// certTime bounds the command: connecting, through proxies if need be, and the handshake.
const certTime = 30 * time.Second

// certQuery is what the command line of cert says.
type certQuery struct {
	resolvers resolverSet
	question
	via        string
	serverName string
	pem        bool
}

func newCert() *cobra.Command {
	q := certQuery{question: question{client: "127.0.0.1", method: "GET", resolve: []string{"system"}}}
	c := &cobra.Command{
		Use:   "cert URL|HOST:PORT|upstream.NAME",
		Short: "Show the certificates of a server, as seen through a route",
		Long:  certLong,
		Example: "  viaduct cert https://www.example.com/\n" +
			"  viaduct cert -c viaduct.hcl --via pool.corp api.partner.example:443\n" +
			"  viaduct cert -c viaduct.hcl upstream.corp_b\n" +
			"  viaduct cert --pem registry.example:5000 > registry.pem",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return q.run(c, args[0]) },
	}
	q.src.flags(c)
	f := c.Flags()
	f.StringVar(&q.via, "via", "", "route to go: direct, upstream.NAME, pool.NAME, chain.NAME; default: what the policy decides")
	f.StringVar(&q.serverName, "server-name", "", "name to send and check; default: that of the rule, or the host")
	f.BoolVar(&q.pem, "pem", false, "print the certificates as PEM, and the rest to standard error")
	f.BoolVar(&q.asJSON, "json", false, "print JSON")
	complete(c, "via", routeNames, &q.src)
	return c
}

func routeNames(cfg *policies.Config) []string {
	all := []string{connmodel.RouteDirect}
	for _, u := range cfg.Upstreams.Upstreams {
		all = append(all, "upstream."+u.Name)
	}
	for _, p := range cfg.Upstreams.Pools {
		all = append(all, "pool."+p.Name)
	}
	for _, x := range cfg.Upstreams.Chains {
		if !strings.Contains(x.Name, "/") { // chains written in place have no name of their own
			all = append(all, "chain."+x.Name)
		}
	}
	return all
}

func (q *certQuery) run(c *cobra.Command, what string) error {
	if q.pem && q.asJSON {
		return usageError("--pem and --json: the certificates are in the JSON only by their facts; write one of the two")
	}
	cfg, diags, err := q.load()
	if err != nil {
		return err
	}
	if cfg == nil {
		return policyErrors(c, diags, q.asJSON)
	}
	cfg.Upstreams.Guard = guardAt(cfg.Gateway.State)
	defer cfg.Upstreams.Guard.Close()
	rc, table, resolvers, _, err := wireUp(cfg, (&pacOnce{cfg: cfg}).chooser)
	if err != nil {
		return err
	}
	defer table.Close()
	ctx, cancel := context.WithTimeout(c.Context(), certTime)
	defer cancel()
	q.resolvers = resolvers
	p, err := q.plan(ctx, cfg, rc, what)
	if err != nil {
		return err
	}
	if q.via != "" {
		if p.route, err = q.named(table, cfg); err != nil {
			return err
		}
		p.by = "as --via says"
	}
	if q.serverName != "" {
		if p.name, err = connmodel.CanonicalHost(q.serverName); err != nil {
			return usageError("--server-name: %w", err)
		}
	}
	s := p.look(ctx, table)
	switch {
	case q.asJSON:
		err = writeJSON(c.OutOrStdout(), s)
	case q.pem:
		if err = s.writePEM(c.OutOrStdout()); err == nil {
			err = s.print(c.ErrOrStderr())
		}
	default:
		err = s.print(c.OutOrStdout())
	}
	if err == nil && !s.Accepted {
		err = quiet(exitProblems)
	}
	return err
}

// load reads the policy as run does: secrets are needed to get through proxies.
func (q *certQuery) load() (*policies.Config, policies.Diagnostics, error) {
	o, notes, err := q.src.options(q.src.paths(nil))
	if err != nil {
		return nil, notes, err
	}
	o.Command = commands{}.run(context.Background())
	cfg, diags := policies.Load(o)
	if notes.HasErrors() || diags.HasErrors() {
		cfg = nil
	}
	diags.List = append(notes.List, diags.List...)
	return cfg, diags, nil
}

// named finds the route of --via, where the kind may be left out.
func (q *certQuery) named(table *upstream.Table, cfg *policies.Config) (string, error) {
	for _, name := range []string{q.via, "upstream." + q.via, "pool." + q.via, "chain." + q.via} {
		if _, ok := table.Describe(name); ok {
			return name, nil
		}
	}
	return "", usageError("--via %s: there is no such route; there are: %s", q.via, strings.Join(routeNames(cfg), ", "))
}

// certPlan is how a server is looked at.
type certPlan struct {
	target  connmodel.Address // that is dialled
	asked   string            // what the command line named
	request upstream.Request
	route   string
	by      string // who chose the route
	name    string // sent and checked
	config  *tls.Config
	trust   string // whose authorities count, for people
	note    string
}

// plan asks the policy which way, and what it wants of the certificate.
func (q *certQuery) plan(ctx context.Context, cfg *policies.Config, rc *router.Config, what string) (*certPlan, error) {
	if name, ok := strings.CutPrefix(what, "upstream."); ok && !strings.ContainsAny(name, ":/") {
		return ofUpstream(cfg, name)
	}
	l, err := q.listenerOf(cfg)
	if err != nil {
		return nil, err
	}
	f, err := q.facts(cfg, l, what)
	if err != nil {
		return nil, err
	}
	p := &certPlan{target: f.Target, asked: f.Target.String(), name: f.Target.Host, config: &tls.Config{}, trust: "the authorities that this machine trusts"}
	d, err := q.decide(ctx, cfg.Programs[l.Policy], f, q.resolvers.forListener(cfg, l.Name))
	switch {
	case err != nil && q.via == "":
		return nil, err
	case err != nil:
	case d.Denied() && q.via == "":
		return nil, fmt.Errorf("the policy refuses %s (%s); --via direct looks at it all the same", f.Target, ruleAt(d))
	case !d.Denied():
		p.follow(d)
		if refused := router.CheckTarget(rc, listenerNamed(rc, f.Listener), d, f.Target, f.Addresses); refused != nil {
			p.note = "the gateway itself would not connect there: " + refused.Message
		}
		p.request = upstream.Request{LocalResolve: d.LocalResolve}
		if p.target == f.Target {
			p.request.Addrs = f.Addresses
		}
	}
	if f.Request != nil && (d == nil || d.TLS == nil || d.TLS.Config == nil) {
		return nil, usageError("%s is plain HTTP, and no rule takes it over TLS: write https:// or HOST:PORT", what)
	}
	return p, nil
}

// follow takes over what a decision says.
func (p *certPlan) follow(d *connmodel.Decision) {
	p.route, p.by = d.Route, ruleAt(d)
	if !d.Server.IsZero() {
		p.target, p.name = d.Server, d.Server.Host
	}
	t := d.TLS
	if t == nil || t.Config == nil {
		return
	}
	p.take(t.Config, t.ServerName, "the tls block of "+ruleAt(d))
}

func (p *certPlan) take(c *tls.Config, name, whose string) {
	p.config, p.trust = c, "as "+whose+" says"
	if name != "" {
		p.name = name
	}
}

func ruleAt(d *connmodel.Decision) string {
	if d.Rule == "" {
		return "no rule takes it"
	}
	return fmt.Sprintf("rule %q, %s", d.Rule, d.Where())
}

func ofUpstream(cfg *policies.Config, name string) (*certPlan, error) {
	i := slices.IndexFunc(cfg.Upstreams.Upstreams, func(s upstream.Spec) bool { return s.Name == name })
	if i < 0 {
		return nil, usageError("there is no upstream %q; there are: %s", name, strings.Join(routeNames(cfg)[1:], ", "))
	}
	s := &cfg.Upstreams.Upstreams[i]
	if s.Scheme != "https" {
		return nil, usageError("upstream %q is spoken to by %s, without TLS", name, s.Scheme)
	}
	p := &certPlan{target: s.Address, asked: "upstream." + name + " at " + s.Address.String(), name: s.Address.Host, route: connmodel.RouteDirect, by: "as the first hop",
		config: &tls.Config{NextProtos: upstream.ALPN()}, trust: "the authorities that this machine trusts"}
	if s.TLS != nil {
		p.take(s.TLS, s.ServerName, "the tls block of upstream "+name)
	}
	return p, nil
}

// decide runs the policy, with what it asks for: the addresses of the name, and the first bytes that a client would send.
func (q *certQuery) decide(ctx context.Context, program *policies.Program, f *connmodel.Facts, r resolve.Resolver) (*connmodel.Decision, error) {
	for range 3 {
		d, need := program.Decide(f)
		switch {
		case d != nil:
			return d, nil
		case need&connmodel.NeedAddresses != 0 && f.Have&connmodel.NeedAddresses == 0:
			if err := q.gather(ctx, f, r, new(explanation)); err != nil {
				return nil, err
			}
		case need&connmodel.NeedHello != 0 && f.Have&connmodel.NeedHello == 0:
			f.Hello = &connmodel.ClientHello{SNI: sniOf(f.Target.Host), ALPN: []string{"h2", "http/1.1"}, Versions: []uint16{tls.VersionTLS13, tls.VersionTLS12}}
			f.Have |= connmodel.NeedHello
		default:
			return nil, fmt.Errorf("a rule asks for the %s of %s, which is not known here: say which way with --via", need, f.Target)
		}
	}
	return nil, errors.New("the policy comes to no decision: say which way with --via")
}

// sniOf is what a client sends for a host (RFC 6066, section 3): nothing for an address.
func sniOf(host string) string {
	if net.ParseIP(host) != nil {
		return ""
	}
	return host
}

// look makes the handshake, which nothing stops but that it cannot be made, and judges what was seen.
func (p *certPlan) look(ctx context.Context, table *upstream.Table) *sighting {
	s := &sighting{Target: p.asked, Route: p.route, By: p.by, ServerName: p.name, Trust: p.trust, Note: p.note, Problems: []string{}}
	if p.target.String() != p.asked && !strings.HasSuffix(p.asked, p.target.String()) {
		s.Server = p.target.String()
	}
	open := p.open()
	q := p.request
	q.Route, q.Target, q.Retry = p.route, p.target, &connmodel.Retry{Attempts: 1}
	q.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, ServerName: p.name, Config: open}
	if at, ok := ctx.Deadline(); ok {
		q.Deadline = at
	}
	rec := connmodel.NewSession(connmodel.Accepted{Listener: "cert"}, nil).NewFlow(connmodel.ProtocolConnect, p.target, time.Time{})
	conn, failed := table.Dial(ctx, &q, rec)
	s.seen(rec.Snapshot())
	if failed != nil {
		s.Error = failed.Error()
		s.Problems = append(s.Problems, failed.Error())
		return s
	}
	defer conn.Close()
	c, ok := conn.Conn.(*tls.Conn)
	if !ok {
		s.Error = "no TLS was made"
		return s
	}
	cs := c.ConnectionState()
	p.judge(s, &cs)
	if s.TLS != nil && s.TLS.ClientAuth == connmodel.ClientAuthNone {
		s.wanted(c)
	}
	return s
}

// open is a configuration that takes any certificate.
func (p *certPlan) open() *tls.Config {
	open := p.config.Clone()
	open.InsecureSkipVerify, open.VerifyConnection, open.VerifyPeerCertificate = true, nil, nil
	if open.NextProtos == nil {
		open.NextProtos = []string{"h2", "http/1.1"}
	}
	return open
}

// judge says whether the gateway would go on.
func (p *certPlan) judge(s *sighting, cs *tls.ConnectionState) {
	s.chain = cs.PeerCertificates
	at := time.Now()
	found, chains := certcheck.Findings(cs.PeerCertificates, p.config.RootCAs, p.name, at)
	s.Unverified = p.config.InsecureSkipVerify
	s.Accepted = len(found) == 0 || s.Unverified
	for _, f := range found {
		s.Problems = append(s.Problems, "the certificate "+f.Text)
	}
	s.Verdict = connmodel.ChainOK
	if len(found) > 0 {
		s.Verdict = found[0].Verdict
	}
	if len(chains) > 0 {
		s.Authority = chains[0][len(chains[0])-1].Subject.String()
	}
	if verify := p.config.VerifyConnection; verify != nil && (s.Unverified || len(found) == 0) {
		state := *cs
		if state.VerifiedChains = chains; s.Unverified {
			state.VerifiedChains = nil
		}
		if err := verify(state); err != nil {
			f, _ := certcheck.Judge(err, cs.PeerCertificates)
			s.Accepted, s.Verdict = false, f.Verdict
			s.Problems = append(s.Problems, "the certificate "+f.Text)
		} else {
			s.Pinned = true
		}
	}
	if s.TLS != nil { // the handshake was not told what to look for
		s.TLS.Verdict, s.TLS.Unverified, s.TLS.Problem = s.Verdict, s.Unverified, strings.Join(s.Problems, "; ")
		if s.Accepted && !s.Unverified {
			s.TLS.VerifiedName = p.name
		}
	}
	for _, w := range certcheck.Warnings(&certcheck.Peer{Side: connmodel.SideServer, Address: p.target}, certcheck.OK, cs.PeerCertificates, chains, at, 0) {
		if len(found) == 0 {
			s.Warnings = append(s.Warnings, w.Message)
		}
	}
}

// alertTime is how long a server has for its alert after the handshake. TLS 1.3 brings it late.
const alertTime = time.Second

// wanted finds out whether a server that asked for a client certificate, and got none, goes on.
func (s *sighting) wanted(c *tls.Conn) {
	c.SetReadDeadline(time.Now().Add(alertTime))
	var b [1]byte
	_, err := c.Read(b[:])
	var late net.Error
	if err == nil || errors.As(err, &late) && late.Timeout() {
		s.Warnings = append(s.Warnings, "the server asks for a client certificate, and goes on without one")
		return
	}
	s.Accepted = false
	text := "the server wants a client certificate, and ended the connection without one"
	if a, ok := connmodel.PeerAlert(err); ok {
		text += " (" + a.Error() + ")"
	}
	s.Problems = append(s.Problems, text+": set certificate and key")
}

// seen keeps what the record has of the last handshake.
func (s *sighting) seen(f *connmodel.Flow) {
	if f.Server == nil || len(f.Server.Attempts) == 0 {
		return
	}
	a := f.Server.Attempts[len(f.Server.Attempts)-1]
	s.Way = a.Route
	if n := len(a.Hops); n > 0 && a.Hops[n-1].Upstream == "" && a.Hops[n-1].TLSInfo != nil {
		t := *a.Hops[n-1].TLSInfo
		s.TLS = &t
	}
}

// sighting is the answer of cert, and its JSON form.
type sighting struct {
	Target     string                 `json:"target"`
	Server     string                 `json:"server,omitempty"` // dialled in place of the target
	Route      string                 `json:"route"`
	Way        string                 `json:"way,omitempty"` // the hops that were gone through
	By         string                 `json:"by"`
	ServerName string                 `json:"server_name"`
	Trust      string                 `json:"trust"`
	Accepted   bool                   `json:"accepted"`
	Verdict    connmodel.ChainVerdict `json:"verdict,omitempty"`
	Unverified bool                   `json:"unverified,omitempty"` // verify = false: accepted whatever is wrong
	Pinned     bool                   `json:"pinned,omitempty"`     // one of the pins of the policy is there
	Authority  string                 `json:"authority,omitempty"`  // that the chain leads to
	Problems   []string               `json:"problems"`
	Warnings   []string               `json:"warnings,omitempty"`
	Note       string                 `json:"note,omitempty"`
	Error      string                 `json:"error,omitempty"` // why there was no handshake
	TLS        *connmodel.TLSInfo     `json:"tls"`

	chain []*x509.Certificate
}
