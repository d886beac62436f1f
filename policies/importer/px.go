package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies"
)

// pxConfig is what px.ini says, by "section.key" in small letters.
type pxConfig map[string]setting

// pxKnown are the settings that are read, or that say nothing about where connections go.
var pxKnown = map[string]string{
	"settings.workers": "One process serves all clients.", "settings.threads": "One process serves all clients.",
	"settings.proxyreload": "Proxies of the system are not read; a policy says which there are.", "settings.foreground": "The service manager says so.",
	"settings.log": `Logs go to standard error: gateway { log }.`, "proxy.kerberos": `Tickets are had by schemes = ["negotiate"].`,
	"client.client_nosspi": "There is no SSPI here.", "proxy.pac_encoding": "The encoding of a script is found out.",
}

func (d *document) px() error {
	c, err := d.pxRead()
	if err != nil {
		return err
	}
	for key, s := range c {
		if why := pxKnown[key]; why != "" && s.value != "" {
			d.leave(s.place, s.key+" = "+s.value, "%s", why)
		}
	}
	slices.SortFunc(d.left, func(a, b Left) int { return a.Line - b.Line })
	if err := d.pxListeners(c); err != nil {
		return err
	}
	return d.pxRules(c)
}

func (d *document) pxRead() (pxConfig, error) {
	c, section, n := pxConfig{}, "", 0
	for line := range strings.Lines(string(d.o.Text)) {
		n++
		at := place{d.o.Name, n}
		line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
			continue
		case line[0] == '[':
			section = strings.ToLower(strings.Trim(line, "[] \t"))
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i < 0 || section == "" {
			return nil, at.errorf("%q is neither key = value in a section nor [section]", oneLine(line))
		}
		key := strings.ToLower(strings.TrimSpace(line[:i]))
		s := setting{at, key, strings.TrimSpace(line[i+1:])}
		switch full := section + "." + key; {
		case pxReads[full] || pxKnown[full] != "":
			c[full] = s
		default:
			d.leave(at, key+" = ***", "Px is not known to have this setting in [%s].", section)
		}
	}
	if len(c) == 0 {
		return nil, fmt.Errorf("%s: there is no setting of Px in it", d.o.Name)
	}
	return c, nil
}

var pxReads = map[string]bool{
	"proxy.server": true, "proxy.pac": true, "proxy.listen": true, "proxy.port": true, "proxy.gateway": true, "proxy.hostonly": true, "proxy.allow": true,
	"proxy.noproxy": true, "proxy.useragent": true, "proxy.username": true, "proxy.auth": true, "client.client_username": true, "client.client_auth": true,
	"settings.idle": true, "settings.socktimeout": true,
}

// pxNetworks reads a list of addresses, ranges, wildcards and networks; rest are entries that are none of these.
func pxNetworks(s string) (nets []netip.Prefix, rest []string) {
	for _, e := range strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
		from, to, ranged := strings.Cut(e, "-")
		a, errA := netip.ParseAddr(from)
		b, errB := netip.ParseAddr(to)
		p, err := network(e)
		switch wild, ok := ipGlob(e); {
		case ok:
			nets = append(nets, wild)
		case ranged && errA == nil && errB == nil:
			list, err := span(a, b)
			if err != nil {
				rest = append(rest, e)
			}
			nets = append(nets, list...)
		case err == nil:
			nets = append(nets, p)
		default:
			rest = append(rest, e)
		}
	}
	return nets, rest
}

// ipGlob reads 192.168.*.* and the like: wildcards at the end, as netaddr has them.
func ipGlob(s string) (netip.Prefix, bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 || !strings.Contains(s, "*") {
		return netip.Prefix{}, false
	}
	bits, wild := 32, false
	for i, p := range parts {
		switch {
		case p == "*" && !wild:
			bits, wild = 8*i, true
		case wild && p != "*":
			return netip.Prefix{}, false
		}
		if p == "*" {
			parts[i] = "0"
		}
	}
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, bits), true
}

