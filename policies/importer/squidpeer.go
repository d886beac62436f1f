package importer

import (
	"fmt"
	"strconv"
	"strings"

	"viaduct/connmodel"
)

// squidPeer is a cache_peer that is a parent.
type squidPeer struct {
	squidLine
	name       string
	up         upstream
	roundRobin bool
	hash       string // what a hash looks at
	access     []*access
	out        string // why it cannot be used; "" = it can
	route      string
}

func (s *squid) peerNamed(name string) *squidPeer {
	for _, p := range s.peers {
		if p.name == name {
			return p
		}
	}
	return nil
}

// peer reads cache_peer HOST TYPE HTTP-PORT ICP-PORT [options].
func (s *squid) peer(l squidLine) error {
	if len(l.words) < 5 {
		return l.errorf("cache_peer wants a host, a type and two ports")
	}
	port, err := connmodel.ParsePort(l.words[3])
	if err != nil {
		return l.errorf("cache_peer: %q is no port", oneLine(l.words[3]))
	}
	a, err := connmodel.MakeAddress(strings.Trim(l.words[1], "[]"), port)
	if err != nil {
		return l.errorf("cache_peer: %q is no host", oneLine(l.words[1]))
	}
	p := &squidPeer{squidLine: l, name: l.words[1], up: upstream{name: a.Host, scheme: "http", address: a}}
	if l.words[2] != "parent" {
		p.out = "It is a " + oneLine(l.words[2]) + ", which is asked only for what it has; nothing is cached here."
	}
	for _, w := range l.words[5:] {
		s.peerOption(p, w)
	}
	if s.peerNamed(p.name) != nil {
		return l.errorf("there is a cache_peer %q already: give one of them a name=", oneLine(p.name))
	}
	if p.out != "" {
		s.d.leave(l.place, l.text, "%s", p.out)
	}
	s.peers = append(s.peers, p)
	return nil
}

func (s *squid) peerOption(p *squidPeer, w string) {
	k, v, _ := strings.Cut(w, "=")
	left := func(why string, args ...any) {
		s.d.leave(p.place, p.text, "%s: %s", oneLine(k), fmt.Sprintf(why, args...))
	}
	path := func(attr string) {
		if v != "" && !strings.ContainsFunc(v, isControl) {
			p.up.tls = append(p.up.tls, attr+" = "+quote(v))
		}
	}
	switch k {
	case "name":
		p.name, p.up.name = v, v
	case "login":
		s.login(p, v, left)
	case "tls", "ssl":
		p.up.scheme = "https"
	case "sslcafile", "tls-cafile":
		if !strings.Contains(strings.Join(p.up.tls, "\n"), "ca = ") {
			path("ca")
		} else {
			left("one file of authorities is read; put them into one.")
		}
	case "sslcert", "tls-cert":
		path("certificate")
	case "sslkey", "tls-key":
		path("key")
	case "ssldomain", "tls-domain":
		if _, err := connmodel.CanonicalHost(v); err == nil {
			path("server_name")
		}
	case "sslflags", "tls-flags":
		left("the certificate of the proxy is verified here. If it cannot be, name its authority in ca, or write verify = false.")
	case "tls-min-version":
		if v != "1.2" && v != "1.3" {
			left("1.2 is the oldest version that is spoken unasked.")
		} else {
			path("min_version")
		}
	case "sslcipher", "tls-cipher", "sslversion", "ssloptions", "tls-options", "sslcapath", "sslcrlfile":
		left("it has no counterpart of that form.")
	case "max-conn":
		if n, err := strconv.Atoi(v); err == nil && n > 0 && n < 1_000_000 {
			p.up.max = n
		}
	case "connect-timeout":
		if n, err := strconv.Atoi(v); err == nil && n > 0 && n <= 3600 {
			p.up.dial = fmt.Sprintf("%ds", n)
		}
	case "round-robin":
		p.roundRobin = true
	case "weighted-round-robin":
		p.roundRobin = true
		left("the members take turns, without weights.")
	case "weight":
		if v != "1" {
			left("members have no weights.")
		}
	case "sourcehash", "userhash":
		p.hash = "client"
		if k == "userhash" {
			left("the client's address decides, not its user.")
		}
	case "carp":
		p.hash = "target"
		left("the target decides, not the whole URL, and the members are others than Squid would choose.")
	case "originserver":
		p.out = "It is a server and no proxy (originserver): name it in server of a rule."
	case "no-query", "no-digest", "no-netdb-exchange", "default", "proxy-only", "no-delay", "no-tproxy", "connect-fail-limit", "standby", "allow-miss", "background-ping", "closest-only", "htcp", "digest-url", "connection-auth", "auth-no-keytab":
	default:
		left("the option is not known here.")
	}
}

