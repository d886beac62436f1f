package importer

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"viaduct/connmodel"
)

// squid is what squid.conf says, as far as it is about who may go where and by which proxy.
type squid struct {
	d          *document
	acls       map[string]*acl
	byListener []*acl // whose values are listeners: known when all is read
	users      bool   // a set asks who the client is

	http, always, never []*access
	ports               []*squidPort
	peers               []*squidPeer
	preferDirect        bool
	nonhierarchical     bool // requests that are not hierarchical go direct
	htpasswd, realm     string
	basic               bool
	closed              bool              // what no rule takes is denied
	pools               map[string]string // routes, by the peers in them
}

// squidLine is a line, continued ones put together.
type squidLine struct {
	place
	text  string // without passwords
	words []string
}

type squidPort struct {
	place
	name, label string
	address     netip.Addr // unspecified = all
	port        uint16
	tls         []string
	protocols   string
}

func (d *document) squid() error {
	s := &squid{d: d, acls: squidACLs(), nonhierarchical: true}
	if err := s.file(d.o.Name, d.o.Text, 0); err != nil {
		return err
	}
	if len(s.ports) == 0 {
		s.ports = append(s.ports, &squidPort{place: place{d.o.Name, 0}, port: 3128, protocols: "http"})
		d.note("There is no http_port that can be listened on; the listener has Squid's usual port.")
	}
	for _, p := range s.ports {
		p.name = d.name("listener", fmt.Sprintf("port_%d", p.port))
	}
	s.listenersOf()
	s.denials()
	if !s.closed {
		s.routes()
	}
	if s.closed {
		d.last += "otherwise {\ndeny {\nreason = \"denied by http_access\"\n}\n}\n"
	}
	s.listeners()
	return nil
}

