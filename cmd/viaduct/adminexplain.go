package main

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router/admin"
)

// This file lets the control door explain: by the code of "viaduct explain", with the configuration that is in force and what the running gateway
// knows (lists, what can be reached).

var errNoConfiguration = &admin.BadRequest{Detail: "there is no configuration in force yet"}

// explain implements admin.Sources.Explain.
func (s *service) explain(ctx context.Context, a *admin.Question, lookups bool) (any, error) {
	cur := s.now.Load()
	if cur == nil {
		return nil, errNoConfiguration
	}
	q := question{client: a.Client, user: a.User, listener: a.Listener, at: a.At, resolve: a.Resolve, method: a.Method, headers: a.Headers, protocol: a.Protocol,
		alpn: a.ALPN, ja4: a.JA4, reach: a.Reachable, told: a.Reachable != nil, noDNS: !a.Lookups || !lookups}
	if q.client == "" {
		q.client = "127.0.0.1"
	}
	if q.method == "" {
		q.method = "GET"
	}
	if a.SNI != nil {
		q.sni = *a.SNI
	}
	q.hello = a.SNI != nil || a.ALPN != nil || a.JA4 != ""
	l, err := q.listenerOf(cur.cfg)
	if err != nil {
		return nil, asked(err)
	}
	f, err := q.facts(cur.cfg, l, a.Target)
	if err != nil {
		return nil, asked(err)
	}
	x, done, err := s.explainer(cur, &q)
	if err != nil {
		return nil, err
	}
	defer done()
	e, err := x.flow(ctx, l, f)
	if err != nil {
		return nil, asked(err)
	}
	return cur.concealed(e), nil
}

// concealed takes secrets of the policy out of reasons, which quote what rules compare with.
func (a *applied) concealed(e *explanation) *explanation {
	for x := e; x != nil; x = x.Inside {
		for i := range x.Rules {
			x.Rules[i].Reason = a.conceal()(x.Rules[i].Reason)
		}
	}
	return e
}

// explainer answers questions about the configuration in force.
func (s *service) explainer(cur *applied, q *question) (x *explainer, done func(), err error) {
	x = &explainer{cfg: cur.cfg, q: q, once: &pacOnce{cfg: cur.cfg, noDNS: q.noDNS}, rc: s.router.Config(), table: cur.routes, resolvers: cur.resolvers, knows: cur.reach.Status()}
	if len(cur.cfg.PACs) == 0 {
		return x, func() {}, nil
	}
	// The scripts of the table in force look names up whenever they like: one of our own asks those that do as they are told.
	if x.rc, x.table, x.resolvers, _, err = wireUp(cur.cfg, x.once.chooser); err != nil {
		return nil, nil, err
	}
	return x, x.table.Close, nil
}

// flags are how the command calls what a question calls without dashes.
var flags = regexp.MustCompile(`--([a-z])`)

// asked makes a wrong use of the command one of the door.
func asked(err error) error {
	var usage *exitError
	if !errors.As(err, &usage) {
		return err
	}
	return &admin.BadRequest{Detail: flags.ReplaceAllString(usage.Error(), "$1")}
}

// today implements admin.Sources.Today: what the configuration in force would do with a flow of which there is a record. Nothing is looked up.
func (s *service) today(ctx context.Context, flow *connmodel.Flow) (any, error) {
	cur := s.now.Load()
	if cur == nil || flow.Client == nil || flow.Target.IsZero() {
		return nil, nil
	}
	i := slices.IndexFunc(cur.cfg.Listeners, func(l policies.Listener) bool { return l.Name == flow.Client.Listener })
	f, missing := flow.Facts()
	if i < 0 || missing&connmodel.MissingCut != 0 {
		return nil, nil
	}
	l := &cur.cfg.Listeners[i]
	if cur.cfg.Programs[l.Policy] == nil {
		return nil, nil
	}
	f.Gone &^= connmodel.NeedReach // what can be reached is known for today
	if zone := cur.cfg.Gateway.Timezone; zone != nil {
		f.Time = f.Time.In(zone)
	} else {
		f.Time = f.Time.Local()
	}
	x, done, err := s.explainer(cur, &question{noDNS: true})
	if err != nil {
		return nil, err
	}
	defer done()
	e, err := x.flow(ctx, l, f)
	if err != nil {
		return nil, err
	}
	if e.Open != "" {
		e.Open = "a rule asks for what the record does not know: " + (missing &^ connmodel.Missing(connmodel.NeedReach)).String()
	}
	return cur.concealed(e), nil
}
