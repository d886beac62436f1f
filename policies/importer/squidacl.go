package importer

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"viaduct/policies"
)

// acl is a set of flows by the tests that make it up, any of which is enough.
type acl struct {
	place
	name, kind string
	tests      []test
	all        bool   // it takes everything
	unknown    string // why it cannot be said here; "" = it can
}

// squidACLs are those that Squid has itself.
func squidACLs() map[string]*acl {
	nets := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	return map[string]*acl{
		"all":          {name: "all", kind: "src", all: true},
		"localhost":    {name: "localhost", kind: "src", tests: []test{{attr: "client", nets: nets("127.0.0.1/32", "::1/128")}}},
		"to_localhost": {name: "to_localhost", kind: "dst", tests: []test{{attr: "address", nets: nets("127.0.0.0/8", "0.0.0.0/32", "::1/128", "::/128")}}},
		"manager":      {name: "manager", kind: "url_regex", tests: []test{{attr: "path", texts: []string{"/squid-internal-mgr/*"}}}},
		"CONNECT":      {name: "CONNECT", kind: "method", tests: []test{{attr: "protocol", texts: []string{"connect"}}}},
	}
}

// add puts a test into the set, together with one of the same attribute.
func (a *acl) add(t test) {
	for i := range a.tests {
		if x := &a.tests[i]; x.attr == t.attr {
			x.texts, x.nets, x.ports = append(x.texts, t.texts...), append(x.nets, t.nets...), append(x.ports, t.ports...)
			return
		}
	}
	a.tests = append(a.tests, t)
}

// acl reads a line: acl NAME TYPE [flags] values.
func (s *squid) acl(l squidLine) error {
	if len(l.words) < 3 {
		return l.errorf("acl wants a name, a type and values")
	}
	name, kind := l.words[1], l.words[2]
	a := s.acls[name]
	switch {
	case a == nil || a.line == 0 && a.kind != kind:
		a = &acl{place: l.place, name: name, kind: kind}
		s.acls[name] = a
	case a.line == 0: // a set of Squid's own is added to
		a.place = l.place
	case a.kind != kind:
		return l.errorf("acl %s is of type %s already, since %s:%d", oneLine(name), oneLine(a.kind), a.file, a.line)
	}
	insensitive := false
	var values []string
	for _, w := range l.words[3:] {
		switch {
		case w == "-i":
			insensitive = true
		case w == "+i":
			insensitive = false
		case strings.HasPrefix(w, "-") && len(w) == 2, w == "--":
		case len(w) > 2 && w[0] == '"' && w[len(w)-1] == '"':
			more, err := s.valuesOf(l, w[1:len(w)-1], kind)
			if err != nil {
				return err
			}
			values = append(values, more...)
		default:
			values = append(values, w)
		}
	}
	if len(values) == 0 && !strings.HasPrefix(kind, "proxy_auth") {
		s.d.leave(l.place, l.text, "The list %s is empty here.", name)
	}
	return s.aclValues(a, l, values, insensitive)
}

// maxValues bounds a file of values: they are copied into the policy.
const maxValues = 20_000

// valuesOf reads a file of values, one on a line.
func (s *squid) valuesOf(l squidLine, path, kind string) ([]string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(s.d.o.Name), path)
	}
	text, err := s.d.read(l.place, path)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if !strings.HasSuffix(kind, "regex") {
			out = append(out, strings.Fields(line)...)
		} else {
			out = append(out, line)
		}
		if len(out) > maxValues {
			return nil, l.errorf("%s has more than %d values: make it a list of the policy", path, maxValues)
		}
	}
	s.d.note("The values in %s were copied: later changes of that file do not come over. A list block with that file does what it did.", path)
	return out, nil
}

