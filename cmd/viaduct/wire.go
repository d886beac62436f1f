package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router"
	"viaduct/router/intercept"
	"viaduct/upstream"
)

// This file is where the packages meet: what policies read becomes what the router runs. Nothing is decided here.

// routerConfig translates a checked policy. door is the address of the control door. Every listener is in the result, whatever is
// said of it.
func routerConfig(c *policies.Config, generation uint64, routes *upstream.Table, resolvers resolverSet, door string) (*router.Config, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	rc := &router.Config{
		Generation: generation,
		Routes:     routes,
		Resolver:   c.Upstreams.Resolver,
		Limits:     router.Limits{Connections: c.Gateway.Limits.Connections, Timeouts: c.Gateway.Timeouts},
		Location:   c.Gateway.Timezone,
		Name:       c.Gateway.Name,
		WarnBefore: c.Gateway.WarnBefore,
	}
	if ap, err := netip.ParseAddrPort(door); err == nil {
		rc.OwnAddresses = append(rc.OwnAddresses, ap)
	}
	if len(c.Signs) > 0 {
		var problem hcl.Diagnostics
		rc.CA, problem = authorityOf(c)
		diags = append(diags, problem...)
	}
	for i := range c.Listeners {
		l, problem := routerListener(c, &c.Listeners[i])
		if problem != nil {
			diags = append(diags, problem)
		}
		l.Resolver = resolvers.named(c.Listeners[i].Resolver)
		rc.Listeners = append(rc.Listeners, l)
	}
	return rc, diags
}

// routerListener translates a listener, and says what the router cannot do of it; nil = it can do all.
func routerListener(c *policies.Config, l *policies.Listener) (out router.Listener, problem *hcl.Diagnostic) {
	cannot := func(format string, args ...any) {
		at := hcl.Pos{Line: l.Line, Column: 1}
		problem = &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Listener cannot be opened",
			Detail:  fmt.Sprintf("Listener %q: ", l.Name) + fmt.Sprintf(format, args...),
			Subject: &hcl.Range{Filename: l.File, Start: at, End: at}}
	}
	out = router.Listener{
		Name: l.Name, Network: l.Network, Address: l.Address, FileMode: l.FileMode, Clients: l.Clients, Policy: l.Policy, Realm: l.Realm,
		HandshakeTimeout: l.HandshakeTimeout, KeepAliveTimeout: l.KeepAliveTimeout, SniffTimeout: l.SniffTimeout, MaxHeadBytes: l.MaxHeadBytes, PerClient: l.PerClient,
		MaxStreams: l.MaxStreams,
		Target:     l.Target,
	}
	if p := l.ProxyProtocol; p != nil {
		out.ProxyProtocol = &router.ProxyProtocol{From: p.From, Others: p.Others}
	}
	if l.TLS != nil {
		out.TLS = routerTLS(l.TLS)
	}
	if program := c.Programs[l.Policy]; program != nil {
		out.Decider = program
		fields := [][]string{c.Gateway.KeptFields(), program.Headers()}
		if shadow := c.Shadows[l.Shadow]; shadow != nil {
			out.Shadow = shadow
			fields = append(fields, shadow.Program().Headers())
		}
		out.Headers = connmodel.SampledFields(fields...)
		if l.ServePAC {
			out.PAC = program.ProxyPAC
		}
	} else {
		cannot("there is no policy %q.", l.Policy)
	}
	if l.Users != nil {
		out.Auth = l.Users
	}
	if u := l.UDP; u != nil {
		out.UDP = &router.UDP{Idle: u.Idle, Associations: u.Associations, PerClient: u.PerClient, Targets: u.Targets, Nowhere: u.Nowhere}
	}
	for _, p := range l.Protocols {
		switch p {
		case policies.ProtocolHTTP:
			out.Protocols |= router.HTTP
		case policies.ProtocolSOCKS4:
			out.Protocols |= router.SOCKS4
		case policies.ProtocolSOCKS5:
			out.Protocols |= router.SOCKS5
		case policies.ProtocolForward:
			out.Protocols |= router.Forward
		case policies.ProtocolRedirect:
			out.Protocols |= router.Redirect
		case policies.ProtocolTProxy:
			out.Protocols |= router.TProxy
		default:
			cannot("the protocol %q is not known.", p)
		}
	}
	return out, problem
}

