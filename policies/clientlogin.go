package policies

import (
	"fmt"
	"slices"
	"strings"

	"viaduct/upstream"
)

// fromClient reads an auth block that shows the proxy what each client has proved to its listener.
func (l *loader) fromClient(b *block, scheme string) *upstream.Auth {
	a := &upstream.Auth{FromClient: true, Schemes: []string{"basic"}, Credential: b.text("name"), Realm: b.text("realm"), WarmURL: b.warmURL("warm_url")}
	for _, name := range sortedNames(b.attrs) {
		if !slices.Contains([]string{"from_client", "name", "realm", "warm_url"}, name) {
			l.errorAt(b.attrs[name].NameRange, "Whose credential", fmt.Sprintf("With from_client the proxy is shown the user and password that each client has proved to its listener, by Basic. Leave %q out, or from_client.", name))
		}
	}
	if strings.HasPrefix(scheme, "socks") {
		l.errorAt(b.attrs["from_client"].NameRange, "Clients' passwords to a SOCKS proxy", "A client's own user and password go to http and https proxies alone, by Basic. "+
			"Use an http or https proxy, or give this one a username and password.")
	}
	return a
}

// checkClientLogins looks for listeners whose clients prove nothing that an upstream with from_client could be shown.
func (l *loader) checkClientLogins(cfg *Config) {
	if !slices.ContainsFunc(cfg.Upstreams.Upstreams, func(u upstream.Spec) bool { return u.Auth != nil && u.Auth.FromClient }) {
		return
	}
	for i := range cfg.Listeners {
		n := &cfg.Listeners[i]
		j := slices.IndexFunc(l.policies, func(p *policyBlock) bool { return p.name == n.Policy })
		some := n.Users != nil && n.TLS != nil && n.TLS.Optional
		if j < 0 || n.Users != nil && !some {
			continue
		}
		at := l.byName[kindListener][n.Name].rng
		rules := slices.Clone(l.policies[j].rules)
		if o := l.policies[j].otherwise; o != nil {
			rules = append(rules, o)
		}
		for _, r := range rules {
			if r.shadow || r.half || r.decision.Denied() || !r.takesListener(n.Name) {
				continue
			}
			name, sure := cfg.clientUpstream(r.decision.Route, 0)
			if name == "" {
				continue
			}
			what := fmt.Sprintf("%s leads to the upstream %q (%s), which is shown the user and password of the client (auth { from_client }), and clients of the listener %q",
				r.title(), name, place(l.byName[kindUpstream][name].rng), n.Name)
			switch {
			case some:
				l.warnAt(at, "No password to pass on", what+" that log in with a certificate prove no password: they are refused there. Make client certificates a must, beside the password, or lead them elsewhere.")
			case !sure:
				l.warnAt(at, "No password to pass on", what+" prove none: flows for which the script names it are refused. Give the listener an authenticate block, or keep it from that rule (match { listener }).")
			default:
				l.errorAt(at, "No password to pass on", what+" prove none. Give the listener an authenticate block with htpasswd (a client certificate is no password), or keep it from that rule (match { listener }).")
			}
			break
		}
	}
}

// title names a rule in a sentence.
func (r *rule) title() string {
	if r.name == otherwiseName {
		return "The otherwise block"
	}
	return fmt.Sprintf("The rule %q", r.name)
}

// takesListener reports whether the rule may take a flow of a listener.
func (r *rule) takesListener(name string) bool {
	return len(r.blocks) == 0 || slices.ContainsFunc(r.blocks, func(t *tests) bool { return t.listeners == nil || slices.Contains(t.listeners, name) })
}

// clientUpstream finds an upstream on a route that is shown what the client has proved; "" = there is none. sure is false where only a script
// could choose it.
func (c *Config) clientUpstream(route string, depth int) (name string, sure bool) {
	if depth > 100 {
		return "", false // a circle, which is reported
	}
	first := func(names []string) (name string, sure bool) {
		for _, n := range names {
			if found, s := c.clientUpstream(n, depth+1); found != "" && (name == "" || s) {
				name, sure = found, s
			}
		}
		return name, sure
	}
	kind, label, _ := strings.Cut(route, ".")
	switch kind {
	case kindUpstream:
		for i := range c.Upstreams.Upstreams {
			if u := &c.Upstreams.Upstreams[i]; u.Name == label && u.Auth != nil && u.Auth.FromClient {
				return label, true
			}
		}
	case kindPool:
		for i := range c.Upstreams.Pools {
			if p := &c.Upstreams.Pools[i]; p.Name == label {
				return first(p.Members)
			}
		}
	case kindChain:
		for i := range c.Upstreams.Chains {
			if h := &c.Upstreams.Chains[i]; h.Name == label {
				return first(h.Hops)
			}
		}
	case kindPAC:
		for i := range c.Upstreams.Dynamic {
			if d := &c.Upstreams.Dynamic[i]; d.Name == route {
				if name, sure = first([]string{d.OnError}); name != "" {
					return name, sure
				}
			}
		}
		for i := range c.Upstreams.Upstreams { // the script may name any that is declared
			if u := &c.Upstreams.Upstreams[i]; u.Auth != nil && u.Auth.FromClient {
				return u.Name, false
			}
		}
	}
	return "", false
}
