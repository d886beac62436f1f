package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router/admin"
	"viaduct/upstream"
	"viaduct/upstream/auth"
	"viaduct/upstream/doctor"
)

const upstreamCheckLong = `Looks at a proxy of the policy step by step, in the order in which connections depend on them, and says of
each step how it went, how long it took and, where it failed, what that means and what to try:

  config     what the policy says, and whether the secret can be read
  dns        the addresses of its name     tcp    each of them
  tls        the handshake and the certificates of an https proxy
  offers     what a proxy asks for that is shown nothing (407 offers, SOCKS methods), and what is chosen
  protocol   what really listens at the port, where it is not what the policy says
  clock      against the proxy's and the KDC's
  kerberos   krb5.conf, keytab or cache, the name of the service; kdc each KDC; ticket
  ntlm       what the domain says of itself
  connect    a tunnel to the target, with the credential; target  TLS with it through the tunnel
  websocket  an Upgrade to --websocket, by CONNECT and by a plain request
  idle       what becomes of a tunnel that is left alone for --idle
  gateway    what a running gateway thinks of the proxy, if one answers, and where that differs

NAME is an upstream; pool.NAME and chain.NAME stand for each of their proxies, those of a chain as seen
from the hop before. Nothing goes through a credential's guard twice: one that was rejected is not shown,
one that is not proven is shown once, and that is written down first, in the directory of state of the
gateway. A login at a KDC counts as showing it. Where that directory belongs to another user nothing is
shown; run the command as that user. --no-credentials shows none in any case.

The target of tunnels is --target, or what a pool of the proxy checks, or example.com:443. Then a
refusal that is about the target alone is only a warning.

`

const upstreamCheckCodes = `

Exit codes: 0 all is well (warnings allowed), 1 a step failed, 2 usage, 255 it could not be found out.`

// checkQuery is what the command line of check says.
type checkQuery struct {
	control
	target, through, websocket string
	timeout, idle              time.Duration
	all, mute, asJSON          bool
}

// defaultCheckTarget is asked for where nothing else is known: a host that is kept for examples (RFC 2606) and answers.
const defaultCheckTarget = "example.com:443"

