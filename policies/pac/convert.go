package pac

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Converted is a script in the words of a policy.
type Converted struct {
	Rules     []ConvertedRule
	Otherwise string   // the answer when no rule holds; "" = the script gives none
	Left      []string // parts that did not carry over, each with its line
	Hosts     []string // that both should be compared on
}

// ConvertedRule is one return of the script, with what has to hold for it.
type ConvertedRule struct {
	Line   int
	Match  []ConvertedMatch // one of them; none = everything
	Answer string
}

// ConvertedMatch is what has to hold together.
type ConvertedMatch struct {
	Hosts     []string // as in match { host }
	Addresses []string // as in match { address }
	Not       []ConvertedMatch
}

// Convert reads a script. err says that it is not of a shape that could be read at all.
func Convert(src string) (*Converted, error) {
	tokens, err := scan(src)
	if err != nil {
		return nil, err
	}
	c := &converter{t: append(tokens, token{}), consts: map[string]string{}, out: &Converted{}}
	c.writes = writes(tokens)
	if !c.find() {
		return nil, errors.New("there is no function FindProxyForURL(url, host) { ... } that could be read")
	}
	if done, _ := c.block(nil); !done && c.out.Otherwise == "" {
		c.left(c.t[max(c.at-1, 0)].line, "the function ends without a return")
	}
	c.samples()
	return c.out, nil
}

type converter struct {
	t      []token
	at     int
	url    string // names of the arguments
	host   string
	ip     []string // variables that hold dnsResolve(host)
	consts map[string]string
	writes map[string]int // how often the script gives a variable a value: more than once, and it is no constant
	out    *Converted
	texts  []string // host texts and networks of the script, for samples
	nets   []netip.Prefix
}

func (c *converter) peek() token { return c.t[c.at] }

func (c *converter) next() token {
	t := c.t[c.at]
	if t.kind != 0 {
		c.at++
	}
	return t
}

func (c *converter) is(text string) bool {
	t := c.peek()
	return t.kind != 's' && t.kind != 0 && t.text == text
}

func (c *converter) take(text string) bool {
	if c.is(text) {
		c.at++
		return true
	}
	return false
}