// file reads one file and those it includes.
func (s *squid) file(name string, text []byte, depth int) error {
	n, first := 0, 0
	joined := ""
	for raw := range strings.Lines(string(text)) {
		n++
		line := strings.TrimRight(raw, "\r\n")
		if joined == "" {
			first = n
			if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
				continue
			}
		}
		if rest, more := strings.CutSuffix(line, `\`); more {
			if joined += rest + " "; len(joined) > maxLine {
				return place{name, first}.errorf("the line is longer than %d bytes", maxLine)
			}
			continue
		}
		whole := joined + line
		joined = ""
		if err := s.line(place{name, first}, whole, depth); err != nil {
			return err
		}
	}
	if strings.TrimSpace(joined) != "" {
		return s.line(place{name, first}, joined, depth)
	}
	return nil
}

// line reads one. Words are separated by blanks; what begins with a # ends the line.
func (s *squid) line(at place, text string, depth int) error {
	var words []string
	for _, w := range squidWords(text) {
		if w[0] == '#' {
			break
		}
		words = append(words, w)
	}
	if len(words) == 0 {
		return nil
	}
	l := squidLine{at, redact(words), words}
	switch words[0] {
	case "include":
		return s.include(l, depth)
	case "if", "else", "endif":
		return l.errorf("conditional lines are not read: take out those that do not count, and import the rest")
	case "configuration_includes_quoted_values":
		if len(words) > 1 && words[1] == "on" {
			return l.errorf("files with configuration_includes_quoted_values on are not read: words in quotes mean something else there")
		}
		return nil
	}
	return s.directive(l)
}

// squidWords splits at blanks, but not within quotes that begin a word.
func squidWords(text string) (words []string) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		i := strings.IndexAny(text, " \t")
		if text[0] == '"' {
			if j := strings.IndexByte(text[1:], '"'); j >= 0 {
				i = j + 2
			}
		}
		if i < 0 || i >= len(text) {
			return append(words, text)
		}
		words, text = append(words, text[:i]), text[i:]
	}
	return words
}

// redact puts a line together again without the passwords in it.
func redact(words []string) string {
	out := slices.Clone(words)
	for i, w := range out {
		low := strings.ToLower(w)
		switch k, v, ok := strings.Cut(w, "="); {
		case ok && strings.EqualFold(k, "login") && !strings.HasPrefix(v, "PASS") && !strings.HasPrefix(v, "NEGOTIATE"):
			out[i] = k + "=***"
		case ok && (strings.Contains(low, "pass") || strings.Contains(low, "secret")) && !strings.HasPrefix(v, "PASS"):
			out[i] = k + "=***"
		}
	}
	if strings.Contains(out[0], "passwd") || strings.Contains(out[0], "password") {
		return out[0] + " ***"
	}
	if out[0] == "auth_param" && len(out) > 3 && out[2] == "program" { // helpers are given passwords on their command line
		return strings.Join(out[:4], " ") + " …"
	}
	if out[0] == "external_acl_type" && len(out) > 2 || strings.HasSuffix(out[0], "_program") && len(out) > 2 {
		return strings.Join(out[:2], " ") + " …"
	}
	if out[0] == "acl" && len(out) > 3 && strings.HasPrefix(out[2], "snmp") { // a community is a password
		return strings.Join(out[:3], " ") + " ***"
	}
	return strings.Join(out, " ")
}

func (s *squid) include(l squidLine, depth int) error {
	if depth+1 > maxDepth {
		return l.errorf("files include each other more than %d deep; one may include itself", maxDepth)
	}
	for _, pattern := range l.words[1:] {
		pattern = strings.Trim(pattern, `"`)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(s.d.o.Name), pattern)
		}
		paths := []string{pattern}
		if strings.ContainsAny(pattern, "*?[") {
			if s.d.o.Glob == nil {
				return l.errorf("%s cannot be looked for: there are no other files here", pattern)
			}
			found, err := s.d.o.Glob(pattern)
			if err != nil {
				return l.errorf("%s: %v", pattern, err)
			}
			slices.Sort(found)
			paths = found
		}
		for _, path := range paths {
			text, err := s.d.read(l.place, path)
			if err != nil {
				return err
			}
			if err := s.file(path, text, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// directive reads all lines but includes.
func (s *squid) directive(l squidLine) error {
	arg := func(i int) string {
		if i < len(l.words) {
			return l.words[i]
		}
		return ""
	}
	list := func(to *[]*access, from int) error {
		a, err := s.accessLine(l, from)
		if err == nil {
			*to = append(*to, a)
		}
		return err
	}
	switch l.words[0] {
	case "acl":
		return s.acl(l)
	case "http_access":
		return list(&s.http, 1)
	case "always_direct":
		return list(&s.always, 1)
	case "never_direct":
		return list(&s.never, 1)
	case "cache_peer":
		return s.peer(l)
	case "cache_peer_access":
		p := s.peerNamed(arg(1))
		if p == nil {
			return l.errorf("there is no cache_peer %q above", oneLine(arg(1)))
		}
		return list(&p.access, 2)
	case "http_port", "https_port":
		return s.port(l)
	case "prefer_direct":
		s.preferDirect = arg(1) == "on"
	case "nonhierarchical_direct":
		s.nonhierarchical = arg(1) != "off"
	case "auth_param":
		s.authParam(l)
	case "cache_peer_domain":
		return l.errorf("cache_peer_domain is of Squid 3 and older: write cache_peer_access, and import that")
	default:
		s.d.leave(l.place, l.text, "%s", whyNot(l.words[0]))
	}
	return nil
}

// whyNot says why a directive has no counterpart.
func whyNot(name string) string {
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(name, p) })
	}
	switch {
	case name == "http_access2" || name == "adapted_http_access":
		return "It is about requests that adapters have changed. WHAT IT DENIES IS NOT DENIED HERE."
	case name == "http_reply_access" || name == "reply_body_max_size" || name == "reply_header_access":
		return "Answers are passed on as they are. WHAT IT KEEPS OUT COMES IN HERE."
	case name == "request_body_max_size" || name == "delay_access" || name == "client_ip_max_connections" || has("delay_"):
		return "It bounds clients; see limits of the gateway and its listeners."
	case has("icap", "ecap", "adaptation", "url_rewrite", "store_id", "redirect"):
		return "Requests and answers are given to no other program."
	case has("ssl_bump", "sslcrtd", "sslproxy", "tls_outgoing"):
		return `Tunnels are passed through. What a rule opens says tls { mode = "intercept" }.`
	case has("external_acl"):
		return "No other program is asked about a request."
	case has("header_", "forwarded_for", "via", "follow_x"):
		return "Fields of requests are set and removed by headers of a rule; clients are told of by no X-Forwarded-For."
	case has("cache", "refresh", "store", "memory", "maximum_object", "minimum_", "quick_abort", "range_offset", "collapsed", "negative_ttl", "positive_dns", "hierarchy_stoplist", "memopool"):
		return "Nothing is cached."
	case has("log", "debug", "coredump", "pid_filename", "stats", "snmp"):
		return "Logs, records and metrics are kept otherwise: gateway { log, records }."
	case has("icp", "htcp", "mcast", "peer_", "netdb", "digest"):
		return "Caches are not asked what they have."
	case has("dns", "hosts_file", "resolver"):
		return "Names are looked up as the system does."
	case has("timeout", "lifetime"):
		return "Timeouts are of the gateway, of upstreams and of rules."
	case has("tcp_outgoing", "udp_outgoing"):
		return "Source addresses are of gateway { direct } and of upstreams, not of requests."
	case has("visible_hostname", "unique_hostname", "cache_mgr", "mail", "error", "deny_info"):
		return "Pages and names are the gateway's own."
	case has("cache_effective", "chroot", "workers", "max_filedesc", "umask", "shutdown"):
		return "The service manager says so."
	}
	return "It is not known here."
}