func newUpstreamCheck() *cobra.Command {
	var q checkQuery
	c := &cobra.Command{
		Use:   "check NAME...",
		Short: "Find out what is wrong with a proxy",
		Long:  upstreamCheckLong + controlHelp + upstreamCheckCodes,
		Example: "  viaduct upstream check -c viaduct.hcl corp\n" +
			"  viaduct upstream check corp --target api.partner.example:443 --idle\n" +
			"  viaduct upstream check jump --through pool.corp\n" +
			"  viaduct upstream check corp --websocket wss://chat.example/socket --idle=5m\n" +
			"  viaduct upstream check --all --no-credentials --json",
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error { return q.run(c, args) },
	}
	q.flags(c)
	f := c.Flags()
	f.StringVar(&q.target, "target", "", "HOST:PORT that tunnels are asked for")
	f.StringVar(&q.through, "through", "", "route that leads to the proxy, where it is not the first hop: upstream.NAME, pool.NAME, chain.NAME")
	f.DurationVar(&q.timeout, "timeout", 10*time.Second, "how long each part may take")
	f.DurationVar(&q.idle, "idle", 0, "leave a tunnel (and the WebSocket) alone for so long; --idle alone is a minute")
	f.Lookup("idle").NoOptDefVal = "1m"
	f.StringVar(&q.websocket, "websocket", "", "ws:// or wss:// URL to open a WebSocket with")
	f.BoolVar(&q.mute, "no-credentials", false, "show no credential, neither to the proxy nor to a KDC")
	f.BoolVar(&q.all, "all", false, "check every upstream of the policy, and print a table in the end")
	f.BoolVar(&q.asJSON, "json", false, "print JSON, when all is over")
	complete(c, "through", routeNames, &q.source)
	c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		cfg, _, err := q.load(nil)
		if err != nil || cfg == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return routeNames(cfg)[1:], cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

// checkResult is the JSON form.
type checkResult struct {
	Version int              `json:"version"` // of this form: 1
	Verdict doctor.Status    `json:"verdict"`
	Checks  []*doctor.Report `json:"checks"`
}

// trouble says that it could not be found out.
func trouble(err error) error {
	var e *exitError
	if errors.As(err, &e) {
		return err
	}
	return &exitError{exitTrouble, err}
}

func (q *checkQuery) run(c *cobra.Command, names []string) error {
	if len(names) == 0 && !q.all {
		return usageError("check which upstream? NAME, or --all")
	}
	if len(names) > 0 && q.all {
		return usageError("--all and names: write one of the two")
	}
	if q.timeout <= 0 || q.idle < 0 {
		return usageError("--timeout and --idle are lengths of time, such as 10s")
	}
	var ws *url.URL
	if q.websocket != "" {
		u, err := url.Parse(q.websocket)
		if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Hostname() == "" || u.User != nil {
			return usageError("--websocket: write ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH")
		}
		ws = u
	}
	p, err := q.control.practise(c, q.mute, q.asJSON)
	if err != nil {
		return err
	}
	defer p.resolvers.leave(nil)
	what, err := p.patients(names, q)
	if err != nil {
		return err
	}
	for _, r := range p.passed {
		fmt.Fprintf(c.ErrOrStderr(), "viaduct: %s names other proxies for each target, and is not checked\n", r)
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p.ask(ctx, q.control, q.mute)
	out := &checkPrinter{w: c.OutOrStdout(), p: palette(colourful(c.OutOrStdout())), live: colourful(c.ErrOrStderr()), err: c.ErrOrStderr()}
	if q.asJSON {
		out = nil
	}
	res := checkResult{Version: 1, Verdict: doctor.OK}
	p.guard = auth.NewGuard(filepath.Join(p.state, "auth"), nil)
	defer p.guard.Close()
	if res.Checks, err = p.checks(ctx, q, what, ws, out); err != nil {
		return trouble(err)
	}
	for _, r := range res.Checks {
		if r.Verdict == doctor.Fail || r.Verdict == doctor.Warn && res.Verdict == doctor.OK {
			res.Verdict = r.Verdict
		}
	}
	if q.asJSON {
		if err := writeJSON(c.OutOrStdout(), &res); err != nil {
			return err
		}
	} else if len(what) > 1 {
		out.table(res.Checks)
	}
	switch {
	case ctx.Err() != nil:
		return quiet(exitTrouble)
	case res.Verdict == doctor.Fail:
		return quiet(exitProblems)
	}
	return nil
}

// atOnce is how many proxies are looked at at a time.
const atOnce = 4

// checks looks at several proxies, a few at a time, and prints what was found in their order: the first that is not over as it goes, the others when
// their turn comes. Where names are looked up by resolvers of the policy, which know one table of routes at a time, it is one after the other.
func (p *practice) checks(ctx context.Context, q *checkQuery, what []patient, ws *url.URL, out *checkPrinter) (all []*doctor.Report, err error) {
	type result struct {
		r    *doctor.Report
		err  error
		text bytes.Buffer
		done chan struct{}
	}
	few := atOnce
	if len(p.resolvers) > 0 {
		few = 1
	}
	ctx, cancel := context.WithCancel(ctx)
	list, places := make([]result, len(what)), make(chan struct{}, few)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range list {
		list[i].done = make(chan struct{})
	}
	wg.Go(func() {
		for i := range list {
			x := &list[i]
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				defer close(x.done)
				if ctx.Err() == nil {
					mine := out
					if out != nil && len(what) > 1 {
						mine = &checkPrinter{w: &x.text, err: discard{}, p: out.p}
					}
					x.r, x.err = p.check(ctx, q, what[i], ws, mine)
				}
			})
		}
	})
	for i := range list {
		x := &list[i]
		if out != nil && len(what) > 1 {
			out.progress(fmt.Sprintf("%d of %d: %s", i+1, len(what), what[i].spec.Name))
		}
		<-x.done
		if out != nil && len(what) > 1 {
			out.calm()
		}
		switch {
		case x.err != nil:
			return all, x.err
		case x.r == nil: // interrupted before it began
			return all, nil
		}
		if out != nil && i > 0 {
			fmt.Fprintln(out.w)
		}
		if out != nil {
			x.text.WriteTo(out.w)
		}
		all = append(all, x.r)
	}
	return all, nil
}

// practice is what all checks of a run share.
type practice struct {
	cfg        *policies.Config
	unreadable map[string]string // upstreams whose credential could not be read, and why
	state      string            // directory
	mute       string            // why no credential is shown
	gateway    *admin.Status     // nil = none answers
	gatewayErr error

	guard     *auth.Guard
	passed    []string // routes among those named that are no proxies: PAC scripts
	resolvers resolverSet
	asking    resolverSet // those that have been told of a table
}

// practise reads the policy as run does; where something is missing here, as far as it goes. mute says that no credential is shown.
func (k *control) practise(c *cobra.Command, mute, asJSON bool) (*practice, error) {
	o, notes, err := k.options(k.paths(nil))
	if err != nil {
		return nil, err
	}
	if !mute { // else nothing is shown, and what it would be is not asked for
		o.Command = commands{}.run(c.Context())
	}
	p := &practice{unreadable: map[string]string{}}
	cfg, strict := policies.Load(o)
	if strict.HasErrors() {
		o.Lenient = true
		var diags policies.Diagnostics
		if cfg, diags = policies.Load(o); diags.HasErrors() || notes.HasErrors() {
			diags.List = append(notes.List, diags.List...)
			_ = policyErrors(c, diags, asJSON) // that there are some is the error
			return nil, quiet(exitTrouble)
		}
		why, n := "", 0
		for _, d := range strict.List {
			if d.Severity == hcl.DiagError {
				why, n = d.Detail, n+1
			}
		}
		if n > 1 { // which of them is about which proxy is not known here
			why = fmt.Sprintf("%d things of the policy cannot be had here, which \"viaduct validate\" names", n)
		}
		for _, u := range cfg.Upstreams.Upstreams {
			if u.Auth != nil && !u.Auth.FromClient && (u.Auth.Unread || u.Auth.IsZero() || u.Auth.Username == "" && u.Auth.Token.IsZero() && u.Auth.CCache == "") {
				p.unreadable[u.Name] = strings.TrimSuffix(why, ".")
			}
		}
	}
	p.cfg = cfg
	if p.resolvers, err = openResolvers(cfg, nil); err != nil {
		return nil, trouble(err)
	}
	return p, nil
}

