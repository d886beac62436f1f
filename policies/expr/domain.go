package expr

import (
	"slices"
	"strings"

	"viaduct/connmodel"
	"viaduct/policies/geo"
)

// domain says what a text that comes from a fact can be, to find comparisons that can never hold.
type domain struct {
	name    string   // of the fact, for messages
	values  []string // all it can be; nil = anything
	lower   bool     // never holds upper-case letters
	host    bool     // a canonical host or address
	empty   bool     // a host that may be ""
	method  bool     // an HTTP method
	country bool     // a country
}

// checkText reports a text that the fact it is compared with can never be.
func (c *compiler) checkText(d domain, n *node, text string) bool {
	switch {
	case d.values != nil && !slices.Contains(d.values, text):
		c.errorf(n.rng, neverMatches, "%s is never %q.%s It can be %s.", d.name, text, didYouMean(text, d.values), oneOf(d.values))
	case d.country && text == "":
		return true
	case d.country:
		return c.checkCountry(d.name, n, text)
	case d.host && d.empty && text == "":
		return true
	case d.host:
		return c.checkHost(d.name, n, text)
	case d.method && text != strings.ToUpper(text) && slices.Contains(methods, strings.ToUpper(text)):
		c.errorf(n.rng, neverMatches, "Methods are written in capitals: %q.", strings.ToUpper(text))
	case d.lower && text != strings.ToLower(text):
		c.errorf(n.rng, neverMatches, "This text is in lower case here, so %q can never be equal to it. Write %q.", text, strings.ToLower(text))
	default:
		return true
	}
	return false
}

// methods are those whose spelling is checked.
var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// checkCountry reports a text that is no country.
func (c *compiler) checkCountry(name string, n *node, text string) bool {
	switch _, err := geo.Parse(text); {
	case text == geo.Unknown:
		c.errorf(n.rng, neverMatches, `Where the country is not known %s is "".`, name)
	case err != nil:
		c.errorf(n.rng, neverMatches, "%s is never %q: %s.", name, text, strings.TrimSuffix(err.Error(), "."))
	default:
		return true
	}
	return false
}

// checkHost reports a text that is no canonical host.
func (c *compiler) checkHost(name string, n *node, text string) bool {
	canonical, err := connmodel.CanonicalHost(text)
	switch {
	case strings.HasPrefix(text, "*.") || strings.HasPrefix(text, "."):
		in := "host"
		if name == "tls.sni" {
			in = "sni"
		}
		c.errorf(n.rng, neverMatches, `%s is the whole name. Use endswith(%s, %q), or %s in match.`, name, name, strings.TrimPrefix(text, "*"), in)
	case err != nil:
		c.errorf(n.rng, neverMatches, "%s is never %q: %s.", name, text, err)
	case canonical != text:
		c.errorf(n.rng, neverMatches, "%s is canonical, so it is never %q. Write %q.", name, text, canonical)
	default:
		return true
	}
	return false
}
