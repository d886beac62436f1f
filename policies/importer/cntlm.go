package importer

import (
	"fmt"
	"net/netip"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies"
)

// setting is a line of cntlm.conf.
type setting struct {
	place
	key, value string // key in small letters
}

// cntlmSettings reads the lines. A # begins a comment, but in quotes; names in brackets change nothing for what cntlm does with the lines below.
func cntlmSettings(name string, text []byte) (all []setting, sections []setting) {
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		at := place{name, n}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			sections = append(sections, setting{at, "", line})
			continue
		}
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			i = len(line)
		}
		key, value := line[:i], strings.TrimSpace(line[i:])
		if rest, quoted := strings.CutPrefix(value, `"`); quoted {
			value, _, _ = strings.Cut(rest, `"`)
		} else {
			value, _, _ = strings.Cut(value, "#")
			value = strings.TrimSpace(value)
		}
		all = append(all, setting{at, strings.ToLower(key), value})
	}
	return all, sections
}

// cntlmConfig is what the lines say.
type cntlmConfig struct {
	username, domain, workstation, auth string
	authAt, userAt                      place
	password, pac                       bool
	pacFile                             string
	proxies                             []connmodel.Address
	hosts                               []string
	listens, socks, tunnels             []setting
	gateway                             bool
	socksUsers                          []string
	acl                                 []cntlmACL
	headers                             []string // "X" = "y" lines
}

type cntlmACL struct {
	allow bool
	net   netip.Prefix
}

func (d *document) cntlm() error {
	c := &cntlmConfig{}
	all, sections := cntlmSettings(d.o.Name, d.o.Text)
	for _, s := range sections {
		d.leave(s.place, s.value, "Sections make no difference to cntlm 0.92: the lines below count as all others do.")
	}
	for _, s := range all {
		if err := d.cntlmSetting(c, s); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("%s: there is no setting of cntlm in it", d.o.Name)
	}
	clients, err := c.clients(d)
	if err != nil {
		return err
	}
	d.cntlmListeners(c, clients)
	var routes []string
	for _, a := range c.proxies {
		routes = append(routes, d.declare(&upstream{name: a.Host, scheme: "http", address: a, auth: c.authLines(d)}))
	}
	d.cntlmRules(c, routes)
	return nil
}

func isYes(s string) bool {
	return strings.EqualFold(s, "yes") || s == "1" || strings.EqualFold(s, "on")
}