func (d *document) pxListeners(c pxConfig) error {
	port := uint16(3128)
	if s := c["proxy.port"]; s.value != "" {
		n, err := connmodel.ParsePort(s.value)
		if err != nil {
			return s.errorf("port = %s: %v", oneLine(s.value), err)
		}
		port = n
	}
	gateway, hostonly := isYes(c["proxy.gateway"].value), isYes(c["proxy.hostonly"].value)
	listens := strings.FieldsFunc(c["proxy.listen"].value, func(r rune) bool { return r == ',' || r == ' ' })
	if len(listens) == 0 {
		listens = []string{"127.0.0.1"}
	}
	if gateway || hostonly {
		listens = []string{"0.0.0.0"}
	}
	var clients []string
	allow := c["proxy.allow"]
	nets, odd := pxNetworks(allow.value)
	for _, e := range odd {
		d.leave(allow.place, "allow: "+e, "It is no address, range or network; it lets nobody in.")
	}
	whole := allow.value == "" || slices.Contains(nets, everyIPv4)
	switch {
	case hostonly && !gateway:
		clients = []string{"127.0.0.0/8"}
		d.note("hostonly let in the addresses of this machine's own interfaces. Here that is 127.0.0.0/8; add the networks of virtual machines and containers to clients.")
	case !whole:
		if clients = prefixTexts(nets); len(clients) == 0 {
			clients = []string{"127.0.0.1"}
		}
	}
	auth := c["client.client_auth"]
	asks := ""
	if v := strings.ToUpper(auth.value); v != "" && v != "NONE" {
		asks = "authenticate {\nhtpasswd = \"clients.htpasswd\"\n}\n"
		user := c["client.client_username"].value
		d.note("Clients were asked for a password (client_auth = %s); here that is Basic alone. Make the file: htpasswd -B -c clients.htpasswd %s", v, user)
	}
	for _, l := range listens {
		a, err := netip.ParseAddr(strings.Trim(l, "[]"))
		if err != nil {
			d.leave(c["proxy.listen"].place, "listen: "+l, "Listeners have addresses, not names; it listens on 127.0.0.1.")
			a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		who := clients
		if who == nil && !a.IsLoopback() {
			d.note("Px served everybody who could reach it. An open proxy is found within hours, so here private networks alone are let in: say in clients who may come.")
			who = private
		}
		extra := ""
		if who != nil {
			extra = fmt.Sprintf("clients = %s\n", quoteList(who))
		}
		at := netip.AddrPortFrom(a.Unmap().WithZone(""), port)
		if d.names["listener at "+at.String()] {
			continue
		}
		d.block("listener %s {\naddress = %s\nprotocols = [\"http\"]\n%s%s}", quote(d.name("listener", "desk")), quote(at.String()), extra, asks)
		d.names["listener at "+at.String()] = true
	}
	return nil
}

// pxSchemes are the ways to log in that auth allows, the best first.
func pxSchemes(auth string) (schemes []string, odd bool) {
	all := []string{"negotiate", "ntlm", "digest", "basic"}
	name := strings.ToUpper(auth)
	one := func(s string) string {
		if s == "KERBEROS" || s == "GSSNEGOTIATE" {
			s = "NEGOTIATE"
		}
		if s = strings.ToLower(s); slices.Contains(all, s) {
			return s
		}
		return ""
	}
	without := func(list []string, s string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == s })
	}
	switch rest, only := strings.CutPrefix(name, "ONLY"); {
	case name == "" || name == "ANY":
		return all, false
	case name == "ANYSAFE":
		return without(all, "basic"), false
	case name == "NONE":
		return nil, false
	case only && one(rest) != "":
		return []string{one(rest)}, false
	case one(name) != "":
		return []string{one(name)}, false
	}
	if rest, ok := strings.CutPrefix(name, "SAFENO"); ok && one(rest) != "" {
		return without(without(all, "basic"), one(rest)), false
	}
	if rest, ok := strings.CutPrefix(name, "NO"); ok && one(rest) != "" {
		return without(all, one(rest)), false
	}
	return []string{"negotiate", "ntlm", "digest"}, true
}

