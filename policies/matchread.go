package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// listenerNames takes references (listener.lan) and names ("lan").
func (l *loader) listenerNames(b *block) []string {
	a := b.attrs["listener"]
	if a == nil {
		return nil
	}
	items, diags := hcl.ExprList(a.Expr)
	if diags.HasErrors() {
		items = []hcl.Expression{a.Expr}
	}
	var names []string
	for _, e := range items {
		if t, ok := traversal(e); ok && t.RootName() == kindListener {
			if r, ok := l.reference(e, kindListener); ok {
				names = append(names, r.name)
			}
			continue
		}
		v, ok := l.evaluate(e)
		if !ok || l.refuseSecret(v, e.Range(), "listener") {
			continue
		}
		for _, x := range l.flatten(v, e.Range(), "listener") {
			if s, ok := l.to(x, cty.String, e.Range(), "Each entry of \"listener\""); ok && l.exists(ref{kindListener, s.AsString(), e.Range()}) {
				names = append(names, s.AsString())
			}
		}
	}
	if names == nil { // what was wrong has been reported; an empty test must not take everything
		names = []string{}
	}
	return names
}

func (b *block) networkTest(name string) *networks {
	if !b.has(name) {
		return nil
	}
	n := &networks{}
	for _, e := range b.mixed(name, listNetworks) {
		if e.list != nil {
			n.words.list(e.list)
			n.lists = append(n.lists, e.list)
			n.prefixes = append(n.prefixes, e.list.networks...)
			continue
		}
		if p, ok := b.l.network(e.text, e.r, name); ok {
			n.words.add(e.text, 1)
			n.own = append(n.own, p)
			n.prefixes = append(n.prefixes, p)
		}
	}
	return n
}

func (w *words) list(x *list) {
	n := x.count
	if x.ref != nil { // how much is in it changes
		n, w.open = 1, true
	}
	w.add("list."+x.name, n)
}

func (w *words) add(text string, n int) {
	if w.n == 0 {
		w.first = text
	}
	w.n += n
}

// opening are the prefixes written out that lie wholly in a refused range. Those of a list open nothing.
func (n *networks) opening() []netip.Prefix {
	if n == nil {
		return nil
	}
	var all []netip.Prefix
	for _, p := range n.own {
		if connmodel.OpensRefused(p) {
			all = append(all, connmodel.PlainPrefix(p))
		}
	}
	return all
}

// holds reports whether an address of a target is in the networks. The set is there in not blocks only.
func (n *networks) holds(a netip.Addr, in sets) verdict {
	e := connmodel.Embedded(a)
	if n.set.Contains(a) || n.set.Contains(e) {
		return yes
	}
	v := in.network(n.live, a)
	if e != a {
		v = v.or(in.network(n.live, e))
	}
	return v
}

// client reports whether the client is in the networks, likewise.
func (n *networks) client(f *connmodel.Facts, in sets) verdict {
	a := f.Client.Addr()
	switch {
	case !a.IsValid():
		return no
	case n.set.Contains(a):
		return yes
	}
	return in.network(n.live, a)
}

func (b *block) windows(name string) []*window {
	var all []*window
	for _, e := range b.entries(name) {
		w, err := parseWindow(e.text)
		if err != nil {
			b.l.errorAt(e.r, "Wrong time", upperFirst(err.Error()))
			continue
		}
		all = append(all, w)
	}
	return all
}

// users reads names and globs; "" is nobody.
func (b *block) users(name string) []pattern {
	return b.patterns(name, func(s string) (pattern, error) {
		if !strings.ContainsAny(s, "*?[") {
			return pattern{text: s}, nil
		}
		g, err := match.CompileGlob(s)
		return pattern{text: s, glob: g}, err
	})
}

func (b *block) patterns(name string, compile func(string) (pattern, error)) []pattern {
	var all []pattern
	for _, e := range b.entries(name) {
		p, err := compile(e.text)
		if err != nil {
			b.l.errorAt(e.r, "Wrong pattern", fmt.Sprintf("%q: %s.", name, reasonOfPattern(err)))
			continue
		}
		all = append(all, p)
	}
	return all
}

// values reads texts that must be among some.
func (b *block) values(name string, known []string) []string {
	var all []string
	for _, e := range b.entries(name) {
		s := e.text
		if !slices.Contains(known, s) {
			b.l.errorAt(e.r, "Unknown value", fmt.Sprintf("%q can be %s.%s", name, oneOf(known), didYouMean(s, known)))
			continue
		}
		all = append(all, s)
	}
	return all
}

func (b *block) schemes(name string) []string {
	var all []string
	for _, e := range b.entries(name) {
		switch s := e.text; s {
		case "http", "https":
			all = append(all, s)
		default:
			b.l.errorAt(e.r, "Unknown value", `"scheme" can be "http", for plain requests, or "https", for requests in tunnels that a rule opens.`)
		}
	}
	return all
}