func routerTLS(t *policies.ListenerTLS) *router.ListenerTLS {
	out := &router.ListenerTLS{
		MinVersion: t.MinVersion, ClientCAs: t.ClientCAs, ClientOptional: t.Optional, UserFrom: router.UserFrom(t.UserFrom), HTTP2: t.HTTP2,
	}
	for _, p := range t.Pairs {
		out.Pairs = append(out.Pairs, router.KeyPair{Certificate: p.Certificate, CertificateFile: p.CertificateFile, KeyFile: p.KeyFile})
	}
	return out
}

// authorityOf loads the certificate authority for rules that need it, and says of each of them why it cannot be had.
func authorityOf(c *policies.Config) (*intercept.CA, hcl.Diagnostics) {
	f, err := authorityFiles(&c.Gateway)
	var ca *intercept.CA
	if err == nil {
		if ca, err = intercept.Load(f); err == nil {
			err = ca.Usable(time.Now())
		}
	}
	if err == nil {
		return ca, nil
	}
	var diags hcl.Diagnostics
	for i := range c.Signs {
		d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Authority cannot be used", Subject: &c.Signs[i],
			Detail: fmt.Sprintf("Clients are shown certificates here that a certificate authority of this gateway has to sign: %v.", err)}
		if errors.Is(err, intercept.ErrNone) {
			d.Summary = "No certificate authority"
			d.Detail = fmt.Sprintf(`Clients are shown certificates here that a certificate authority of this gateway has to sign, and %v. "viaduct ca init" makes one and says how clients are told to trust it; gateway { ca { path } } says where another is.`, err)
		}
		diags = append(diags, d)
	}
	return nil, diags
}

// setLog makes the logger what the policy says.
func setLog(log *logrus.Logger, g *policies.Gateway) {
	level := logrus.InfoLevel
	switch g.LogLevel {
	case "error":
		level = logrus.ErrorLevel
	case "warn":
		level = logrus.WarnLevel
	case "debug":
		level = logrus.DebugLevel
	}
	log.SetLevel(level)
	if strings.EqualFold(g.LogFormat, "json") {
		log.SetFormatter(&router.LineFormatter{JSON: true, Base: &logrus.JSONFormatter{
			TimestampFormat: "2006-01-02T15:04:05.000Z07:00", DisableHTMLEscape: true,
		}})
		return
	}
	log.SetFormatter(&router.LineFormatter{NoTime: underJournal(), Base: &logrus.TextFormatter{
		FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00",
		DisableColors: !colourful(os.Stderr), DisableTimestamp: underJournal(),
	}})
}

// wireUp joins a configuration without opening anything, to find what would keep it from running: err when nothing could be joined,
// diags for what the router cannot do. The caller closes the table.
// chooser is asked by dynamic routes; nil = nobody will go them.
func wireUp(c *policies.Config, chooser func(route string) upstream.Chooser) (rc *router.Config, table *upstream.Table, resolvers resolverSet, diags hcl.Diagnostics, err error) {
	if resolvers, err = openResolvers(c, nil); err != nil {
		return nil, nil, nil, nil, err
	}
	plain := c.Upstreams
	plain.NoChecks = true
	if plain.Guard == nil && len(c.Resolvers) > 0 { // names may be looked up through proxies
		plain.Guard = guardAt(c.Gateway.State)
	}
	if chooser != nil {
		plain.Dynamic = dynamic(c, chooser, nil)
	}
	if table, err = upstream.NewTable(plain, nil); err != nil {
		return nil, nil, nil, nil, err
	}
	resolvers.begin(table, nil)
	rc, diags = routerConfig(c, 0, table, resolvers, c.Gateway.Admin)
	for _, d := range diags {
		if slices.Contains(c.Signs, *d.Subject) {
			d.Severity = hcl.DiagWarning // like a password that is not on this desk
		}
	}
	return rc, table, resolvers, diags, nil
}