func (s *squid) login(p *squidPeer, v string, left func(string, ...any)) {
	user, password, has := strings.Cut(v, ":")
	switch {
	case v == "PASS" || v == "PASSTHRU" || strings.HasPrefix(v, "*"):
		left("what clients send to log in is not handed on. Where the listener asks for passwords, auth { from_client = true } shows the proxy what they proved.")
	case user == "NEGOTIATE":
		principal := unescape(password)
		if !has || principal == "" || strings.ContainsFunc(principal, isControl) {
			left("Squid takes the first principal of the keytab; here it has to be named. Write auth { username, keytab }.")
			return
		}
		p.up.auth = []string{"username = " + quote(principal), `keytab = env("KRB5_KTNAME", "/etc/krb5.keytab")`, `schemes = ["negotiate"]`}
	default:
		user = unescape(user)
		if user == "" || strings.ContainsFunc(user, isControl) || strings.Contains(user, ":") {
			left("it holds a character that no user name has.")
			return
		}
		name := "squid-" + strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(p.name))
		s.d.credential(name, "cache_peer "+oneLine(p.name))
		p.up.auth = []string{"username = " + quote(user), "password = credential(" + quote(name) + ")"}
	}
}

// maxRestricted bounds the peers with lists of their own: every combination of them is a route.
const maxRestricted = 4

// routes writes the rules for what http_access has let by: always_direct, never_direct, then the peers.
func (s *squid) routes() {
	lost := false
	down, up := rounding{false, &lost}, rounding{true, &lost}
	said := func(what string, list []*access) {
		if lost && len(list) > 0 {
			s.d.leave(list[0].place, list[0].text, "The lines of %s cannot be said exactly in rules: less goes direct, and to this peer, than did.", what)
		}
		lost = false
	}
	direct := allowed(s.always, down)
	said("always_direct", s.always)
	if s.via("always_direct", direct, "direct") {
		return
	}
	peers := s.usable()
	combos := s.combinations(peers, down)
	for _, p := range peers {
		said("cache_peer_access "+oneLine(p.name), p.access)
	}
	only := allowed(s.never, up)
	said("never_direct", s.never)
	if !only.never() {
		reached := false
		for _, c := range combos {
			f := and(only, c.formula, down)
			if s.via("never_direct", f, s.poolOf(c.peers, false)) {
				return
			}
			reached = reached || c.formula.always()
		}
		said("never_direct", s.never)
		if only.always() {
			s.closed = true
			return
		}
		if !reached {
			s.d.rule("never_direct, and no peer", only.hcl()+"deny {\nreason = \"no parent proxy may be used for it\"\n}")
		}
	}
	if len(peers) > 0 {
		hierarchical := always
		if s.nonhierarchical {
			hierarchical = formula{{have: []test{{attr: "protocol", texts: []string{"http"}}, {attr: "method", texts: []string{"GET"}}}}}
			s.d.note("Squid sends requests through a parent only where it must (never_direct), or where its answer could be in a cache: plain GET. Tunnels (https) and all others go direct, unless nonhierarchical_direct is off. The rules below say the same.")
		}
		for _, c := range combos {
			if s.via("through the peers", and(hierarchical, c.formula, down), s.poolOf(c.peers, true)) {
				return
			}
		}
		said("cache_peer_access", nil)
	}
	s.d.last = "otherwise { via = direct }\n"
}

// via writes a rule, or the otherwise block where everything goes that way: then it is true, and nothing comes after it.
func (s *squid) via(title string, f formula, route string) bool {
	switch {
	case f.never():
		return false
	case f.always():
		s.d.last = fmt.Sprintf("otherwise { via = %s }\n", route)
		return true
	}
	s.d.rule(title, f.hcl()+"via = "+route)
	return false
}

