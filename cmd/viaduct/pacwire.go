package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/policies/pac"
	"viaduct/router/admin"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
)

// This file joins PAC scripts, which policies/pac runs, with the routes of upstream, which know only that somebody chooses.

// finder is a script, or a source of scripts.
type finder interface {
	Find(ctx context.Context, q pac.Query) (pac.Answer, error)
}

// pacChooser makes a finder an upstream.Chooser.
type pacChooser struct{ finder }

// schemesOf says which schemes an entry may mean, the one that is spoken to a proxy that nobody declared first.
var schemesOf = map[pac.Kind][]string{
	pac.HTTP: {"http"}, pac.HTTPS: {"https"}, pac.SOCKS5: {"socks5h", "socks5"}, pac.SOCKS4: {"socks4a", "socks4"},
	pac.SOCKS: {"socks4a", "socks4", "socks5h", "socks5"},
}

// Choose implements upstream.Chooser.
func (c pacChooser) Choose(ctx context.Context, target connmodel.Address, path string) ([]upstream.Candidate, error) {
	a, err := c.Find(ctx, pac.QueryFor(target, path))
	if err != nil {
		return nil, err
	}
	list := make([]upstream.Candidate, 0, len(a.Entries))
	for _, e := range a.Entries {
		list = append(list, upstream.Candidate{Direct: e.Kind == pac.Direct, Address: e.Address, Schemes: schemesOf[e.Kind]})
	}
	return list, nil
}

// pacKey is what a source is made of: while it stays the same over a reload, so does the source.
type pacKey struct {
	name, url, text, zone, keep string
	refresh, timeout            time.Duration
	names                       resolve.Resolver // nil = the machine's
}

// pacSet is the sources of a configuration, by the names of their routes. A set does not change once it is made.
type pacSet map[string]*pacSource

type pacSource struct {
	*pac.Source
	key pacKey
}

// openPACs opens the sources of a configuration; those that did not change go on from prev. fresh are the others.
func openPACs(c *policies.Config, prev pacSet, log *logrus.Logger) (set pacSet, fresh []*pacSource, err error) {
	set = pacSet{}
	for i := range c.PACs {
		p := &c.PACs[i]
		key := pacKey{name: p.Name, url: p.URL, text: p.Text, refresh: p.Refresh, timeout: p.Timeout, zone: zoneName(c), names: c.Upstreams.Resolver}
		if p.URL != "" {
			if key.keep, err = keptPAC(c, p); err != nil {
				log.WithError(err).WithField("pac", p.Name).Warn("no copy of the PAC script is kept for the next start")
				key.keep = ""
			}
		}
		if old := prev[p.Route()]; old != nil && old.key == key {
			set[p.Route()] = old
			continue
		}
		s, err := pac.Open(pac.SourceOptions{Name: p.Name, URL: p.URL, Text: p.Text, Refresh: p.Refresh, Keep: key.keep, Fetch: pac.FetchOptions{Retries: 2},
			Script: pacOptions(c, p, func(text string) { log.WithField("pac", p.Name).Debugf("alert: %q", text) }),
			Log: func(problem bool, text string) {
				if problem {
					log.Warn(text)
				} else {
					log.Info(text)
				}
			}})
		if err != nil {
			closeAll(fresh)
			return nil, nil, fmt.Errorf("pac %q: %w", p.Name, err)
		}
		x := &pacSource{s, key}
		set[p.Route()], fresh = x, append(fresh, x)
	}
	return set, fresh, nil
}

func zoneName(c *policies.Config) string {
	if c.Gateway.Timezone == nil {
		return ""
	}
	return c.Gateway.Timezone.String()
}

// pacOptions is what a script of the policy sees of the world. Only one that is asked for debug lines is told of alerts.
func pacOptions(c *policies.Config, p *policies.PAC, alert func(string)) pac.Options {
	o := pac.Options{DNS: p.Timeout, Location: c.Gateway.Timezone, Alert: alert, Resolver: c.Upstreams.Resolver}
	if o.Resolver == nil {
		o.Resolver = resolve.System()
	}
	if p.Timeout > 0 {
		o.Lookup = min(p.Timeout, 2*time.Second)
	}
	return o
}

// keptPAC is where the copy of a script is.
func keptPAC(c *policies.Config, p *policies.PAC) (string, error) {
	dir, err := stateDir(c.Gateway.State)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "pac", url.PathEscape(p.Name)+".json"), nil
}

