package connmodel

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Missing is what rules may ask of a flow and its record does not know; 0 = the record knows everything that a decision can look at.
type Missing Need

// MissingCut says that the record was cut where it tells what was asked for: nothing can be decided from it.
const MissingCut Missing = 1 << 7

// Has reports whether one of the facts in n is missing.
func (m Missing) Has(n Need) bool { return Need(m)&n != 0 }

// Words says what is missing, each as it stands behind "the record does not know".
func (m Missing) Words() []string {
	var all []string
	for _, w := range [...]struct {
		of   Missing
		text string
	}{
		{Missing(NeedAddresses), "the addresses of the target"},
		{Missing(NeedName), "the name that the client asked for inside"},
		{Missing(NeedHello), "the ClientHello in the tunnel"},
		{Missing(NeedRequest), "the HTTP request in the tunnel"},
		{Missing(NeedHeader), "header fields of the request that were not kept"},
		{Missing(NeedReach), "what could be reached then (network.reachable)"},
		{MissingCut, "the whole of what was asked for: it was cut"},
	} {
		if m&w.of != 0 {
			all = append(all, w.text)
		}
	}
	return all
}

// String names what is missing, separated by commas.
func (m Missing) String() string { return strings.Join(m.Words(), ", ") }

// Facts gives back what the decision of the flow was made from, as far as its record knows it, so that it can be asked of another policy. What the
// record does not know counts as not gathered, and asking for it gives no decision: nothing is guessed. Time is in UTC; who asks a policy puts it into
// the time zone of that.
//
// missing names what rules may ask and is not known. Most rules do not ask for it: whether it matters, only deciding tells. With MissingCut
// the facts are not those of the flow and must not be decided upon.
//
// Where a name was looked up or the client's first bytes were looked at after the decision (a route that needs the name resolved, a tunnel that is
// opened), the facts have what was found then: it is what the decision would have found.
func (f *Flow) Facts() (facts *Facts, missing Missing) {
	x := new(Facts)
	return x, f.FactsTo(x)
}

// FactsTo is Facts for those who make many: x is overwritten.
func (f *Flow) FactsTo(x *Facts) (missing Missing) {
	*x = Facts{Time: f.Start, Protocol: f.Protocol, Target: f.Target, TargetIP: f.Target.IP(), Gone: NeedReach}
	g := f.Gathered
	if g == nil {
		g = &noneGathered
	}
	var hello *ClientHello
	if c := f.Client; c != nil {
		x.Listener, x.User = c.Listener, c.User
		if from := c.From(); from.IsValid() {
			x.Client = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
		}
		hello = c.Hello
	}
	if len(g.Addresses) > 0 && !g.MoreAddresses {
		x.Addresses, x.Have = g.Addresses, NeedAddresses
	}
	switch q := f.Request; {
	case q != nil && !q.Tunnel.IsZero(): // inside an opened tunnel
		x.Scheme, x.Tunnel, x.Hello = q.Scheme, q.Within, hello
		x.Have |= NeedHello
		f.requestFacts(x, q, g)
	case f.Protocol == ProtocolHTTP:
		if q != nil {
			x.Scheme = q.Scheme
			f.requestFacts(x, q, g)
		}
	case f.Protocol == ProtocolUDP: // a datagram has no first bytes
		x.Have |= NeedHello | NeedRequest
	default:
		f.tunnelFacts(x, hello, g)
	}
	if g.Name != "" {
		x.Target.Host = g.Name
	}
	if g.TargetIP.IsValid() {
		x.TargetIP = g.TargetIP
	}
	missing = Missing(x.Lacks(NeedAddresses|NeedName|NeedHello|NeedRequest) &^ x.unread())
	missing |= Missing(x.Gone)
	if !f.whole(x.Target.Host, maxText) || !f.whole(x.User, 4<<10) || !f.whole(x.Listener, maxText) || hello != nil && f.Truncated && len(hello.ALPN) > 1 {
		missing |= MissingCut
	}
	return missing
}

var noneGathered Gathered

// unread is what was begun and could not be read: it is known that nothing will be known.
func (f *Facts) unread() (n Need) {
	if f.HelloUnread {
		n |= NeedHello | NeedName
	}
	if f.RequestUnread {
		n |= NeedRequest | NeedName
	}
	return n
}

// requestFacts fills in what the record has of an HTTP request. A path that was cut makes the whole request unknown.
func (f *Flow) requestFacts(x *Facts, q *Request, g *Gathered) {
	if !f.whole(q.Path, maxPath) || !f.whole(q.Method, maxText) {
		x.Gone |= NeedRequest | NeedHeader
		return
	}
	x.Gone |= NeedHeader
	x.Request = &RequestFacts{Method: q.Method, Path: q.Path, Header: &sampled{g.Headers, f.whole}}
}

// tunnelFacts fills in what is known of the first bytes in a tunnel.
func (f *Flow) tunnelFacts(x *Facts, hello *ClientHello, g *Gathered) {
	x.Have |= g.Looked
	x.HelloUnread, x.RequestUnread = g.Unread&NeedHello != 0, g.Unread&NeedRequest != 0
	q := g.First
	if q == nil && hello == nil {
		q = f.Request // for which it was refused
	}
	switch {
	case hello != nil:
		x.Hello = hello
		x.Have |= NeedHello | NeedRequest
		if x.KernelSent() && hello.SNI != "" {
			x.Target.Host = hello.SNI // canonical already
		}
	case q != nil:
		x.Have |= NeedHello | NeedRequest
		f.requestFacts(x, q, g)
	}
}

// whole reports whether a text of the record, which had room for most octets, is known as it was.
func (f *Flow) whole(s string, most int) bool {
	if f.Truncated {
		most = 60 // the strings of a record that was cut have as little room as that
	}
	if len(s) < most {
		return isASCII(s) || !strings.ContainsRune(s, utf8.RuneError) // what is no UTF-8 does not come back from a record
	}
	return len(s) == most && !strings.HasSuffix(s, "...")
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