// ask looks for a running gateway, which knows the directory of its state, and decides whether credentials may be shown.
func (p *practice) ask(ctx context.Context, k control, mute bool) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var s admin.Status
	k.guess, k.notes = true, discard{}
	if _, p.gatewayErr = k.ask(ctx, http.MethodGet, "/v1/status", &s); p.gatewayErr == nil {
		p.gateway = &s
	}
	dir, err := stateDir(p.cfg.Gateway.State)
	if p.gateway != nil && p.gateway.StateDir != "" {
		dir, err = p.gateway.StateDir, nil // its environment may be another
	}
	switch {
	case mute:
		p.mute = "--no-credentials says so"
	case err != nil:
		p.mute = "there is no directory for state in which that could be written down: " + err.Error()
	default:
		p.mute = othersState(dir)
	}
	p.state = dir
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// othersState says why the state of a gateway cannot be shared; "" = it can. What another user writes there, root too, the gateway could not
// read, and would have to take for a rejection.
func othersState(dir string) string {
	for _, d := range []string{filepath.Join(dir, "auth"), dir} {
		st, err := os.Stat(d)
		if errors.Is(err, os.ErrPermission) {
			return "the directory of state " + dir + " cannot be looked into by this user; run the command as the user of the gateway"
		}
		if err != nil {
			continue
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() {
			return fmt.Sprintf("the directory of state %s belongs to another user (%d); run the command as that user", dir, sys.Uid)
		}
		return ""
	}
	return ""
}

// patient is one proxy that is checked, and by which way.
type patient struct {
	spec    *upstream.Spec
	through string
}

func (p *practice) spec(name string) *upstream.Spec {
	for i := range p.cfg.Upstreams.Upstreams {
		if u := &p.cfg.Upstreams.Upstreams[i]; u.Name == name {
			return u
		}
	}
	return nil
}

// patients finds what the names mean.
func (p *practice) patients(names []string, q *checkQuery) (all []patient, err error) {
	if q.all {
		for i := range p.cfg.Upstreams.Upstreams {
			names = append(names, "upstream."+p.cfg.Upstreams.Upstreams[i].Name)
		}
		if len(names) == 0 {
			return nil, &exitError{exitTrouble, errors.New("the policy has no upstream")}
		}
	}
	if q.through != "" {
		if q.through, err = p.routeNamed(q.through); err != nil {
			return nil, usageError("--through: %w", err)
		}
	}
	for _, n := range names {
		if n, err = p.routeNamed(n); err != nil {
			return nil, &exitError{exitUsage, err}
		}
		if all, err = p.expand(n, q.through, all, 0); err != nil {
			return nil, &exitError{exitUsage, err}
		}
	}
	if len(all) == 0 {
		return nil, usageError("%s has no upstream of the policy: \"viaduct pac eval\" says which proxies a script names", strings.Join(names, ", "))
	}
	return all, nil
}

// routeNamed finds a route where the kind may be left out.
func (p *practice) routeNamed(name string) (string, error) {
	all := routeNames(p.cfg)[1:]
	for _, kind := range []string{"", "upstream.", "pool.", "chain."} {
		if slices.Contains(all, kind+name) {
			return kind + name, nil
		}
	}
	for i := range p.cfg.PACs {
		if r := p.cfg.PACs[i].Route(); r == name || p.cfg.PACs[i].Name == name {
			return "", fmt.Errorf("%s names other proxies for each target: \"viaduct pac eval\" says which; check those, or --all", r)
		}
	}
	if len(all) == 0 {
		return "", fmt.Errorf("there is no upstream %s: the policy has none", quotedArg(name))
	}
	return "", fmt.Errorf("there is no upstream %s; there are: %s", quotedArg(name), strings.Join(all, ", "))
}

func quotedArg(s string) string { return strconv.Quote(s) }

// expand is the proxies of a route: of a pool each, of a chain each as seen from what comes before it.
func (p *practice) expand(name, through string, all []patient, depth int) ([]patient, error) {
	if depth > upstream.MaxHops {
		return all, nil
	}
	kind, rest, _ := strings.Cut(name, ".")
	var err error
	switch kind {
	case "upstream":
		if s := p.spec(rest); s != nil && !slices.ContainsFunc(all, func(x patient) bool { return x.spec == s && x.through == through }) {
			all = append(all, patient{s, through})
		}
	case "pool":
		for _, x := range p.cfg.Upstreams.Pools {
			if x.Name != rest {
				continue
			}
			for _, m := range x.Members {
				if all, err = p.expand(m, through, all, depth+1); err != nil {
					return nil, err
				}
			}
		}
	case "chain":
		if through != "" {
			return nil, fmt.Errorf("%s behind another hop: check its upstreams one by one", name)
		}
		for _, x := range p.cfg.Upstreams.Chains {
			if x.Name != rest {
				continue
			}
			for i, h := range x.Hops {
				way := ""
				if i > 0 {
					way = p.prefix(x.Hops[:i])
				}
				if all, err = p.expand(h, way, all, depth+1); err != nil {
					return nil, err
				}
			}
		}
	default:
		p.passed = append(p.passed, name)
	}
	return all, nil
}

// prefix names the way that hops are; of several it is a chain that is made for it.
func (p *practice) prefix(hops []string) string {
	if len(hops) == 1 {
		return hops[0]
	}
	name := "to " + strings.Join(hops, " > ")
	if !slices.ContainsFunc(p.cfg.Upstreams.Chains, func(c upstream.ChainSpec) bool { return c.Name == name }) {
		p.cfg.Upstreams.Chains = append(p.cfg.Upstreams.Chains, upstream.ChainSpec{Name: name, Hops: slices.Clone(hops)})
	}
	return "chain." + name
}

// check looks at one proxy.
func (p *practice) check(ctx context.Context, q *checkQuery, one patient, ws *url.URL, out *checkPrinter) (*doctor.Report, error) {
	o := doctor.Options{Spec: *one.spec, Through: one.through, Timeout: q.timeout, Idle: q.idle, WebSocket: ws, Resolver: p.cfg.Upstreams.Resolver,
		NoCredentials: p.mute, Unreadable: p.unreadable[one.spec.Name], Behind: p.behind(one.spec.Name)}
	switch {
	case o.NoCredentials != "":
	case o.Unreadable != "":
		o.NoCredentials = "it could not be read"
	case one.spec.Auth != nil && one.spec.Auth.FromClient:
		o.NoCredentials = "it is each client's own password (from_client), and here is no client"
	}
	if r := one.spec.Resolver; r != nil {
		o.Resolver = r
	}
	var err error
	if o.Target, o.TargetFrom, err = p.target(q, one.spec.Name); err != nil {
		return nil, err
	}
	o.Asked = q.target != ""
	if o.Table, o.Route, err = p.table(&o, p.guard, q.timeout); err != nil {
		return nil, err
	}
	defer o.Table.Close()
	if out != nil {
		out.begin(&o)
		o.Tell, o.Progress = out.step, out.progress
	}
	view := p.view(one.spec)
	r := doctor.Run(ctx, o)
	if view != nil {
		p.differ(view, r)
		r.Steps = append(r.Steps, view)
		if out != nil {
			out.step(view)
		}
	}
	if out != nil {
		out.verdict(r)
	}
	return r, nil
}

// target is what tunnels are asked for.
func (p *practice) target(q *checkQuery, name string) (connmodel.Address, string, error) {
	if q.target != "" {
		a, err := connmodel.ParseAddress(q.target)
		if err != nil {
			return a, "", usageError("--target: write HOST:PORT: %w", err)
		}
		return a, "", nil
	}
	tunnel := func(h *upstream.HealthSpec) bool {
		return h != nil && !h.Target.IsZero() && (h.Kind != upstream.CheckHTTP || h.Secure) // a plain page may be fetched where a tunnel is forbidden
	}
	if u := p.spec(name); tunnel(u.Health) {
		return u.Health.Target, "as its health block checks", nil
	}
	for _, x := range p.cfg.Upstreams.Pools {
		if tunnel(x.Health) && slices.Contains(x.Members, "upstream."+name) {
			return x.Health.Target, "as pool." + x.Name + " checks", nil
		}
	}
	a, err := connmodel.ParseAddress(defaultCheckTarget)
	return a, "by default", err
}

// table joins the policy's routes with the one that is looked at.
func (p *practice) table(o *doctor.Options, guard *auth.Guard, timeout time.Duration) (*upstream.Table, string, error) {
	c := p.cfg.Upstreams
	c.Guard, c.Dynamic = guard, dynamic(p.cfg, (&pacOnce{cfg: p.cfg}).chooser, nil)
	c.Upstreams, c.Chains, c.NoChecks = slices.Clone(c.Upstreams), slices.Clone(c.Chains), true
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		if o.NoCredentials != "" && (u.Name == o.Spec.Name || p.mute != "") || p.unreadable[u.Name] != "" {
			u.Auth = nil
		}
		if u.Name == o.Spec.Name {
			u.Timeouts = upstream.HopTimeouts{Dial: timeout, TLS: timeout, Handshake: timeout}
		}
	}
	route := "upstream." + o.Spec.Name
	if o.Through != "" {
		const name = "the way that is checked"
		c.Chains = append(c.Chains, upstream.ChainSpec{Name: name, Hops: []string{o.Through, route}})
		route = "chain." + name
	}
	t, err := upstream.NewTable(c, nil)
	if err == nil && len(p.resolvers) > 0 {
		p.resolvers.begin(t, p.asking)
		p.resolvers.reach(t)
		p.asking = p.resolvers
	}
	return t, route, err
}