func (d *document) cntlmSetting(c *cntlmConfig, s setting) error {
	text := s.key + " " + s.value
	switch s.key {
	case "username":
		c.username, c.userAt = s.value, s.place
	case "domain":
		c.domain = s.value
	case "workstation":
		c.workstation = s.value
	case "password":
		c.password = true
	case "passntlmv2", "passnt", "passlm":
		d.leave(s.place, s.key+" ***", "The hash of the password cannot be used: the password itself is needed, as a credential.")
	case "auth":
		c.auth, c.authAt = strings.ToUpper(s.value), s.place
	case "proxy":
		a, err := hostPort(strings.Join(strings.Fields(s.value), ":"), 0)
		if err != nil {
			return s.errorf("Proxy %q: %v", oneLine(s.value), err)
		}
		c.proxies = append(c.proxies, a)
	case "noproxy":
		for _, p := range strings.FieldsFunc(s.value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
			if err := policies.CheckHost(p); err != nil || strings.HasPrefix(p, "/") || strings.HasPrefix(p, ".") {
				d.leave(s.place, "NoProxy "+p, "It is no pattern of hosts, so such hosts go through the proxy.")
				continue
			}
			c.hosts = append(c.hosts, p)
		}
	case "listen":
		c.listens = append(c.listens, s)
	case "socks5proxy":
		c.socks = append(c.socks, s)
	case "socks5user", "socks5users":
		name, _, ok := strings.Cut(s.value, ":")
		if !ok || name == "" {
			return s.errorf("SOCKS5Users wants user:password")
		}
		c.socksUsers = append(c.socksUsers, name)
	case "tunnel":
		c.tunnels = append(c.tunnels, s)
	case "gateway":
		c.gateway = isYes(s.value)
	case "allow", "deny":
		p, err := network(s.value)
		if err != nil || !p.Addr().Is4() {
			if s.key == "deny" {
				return s.errorf("Deny %s: only addresses and networks of IPv4 can be read, and leaving a denial out would let others in", oneLine(s.value))
			}
			d.leave(s.place, text, "Only addresses and networks of IPv4 are read; it lets nobody in.")
			return nil
		}
		c.acl = append(c.acl, cntlmACL{s.key == "allow", p})
	case "header":
		name, value, ok := strings.Cut(s.value, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if err := policies.CheckHeader(name); !ok || err != nil || strings.ContainsFunc(value, isControl) {
			d.leave(s.place, "Header "+name+": ***", "This field cannot be set by a policy.")
			return nil
		}
		c.headers = append(c.headers, quote(name)+" = "+quote(value))
	case "pac":
		c.pac = isYes(s.value)
	case "pacfile":
		c.pacFile = s.value
	case "isascannersize", "isascanneragent", "isascanneragents":
		d.leave(s.place, text, "There is no plugin for the pages of ISA and GFI scanners: clients see them.")
	case "flags":
		d.leave(s.place, text, "The flags of NTLM are negotiated, and none can be forced.")
	case "ntlmtobasic":
		d.leave(s.place, text, "Servers are not logged in to for clients.")
	case "include":
		d.leave(s.place, text, "cntlm reads one file. Import the other one by itself.")
	default:
		key := s.key[:max(strings.IndexFunc(s.key+"=", func(r rune) bool { return r < '0' || r > 'z' || r > '9' && r < 'a' }), 0)] // Password=x is a key to cntlm
		d.leave(s.place, key+" ***", "cntlm does not know this setting, or it is of a version that is not known here.")
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// clients are who may connect: the first of Allow and Deny that fits counts, and who fits none is let in. nil = everybody on this machine.
func (c *cntlmConfig) clients(d *document) ([]string, error) {
	left, in := []netip.Prefix{everyIPv4}, []netip.Prefix(nil)
	for _, r := range c.acl {
		if r.allow {
			in = append(in, intersect(left, []netip.Prefix{r.net})...)
		}
		if left = subtract(left, r.net); len(left) > maxNetworks {
			return nil, fmt.Errorf("%s: Allow and Deny make more than %d networks", d.o.Name, maxNetworks)
		}
	}
	in = append(in, left...)
	whole := len(c.acl) == 0 || len(left) == 1 && left[0] == everyIPv4
	wide := c.gateway
	for _, s := range append(append(append([]setting(nil), c.listens...), c.socks...), c.tunnels...) {
		host, _ := cntlmEndpoint(s.value, s.key == "tunnel")
		if a, err := netip.ParseAddr(host); host != "" && (err != nil || !a.IsLoopback()) {
			wide = true
		}
	}
	switch {
	case whole && wide:
		d.note("cntlm served everybody who could reach it. An open proxy is found within hours, so here private networks alone are let in: say in clients of the listeners who may come.")
		return private, nil
	case whole:
		return nil, nil
	case len(in) == 0:
		d.note("No client at all was let in by Allow and Deny, so only this machine is.")
		return []string{"127.0.0.1/32"}, nil
	}
	return prefixTexts(in), nil
}

// cntlmEndpoint splits [address:]port, or what is left of it in a tunnel.
func cntlmEndpoint(s string, tunnel bool) (host, port string) {
	parts := strings.Split(s, ":")
	if tunnel {
		if len(parts) < 3 {
			return "", ""
		}
		parts = parts[:len(parts)-2]
	}
	port = strings.TrimSpace(parts[len(parts)-1])
	return strings.TrimSpace(strings.Join(parts[:len(parts)-1], ":")), port
}

// listen is where a listener of cntlm is here; "" = it could not be read.
func (c *cntlmConfig) listen(d *document, s setting) string {
	host, port := cntlmEndpoint(s.value, s.key == "tunnel")
	n, err := connmodel.ParsePort(port)
	if err != nil {
		d.leave(s.place, s.key+" "+s.value, "It has no port.")
		return ""
	}
	switch a, err := netip.ParseAddr(strings.Trim(host, "[]")); {
	case host == "" && c.gateway:
		return fmt.Sprintf("0.0.0.0:%d", n)
	case host == "" || host == "localhost":
		return fmt.Sprintf("127.0.0.1:%d", n)
	case err != nil:
		d.leave(s.place, s.key+" "+s.value, "Listeners have addresses, not names; it listens on 127.0.0.1.")
		return fmt.Sprintf("127.0.0.1:%d", n)
	default:
		return netip.AddrPortFrom(a.Unmap().WithZone(""), n).String()
	}
}

func (d *document) cntlmListeners(c *cntlmConfig, clients []string) {
	if len(c.listens) == 0 {
		c.listens = []setting{{place{d.o.Name, 0}, "listen", "3128"}}
	}
	taken := map[string]bool{}
	write := func(s setting, name, extra string) {
		at := c.listen(d, s)
		_, port, _ := strings.Cut(at, ":")
		if at == "" {
			return
		}
		if taken[port] { // one of them would not come up
			d.leave(s.place, s.key+" "+s.value, "Another listener has this port already.")
			return
		}
		taken[port] = true
		if clients != nil {
			extra += fmt.Sprintf("clients = %s\n", quoteList(clients))
		}
		d.block("listener %s {\naddress = %s\n%s}", quote(d.name("listener", name)), quote(at), extra)
	}
	for _, s := range c.listens {
		write(s, "desk", "protocols = [\"http\"]\n")
	}
	for _, s := range c.socks {
		extra := "protocols = [\"socks5\"]\n"
		if len(c.socksUsers) > 0 {
			extra += "authenticate {\nhtpasswd = \"socks5.htpasswd\"\n}\n"
		}
		write(s, "socks", extra)
	}
	if len(c.socks) > 0 && len(c.socksUsers) > 0 {
		d.note("Make the file of the SOCKS users, with the passwords that they have: htpasswd -B -c socks5.htpasswd %s (and without -c for each further one of the %d).", c.socksUsers[0], len(c.socksUsers))
	}
	for _, s := range c.tunnels {
		parts := strings.Split(s.value, ":")
		if len(parts) < 3 {
			d.leave(s.place, "Tunnel "+s.value, "A tunnel is [address:]port:host:port.")
			continue
		}
		a, err := hostPort(strings.Join(parts[len(parts)-2:], ":"), 0)
		if err != nil {
			d.leave(s.place, "Tunnel "+s.value, "Its target is no host and port.")
			continue
		}
		write(s, "tunnel_"+a.Host, fmt.Sprintf("protocols = [\"forward\"]\ntarget = %s\n", quote(a.String())))
	}
}

// authLines is what the proxies are shown.
func (c *cntlmConfig) authLines(d *document) []string {
	if c.username == "" {
		return nil
	}
	if strings.ContainsFunc(c.username+c.domain+c.workstation, isControl) || strings.Contains(c.username, ":") {
		d.leave(c.userAt, "Username ***", "It holds a character that no user name has.")
		return nil
	}
	lines := []string{"username = " + quote(c.username)}
	if c.auth == "GSS" {
		d.leave(c.authAt, "Auth GSS", "Tickets are read from a file: name it in ccache, or use a keytab.")
		return append(lines, `schemes = ["negotiate"]`, `ccache = "/tmp/krb5cc_1000"`)
	}
	d.credential("cntlm", "the parent proxies")
	lines = append(lines, `password = credential("cntlm")`, `schemes = ["ntlm"]`)
	if c.domain != "" {
		lines = append(lines, "domain = "+quote(c.domain))
	}
	if c.workstation != "" {
		lines = append(lines, "workstation = "+quote(c.workstation))
	}
	if c.auth != "" && c.auth != "NTLMV2" {
		d.note("Auth %s means older forms of NTLM, which are broken; only NTLMv2 is spoken here. Ask for it to be enabled on the proxy if it refuses.", c.auth)
	}
	return lines
}

func (d *document) cntlmRules(c *cntlmConfig, routes []string) {
	headers := ""
	if len(c.headers) > 0 {
		headers = fmt.Sprintf("\nheaders {\nset = {\n%s\n}\n}", strings.Join(c.headers, "\n"))
	}
	if len(c.hosts) > 0 {
		local := false
		for _, h := range c.hosts {
			local = local || strings.EqualFold(h, "localhost") || strings.HasPrefix(h, "127.")
		}
		if local {
			d.rule("this machine", thisMachine+headers)
			d.note("Servers on this machine are reached by clients on this machine alone.")
		}
		d.rule("no proxy", fmt.Sprintf("match {\nhost = %s\n}\nvia = direct%s", quoteList(c.hosts), headers))
	}
	route := ""
	switch {
	case c.pac && c.pacFile != "" && !strings.ContainsFunc(c.pacFile, isControl):
		n := d.name("pac", "cntlm")
		on := ""
		if len(routes) > 0 {
			on = "on_error = " + d.pool("parents", routes, "first_healthy") + "\n"
		}
		d.block("pac %s {\nfile = %s\n%s}", quote(n), quote(c.pacFile), on)
		route = "pac." + n
	case len(routes) > 0:
		route = d.pool("parents", routes, "first_healthy")
	default:
		d.note("No Proxy was named, so nothing leads out but what NoProxy names.")
		d.last = "otherwise {\ndeny {\nreason = \"no parent proxy is known\"\n}\n}\n"
		return
	}
	d.last = fmt.Sprintf("otherwise {\nvia = %s%s\n}\n", route, headers)
}

// thisMachine is the body of a rule that lets clients on this machine reach it.
const thisMachine = `match {
client = ["127.0.0.0/8", "::1"]
address = ["127.0.0.0/8", "::1"]
resolve = false
}
match {
client = ["127.0.0.0/8", "::1"]
host = "localhost"
}
via = direct`