func (c *converter) left(line int, format string, args ...any) {
	c.out.Left = append(c.out.Left, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
}

// find goes to the body of the function, and notes the constants outside it.
func (c *converter) find() bool {
	body, depth := -1, 0
	for c.peek().kind != 0 {
		switch {
		case depth == 0 && (c.is("var") || c.is("let") || c.is("const")):
			c.variable()
		case c.is("function") && c.t[c.at+1].text == "FindProxyForURL":
			c.at += 2
			if !c.take("(") {
				return false
			}
			c.url = c.next().text
			c.take(",")
			c.host = c.next().text
			if !c.take(")") || !c.is("{") {
				return false
			}
			body = c.at
			depth++
			c.at++
		case c.is("{"):
			depth++
			c.at++
		case c.is("}"):
			depth--
			c.at++
		default:
			c.at++
		}
	}
	c.at = body
	return body >= 0
}

// writes counts the places where each name is given a value.
func writes(tokens []token) map[string]int {
	n := map[string]int{}
	at := func(i int) string {
		if i < 0 || i >= len(tokens) || tokens[i].kind == 's' {
			return ""
		}
		return tokens[i].text
	}
	for i, t := range tokens {
		if t.kind != 'i' || at(i-1) == "." {
			continue
		}
		switch next := at(i + 1); {
		case next == "=", next == "in", next == "of", at(i+2) == "=" && strings.Contains("+-*/%&|^?", next), at(i+2) == next && (next == "+" || next == "-"):
			n[t.text]++
		}
	}
	return n
}

// variable reads `var x = "text";`. Other variables are no constants, which is said where one is used.
func (c *converter) variable() bool {
	c.at++
	name := c.next()
	if name.kind != 'i' || !c.take("=") {
		c.skip()
		return false
	}
	if c.writes[name.text] > 1 {
		c.skip()
		return false
	}
	start := c.at
	if text, ok := c.text(); ok && (c.is(";") || c.is(",") || c.peek().line != name.line) {
		c.consts[name.text] = text
		c.skip()
		return true
	}
	c.at = start
	if c.hostOf() == "ip" {
		c.ip = append(c.ip, name.text)
		c.skip()
		return true
	}
	c.at = start
	if c.folded() {
		c.skip()
		return true
	}
	c.skip()
	return false
}

// text reads texts and constants, added up.
func (c *converter) text() (string, bool) {
	paren := c.take("(")
	out := ""
	for {
		t := c.next()
		known, ok := c.consts[t.text]
		switch {
		case t.kind == 's':
			out += t.text
		case t.kind == 'i' && ok:
			out += known
		default:
			return "", false
		}
		if !c.take("+") {
			return out, !paren || c.take(")")
		}
	}
}

// skip goes behind the statement: to its semicolon, or over its block.
func (c *converter) skip() {
	depth := 0
	for t := c.peek(); t.kind != 0; t = c.peek() {
		switch {
		case c.is("("), c.is("["), c.is("{"):
			depth++
		case c.is("}") && depth == 0:
			return
		case c.is(")"), c.is("]"), c.is("}"):
			if depth--; depth == 0 && c.is("}") {
				c.at++
				return
			}
		case c.is(";") && depth <= 0:
			c.at++
			return
		}
		c.at++
	}
}

// block reads { ... } or one statement under a condition, and reports whether it always returns. nil = no condition.
func (c *converter) block(under []ConvertedMatch) (returns, good bool) {
	if !c.take("{") {
		return c.statement(under)
	}
	good = true
	for !c.is("}") && c.peek().kind != 0 {
		r, g := c.statement(under)
		good = good && g
		returns = returns || r
	}
	c.take("}")
	return returns, good
}

func (c *converter) statement(under []ConvertedMatch) (returns, good bool) {
	line := c.peek().line
	switch {
	case c.take(";"):
		return false, true
	case c.is("{"):
		return c.block(under)
	case c.is("var"), c.is("let"), c.is("const"):
		if name := c.t[c.at+1].text; !c.variable() {
			c.left(line, "the variable %s", clip(name, 40))
		}
		return false, true
	case c.take("return"):
		text, ok := c.text()
		if !ok {
			c.skip()
			c.left(line, "a return whose answer is computed")
			return true, false
		}
		c.take(";")
		c.returned(line, under, text)
		return true, true
	case c.take("if"):
		return c.condition(line, under)
	case c.is(c.host) || c.is(c.url):
		if c.at++; c.take("=") && c.folded() { // host = host.toLowerCase(): names are lower case here
			c.take(";")
			return false, true
		}
	}
	c.left(line, "a statement that begins with %s", shown(c.peek().text))
	c.skip()
	return false, false
}

func (c *converter) folded() bool {
	return (c.take(c.host) || c.take(c.url)) && c.take(".") && c.take("toLowerCase") && c.take("(") && c.take(")")
}

func (c *converter) returned(line int, under []ConvertedMatch, answer string) {
	if under == nil {
		if c.out.Otherwise == "" {
			c.out.Otherwise = answer
		}
		return
	}
	c.out.Rules = append(c.out.Rules, ConvertedRule{line, under, answer})
}

// condition reads an if. What stands in the else needs no condition of its own: it is reached only where the rules before did not hold,
// if they all returned.
func (c *converter) condition(line int, under []ConvertedMatch) (returns, good bool) {
	if !c.take("(") {
		c.skip()
		c.left(line, "an if")
		return false, false
	}
	start := c.at
	cond, ok := c.or()
	if ok {
		ok = c.take(")")
	}
	both := cond
	if ok && under != nil {
		both, ok = and(under, cond)
	}
	if !ok {
		c.at = start
		for depth := 1; depth > 0 && c.peek().kind != 0; c.at++ {
			switch {
			case c.is("("):
				depth++
			case c.is(")"):
				depth--
			}
		}
		c.left(line, "the condition of an if, with what stands under it: it is passed over")
		c.pass()
		if c.take("else") {
			return c.block(under)
		}
		return false, false
	}
	consts, ips := maps.Clone(c.consts), c.ip
	then, good := c.block(both)
	c.consts, c.ip = consts, ips // what is declared under a condition has a value there alone
	if !c.take("else") {
		return false, good
	}
	if !then {
		line := c.peek().line
		c.pass()
		c.left(line, "an else behind what does not always return")
		return false, false
	}
	otherwise, g := c.block(under)
	return otherwise, good && g
}

// pass goes over a statement or block.
func (c *converter) pass() {
	out, texts, consts, ips := *c.out, len(c.texts), maps.Clone(c.consts), c.ip
	c.block([]ConvertedMatch{})
	*c.out, c.texts, c.consts, c.ip = out, c.texts[:texts], consts, ips
}

func (c *converter) or() ([]ConvertedMatch, bool) {
	all, ok := c.and()
	for ok && c.take("||") {
		var more []ConvertedMatch
		if more, ok = c.and(); ok {
			all = merge(all, more)
		}
	}
	return all, ok
}

// merge puts matches of hosts alone together.
func merge(a, b []ConvertedMatch) []ConvertedMatch {
	for _, m := range b {
		i := slices.IndexFunc(a, func(x ConvertedMatch) bool {
			return x.Not == nil && m.Not == nil && (x.Hosts == nil) == (m.Hosts == nil) && (x.Addresses == nil || x.Hosts == nil) && (m.Addresses == nil || m.Hosts == nil)
		})
		if i < 0 {
			a = append(a, m)
			continue
		}
		a[i].Hosts, a[i].Addresses = append(slices.Clip(a[i].Hosts), m.Hosts...), append(slices.Clip(a[i].Addresses), m.Addresses...)
	}
	return a
}

func (c *converter) and() ([]ConvertedMatch, bool) {
	all, ok := c.unary()
	for ok && c.take("&&") {
		var more []ConvertedMatch
		if more, ok = c.unary(); ok {
			all, ok = and(all, more)
		}
	}
	return all, ok
}

// and multiplies out, within reason.
func and(a, b []ConvertedMatch) (out []ConvertedMatch, ok bool) {
	for _, x := range a {
		for _, y := range b {
			if x.Hosts != nil && y.Hosts != nil || x.Addresses != nil && y.Addresses != nil {
				return nil, false // two sets of hosts: what is in both cannot be said in one match
			}
			m := ConvertedMatch{x.Hosts, x.Addresses, append(slices.Clip(x.Not), y.Not...)}
			if m.Hosts == nil {
				m.Hosts = y.Hosts
			}
			if m.Addresses == nil {
				m.Addresses = y.Addresses
			}
			out = append(out, m)
		}
	}
	return out, len(out) <= 64
}

func (c *converter) unary() ([]ConvertedMatch, bool) {
	switch {
	case c.take("!"):
		inner, ok := c.unary()
		for _, m := range inner {
			ok = ok && m.Not == nil
		}
		return []ConvertedMatch{{Not: inner}}, ok
	case c.take("("):
		inner, ok := c.or()
		return inner, ok && c.take(")")
	}
	return c.test()
}

// hostOf reads the host, or its address: host, dnsResolve(host), or a variable that holds that.
func (c *converter) hostOf() string {
	switch {
	case c.is(c.host):
		start := c.at
		if c.folded() {
			return "host"
		}
		c.at = start + 1
		return "host"
	case c.take("dnsResolve"):
		if c.take("(") && c.take(c.host) && c.take(")") {
			return "ip"
		}
	case slices.Contains(c.ip, c.peek().text):
		c.at++
		return "ip"
	}
	return ""
}

func (c *converter) test() ([]ConvertedMatch, bool) {
	hosts := func(list ...string) ([]ConvertedMatch, bool) { return []ConvertedMatch{{Hosts: list}}, true }
	if t := c.peek(); t.kind == 's' || t.kind == 'i' && (t.text == c.host || c.consts[t.text] != "") { // host == "x", "x" == host
		var text string
		var ok bool
		if c.hostOf() == "host" {
			if ok = c.take("==") || c.take("==="); ok {
				text, ok = c.text()
			}
		} else if text, ok = c.text(); ok {
			ok = (c.take("==") || c.take("===")) && c.hostOf() == "host"
		}
		if !ok || !plainHost(text) {
			return nil, false
		}
		c.texts = append(c.texts, text)
		return hosts(strings.ToLower(text))
	}
	name := c.next().text
	if !c.take("(") {
		return nil, false
	}
	of := c.hostOf()
	if of == "" {
		return nil, false
	}
	var args []string
	for c.take(",") {
		text, ok := c.text()
		if !ok {
			return nil, false
		}
		args = append(args, text)
	}
	if !c.take(")") {
		return nil, false
	}
	arg := ""
	if len(args) > 0 {
		arg = strings.ToLower(args[0])
	}
	switch {
	case name == "isInNet" && len(args) == 2, name == "isInNetEx" && len(args) == 1:
		p, ok := network(args)
		if !ok {
			return nil, false
		}
		c.nets = append(c.nets, p)
		return []ConvertedMatch{{Addresses: []string{p.String()}}}, true
	case of != "host":
		return nil, false
	case name == "isPlainHostName" && len(args) == 0:
		return hosts("/^[^.:]+$/")
	case len(args) != 1:
		return nil, false
	case name == "dnsDomainIs" && strings.HasPrefix(arg, ".") && plainHost(arg[1:]):
		c.texts = append(c.texts, arg[1:])
		return hosts("*" + arg)
	case name == "dnsDomainIs" && plainHost(arg): // it means the domain, and takes whatever ends so
		c.texts = append(c.texts, arg)
		return hosts(arg, "*."+arg)
	case name == "localHostOrDomainIs" && plainHost(arg):
		c.texts = append(c.texts, arg)
		short, _, _ := strings.Cut(arg, ".")
		return hosts(arg, short)
	case name == "shExpMatch" && plainHost(strings.ReplaceAll(arg, "*", "a")):
		c.texts = append(c.texts, strings.TrimPrefix(strings.ReplaceAll(strings.TrimPrefix(arg, "*."), "*", "xy"), "."))
		return hosts(arg)
	}
	return nil, false
}

// plainHost reports whether s can stand in match { host } as the name that it is.
func plainHost(s string) bool {
	return s != "" && s[0] != '.' && s[len(s)-1] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	})
}