func (s *squid) authParam(l squidLine) {
	if len(l.words) < 4 {
		s.d.leave(l.place, l.text, "It says nothing.")
		return
	}
	switch scheme, what := l.words[1], l.words[2]; {
	case scheme == "basic" && what == "program" && strings.Contains(filepath.Base(l.words[3]), "ncsa_auth") && len(l.words) > 4:
		s.basic, s.htpasswd = true, l.words[len(l.words)-1]
	case scheme == "basic" && what == "realm":
		s.realm = strings.Join(l.words[3:], " ")
	case what == "program":
		s.d.leave(l.place, l.text, "Clients prove who they are by Basic, against a file of bcrypt hashes, or by certificates.")
	case what == "children" || what == "credentialsttl" || what == "casesensitive":
	default:
		s.d.leave(l.place, l.text, "It has no counterpart.")
	}
}

func (s *squid) port(l squidLine) error {
	if len(l.words) < 2 {
		return l.errorf("%s wants a port", l.words[0])
	}
	p := &squidPort{place: l.place, protocols: "http"}
	host, port := "", l.words[1]
	if i := strings.LastIndexByte(l.words[1], ':'); i >= 0 {
		host, port = l.words[1][:i], l.words[1][i+1:]
	}
	n, err := connmodel.ParsePort(port)
	if err != nil {
		return l.errorf("%s: %q is no port", l.words[0], oneLine(port))
	}
	if p.port = n; host != "" {
		a, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil {
			s.d.leave(l.place, l.text, "Listeners have addresses, not names.")
			return nil
		}
		p.address = a.Unmap().WithZone("")
	} else {
		p.address = netip.IPv4Unspecified()
	}
	cert, key := "", ""
	for _, w := range l.words[2:] {
		k, v, _ := strings.Cut(w, "=")
		switch k {
		case "name":
			p.label = v
		case "cert", "tls-cert":
			cert = v
		case "key", "tls-key":
			key = v
		case "intercept":
			p.protocols = "redirect"
		case "tproxy":
			p.protocols = "tproxy"
		case "accel", "vhost", "defaultsite", "act-as-origin":
			s.d.leave(l.place, l.text, "Viaduct is no accelerator in front of servers.")
			return nil
		case "clientca", "tls-client-ca":
			s.d.leave(l.place, l.text, "A listener with client_ca asks clients for certificates; this port was left out until that is written.")
			return nil
		case "ssl-bump":
			s.d.leave(l.place, l.text, `Tunnels are passed through. What a rule opens says tls { mode = "intercept" }.`)
			cert, key = "", ""
		default:
			s.d.leave(l.place, l.text, "%s has no counterpart.", oneLine(k))
		}
	}
	if slices.Contains(l.words, "ssl-bump") {
		cert, key = "", ""
	}
	if l.words[0] == "https_port" {
		if cert == "" {
			s.d.leave(l.place, l.text, "There is no certificate.")
			return nil
		}
		if key == "" {
			key = cert
		}
		p.tls = []string{"certificate = " + quote(cert), "key = " + quote(key)}
	}
	if p.protocols != "http" && (p.tls != nil || p.protocols == "tproxy") {
		s.d.leave(l.place, l.text, "The firewall's rules have to fit: see examples/transparent. This port was left out.")
		return nil
	}
	if slices.ContainsFunc(s.ports, func(o *squidPort) bool { return o.port == p.port }) {
		s.d.leave(l.place, l.text, "Another listener has this port already.")
		return nil
	}
	s.ports = append(s.ports, p)
	return nil
}

