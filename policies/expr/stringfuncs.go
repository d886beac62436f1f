package expr

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"viaduct/connmodel"
	"viaduct/policies/match"
)

var stringFunctions = []factFunction{
	{"startswith(text, prefix)", "true if the text begins with prefix", 2, 2, textTest(strings.HasPrefix)},
	{"endswith(text, suffix)", "true if the text ends with suffix", 2, 2, textTest(strings.HasSuffix)},
	{"strcontains(text, part)", "true if part occurs in the text", 2, 2, textTest(strings.Contains)},
	{"glob(pattern, text)", "true if the pattern takes the whole text: * any characters, ? one, [a-z] one of a class; the pattern is known at load", 2, 2, buildGlob},
	{"regex(pattern, text)", "true if the regular expression (RE2 syntax) matches somewhere in the text; the pattern is known at load", 2, 2, buildRegex},
	{"lower(text)", "the text in lower case", 1, 1, buildLower},
	{"upper(text)", "the text in upper case", 1, 1, textMap(strings.ToUpper)},
	{"trimspace(text)", "the text without white space at its ends", 1, 1, textMap(strings.TrimSpace)},
	{"trimprefix(text, prefix)", "the text without prefix, if it begins with it", 2, 2, textMap2(strings.TrimPrefix)},
	{"trimsuffix(text, suffix)", "the text without suffix, if it ends with it", 2, 2, textMap2(strings.TrimSuffix)},
	{"trim(text, characters)", "the text without any of the characters at its ends", 2, 2, textMap2(strings.Trim)},
	{"replace(text, old, new)", "the text with old replaced by new everywhere; old is a plain text, not a pattern", 3, 3, buildReplace},
	{"substr(text, offset, length)", "a part of the text, counted in characters; a negative offset counts from the end, length -1 takes the rest, and what lies outside is empty", 3, 3, buildSubstr},
	{"coalesce(text...)", "the first text that is not empty, \"\" if all are", 1, -1, buildCoalesce},
	{"tostring(value)", "a number, address, date or true and false as text; null is \"\"", 1, 1, buildToString},
}

// texts converts all arguments to texts; ok is false after an error.
func (c *compiler) texts(k *call) bool {
	ok := true
	for i := range k.args {
		ok = c.wantText(k, i).kind != kindBad && ok
	}
	return ok
}

// textTest compiles a test of two texts.
func textTest(test func(s, part string) bool) func(*compiler, *call) *node {
	return func(c *compiler, k *call) *node {
		if !c.texts(k) {
			return badNode(k.rng)
		}
		s, p := k.args[0], k.args[1]
		n := flow(kindBool, k.rng, s, p)
		a, b := s.str, p.str
		part, ok := p.text()
		switch {
		case !ok:
			n.test = func(f *connmodel.Facts) bool { return test(a(f), b(f)) }
		case part == "":
			n = boolNode(k.rng, true)
			n.facts = true
		case !c.checkLower(s, p, part):
			return badNode(k.rng)
		case s.domain.host && strings.HasPrefix(part, "*"):
			return c.errorf(p.rng, neverMatches, "%s takes no wildcards. Leave the * away, or use glob(pattern, text).", k.name)
		default:
			if n.test = directText(k.name, s.domain.name, part); n.test == nil {
				n.test = func(f *connmodel.Facts) bool { return test(a(f), part) }
			}
			c.test(n, s, textTests[k.name], p)
		}
		return n
	}
}

// checkLower reports a constant with upper-case letters that is looked for in a text that has none.
func (c *compiler) checkLower(s, p *node, part string) bool {
	if s.constant() || !s.domain.lower || part == strings.ToLower(part) {
		return true
	}
	c.errorf(p.rng, neverMatches, "The text is in lower case here, so %q never occurs in it. Write %q.", part, strings.ToLower(part))
	return false
}

func buildGlob(c *compiler, k *call) *node {
	s := c.wantText(k, 1)
	pattern, ok := c.wantConstantText(k, 0, "pattern")
	if !ok || s.kind == kindBad || !strings.Contains(pattern, "[") && !c.checkLower(s, k.args[0], pattern) {
		return badNode(k.rng)
	}
	g, err := match.CompileGlob(pattern)
	if err != nil {
		return c.errorf(k.args[0].rng, invalidArgument, "%s.", capital(err.Error()))
	}
	n := flow(kindBool, k.rng, s).searching()
	get := s.str
	n.test = func(f *connmodel.Facts) bool { return g.Match(get(f)) }
	return n
}

// maxRegex bounds a regular expression, in bytes.
const maxRegex = 4096