// network reads an address and mask, or a prefix.
func network(args []string) (netip.Prefix, bool) {
	if len(args) == 1 {
		p, err := netip.ParsePrefix(args[0])
		return p.Masked(), err == nil
	}
	ip, ok := parseIPv4(args[0])
	mask, ok2 := parseIPv4(args[1])
	if !ok || !ok2 {
		return netip.Prefix{}, false
	}
	bits, b := 0, mask.As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for n&(1<<31) != 0 {
		bits++
		n <<= 1
	}
	return netip.PrefixFrom(ip, bits).Masked(), n == 0
}

// samples makes hosts that tell one branch from another.
func (c *converter) samples() {
	add := func(list ...string) {
		for _, h := range list {
			if h != "" && !slices.Contains(c.out.Hosts, h) && len(c.out.Hosts) < 2000 {
				c.out.Hosts = append(c.out.Hosts, h)
			}
		}
	}
	for _, s := range c.texts {
		s = strings.ToLower(s)
		short, rest, _ := strings.Cut(s, ".")
		add(s, "www."+s, "a.b."+s, "x"+s, short, rest, s+".example")
	}
	for _, p := range c.nets {
		first := p.Addr()
		add(first.Next().String(), last(p).String(), first.Prev().String(), last(p).Next().String())
	}
	add("intranet", "localhost", "www.example.com", "example.net", "192.0.2.55", "10.1.2.3", "192.168.1.1", "172.16.5.5")
	c.out.Hosts = slices.DeleteFunc(c.out.Hosts, func(h string) bool { return strings.HasPrefix(h, "invalid") })
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	ip, _ := netip.AddrFromSlice(b)
	return ip
}
