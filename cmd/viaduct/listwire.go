package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/policies/lists"
	fetch "viaduct/policies/source"
	"viaduct/router/admin"
	"viaduct/upstream"
)

// This file joins lists that come from web servers, which policies/lists gets and keeps, with the policy that holds a reference to each, and with the
// route that leads to the server.

// listWait is how long a start or a reload waits for lists of which there is no copy: flows that need one are refused meanwhile.
const listWait = 5 * time.Second

// listSay is how often it is said that a start or a reload waits.
const listSay = 2 * time.Second

// listSet is the sources of a configuration by the names of the lists. A set does not change once it is made.
type listSet map[string]*listSource

type listSource struct {
	*lists.Source
	list policies.List
	keep string
}

// same reports whether the source can go on for a list of another configuration.
func (s *listSource) same(x *policies.List, keep string) bool {
	o := &s.list
	return s.keep == keep && o.URL == x.URL && o.Parse == x.Parse && o.Refresh == x.Refresh && o.Timeout == x.Timeout && o.MaxShrink == x.MaxShrink && o.Via == x.Via && o.SameTLS(x)
}

// openLists opens the sources of a configuration, and tells the policy of each; those that did not change go on from prev. fresh are the others. dial
// connects by a route.
func openLists(c *policies.Config, prev listSet, log *logrus.Logger, dial func(ctx context.Context, route string, target connmodel.Address) (net.Conn, error)) (set listSet, fresh []*listSource) {
	set = listSet{}
	for i := range c.Lists {
		x := &c.Lists[i]
		if x.URL == "" {
			continue
		}
		keep, err := keptList(c, x)
		if err != nil {
			log.WithError(err).WithField("list", x.Name).Warn("no copy of the list is kept for the next start")
		}
		s := prev[x.Name]
		if s == nil || !s.same(x, keep) {
			s = &listSource{list: *x, keep: keep, Source: lists.Open(listOptions(x, keep, dial, func(problem bool, text string) {
				if problem {
					log.Warn(text)
				} else {
					log.Info(text)
				}
			}))}
			fresh = append(fresh, s)
		}
		set[x.Name] = s
		x.Ref.Bind(s.Source)
	}
	return set, fresh
}

func listOptions(x *policies.List, keep string, dial func(ctx context.Context, route string, target connmodel.Address) (net.Conn, error), log func(bool, string)) lists.SourceOptions {
	via := x.Via
	if via == "" {
		via = connmodel.RouteDirect
	}
	var config *tls.Config
	if x.TLS != nil {
		config = x.TLS.Clone()
	}
	return lists.SourceOptions{Name: x.Name, URL: x.URL, List: x.Parse, Refresh: x.Refresh, MaxShrink: x.MaxShrink, Keep: keep, Log: log,
		Fetch: fetch.Options{Timeout: x.Timeout, Retries: 2, TLS: config, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
			target, err := connmodel.ParseAddress(address)
			if err != nil {
				return nil, err
			}
			return dial(ctx, via, target)
		}}}
}

// keptList is where the copy of a list is.
func keptList(c *policies.Config, x *policies.List) (string, error) {
	dir, err := stateDir(c.Gateway.State)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "lists", lists.KeptName(x.URL)), nil
}

// await waits for the first copies of those of which there is none, all of them together for a bounded time.
// What takes long is said: to whoever reads the log, and by busy to the supervisor.
func await(fresh []*listSource, log *logrus.Logger, busy func(with string)) {
	ctx, cancel := context.WithTimeout(context.Background(), listWait)
	defer cancel()
	for _, s := range fresh {
		for {
			step, stop := context.WithTimeout(ctx, listSay)
			over := s.Wait(step)
			if stop(); over || ctx.Err() != nil {
				break
			}
			text := fmt.Sprintf("list %s: waiting for the first copy, of which %s have come", s.list.Name, bytesText(s.Status().Read))
			busy(text)
			log.Info(text)
		}
		if s.Now() == nil {
			log.WithField("list", s.list.Name).Warnf("list %s: there is no copy yet; %s", s.list.Name, withoutCopy(&s.list))
		}
	}
}

