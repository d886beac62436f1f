package policies

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

// hostPattern is one entry of match { host }, in one of three forms.
type hostPattern struct {
	text  string      // as written
	index string      // "www.example.com", "*.example.com", ".example.com": what the index takes
	glob  *match.Glob // "ads*.example.com"
	regex *regexp.Regexp
}

// maxRegex bounds regular expressions, which are matched in a time linear in their length.
const maxRegex = 2000

// parseHost reads a pattern and makes it canonical, so that it is compared with what targets look like.
func parseHost(s string) (hostPattern, error) {
	h := hostPattern{text: s}
	switch {
	case s == "":
		return h, errors.New("the host is empty")
	case s[0] == '/':
		re, err := parseRegex(s)
		h.regex = re
		return h, err
	case match.HostGlob(s) && !isBracketed(s):
		return h.wild(s)
	}
	prefix, name := "", s
	switch {
	case strings.HasPrefix(s, "*."):
		prefix, name = "*.", s[2:]
	case s[0] == '.':
		prefix, name = ".", s[1:]
	}
	name, err := connmodel.CanonicalHost(name)
	if err != nil {
		return h, hostHelp(s, err)
	}
	if prefix != "" && isAddress(name) {
		return h, fmt.Errorf("nothing is below the address %s; networks are tested with `address`", name)
	}
	h.index = prefix + name
	return h, nil
}

// isBracketed reports whether s is an IPv6 address in brackets, not a glob with a class.
func isBracketed(s string) bool {
	if s[0] != '[' || s[len(s)-1] != ']' {
		return false
	}
	_, err := netip.ParseAddr(s[1 : len(s)-1])
	return err == nil
}

// hostHelp says what was meant where a pattern holds more than a host.
func hostHelp(s string, err error) error {
	switch {
	case strings.Contains(s, "://"):
		return fmt.Errorf("%q is a URL; a host is only the name in it, and there are `port` and `path` beside it", s)
	case strings.Contains(s, "/"):
		return fmt.Errorf("%q is not a host name; networks are tested with `address`", s)
	}
	if host, port, ok := strings.Cut(s, ":"); ok && !strings.Contains(port, ":") && host != "" {
		return fmt.Errorf("%q holds a port; write host = %q and port = %s", s, host, port)
	}
	return err
}

// wild compiles a glob. Names are lower case and ASCII when they are compared.
func (h hostPattern) wild(s string) (hostPattern, error) {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 {
			return h, fmt.Errorf("%q has wildcards and letters beyond ASCII; write it with A-labels (xn--…)", s)
		} else if c <= ' ' || c == ':' || c == '/' {
			return h, hostHelp(s, fmt.Errorf("%q is not a host name: it holds %q", s, rune(c)))
		}
	}
	g, err := match.CompileGlob(strings.TrimSuffix(strings.ToLower(s), "."))
	if err != nil {
		return h, err
	}
	h.glob = g
	return h, nil
}

// parseRegex reads "/…/". What stands in it is RE2, not anchored.
func parseRegex(s string) (*regexp.Regexp, error) {
	if len(s) < 3 || s[len(s)-1] != '/' {
		return nil, fmt.Errorf("%q is no regular expression: it begins with a slash but does not end with one", s)
	}
	if len(s) > maxRegex {
		return nil, fmt.Errorf("the regular expression is longer than %d bytes", maxRegex)
	}
	re, err := regexp.Compile(s[1 : len(s)-1])
	if err != nil {
		return nil, fmt.Errorf("%q is no regular expression: %s", s, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re, nil
}

// takes reports whether the pattern, which is a glob or an expression, takes a canonical host.
func (h *hostPattern) takes(host string) bool {
	if h.glob != nil {
		return h.glob.Match(host)
	}
	return h.regex != nil && h.regex.MatchString(host)
}

// names reports whether h names hosts rather than all there are: a wild pattern that takes two names which have nothing in common takes
// everything. h may be nil.
func (h *hosts) names() bool {
	if h == nil {
		return false
	}
	for i := range h.patterns {
		if p := &h.patterns[i]; p.index == "" && p.takes("a1.b2.invalid") && p.takes("z9-y8") {
			return false
		}
	}
	return true
}

// namesHosts reports whether each match block of the rule names hosts.
func (r *rule) namesHosts() bool {
	for _, t := range r.blocks {
		if !t.hosts.names() {
			return false
		}
	}
	return len(r.blocks) > 0
}

// reasonOfPattern is the reason in an error of a pattern, without the position, which the reader sees.
func reasonOfPattern(err error) string {
	var p *match.PatternError
	if errors.As(err, &p) {
		return fmt.Sprintf("%q: %s", p.Pattern, p.Reason)
	}
	return err.Error()
}
