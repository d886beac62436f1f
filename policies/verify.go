package policies

import (
	"slices"

	"viaduct/connmodel"
)

// holds verifies what the indexes could not say. Facts are gathered only when nothing that is known says no.
func (c *clause) holds(f *connmodel.Facts, in sets) verdict {
	v := yes
	if c.tests != nil && c.tests.hosts != nil { // else the index has decided it
		if need := f.Lacks(connmodel.NeedName); need != 0 {
			v = unknown(need)
		}
	}
	if c.rest != nil {
		var by attribute
		var rest verdict
		if by, rest = c.rest.first(f, in); by != byNothing && rest == no {
			return no
		}
		v = v.and(rest)
	}
	if c.asks && lacking(f) {
		v = v.and(unknown(connmodel.NeedAddresses))
	}
	if w := c.rule.when; w != nil {
		value, need := w.Test(f)
		switch {
		case need != 0:
			v = v.and(unknown(need))
		case !value:
			return no
		}
	}
	return v
}

// attribute is a test by its name, in the order in which tests are made and explained.
type attribute uint8

const (
	byNothing attribute = iota
	byListener
	byClient
	byOrigin
	byTime
	byUser
	byProtocol
	byScheme
	byHost
	byPort
	byMethod
	byPath
	byHeader
	byAddress
	byCountry
	bySNI
	byALPN
	byJA4
	byNot
	byWhen
)

// first returns the first test that does not hold and no; or byNothing with yes; or a test whose outcome depends on facts that are
// not known, with what all of them together need, if nothing else says no.
func (t *tests) first(f *connmodel.Facts, in sets) (attribute, verdict) {
	switch {
	case t.listeners != nil && !slices.Contains(t.listeners, f.Listener):
		return byListener, no
	case t.clients != nil && t.clients.client(f, in) == no:
		return byClient, no
	case t.origins != nil && !t.origins.holdClient(f):
		return byOrigin, no
	case t.windows != nil && !anyWindow(t.windows, f):
		return byTime, no
	case t.users != nil && !anyUser(t.users, f.User):
		return byUser, no
	case t.protocols != nil && !slices.Contains(t.protocols, string(f.Protocol)):
		return byProtocol, no
	case t.schemes != nil && !slices.Contains(t.schemes, f.Scheme):
		return byScheme, no
	case t.hosts != nil && f.Lacks(connmodel.NeedName) == 0 && t.hosts.takes(f, in) == no:
		return byHost, no
	case t.ports != nil && !t.ports.set.Contains(f.Target.Port):
		return byPort, no
	}
	by, v := byNothing, yes
	if t.clients != nil {
		if w := t.clients.client(f, in); w != yes {
			by, v = byClient, w
		}
	}
	if t.hosts != nil {
		if need := f.Lacks(connmodel.NeedName); need != 0 {
			by, v = byHost, v.and(unknown(need))
		} else if w := t.hosts.takes(f, in); w != yes {
			by, v = byHost, v.and(w)
		}
	}
	if t.asksRequest() {
		if a, w := t.takesRequest(f); w == no {
			return a, no
		} else if w != yes {
			by, v = a, v.and(w)
		}
	}
	if t.addresses != nil {
		if w := t.takesAddress(f, in); w == no {
			return byAddress, no
		} else if w != yes {
			by, v = byAddress, v.and(w)
		}
	}
	if t.countries != nil {
		if w := t.takesCountry(f); w == no {
			return byCountry, no
		} else if w != yes {
			by, v = byCountry, v.and(w)
		}
	}
	if t.asksHello() {
		if a, w := t.takesHello(f, in); w == no {
			return a, no
		} else if w != yes {
			by, v = a, v.and(w)
		}
	}
	for _, n := range t.nots {
		switch _, inner := n.first(f, in); {
		case inner == yes:
			return byNot, no
		case inner != no:
			by, v = byNot, v.and(inner)
		}
	}
	return by, v
}

func (t *tests) asksRequest() bool { return t.methods != nil || t.paths != nil || t.headers != nil }

// takesRequest makes the tests of an HTTP request. Tunnels that were not looked into may begin with one.
func (t *tests) takesRequest(f *connmodel.Facts) (attribute, verdict) {
	if f.Request == nil {
		by := byHeader
		switch {
		case t.methods != nil:
			by = byMethod
		case t.paths != nil:
			by = byPath
		}
		if need := f.Lacks(connmodel.NeedRequest); need != 0 {
			return by, unknown(need)
		}
		return by, no
	}
	switch {
	case t.methods != nil && !slices.Contains(t.methods, f.Request.Method):
		return byMethod, no
	case t.paths != nil && !anyPath(t.paths, f):
		return byPath, no
	case t.headers != nil:
		return headersHold(t.headers, f)
	}
	return byNothing, yes
}