func (s *squid) usable() (out []*squidPeer) {
	for _, p := range s.peers {
		if p.out != "" {
			continue
		}
		if p.up.scheme != "https" && p.up.tls != nil {
			p.up.tls = nil
		}
		tls := strings.Join(p.up.tls, "\n")
		if strings.Contains(tls, "certificate = ") && !strings.Contains(tls, "key = ") { // one file has both
			for _, line := range p.up.tls {
				if v, ok := strings.CutPrefix(line, "certificate = "); ok {
					p.up.tls = append(p.up.tls, "key = "+v)
				}
			}
		} else if strings.Contains(tls, "key = ") && !strings.Contains(tls, "certificate = ") {
			p.up.tls = nil
			s.d.leave(p.place, p.text, "There is a key without a certificate.")
		}
		p.up.comment = fmt.Sprintf("%s:%d", p.file, p.line)
		p.route = s.d.declare(&p.up)
		out = append(out, p)
	}
	return out
}

// combo is the peers that may be used for what a formula takes.
type combo struct {
	peers   []*squidPeer
	formula formula
}

// combinations lists which peers may be used for what, the most of them first: the first formula that holds says all that may be.
func (s *squid) combinations(peers []*squidPeer, r rounding) []combo {
	var bound []*squidPeer
	for _, p := range peers {
		if len(p.access) == 0 {
			continue
		} else {
			bound = append(bound, p)
		}
	}
	for _, p := range bound[min(len(bound), maxRestricted):] {
		s.d.leave(p.place, p.text, "More than %d peers have lists of their own; this one is not used.", maxRestricted)
	}
	bound = bound[:min(len(bound), maxRestricted)]
	of := make([]formula, len(bound))
	for i, p := range bound {
		of[i] = allowed(p.access, r)
	}
	var out []combo
	for size := len(bound); size >= 0; size-- {
		for set := range 1 << len(bound) {
			var c combo
			c.formula = always
			n := 0
			for i := range bound {
				if set&(1<<i) != 0 {
					c.formula = and(c.formula, of[i], r)
					n++
				}
			}
			if n != size || c.formula.never() {
				continue
			}
			for _, p := range peers { // in the order of the file
				in := len(p.access) == 0
				for i := range bound {
					in = in || bound[i] == p && set&(1<<i) != 0
				}
				if in {
					c.peers = append(c.peers, p)
				}
			}
			if len(c.peers) > 0 {
				out = append(out, c)
				if c.formula.always() {
					return out
				}
			}
		}
	}
	return out
}

// poolOf is the route by these peers: those that take turns or are chosen by a hash first, the others in the order of the file; direct where that is
// allowed, at the end or, with prefer_direct, in front.
func (s *squid) poolOf(peers []*squidPeer, direct bool) string {
	key := fmt.Sprint(direct)
	var turns, hashed, rest []string
	hash := ""
	for _, p := range peers {
		key += " " + p.route
		switch {
		case p.hash != "":
			hash, hashed = p.hash, append(hashed, p.route)
		case p.roundRobin:
			turns = append(turns, p.route)
		default:
			rest = append(rest, p.route)
		}
	}
	if r, ok := s.pools[key]; ok {
		return r
	}
	var members []string
	if len(hashed) > 1 {
		n := s.d.name("pool", "by_hash")
		s.d.block("pool %s {\nmembers = [%s]\nselect = \"hash\"\nhash_by = %s\n}", quote(n), strings.Join(hashed, ", "), quote(hash))
		hashed = []string{"pool." + n}
	}
	if len(turns) > 1 {
		turns = []string{s.d.pool("in_turn", turns, "round_robin")}
	}
	members = append(append(append(members, hashed...), turns...), rest...)
	if direct && s.preferDirect {
		members = append([]string{"direct"}, members...)
	} else if direct {
		members = append(members, "direct")
	}
	r := s.d.pool("peers", members, "first_healthy")
	if s.pools == nil {
		s.pools = map[string]string{}
	}
	s.pools[key] = r
	return r
}
