package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router"
	"viaduct/router/admin"
)

// This file joins the control door with what it shows and does.

// sources are where the door's answers come from.
func (s *service) sources() admin.Sources {
	return admin.Sources{Compile: s.compileFilter, Records: s.journalled, Shadow: s.shadowReport, Config: s.configuration, Rules: s.rules, Explain: s.explain, Today: s.today}
}

// configuration is the policy in force as it may be shown.
func (s *service) configuration() *admin.Configuration {
	cur := s.now.Load()
	if cur == nil {
		return nil
	}
	c := &admin.Configuration{Generation: cur.generation, Loaded: cur.since, Default: len(s.paths) == 0, Files: []admin.ConfigFile{}, Data: append([]string{}, cur.cfg.Data...)}
	if cur.diagnostics != nil {
		c.Diagnostics = json.RawMessage(cur.conceal()(string(cur.diagnostics))) // they quote lines
	}
	for _, f := range cur.cfg.Redacted() {
		c.Files = append(c.Files, admin.ConfigFile(f))
	}
	return c
}

// rules are those in force, with what they took.
func (s *service) rules() *admin.Rules {
	cur := s.now.Load()
	if cur == nil {
		return nil
	}
	out := &admin.Rules{Generation: cur.generation, Loaded: cur.since, Rules: []admin.RuleStatus{}}
	type key struct {
		policy, rule string
		shadow       bool
	}
	open := map[key]int{}
	s.router.OpenDecisions(func(d *connmodel.Decision) {
		if d.Generation != cur.generation {
			return
		}
		open[key{d.Policy, d.Rule, false}]++
		for i := range d.Shadow {
			open[key{d.Policy, d.Shadow[i].Rule, true}]++
		}
		if p := d.ShadowPolicy; p != nil && p.Undecided == "" {
			open[key{p.Policy, p.Rule, true}]++
		}
	})
	decides := map[string]bool{} // policies that are not only asked beside another
	for i := range cur.cfg.Listeners {
		decides[cur.cfg.Listeners[i].Policy] = true
	}
	now := time.Now()
	for _, r := range cur.cfg.Rules() {
		r.Shadow = r.Shadow || !decides[r.Policy]
		x := admin.RuleStatus{Policy: r.Policy, Rule: r.Rule, File: r.File, Line: r.Line, Outcome: string(r.Outcome), Route: r.Route, Shadow: r.Shadow}
		var last time.Time
		var known bool
		x.Flows, last, known = s.metrics.Meter().RuleHits(r.Policy, r.Rule, r.Shadow, cur.generation)
		x.Last = maybe(last)
		if x.Open = open[key{r.Policy, r.Rule, r.Shadow}]; x.Open > 0 {
			x.Flows += uint64(x.Open)
			x.Last = &now
		}
		x.Never = x.Flows == 0 && known
		out.Rules = append(out.Rules, x)
	}
	return out
}

// Open implements admin.Gateway.
func (s *service) Open(before connmodel.ID, yield func(*connmodel.Flow) bool) (open int) {
	return s.router.Open(before, yield)
}

// CloseFlow implements admin.Gateway.
func (s *service) CloseFlow(id connmodel.ID) bool {
	found := s.router.CloseFlow(id)
	if found {
		s.log.WithField("flow", id.String()).Info("closed at an operator's word")
	}
	return found
}

// DrainUpstream implements admin.Gateway.
func (s *service) DrainUpstream(name string, drained bool) admin.UpstreamDrain {
	res := admin.UpstreamDrain{Upstream: name, Drained: drained}
	cur := s.now.Load()
	if cur == nil {
		return res
	}
	if res.Found, res.Changed, res.Open = cur.routes.SetDrained(name, drained); !res.Changed {
		return res
	}
	state, text := "drained", "an operator took an upstream out of service for flows to come"
	if !drained {
		state, text = "undrained", "an operator took an upstream into service again"
	}
	s.log.WithFields(logrus.Fields{"upstream": name, "open": res.Open}).Info(text)
	s.events.Notify(admin.EventUpstream, admin.UpstreamEvent{Route: "upstream." + name, State: state})
	return res
}

// accessFor is who may use the door that cfg wants.
func (s *service) accessFor(cfg *policies.Config, tcp bool) (admin.Access, error) {
	d := &cfg.Gateway.Door
	a := admin.Access{Write: d.Write, Pprof: d.Pprof}
	if !tcp {
		return a, nil
	}
	if t := d.TLS; t != nil {
		a.TLS = &tls.Config{MinVersion: t.MinVersion, ClientCAs: t.ClientCAs}
		if a.TLS.ClientAuth = tls.RequireAndVerifyClientCert; t.ClientCAs == nil {
			a.TLS.ClientAuth = tls.NoClientCert
		} else if t.Optional {
			a.TLS.ClientAuth = tls.VerifyClientCertIfGiven
		}
		a.TLS.GetCertificate = s.router.FollowCertificate("control door", router.KeyPair(t.Pair), cfg.Gateway.WarnBefore)
		if t.ClientCAs != nil && !t.Optional {
			return a, nil
		}
	}
	if !d.Token.IsZero() {
		a.Token = d.Token.Reveal()
		return a, nil
	}
	token, err := doorToken(cfg.Gateway.State, s.log)
	if err != nil {
		return a, fmt.Errorf("token of the control door: %w", err)
	}
	a.Token = token
	return a, nil
}

func doorToken(state string, log *logrus.Logger) (string, error) {
	path, ours, err := tokenPath(state)
	if err != nil {
		return "", err
	}
	if ours {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", err
		}
	}
	token, err := admin.LoadToken(path, ours)
	if err == nil {
		log.WithField("token", path).Info("the control door asks for the token in this file")
	}
	return token, err
}