func (d *document) pxAuth(c pxConfig) []string {
	s, user := c["proxy.auth"], c["proxy.username"]
	schemes, odd := pxSchemes(s.value)
	if odd {
		d.leave(s.place, "auth = "+s.value, "It is not known; Negotiate, NTLM and Digest are allowed, Basic is not.")
	}
	switch {
	case strings.EqualFold(s.value, "NONE"):
		d.leave(s.place, "auth = NONE", "What clients send to log in to the proxy is not handed on. Say what the proxy is to be shown in auth of the upstream.")
		return nil
	case user.value == "":
		if s.value != "" {
			d.leave(s.place, "auth = "+s.value, "No user is named: on Windows, Px takes who is logged in. Say username and password in auth of the upstream.")
		} else {
			d.note("If the proxy wants a login: on Windows, Px takes who is logged in. Here auth of the upstream says username and password.")
		}
		return nil
	}
	domain, name, has := strings.Cut(user.value, `\`)
	if !has {
		domain, name = "", user.value
	}
	if strings.ContainsFunc(user.value, isControl) || strings.Contains(name, ":") || name == "" {
		d.leave(user.place, "username = ***", "It holds a character that no user name has.")
		return nil
	}
	d.credential("px", "the proxy")
	lines := []string{"username = " + quote(name), `password = credential("px")`, "schemes = " + quoteList(schemes)}
	if domain != "" && slices.Contains(schemes, "ntlm") {
		lines = append(lines, "domain = "+quote(domain))
	}
	if slices.Contains(schemes, "negotiate") {
		d.note("For Kerberos the user name is %s@REALM, with the realm in capitals.", name)
	}
	return lines
}

func (d *document) pxRules(c pxConfig) error {
	servers, auth := c["proxy.server"], []string(nil)
	dial := ""
	if v, err := strconv.ParseFloat(c["settings.socktimeout"].value, 64); err == nil && v >= 1 && v <= 3600 {
		dial = fmt.Sprintf("%dms", int(v*1000))
	}
	var routes []string
	for _, e := range strings.Split(servers.value, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		a, err := hostPort(e, 80)
		if err != nil {
			return servers.errorf("server %q: %v", oneLine(e), err)
		}
		if auth == nil {
			if auth = d.pxAuth(c); auth == nil {
				auth = []string{}
			}
		}
		routes = append(routes, d.declare(&upstream{name: a.Host, scheme: "http", address: a, auth: auth, dial: dial}))
	}
	extra := ""
	if v, err := strconv.Atoi(c["settings.idle"].value); err == nil && v > 0 && v <= 86400 {
		extra = fmt.Sprintf("\ntimeouts {\nidle = \"%ds\"\n}", v)
	}
	if s := c["proxy.useragent"]; s.value != "" {
		if strings.ContainsFunc(s.value, isControl) {
			d.leave(s.place, "useragent = ***", "It holds a control character.")
		} else {
			extra += fmt.Sprintf("\nheaders {\nset = { \"User-Agent\" = %s }\n}", quote(s.value))
		}
	}
	d.pxNoProxy(c["proxy.noproxy"], extra)
	route := ""
	switch s := c["proxy.pac"]; {
	case s.value != "" && !strings.ContainsFunc(s.value, isControl) && strings.HasPrefix(strings.ToLower(s.value), "http") && policies.CheckPACURL(s.value) == nil:
		n := d.name("pac", "px")
		d.block("pac %s {\nurl = %s\n}", quote(n), quote(s.value))
		route = "pac." + n
		d.note("Proxies that the PAC script names are shown no credentials unless an upstream block declares them.")
	case s.value != "" && !strings.ContainsFunc(s.value, isControl) && !strings.Contains(s.value, "://"):
		n := d.name("pac", "px")
		d.block("pac %s {\nfile = %s\n}", quote(n), quote(strings.ReplaceAll(s.value, `\`, "/")))
		route = "pac." + n
		d.note("Proxies that the PAC script names are shown no credentials unless an upstream block declares them.")
	case len(routes) > 0:
		route = d.pool("servers", routes, "first_healthy")
	default:
		if s.value != "" {
			d.leave(s.place, "pac = ***", "It is no URL and no path.")
		}
		d.note("No server is named: Px asked Windows, or HTTP_PROXY, for one. \"viaduct import environment\" reads the variables. Until a route is written, nothing leads out but what noproxy names.")
		d.last = "otherwise {\ndeny {\nreason = \"no proxy server is known\"\n}\n}\n"
		return nil
	}
	d.last = fmt.Sprintf("otherwise {\nvia = %s%s\n}\n", route, extra)
	return nil
}

func (d *document) pxNoProxy(s setting, extra string) {
	if s.value == "" {
		return
	}
	nets, rest := pxNetworks(s.value)
	var hosts, texts []string
	local := false
	for _, p := range nets {
		texts = append(texts, p.String())
		local = local || p.Addr().IsLoopback()
	}
	for _, e := range rest {
		name := strings.TrimPrefix(strings.TrimPrefix(e, "*"), ".")
		switch err := policies.CheckHost("." + name); {
		case e == "<local>":
			local = true
			hosts = append(hosts, "localhost")
		case e == "*", err != nil, strings.ContainsAny(e, "*?[/") && !strings.HasPrefix(e, "*."):
			d.leave(s.place, "noproxy: "+e, "It is no name, address, range or network; such hosts go through the proxy.")
		default:
			hosts = append(hosts, "."+name)
		}
	}
	if local {
		d.rule("this machine", thisMachine+extra)
	}
	body := ""
	if len(hosts) > 0 {
		body += fmt.Sprintf("match {\nhost = %s\n}\n", quoteList(hosts))
	}
	if len(texts) > 0 {
		body += fmt.Sprintf("match {\naddress = %s\nresolve = false # Px looks names up and sends those that it cannot find to the proxy\n}\n", quoteList(texts))
		d.note("The networks of noproxy are about targets that are addresses. Px also looked the first address of each name up, if it could; where every name can be resolved here, take resolve = false out.")
	}
	if body != "" {
		d.rule("no proxy", body+"via = direct"+extra)
	}
}
