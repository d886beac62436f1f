package auth

import (
	"errors"
	"strings"
)

// Challenge is one way to prove who we are that a proxy offers (RFC 9110, section 11.6.1).
type Challenge struct {
	Scheme  string // in lower case
	Token68 string // "" = none
	Params  []Param
}

// Param is one parameter of a challenge.
type Param struct {
	Name  string // in lower case
	Value string
}

// Get returns the value of a parameter, and whether it is there.
func (c *Challenge) Get(name string) (string, bool) {
	for i := range c.Params {
		if c.Params[i].Name == name {
			return c.Params[i].Value, true
		}
	}
	return "", false
}

// Bounds of what is read of a 407. The largest known token is a Kerberos ticket of a user in very many groups, 64 KiB.
const (
	maxChallengeBytes = 96 << 10
	maxChallenges     = 16
	maxParams         = 32
)

var (
	errTooLong     = errors.New("the challenges are longer than is read")
	errTooMany     = errors.New("there are more challenges or parameters than are read")
	errNoScheme    = errors.New("a challenge does not begin with the name of a scheme")
	errUnquoted    = errors.New("a quoted string does not end")
	errControl     = errors.New("a control character is in a parameter")
	errNoValue     = errors.New("a parameter has no value")
	errTrailing    = errors.New("something that is no parameter follows a challenge")
	errParamAtHead = errors.New("a parameter stands before any scheme")
)

// Parse reads the values of the Proxy-Authenticate fields of one answer, in their order: several challenges may be in one field. On an error
// it returns those before the mistake, and goes on with the next field; the error is the first one.
func Parse(fields []string) (all []Challenge, err error) {
	total := 0
	for _, f := range fields {
		if total += len(f); total > maxChallengeBytes {
			return all, errTooLong
		}
		p := parser{s: f, all: all}
		e := p.run()
		if all = p.all; e != nil && err == nil {
			err = e
		}
		if e == errTooMany {
			break
		}
	}
	return all, err
}

type parser struct {
	s   string
	i   int
	all []Challenge
	own int // challenges of this field
}

func (p *parser) run() error {
	for {
		p.skip(" \t,")
		if p.i == len(p.s) {
			return nil
		}
		word := p.token()
		if word == "" {
			return errNoScheme
		}
		after := p.i
		p.skip(" \t")
		if p.at('=') {
			if p.own == 0 {
				return errParamAtHead
			}
			if err := p.param(word); err != nil {
				return err
			}
			continue
		}
		if len(p.all) == maxChallenges {
			return errTooMany
		}
		p.all = append(p.all, Challenge{Scheme: strings.ToLower(word)})
		p.own++
		if p.i > after {
			p.token68()
		}
		if p.i == after && p.i < len(p.s) && p.s[p.i] != ',' {
			return errTrailing
		}
	}
}

func (p *parser) at(c byte) bool { return p.i < len(p.s) && p.s[p.i] == c }

func (p *parser) skip(set string) {
	for p.i < len(p.s) && strings.IndexByte(set, p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *parser) token() string {
	from := p.i
	for p.i < len(p.s) && isToken(p.s[p.i]) {
		p.i++
	}
	return p.s[from:p.i]
}

// token68 reads one where there is one: it must be all there is up to the next comma (RFC 9110, section 11.2).
func (p *parser) token68() {
	i := p.i
	for i < len(p.s) && (isAlnum(p.s[i]) || strings.IndexByte("-._~+/", p.s[i]) >= 0) {
		i++
	}
	if i == p.i {
		return
	}
	for i < len(p.s) && p.s[i] == '=' {
		i++
	}
	end := i
	for i < len(p.s) && (p.s[i] == ' ' || p.s[i] == '\t') {
		i++
	}
	if i < len(p.s) && p.s[i] != ',' {
		return
	}
	p.all[len(p.all)-1].Token68 = p.s[p.i:end]
	p.i = i
}

// param reads what follows the name of a parameter.
func (p *parser) param(name string) error {
	p.i++ // =
	p.skip(" \t")
	var value string
	if p.at('"') {
		v, err := p.quoted()
		if err != nil {
			return err
		}
		value = v
	} else if value = p.token(); value == "" {
		return errNoValue
	}
	p.skip(" \t")
	if p.i < len(p.s) && p.s[p.i] != ',' {
		return errTrailing
	}
	c := &p.all[len(p.all)-1]
	if len(c.Params) == maxParams {
		return errTooMany
	}
	c.Params = append(c.Params, Param{strings.ToLower(name), value})
	return nil
}

func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return b.String(), nil
		case c == '\\':
			if p.i++; p.i == len(p.s) {
				return "", errUnquoted
			}
			c = p.s[p.i]
		}
		if c < ' ' && c != '\t' || c == 0x7f {
			return "", errControl
		}
		b.WriteByte(c)
	}
	return "", errUnquoted
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isToken(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }
