package policies

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// tests are what a match or not block asks for, all of it. A nil field asks for nothing.
type tests struct {
	rng       hcl.Range
	listeners []string
	clients   *networks
	windows   []*window
	users     []pattern
	protocols []string
	schemes   []string
	hosts     *hosts
	ports     *ports
	methods   []string
	paths     []pattern
	headers   []header
	addresses *networks
	countries *countries // of the target
	literal   bool       // addresses and countries: of literal targets only
	origins   *countries // of the client
	snis      *hosts
	alpn      []string
	ja4       []pattern
	nots      []*tests
}

// networks, hosts and ports keep what was written, to index it, to compare it with earlier rules and to put it into words.
type networks struct {
	words    words
	prefixes []netip.Prefix // the lists' included
	lists    []*list
	live     []int             // lists that change, by their numbers in the program
	own      []netip.Prefix    // those written out
	listed   bool              // there were others, which release has taken away
	set      *match.NetworkSet // for not blocks, which no index decides
}

type hosts struct {
	words    words
	patterns []hostPattern
	lists    []*list
	live     []int          // lists that change, by their numbers in the program
	listed   bool           // there were lists, which release has taken away
	set      *match.HostSet // for not blocks and server names, which no index decides
}

type ports struct {
	words  words
	ranges []match.PortRange
	set    *match.PortSet
}

// words is how a test is named in an explanation.
type words struct {
	n     int
	first string
	open  bool // a list that changes is among them
}

// pattern is a text that is compared as a whole: exact, as a glob, or "/^…/" as an expression.
type pattern struct {
	text  string
	glob  *match.Glob
	regex func(string) bool
}

func (p *pattern) takes(s string) bool {
	switch {
	case p.glob != nil:
		return p.glob.Match(s)
	case p.regex != nil:
		return p.regex(s)
	}
	return p.text == s
}

type header struct {
	name   string
	values []pattern
}

var (
	testAttrs = attrs("listener", "client", "time", "user", "protocol", "host", "port", "scheme", "method", "path", "header", "address", "resolve",
		"country", "client_country", "sni", "alpn", "ja4")
	matchSchema = schema(testAttrs, blocks("not"))
	notSchema   = schema(testAttrs)
)

var protocolNames = []string{
	string(connmodel.ProtocolHTTP), string(connmodel.ProtocolConnect), string(connmodel.ProtocolSOCKS4),
	string(connmodel.ProtocolSOCKS4a), string(connmodel.ProtocolSOCKS5), string(connmodel.ProtocolUDP), string(connmodel.ProtocolForward),
	string(connmodel.ProtocolRedirect), string(connmodel.ProtocolTProxy),
}

func (l *loader) buildMatch(x *hcl.Block) *tests {
	s := matchSchema
	if x.Type == "not" {
		s = notSchema
	}
	b := l.open(x, s)
	t := &tests{rng: x.DefRange}
	if empty, _ := x.Body.JustAttributes(); len(b.attrs) == 0 && len(b.blocks) == 0 && len(empty) == 0 {
		l.errorAt(x.DefRange, "Empty block", fmt.Sprintf("This %s asks for nothing. Leave it out: a rule without match takes everything.", x.Type))
	}
	t.listeners = l.listenerNames(b)
	t.clients = b.networkTest("client")
	t.windows = b.windows("time")
	t.users = b.users("user")
	t.protocols = b.values("protocol", protocolNames)
	t.schemes = b.schemes("scheme")
	t.hosts = b.hostTest("host")
	t.ports = b.portTest("port")
	t.methods = b.methods("method")
	t.paths = b.paths("path")
	t.headers = b.headerTest("header")
	t.addresses = b.networkTest("address")
	t.literal = !b.boolean("resolve", true)
	t.countries, t.origins = b.countryTest("country"), b.countryTest("client_country")
	if b.has("resolve") && !b.has("address") && !b.has("country") {
		l.errorAt(b.rng("resolve"), "Without effect", `"resolve" says whether "address" and "country" may resolve names, and there is neither beside it.`)
	}
	l.helloTests(b, t)
	for _, n := range b.blocks {
		t.nots = append(t.nots, l.buildMatch(n).standalone())
	}
	return t
}

// standalone makes the sets that decide without an index.
func (t *tests) standalone() *tests {
	if t.hosts != nil {
		t.hosts.buildSet()
	}
	for _, n := range []*networks{t.clients, t.addresses} {
		if n == nil {
			continue
		}
		var sb match.NetworkSetBuilder
		for _, p := range n.prefixes {
			_ = sb.Add(p) // valid
		}
		n.set = sb.Build()
	}
	return t
}

// buildSet makes the set that decides without an index.
func (h *hosts) buildSet() {
	var sb match.HostSetBuilder
	for p := range h.indexed() {
		_ = sb.Add(p) // checked when it was read
	}
	h.set = sb.Build()
}

// release lets go of what only building the indexes needed: the entries of large lists.
func (t *tests) release() {
	for _, n := range []*networks{t.clients, t.addresses} {
		if n != nil {
			n.listed = n.listed || len(n.lists) > 0
			n.prefixes, n.lists = nil, nil
		}
	}
	if t.hosts != nil {
		t.hosts.listed = t.hosts.listed || len(t.hosts.lists) > 0
		t.hosts.lists = nil
	}
	if t.snis != nil {
		t.snis.lists = nil
	}
	for _, n := range t.nots {
		n.release()
	}
}