func withoutCopy(x *policies.List) string {
	if x.Ref.Set() != nil {
		return "till then nothing is in it, as on_error says"
	}
	return "flows whose rules depend on it are refused till then"
}

// dialList connects to the web server of a list by a route of the configuration in force, or, before there is one, of the table that is to be.
func (s *service) dialList(next *upstream.Table) func(ctx context.Context, route string, target connmodel.Address) (net.Conn, error) {
	return func(ctx context.Context, route string, target connmodel.Address) (net.Conn, error) {
		table := next
		if cur := s.now.Load(); cur != nil {
			if _, ok := cur.routes.Describe(route); ok || next == nil {
				table = cur.routes
			}
		}
		return dialRoute(ctx, table, route, target)
	}
}

// dialRoute opens a tunnel for a client of our own.
func dialRoute(ctx context.Context, table *upstream.Table, route string, target connmodel.Address) (net.Conn, error) {
	q := &upstream.Request{Route: route, Target: target, Retry: nil}
	if at, ok := ctx.Deadline(); ok {
		q.Deadline = at
	}
	conn, err := table.Dial(ctx, q, nil)
	if err != nil {
		return nil, err
	}
	if len(conn.Early) > 0 {
		conn.Close()
		return nil, errors.New("the server spoke before it was asked: it is no web server")
	}
	return conn, nil
}

// listStatus returns how the lists are, in the order of the policy.
func (set listSet) status(c *policies.Config) (all []admin.ListStatus) {
	for i := range c.Lists {
		x := &c.Lists[i]
		if x.URL == "" {
			all = append(all, admin.ListStatus{Name: x.Name, From: x.File, State: lists.StateFresh, Entries: x.Entries})
			continue
		}
		s := set[x.Name]
		if s == nil {
			continue
		}
		st := s.Status()
		a := admin.ListStatus{Name: st.Name, From: st.URL, Via: x.Via, State: st.State, Since: maybe(st.Since), Changed: maybe(st.Changed), Error: st.Error, Looking: st.Looking, Read: st.Read,
			Looks: st.Looks, Loads: st.Loads, LoadFailures: st.Fails, Version: st.Version, Entries: st.Entries, Exceptions: st.Exceptions, Unsupported: st.Unsupported, Wrong: st.Wrong,
			FirstWrong: st.FirstWrong, Size: st.Size, Took: millis(st.Took), Remote: true}
		if !st.Since.IsZero() {
			a.Age = time.Since(st.Since).Seconds()
		}
		all = append(all, a)
	}
	return all
}

// RefreshList implements admin.Gateway.
func (s *service) RefreshList(ctx context.Context, name string, force bool) admin.ListResult {
	res := admin.ListResult{List: name}
	cur := s.now.Load()
	if cur == nil || cur.lists[name] == nil {
		return res
	}
	src := cur.lists[name]
	res.Found = true
	before := src.Status()
	if err := src.Refresh(ctx, force); err != nil {
		res.Error = err.Error()
	}
	after := src.Status()
	res.Entries, res.Version, res.Changed = after.Entries, after.Version, after.Version != before.Version
	return res
}

// keptLists gives the lists of a policy, for a command that explains or tests, the copies that a gateway has kept. notes are about those without one.
func keptLists(c *policies.Config) (notes []string) {
	for i := range c.Lists {
		x := &c.Lists[i]
		if x.URL == "" {
			continue
		}
		path, err := keptList(c, x)
		if err == nil {
			var set *lists.Set
			if set, _, err = lists.ReadKept(path, x.URL, x.Parse); err == nil {
				set.Name = x.Name
				x.Ref.Use(set)
				continue
			}
		}
		notes = append(notes, fmt.Sprintf(`list.%s: %v here; "viaduct list fetch" gets one`, x.Name, err))
	}
	return notes
}
