package lists

import (
	"errors"
	"net/netip"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// Format is how the lines of a list are to be taken.
type Format string

// Formats.
const (
	Lines     Format = "lines"      // a name, *.name, .name or address on each
	HostsFile Format = "hosts_file" // as in /etc/hosts: the address in front does not count
	Adblock   Format = "adblock"    // rules of ad blockers; lines of the other formats may stand among them
	Auto      Format = "auto"       // each line is what it looks like
)

// what a line is.
type kind uint8

const (
	blank       kind = iota // or a comment
	entry                   // of the list
	unsupported             // a rule that is about more than hosts
	wrong
)

// sink takes the entries of a line.
type sink func(pattern string, does uint32) error

// read takes one line apart. err says what is wrong with it.
func (o *Options) read(line string, add sink) (kind, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' && !strings.HasPrefix(line, "##") || line[0] == ';' {
		return blank, nil
	}
	if o.Format == Adblock || o.Format == Auto {
		line = uncomment(line)
		if k, err, ok := o.rule(line, add); ok {
			return k, err
		}
	}
	line, _, _ = strings.Cut(line, "#")
	if line = strings.TrimSpace(line); line == "" {
		return blank, nil
	}
	if o.Format == Lines {
		return o.name(line, add)
	}
	first, rest := cutField(line)
	if rest == "" {
		if o.Format != HostsFile {
			return o.name(line, add)
		}
		return wrong, errors.New("a line of a hosts file is an address and names")
	}
	if !isIP(first) {
		return wrong, errors.New("it is neither a name nor a line of a hosts file")
	}
	found := blank
	for rest != "" {
		if first, rest = cutField(rest); localNames[strings.ToLower(strings.TrimSuffix(first, "."))] {
			continue
		}
		k, err := o.name(first, add)
		if k == wrong {
			return k, err
		}
		found = entry
	}
	return found, nil
}

// uncomment takes off a comment behind an entry, which is anything: a path or a URL in it makes no rule of the line. What divides hosts from the
// elements of their pages is no comment, with a blank before it either.
func uncomment(line string) string {
	for i := max(1, strings.IndexByte(line, '#')); i < len(line); i++ {
		if line[i] == '#' && (line[i-1] == ' ' || line[i-1] == '\t') {
			if divides(line[i+1:]) {
				return line
			}
			return strings.TrimSpace(line[:i])
		}
	}
	return line
}

func cutField(s string) (first, rest string) {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " \t")
	}
	return s, ""
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// localNames stand at the top of every hosts file and are never meant to be in a list.
var localNames = map[string]bool{
	"localhost": true, "localhost.localdomain": true, "local": true, "broadcasthost": true, "ip6-localhost": true, "ip6-loopback": true,
	"ip6-localnet": true, "ip6-mcastprefix": true, "ip6-allnodes": true, "ip6-allrouters": true, "ip6-allhosts": true, "0.0.0.0": true,
}

// name takes a name, *.name, .name or address.
func (o *Options) name(s string, add sink) (kind, error) {
	p, err := pattern(s, o.Subdomains)
	if err == nil {
		err = add(p, takes)
	}
	if err != nil {
		return wrong, err
	}
	return entry, nil
}

// pattern makes what a line says a pattern of the index.
func pattern(s string, subdomains bool) (string, error) {
	prefix, name := "", s
	switch {
	case strings.HasPrefix(s, "*."):
		prefix, name = "*.", s[2:]
	case s[0] == '.':
		prefix, name = ".", s[1:]
	}
	if match.HostGlob(name) && name != "" && name[0] != '[' {
		return "", errors.New("a list holds names, *.names and addresses, no other wildcards")
	}
	name, err := connmodel.CanonicalHost(name)
	if err != nil {
		return "", err
	}
	if address := (connmodel.Address{Host: name, Port: 1}).IP().IsValid(); address && prefix != "" {
		return "", errors.New("nothing is below an address")
	} else if prefix == "" && subdomains && !address {
		prefix = "."
	}
	return prefix + name, nil
}

// rule takes a line of an ad blocker; ok is false when it is none, and may be one of another format.
//
// What is about hosts alone is an entry: ||name^ with its exceptions @@||name^, |name^ for the name itself. What needs to know more than the host, such
// as the page, the path or the kind of a request, is unsupported and left out: to take the host for it would take too much.
func (o *Options) rule(line string, add sink) (k kind, err error, ok bool) {
	switch {
	case line[0] == '!', line[0] == '[' && line[len(line)-1] == ']' && !isIP(line[1:len(line)-1]):
		return blank, nil, true
	case cosmetic(line), line[0] == '/', line[0] == '-', line[0] == '&', line[0] == '?', line[0] == '=', strings.Contains(line, "://"):
		return unsupported, nil, true
	}
	does := uint32(takes)
	body, exception := strings.CutPrefix(line, "@@")
	anchored := strings.HasPrefix(body, "|")
	if !exception && !anchored && !strings.ContainsAny(body, "^$|/") {
		return 0, nil, false
	}
	body, options, _ := strings.Cut(body, "$")
	important, alone := readOptions(options)
	if !alone {
		return unsupported, nil, true
	}
	if exception {
		does = excepts
	}
	if important {
		does += takesImportant
	}
	tree := strings.HasPrefix(body, "||")
	body = strings.TrimLeft(body, "|")
	body = strings.TrimSuffix(strings.TrimSuffix(body, "|"), "^")
	if !anchored && !exception && !important || body == "" || strings.ContainsAny(body, "/^|:=&?@~,") && !isIP(strings.Trim(body, "[]")) {
		return unsupported, nil, true
	}
	if tree && strings.HasPrefix(body, "*.") {
		tree = false
	}
	if strings.Contains(strings.TrimPrefix(body, "*."), "*") {
		return unsupported, nil, true
	}
	p, err := pattern(body, tree)
	if err == nil {
		err = add(p, does)
	}
	if err != nil {
		return wrong, err, true
	}
	return entry, nil, true
}

// readOptions reads what stands behind the dollar sign. alone says that the rule is about the host whatever is asked of it.
func readOptions(s string) (important, alone bool) {
	if s == "" {
		return false, true
	}
	for o := range strings.SplitSeq(s, ",") {
		switch strings.TrimSpace(o) {
		case "important":
			important = true
		case "all", "document", "doc":
		default:
			return false, false
		}
	}
	return important, true
}

// cosmetic reports whether a line is about the elements of pages.
func cosmetic(line string) bool {
	for i := strings.IndexByte(line, '#'); i >= 0 && i < len(line)-1; {
		if rest := line[i+1:]; rest[0] == '#' && (i == 0 || line[i-1] != ' ') || divides(rest) {
			return true
		}
		next := strings.IndexByte(line[i+1:], '#')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return strings.Contains(line, "$$")
}

// divides reports whether what stands behind a # makes it one that divides hosts from the elements of their pages; ## is told by what is before it.
func divides(rest string) bool {
	i := strings.IndexByte(rest, '#')
	if i < 0 {
		return false
	}
	switch rest[:i] {
	case "@", "?", "$", "%", "@?", "@$", "$?", "@%":
		return true
	}
	return false
}

// network takes a line of a list of networks.
func network(line string) (netip.Prefix, kind, error) {
	if i := strings.IndexAny(line, "#;"); i >= 0 {
		line = line[:i]
	}
	if line = strings.TrimSpace(line); line == "" {
		return netip.Prefix{}, blank, nil
	}
	p, err := match.ParseNetwork(line)
	if err != nil {
		return p, wrong, err
	}
	return p, entry, nil
}