func (b *block) hostTest(name string) *hosts {
	if !b.has(name) {
		return nil
	}
	h := &hosts{}
	for _, e := range b.mixed(name, listHosts) {
		if e.list != nil {
			h.words.list(e.list)
			h.lists = append(h.lists, e.list)
			continue
		}
		p, err := parseHost(e.text)
		if err != nil {
			b.l.errorAt(e.r, "Wrong host", upperFirst(reasonOfPattern(err)))
			continue
		}
		h.words.add(e.text, 1)
		h.patterns = append(h.patterns, p)
	}
	return h
}

// indexed gives the patterns that the index takes, those of lists that stay as they are included.
func (h *hosts) indexed() func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range h.patterns {
			if p := h.patterns[i].index; p != "" && !yield(p) {
				return
			}
		}
		for _, x := range h.lists {
			for p := range x.patterns() {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// wild are the patterns that the index does not take.
func (h *hosts) wild() []hostPattern {
	var all []hostPattern
	for _, p := range h.patterns {
		if p.index == "" {
			all = append(all, p)
		}
	}
	return all
}

func (h *hosts) namesLocalhost() bool {
	return slices.ContainsFunc(h.patterns, func(p hostPattern) bool {
		return p.index == "localhost" || strings.HasSuffix(p.index, ".localhost")
	})
}

func (b *block) portTest(name string) *ports {
	if !b.has(name) {
		return nil
	}
	t := &ports{}
	for _, e := range b.entries(name) {
		p, err := match.ParsePorts(e.text)
		if err != nil {
			b.l.errorAt(e.r, "Wrong port", upperFirst(reasonOfPattern(err)))
			continue
		}
		t.words.add(e.text, 1)
		t.ranges = append(t.ranges, p)
	}
	t.set, _ = match.NewPortSet(t.ranges...) // the ranges are in order
	return t
}

func (b *block) methods(name string) []string {
	var all []string
	for _, e := range b.entries(name) {
		switch s := e.text; {
		case !isToken(s):
			b.l.errorAt(e.r, "Wrong method", fmt.Sprintf("%q is no HTTP method.", s))
		case s == "CONNECT":
			b.l.errorAt(e.r, "Method that is never seen", `A CONNECT is a tunnel and has no method of its own: write protocol = "connect".`)
		case s != strings.ToUpper(s):
			b.l.errorAt(e.r, "Wrong method", fmt.Sprintf("Methods are compared as they are, and are written in upper case: %q.", strings.ToUpper(s)))
		default:
			all = append(all, s)
		}
	}
	return all
}

// paths reads globs, and expressions between "/^" and "/". Other texts that begin and end with a slash are paths.
func (b *block) paths(name string) []pattern {
	return b.patterns(name, func(s string) (pattern, error) {
		switch {
		case strings.HasPrefix(s, "/^"):
			re, err := parseRegex(s)
			if err != nil {
				return pattern{}, err
			}
			return pattern{text: s, regex: re.MatchString}, nil
		case s == "" || s[0] != '/' && s[0] != '*':
			return pattern{}, fmt.Errorf("%q can never match: a path begins with a slash", s)
		case len(s) > 1 && s[len(s)-1] == '/' && strings.ContainsAny(s, `\(|+$`):
			return pattern{}, fmt.Errorf("%q looks like a regular expression; one for a path begins with ^, as in \"/^\\\\/api\\\\/v[0-9]+\\\\//\"", s)
		case strings.Contains(s, "?") && !strings.Contains(s, "["):
			return pattern{}, fmt.Errorf("%q holds a question mark; the query is not part of the path, and for any one byte write [!/]", s)
		}
		if c := connmodel.CleanPath(s); c != s {
			return pattern{}, fmt.Errorf("%q can never match: paths are compared without escapes of visible characters, dot segments and double slashes; write %q", s, c)
		}
		g, err := match.CompileGlob(s)
		if err != nil || !strings.ContainsAny(s, "*?[") {
			g = nil
		}
		return pattern{text: s, glob: g}, err
	})
}

func (b *block) headerTest(name string) []header {
	v, r, ok := b.value(name)
	if !ok {
		return nil
	}
	if v.IsNull() || !(v.Type().IsObjectType() || v.Type().IsMapType()) || v.LengthInt() == 0 {
		b.l.errorAt(r, "Wrong type", `"header" is a map of names and patterns: { "User-Agent" = "*curl*" }.`)
		return nil
	}
	var all []header
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		h := header{name: k.AsString()}
		if !isToken(h.name) {
			b.l.errorAt(r, "Wrong header field", fmt.Sprintf("%q is no name of a header field.", h.name))
			continue
		}
		for _, x := range b.l.flatten(e, r, h.name) {
			s, ok := b.l.to(x, cty.String, r, "The pattern of a header field")
			if !ok {
				continue
			}
			g, err := match.CompileGlob(s.AsString())
			if err != nil {
				b.l.errorAt(r, "Wrong pattern", fmt.Sprintf("%q: %s.", h.name, reasonOfPattern(err)))
				continue
			}
			h.values = append(h.values, pattern{text: s.AsString(), glob: g})
		}
		all = append(all, h)
	}
	return all
}