// listeners writes them when it is known who may connect.
func (s *squid) listeners() {
	clients := s.clients()
	for _, p := range s.ports {
		var b strings.Builder
		a := p.address
		if !a.IsValid() {
			a = netip.IPv4Unspecified()
		}
		fmt.Fprintf(&b, "listener %s {\naddress = %s\nprotocols = [%s]\n", quote(p.name), quote(netip.AddrPortFrom(a, p.port).String()), quote(p.protocols))
		if clients != nil && (!a.IsLoopback() || !slices.Equal(clients, private)) {
			fmt.Fprintf(&b, "clients = %s\n", quoteList(clients))
		}
		if s.users && p.protocols == "http" {
			realm := ""
			if s.realm != "" && !strings.ContainsFunc(s.realm, isControl) && !strings.ContainsAny(s.realm, `"\`) && len(s.realm) < 100 {
				realm = "realm = " + quote(s.realm) + "\n"
			}
			fmt.Fprintf(&b, "authenticate {\nhtpasswd = \"squid-users.htpasswd\"\n%s}\n", realm)
		}
		if p.tls != nil {
			fmt.Fprintf(&b, "tls {\n%s\n}\n", strings.Join(p.tls, "\n"))
		}
		s.d.block("%s}", b.String())
	}
	if s.users {
		where := "what Squid asked"
		if s.basic {
			where = s.htpasswd
		}
		s.d.note("Everybody who comes by these listeners is asked for a password, also where Squid asked nobody. Make the file of users with bcrypt hashes, by htpasswd -B, after %s: other hashes are not taken.", where)
	}
}

// clients are whom the lines that allow let in by address: nobody else comes as far as a rule.
func (s *squid) clients() []string {
	var nets []netip.Prefix
	open := false
	for _, a := range s.http {
		if !a.allow {
			continue
		}
		own := everybody
		for _, t := range a.sets {
			if t.neg || t.acl.unknown != "" || t.acl.kind != "src" || t.acl.all {
				continue
			}
			var of []netip.Prefix
			for _, x := range t.acl.tests {
				of = append(of, x.nets...)
			}
			own = intersect(own, of)
		}
		if slices.Contains(own, everyIPv4) {
			open = true
			break
		}
		nets = append(nets, own...)
	}
	switch {
	case open || len(s.http) > 0 && !s.http[len(s.http)-1].allow && !s.lastDeniesAll():
		s.d.note("A line of http_access lets in clients whatever their address is. An open proxy is found within hours, so here private networks alone are let in: say in clients of the listeners who may come.")
		return private
	case len(nets) == 0:
		return []string{"127.0.0.1", "::1"}
	}
	slices.SortFunc(nets, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return prefixTexts(slices.Compact(nets))
}

func (s *squid) lastDeniesAll() bool {
	lost := false
	return slices.ContainsFunc(s.http, func(a *access) bool { return !a.allow && a.formula(rounding{false, &lost}).always() })
}