func (t *tests) asksHello() bool { return t.snis != nil || t.alpn != nil || t.ja4 != nil }

// takesHello makes the tests of a ClientHello. Without one, and without a server name in it, none of them holds.
func (t *tests) takesHello(f *connmodel.Facts, in sets) (attribute, verdict) {
	h, v := f.Hello, yes
	switch {
	case h == nil:
		by := byJA4
		switch {
		case t.snis != nil:
			by = bySNI
		case t.alpn != nil:
			by = byALPN
		}
		if need := f.Lacks(connmodel.NeedHello); need != 0 {
			return by, unknown(need)
		}
		return by, no
	case t.snis != nil && h.SNI == "":
		return bySNI, no
	case t.snis != nil:
		v = t.snis.take(h.SNI, in)
	}
	switch {
	case v == no:
		return bySNI, no
	case t.alpn != nil && !slices.ContainsFunc(t.alpn, h.Offers):
		return byALPN, no
	case t.ja4 != nil && !slices.ContainsFunc(t.ja4, func(p pattern) bool { return p.takes(h.JA4) }):
		return byJA4, no
	case v != yes:
		return bySNI, v
	}
	return byNothing, yes
}

func anyWindow(ws []*window, f *connmodel.Facts) bool {
	for _, w := range ws {
		if w.holds(f.Time) {
			return true
		}
	}
	return false
}

// anyUser: globs take no anonymous client.
func anyUser(ps []pattern, user string) bool {
	for i := range ps {
		if (user != "" || ps[i].glob == nil) && ps[i].takes(user) {
			return true
		}
	}
	return false
}

func anyPath(ps []pattern, f *connmodel.Facts) bool {
	if f.Request == nil {
		return false
	}
	path := f.Request.RulePath()
	for i := range ps {
		if ps[i].takes(path) {
			return true
		}
	}
	return false
}

// maxFieldLines bounds how many lines of one header field are looked at.
const maxFieldLines = 100

// headersHold makes all tests of header fields. A record may not know a field.
func headersHold(hs []header, f *connmodel.Facts) (attribute, verdict) {
	all := yes
	for i := range hs {
		v := hs[i].holds(f)
		if v == no {
			return byHeader, no
		}
		all = all.and(v)
	}
	if all != yes {
		return byHeader, all
	}
	return byNothing, yes
}

// failingHeader is the first header test that no line of the field satisfies.
func failingHeader(hs []header, f *connmodel.Facts) *header {
	for i := range hs {
		if hs[i].holds(f) == no {
			return &hs[i]
		}
	}
	return nil
}

func (h *header) holds(f *connmodel.Facts) verdict {
	if f.Request == nil || f.Request.Header == nil {
		return no
	}
	for i := range maxFieldLines {
		v, ok := f.Request.Header.Lookup(h.name, i)
		if !ok {
			break
		}
		for j := range h.values {
			if h.values[j].takes(v) {
				return yes
			}
		}
	}
	if f.LacksField(h.name) {
		return unknown(connmodel.NeedHeader)
	}
	return no
}

// addressBeside is the address that a flow goes to, as text, where the client asks for a name inside: patterns of addresses take that, whatever
// name a client comes up with. "" = there is none.
func addressBeside(f *connmodel.Facts) string {
	if !f.NamedInside() {
		return ""
	}
	return f.TargetIP.String()
}

// takes reports whether a pattern takes the host that the client asks for, by name or by address.
func (h *hosts) takes(f *connmodel.Facts, in sets) verdict {
	v := h.take(f.Target.Host, in)
	if v == yes {
		return yes
	}
	if ip := addressBeside(f); ip != "" {
		v = v.or(h.take(ip, in))
	}
	return v
}

// take reports whether a pattern takes the host. The set is there in not blocks and of server names only.
func (h *hosts) take(host string, in sets) verdict {
	if h.set != nil && h.set.Contains(host) {
		return yes
	}
	for i := range h.patterns {
		if h.patterns[i].takes(host) {
			return yes
		}
	}
	return in.host(h.live, host)
}

// takesAddress reports whether one of the target's addresses is in the networks.
func (t *tests) takesAddress(f *connmodel.Facts, in sets) verdict {
	switch {
	case f.TargetIP.IsValid():
		return t.addresses.holds(f.TargetIP, in)
	case t.literal:
		return no
	case lacking(f):
		return unknown(connmodel.NeedAddresses)
	}
	v := no
	for _, a := range f.Addresses {
		if v = v.or(t.addresses.holds(a, in)); v == yes {
			return yes
		}
	}
	return v
}

func verdictOf(b bool) verdict {
	if b {
		return yes
	}
	return no
}