// behind says in which chains a proxy is not the first hop, unless it is used as one.
func (p *practice) behind(name string) string {
	route, where := "upstream."+name, ""
	for _, x := range p.cfg.Upstreams.Chains {
		if i := slices.Index(x.Hops, route); i > 0 && where == "" {
			where = "chain." + x.Name + ", behind " + strings.Join(x.Hops[:i], ", ")
		} else if i == 0 {
			return ""
		}
	}
	for _, x := range p.cfg.Upstreams.Pools {
		if slices.Contains(x.Members, route) {
			return ""
		}
	}
	return where
}

// view is what a running gateway thinks of a proxy.
func (p *practice) view(spec *upstream.Spec) *doctor.Step {
	s := &doctor.Step{Name: "gateway", Status: doctor.OK}
	if p.gateway == nil {
		s.Status, s.Says = doctor.Skip, shown(p.gatewayErr.Error())
		return s
	}
	i := slices.IndexFunc(p.gateway.Upstreams, func(u admin.UpstreamStatus) bool { return u.Name == spec.Name })
	if i < 0 {
		s.Status, s.Says = doctor.Warn, "a gateway runs and knows no upstream of this name: it has another policy"
		return s
	}
	u := &p.gateway.Upstreams[i]
	s.Facts = map[string]any{"pid": p.gateway.PID, "state": u.State, "attempts": u.Attempts, "failures": u.Failures}
	s.Says = fmt.Sprintf("the running gateway (process %d) has it as %s, %d attempts, %d failures", p.gateway.PID, u.State, u.Attempts, u.Failures)
	if u.LastError != "" && u.LastErrorTime != nil {
		s.Facts["last_error"], s.Facts["last_error_time"] = u.LastError, u.LastErrorTime
		s.Detail = append(s.Detail, "its last error, "+u.LastErrorTime.Local().Format("2006-01-02 15:04:05")+": "+shown(u.LastError))
	}
	if x := u.Credential; x != nil {
		s.Facts["credential_state"] = x.State
		text := "its credential " + strconv.Quote(x.Name) + " is " + x.State
		if x.Why != "" {
			text += ": " + shown(x.Why)
		}
		s.Detail = append(s.Detail, text)
	}
	if a := spec.Address.String(); u.Scheme != spec.Scheme || u.Address != a {
		s.Status = doctor.Warn
		s.Detail = append(s.Detail, "it has "+shown(u.Scheme+"://"+u.Address)+" where the policy now says "+spec.Scheme+"://"+a)
		s.Means, s.Try = "The gateway runs with an older policy.", "viaduct reload"
	}
	return s
}

// differ notes where the gateway and this look disagree.
func (p *practice) differ(view *doctor.Step, r *doctor.Report) {
	state, _ := view.Facts["state"].(string)
	bad := state == admin.StateDown || state == admin.StateFailing
	closed, _ := view.Facts["credential_state"].(string)
	switch here := r.Verdict; {
	case view.Status != doctor.OK:
	case closed == admin.CredentialClosed && here != doctor.Fail:
		view.Status, view.Means = doctor.Warn, "The gateway has closed the credential, and here it works: it has another secret, which the gateway has not read yet."
		view.Try = "viaduct reload, or \"viaduct upstream reset " + r.Upstream + "\""
	case bad && here != doctor.Fail:
		view.Status, view.Means = doctor.Warn, "Here the proxy works, and the gateway holds it for "+state+": it was ill until lately, or the service runs with other rights, network or clock."
		view.Try = "Look again in a minute; run this command as the user and in the network of the service."
	case !bad && state == admin.StateUp && here == doctor.Fail:
		view.Status, view.Means = doctor.Warn, "The gateway holds the proxy for well, and here it fails: it has failed just now, or this user has another environment than the service."
		view.Try = "Run this command as the user and in the network of the service."
	}
}