// closeAll closes sources that nobody has any more.
func closeAll[S interface{ Close() }](all []S) {
	for _, s := range all {
		s.Close()
	}
}

// left returns the sources that set has and next has not.
func left[M ~map[string]S, S comparable](set, next M) (gone []S) {
	for name, s := range set {
		if next[name] != s {
			gone = append(gone, s)
		}
	}
	return gone
}

// dynamic gives the routes of a configuration their choosers.
func dynamic(c *policies.Config, chooser func(route string) upstream.Chooser, owns func(netip.AddrPort) bool) []upstream.DynamicSpec {
	specs := make([]upstream.DynamicSpec, len(c.Upstreams.Dynamic))
	for i, d := range c.Upstreams.Dynamic {
		d.Chooser, d.Owns = chooser(d.Name), owns
		specs[i] = d
	}
	return specs
}

// status returns how the sources are, in the order of the policy.
func (set pacSet) status(c *policies.Config) (all []admin.PACStatus) {
	for i := range c.PACs {
		s := set[c.PACs[i].Route()]
		if s == nil {
			continue
		}
		st := s.Status()
		x := admin.PACStatus{Name: st.Name, From: st.From, State: st.State, Since: maybe(st.Since), Changed: maybe(st.Changed), Error: st.Error, Loads: st.Loads, LoadFailures: st.Fails,
			Calls: st.Calls, Hits: st.Hits, Failures: st.Stats.Failures, Engines: st.Engines, Rebuilt: st.Rebuilt}
		if x.From == "" {
			x.From = c.PACs[i].File
		}
		if !st.Since.IsZero() && st.From != "" {
			x.Age = time.Since(st.Since).Seconds()
		}
		all = append(all, x)
	}
	return all
}

// pacOnce asks the scripts of a policy for a command that explains: a file, or the copy that a gateway has kept of a URL, or the URL itself.
type pacOnce struct {
	cfg   *policies.Config
	noDNS bool

	mu   sync.Mutex
	said map[string]pacStep // by route and URL
	from string             // where the last script came from
}

// chooser returns that of a route.
func (o *pacOnce) chooser(route string) upstream.Chooser {
	for i := range o.cfg.PACs {
		if p := &o.cfg.PACs[i]; p.Route() == route {
			return pacChooser{onePAC{o, p}}
		}
	}
	return nil
}

type onePAC struct {
	o *pacOnce
	p *policies.PAC
}

// Find implements finder.
func (x onePAC) Find(ctx context.Context, q pac.Query) (pac.Answer, error) {
	x.o.mu.Lock()
	defer x.o.mu.Unlock()
	text, err := x.text(ctx)
	if err != nil {
		x.say(q, pac.Answer{}, err)
		return pac.Answer{}, err
	}
	o := pacOptions(x.o.cfg, x.p, nil)
	o.Engines, o.CacheFor = 1, -1
	if x.o.noDNS {
		o.Resolver = nil
	}
	s, err := pac.New(ctx, text, o)
	if err != nil {
		x.say(q, pac.Answer{}, err)
		return pac.Answer{}, err
	}
	defer s.Close()
	a, err := s.Find(ctx, q)
	x.say(q, a, err)
	return a, err
}

// say notes an answer. Called with mu held.
func (x onePAC) say(q pac.Query, a pac.Answer, err error) {
	if x.o.said == nil {
		x.o.said = make(map[string]pacStep)
	}
	x.o.said[x.p.Route()+" "+q.URL] = pacStep{Route: x.p.Route(), From: x.o.from, pacEvaluation: evaluation(q, a, err)}
}

func (x onePAC) text(ctx context.Context) (string, error) {
	if x.p.URL == "" {
		x.o.from = x.p.File
		if x.p.Text == "" {
			return "", fmt.Errorf("%s could not be read", x.p.File)
		}
		return x.p.Text, nil
	}
	x.o.from = x.p.URL
	if path, err := keptPAC(x.o.cfg, x.p); err == nil {
		if text, at, err := pac.ReadKept(path, x.p.URL); err == nil {
			x.o.from = fmt.Sprintf("the copy of %s, got %s", x.p.URL, at.Local().Format("2006-01-02 15:04"))
			return text, nil
		}
	}
	if x.o.noDNS {
		return "", errors.New("no copy of the script is kept here, and --no-dns gets none")
	}
	got, err := pac.NewFetcher(pac.FetchOptions{}).Fetch(ctx, x.p.URL, nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", x.p.URL, err)
	}
	return got.Text, nil
}