func (s *squid) aclValues(a *acl, l squidLine, values []string, insensitive bool) error {
	give := func(why string, args ...any) { // the whole set cannot be said
		a.unknown = fmt.Sprintf(why, args...)
		s.d.leave(l.place, l.text, "%s %s", a.unknown, "Lines that allow by it allow nothing, and lines that deny by it deny whatever it would have been.")
	}
	switch a.kind {
	case "src", "dst":
		attr := map[string]string{"src": "client", "dst": "address"}[a.kind]
		for _, v := range values {
			if v == "all" {
				a.all = true
				continue
			}
			nets, err := squidNetworks(v)
			if err != nil {
				give("%v.", err)
				return nil
			}
			a.add(test{attr: attr, nets: nets})
		}
	case "dstdomain":
		for _, v := range values {
			v = strings.ToLower(v)
			if err := policies.CheckHost(v); err != nil || strings.ContainsAny(v, "/*?[") {
				give("%q is no name of a host.", oneLine(v))
				return nil
			}
			a.add(test{attr: "host", texts: []string{v}})
		}
		s.d.note("Squid looks up the name of a target that is an address (PTR) for dstdomain and dstdom_regex. Here an address is in no domain: deny addresses, with host = \"/^[0-9a-f:.]+$/\", if a denial by name must not be passed by that way.")
	case "dstdom_regex":
		for _, v := range values {
			if _, err := regexp.CompilePOSIX(v); err != nil {
				give("%q is no expression that is understood here.", oneLine(v))
				return nil
			}
			if insensitive {
				v = "(?i)" + v
			}
			if err := policies.CheckHost("/" + v + "/"); err != nil {
				give("%q is no expression that is understood here.", oneLine(v))
				return nil
			}
			a.add(test{attr: "host", texts: []string{"/" + v + "/"}})
		}
	case "port":
		for _, v := range values {
			lo, hi, ranged := strings.Cut(v, "-")
			if !ranged {
				hi = lo
			}
			x, err1 := strconv.Atoi(lo)
			y, err2 := strconv.Atoi(hi)
			if err1 != nil || err2 != nil || x < 0 || y > 65535 || x > y {
				return l.errorf("acl %s: %q is no port", oneLine(a.name), oneLine(v))
			}
			if x, y = max(x, 1), max(y, 1); x <= y {
				a.add(test{attr: "port", ports: [][2]int{{x, y}}})
			}
		}
	case "method":
		for _, v := range values {
			switch {
			case v == "CONNECT":
				a.add(test{attr: "protocol", texts: []string{"connect"}})
			case policies.CheckHeader(v) == nil || isWord(v):
				a.add(test{attr: "method", texts: []string{strings.ToUpper(v)}})
			default:
				give("%q is no method.", oneLine(v))
				return nil
			}
		}
	case "proto":
		for _, v := range values {
			switch strings.ToUpper(v) {
			case "HTTP":
				a.add(test{attr: "scheme", texts: []string{"http"}})
			default:
				give("The protocol %s of a URL is not known here.", oneLine(v))
				return nil
			}
		}
	case "time":
		w, err := squidTimes(values)
		if err != nil {
			give("%v.", err)
			return nil
		}
		a.add(test{attr: "time", texts: w})
	case "proxy_auth":
		for _, v := range values {
			switch {
			case v == "REQUIRED":
				a.add(test{attr: "user", texts: []string{"*"}})
			case strings.ContainsAny(v, "*?[") || strings.ContainsFunc(v, isControl):
				give("%q is no name of a user.", oneLine(v))
				return nil
			default:
				a.add(test{attr: "user", texts: []string{v}})
			}
		}
		s.users = true
	case "myportname", "localport", "myport":
		s.byListener = append(s.byListener, a)
		for _, v := range values {
			a.add(test{attr: "listener", texts: []string{v}})
		}
	default:
		give("Sets of type %s are not known here.", oneLine(a.kind))
	}
	return nil
}

func isWord(s string) bool {
	return s != "" && len(s) < 32 && strings.IndexFunc(s, func(r rune) bool { return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-') }) < 0
}

// squidNetworks reads an address, a network, or a range "a-b" (with a mask, "a-b/m", of networks).
func squidNetworks(v string) ([]netip.Prefix, error) {
	if v == "ipv4" || v == "ipv6" {
		return []netip.Prefix{map[string]netip.Prefix{"ipv4": everyIPv4, "ipv6": everyIPv6}[v]}, nil
	}
	from, to, ranged := strings.Cut(v, "-")
	if ranged && !strings.Contains(v, "/") {
		a, err1 := netip.ParseAddr(from)
		b, err2 := netip.ParseAddr(to)
		if err1 == nil && err2 == nil {
			return span(a, b)
		}
	}
	p, err := network(v)
	if err != nil {
		return nil, fmt.Errorf("%q is no address and no network; names of hosts are looked up by Squid when it starts, and not here", oneLine(v))
	}
	return []netip.Prefix{p}, nil
}

// squidTimes reads [SMTWHFAD] [h1:m1-h2:m2]; the end is in it.
func squidTimes(values []string) ([]string, error) {
	letters := map[rune]string{'S': "sun", 'M': "mon", 'T': "tue", 'W': "wed", 'H': "thu", 'F': "fri", 'A': "sat"}
	days, hours := "", ""
	for _, v := range values {
		if strings.Contains(v, ":") {
			var h1, m1, h2, m2 int
			if n, err := fmt.Sscanf(v, "%d:%d-%d:%d", &h1, &m1, &h2, &m2); n != 4 || err != nil || hours != "" || h1 > 24 || h2 > 24 || m1 > 59 || m2 > 59 || h1 < 0 || h2 < 0 || m1 < 0 || m2 < 0 {
				return nil, fmt.Errorf("%q is no time of day", oneLine(v))
			}
			from, to := h1*60+m1, min(h2*60+m2+1, 24*60)
			if from >= to {
				return nil, fmt.Errorf("%q ends before it begins", oneLine(v))
			}
			hours = fmt.Sprintf("%02d:%02d-%02d:%02d", from/60, from%60, to/60, to%60)
			continue
		}
		for _, r := range v {
			switch {
			case r == 'D':
				days += ",mon,tue,wed,thu,fri"
			case letters[r] != "":
				days += "," + letters[r]
			default:
				return nil, fmt.Errorf("%q is no time", oneLine(v))
			}
		}
	}
	w := strings.TrimSpace(strings.TrimPrefix(days, ",") + " " + hours)
	if w == "" {
		return nil, fmt.Errorf("there is no time")
	}
	return []string{w}, nil
}

// listenersOf puts names of listeners in the place of ports and of what Squid calls them.
func (s *squid) listenersOf() {
	for _, a := range s.byListener {
		if len(a.tests) == 0 {
			continue
		}
		var names []string
		for _, v := range a.tests[0].texts {
			for _, p := range s.ports {
				if p.label == v && a.kind == "myportname" || strconv.Itoa(int(p.port)) == v && a.kind != "myportname" {
					names = append(names, p.name)
				}
			}
		}
		if a.tests[0].texts = names; len(names) == 0 {
			a.tests, a.unknown = nil, "no listener is meant"
			s.d.leave(a.place, "acl "+a.name+" "+a.kind, "No port of this file is meant. Lines that allow by it allow nothing.")
		}
	}
}

// unescape reads the URL escapes of login=.
func unescape(s string) string {
	s = strings.ReplaceAll(s, "%%", "%25")
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}