func buildRegex(c *compiler, k *call) *node {
	s := c.wantText(k, 1)
	pattern, ok := c.wantConstantText(k, 0, "pattern")
	if !ok || s.kind == kindBad {
		return badNode(k.rng)
	}
	re, problem := compileRegex(pattern)
	if problem != "" {
		return c.errorf(k.args[0].rng, invalidArgument, "%q is not a regular expression: %s.", pattern, problem)
	}
	n := flow(kindBool, k.rng, s).searching()
	get := s.str
	n.test = func(f *connmodel.Facts) bool { return re.MatchString(get(f)) }
	if s.field != nil {
		n.filter = testOf(s.field, connmodel.FilterMatches, connmodel.FilterValue{Pattern: re})
	}
	return n
}

// compileRegex compiles a pattern, or says what is wrong with it.
func compileRegex(pattern string) (re *regexp.Regexp, problem string) {
	if len(pattern) > maxRegex {
		return nil, "it is longer than 4096 bytes"
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	}
	return re, ""
}

// textMap compiles a function from text to text.
func textMap(op func(string) string) func(*compiler, *call) *node {
	return func(c *compiler, k *call) *node {
		if !c.texts(k) {
			return badNode(k.rng)
		}
		n := flow(kindString, k.rng, k.args[0])
		a := k.args[0].str
		n.str = func(f *connmodel.Facts) string { return op(a(f)) }
		n.domain.lower = k.args[0].domain.lower && k.name != "upper"
		return n
	}
}

func buildLower(c *compiler, k *call) *node {
	n := textMap(strings.ToLower)(c, k)
	n.domain.lower = true
	return n
}

// textMap2 compiles a function from two texts to one that is a part of the first.
func textMap2(op func(s, t string) string) func(*compiler, *call) *node {
	return func(c *compiler, k *call) *node {
		if !c.texts(k) {
			return badNode(k.rng)
		}
		n := flow(kindString, k.rng, k.args...)
		a, b := k.args[0].str, k.args[1].str
		n.str = func(f *connmodel.Facts) string { return op(a(f), b(f)) }
		n.domain.lower = k.args[0].domain.lower
		return n
	}
}

func buildReplace(c *compiler, k *call) *node {
	if !c.texts(k) {
		return badNode(k.rng)
	}
	if old, ok := k.args[1].text(); ok && old == "" {
		return c.errorf(k.args[1].rng, invalidArgument, "The text to be replaced is empty.")
	}
	n := flow(kindString, k.rng, k.args...).searching()
	s, old, with := k.args[0].str, k.args[1].str, k.args[2].str
	n.str = func(f *connmodel.Facts) string { return replace(s(f), old(f), with(f)) }
	n.domain.lower = k.args[0].lowerCase() && k.args[2].lowerCase()
	return n
}

// replace replaces old everywhere, and stops where the text would grow beyond maxText. An empty old replaces nothing.
func replace(s, old, with string) string {
	if old == "" {
		return s
	}
	n := strings.Count(s, old)
	if grows := len(with) - len(old); grows > 0 {
		n = min(n, max(0, (maxText-len(s))/grows))
	}
	return strings.Replace(s, old, with, n)
}

func buildSubstr(c *compiler, k *call) *node {
	s := c.wantText(k, 0)
	ok := s.kind != kindBad
	for _, a := range k.args[1:] {
		if !c.wantNumber(a, "substr needs") {
			ok = false
		} else if !a.span.whole {
			c.errorf(a.rng, invalidArgument, "substr needs a whole number here. Use floor() round it.")
			ok = false
		}
	}
	if !ok {
		return badNode(k.rng)
	}
	n := flow(kindString, k.rng, k.args...).searching()
	get, offset, length := s.str, k.args[1].num, k.args[2].num
	n.str = func(f *connmodel.Facts) string { return substr(get(f), int(offset(f)), int(length(f))) }
	n.domain.lower = s.lowerCase()
	return n
}

// substr takes length characters of s from offset on. A negative offset counts from the end, a negative length takes the
// rest; what lies outside of s is empty.
func substr(s string, offset, length int) string {
	if offset < 0 {
		offset = max(0, utf8.RuneCountInString(s)+offset)
	}
	from := runeAt(s, offset)
	if length < 0 {
		return s[from:]
	}
	return s[from : from+runeAt(s[from:], length)]
}

// runeAt is the byte offset of the n-th character of s, or len(s) if it has fewer.
func runeAt(s string, n int) int {
	if n >= len(s) { // as many bytes at least
		return len(s)
	}
	at := 0
	for ; n > 0 && at < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return at
}

func buildCoalesce(c *compiler, k *call) *node {
	if !c.texts(k) {
		return badNode(k.rng)
	}
	n := flow(kindString, k.rng, k.args...)
	n.domain.lower = true
	get := make([]func(*connmodel.Facts) string, len(k.args))
	for i, a := range k.args {
		get[i] = a.str
		n.domain.lower = n.domain.lower && a.lowerCase()
	}
	n.str = func(f *connmodel.Facts) string {
		for _, g := range get {
			if s := g(f); s != "" {
				return s
			}
		}
		return ""
	}
	return n
}

func buildToString(c *compiler, k *call) *node {
	n := *c.toText(k.args[0], "tostring takes")
	n.rng = k.rng
	return &n
}
