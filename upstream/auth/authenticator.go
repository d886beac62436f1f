package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// Schemes that can be spoken, as a policy names them. Header is a field of the policy's own, which no proxy offers.
const (
	Negotiate = "negotiate"
	NTLM      = "ntlm"
	Digest    = "digest"
	Basic     = "basic"
	Bearer    = "bearer"
	Header    = "header"
)

// Known are the schemes in the order in which they are to be preferred.
var Known = []string{Negotiate, NTLM, Digest, Basic, Bearer, Header}

// Config is one credential for one proxy.
type Config struct {
	Credential string // names for people
	Upstream   string
	Host       string // of the proxy, for the names of services

	Schemes []string // in the order of preference; those that are not possible with what else is given are an error

	Username    string        // perhaps DOMAIN\user or user@domain
	Password    func() string // nil = none
	Domain      string        // for NTLM; "" = what the user name says
	Workstation string        // for NTLM; "" = none is told
	Token       func() string // for Bearer, and the value of Header
	Keytab      string        // file with the key of Username, for Negotiate
	CCache      string        // file with tickets, for Negotiate; a keytab comes first
	Krb5Conf    string        // "" = $KRB5_CONFIG, /etc/krb5.conf
	SPN         string        // of the proxy; "" = HTTP/Host
	Canonical   bool          // ... of the canonical name of the host
	HeaderName  string        // for Header

	Client bool   // it is a client's own: see Identity
	Realm  string // who keeps the account, where two proxies have users of the same name and password that are not the same
	Guard  *Guard // nil = a credential is shown as often as asked
}

// Authenticator proves who we are to one proxy. It is for any number of connections at the same time.
type Authenticator struct {
	c       Config
	pair    *Pair                  // nil = no guard
	speaks  map[string]speaker     // by scheme
	learned atomic.Pointer[string] // what the proxy took last; nil = not known
}

// speaker is one scheme. Its methods are called for one session at a time, by many sessions at once.
type speaker interface {
	// first makes the first message of a session: an answer to c, or without being asked (c == nil), where the scheme can do that; else "".
	first(s *Session, r *Request, c *Challenge) (message, error)
	// next answers what came back to a message; errRejected says that it was no.
	next(s *Session, r *Request, c *Challenge) (message, error)
	// bound reports whether what was proved holds for the connection and not for one request.
	bound() bool
}

// message is what is sent.
type message struct {
	value  string
	spends bool // it shows the credential: whoever receives it can count it as a failed logon
}

// errRejected says that what came back means no.
var errRejected = errors.New("rejected")

// impossible is why a scheme cannot be spoken: another one may be.
type impossible struct{ err error }

func (e *impossible) Error() string { return e.err.Error() }
func (e *impossible) Unwrap() error { return e.err }

func cannot(format string, args ...any) error { return &impossible{fmt.Errorf(format, args...)} }

// New checks what was given and makes an Authenticator.
func New(c Config) (*Authenticator, error) {
	a := &Authenticator{c: c, speaks: make(map[string]speaker)}
	if len(c.Schemes) == 0 {
		return nil, errors.New("no scheme is given")
	}
	for i, name := range c.Schemes {
		if slices.Contains(c.Schemes[:i], name) {
			return nil, fmt.Errorf("the scheme %s is given twice", name)
		}
		s, err := a.speaker(name)
		if err != nil {
			return nil, err
		}
		a.speaks[name] = s
	}
	if strings.ContainsFunc(c.Username+c.Domain+c.Workstation+c.Realm+reveal(c.Password)+reveal(c.Token), control) {
		return nil, errors.New("user name, password or token holds a control character")
	}
	if c.Guard != nil && (c.Password != nil || c.Token != nil || c.Keytab != "") { // a ticket of a cache can lock nothing
		a.pair = c.Guard.Pair(Identity{Account: Account(a.c.Username), Realm: c.Realm, Secret: a.secret, Credential: c.Credential, Upstream: c.Upstream, Client: c.Client})
	}
	return a, nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func reveal(f func() string) string {
	if f == nil {
		return ""
	}
	return f()
}

func (a *Authenticator) speaker(name string) (speaker, error) {
	c := &a.c
	user := c.Username != "" && c.Password != nil
	switch name {
	case Basic:
		if !user {
			return nil, errors.New("basic needs a user name and a password")
		}
		if strings.Contains(c.Username, ":") { // RFC 7617, section 2
			return nil, errors.New("a user name for Basic cannot hold a colon")
		}
		return always("Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password()))), nil
	case Digest:
		if !user {
			return nil, errors.New("digest needs a user name and a password")
		}
		return &digester{c: c}, nil
	case Negotiate:
		if c.CCache == "" && (c.Username == "" || c.Password == nil && c.Keytab == "") {
			return nil, errors.New("negotiate needs a credential cache, or a user name and a keytab or password")
		}
		if kind, _, ok := strings.Cut(c.CCache, ":"); ok && kind != "FILE" && !strings.Contains(kind, "/") {
			return nil, fmt.Errorf("credential caches of the kind %s are not read; use a file", kind)
		}
		return newKerberos(c, func() *Pair { return a.pair }), nil
	case NTLM:
		if !user {
			return nil, errors.New("ntlm needs a user name and a password")
		}
		return newNTLM(c), nil
	case Bearer:
		if c.Token == nil {
			return nil, errors.New("bearer needs a token")
		}
		if strings.ContainsAny(c.Token(), " \t") { // RFC 6750, section 2.1
			return nil, errors.New("a bearer token cannot hold a space")
		}
		return always("Bearer " + c.Token()), nil
	case Header:
		if c.HeaderName == "" || c.Token == nil {
			return nil, errors.New("a header needs its name and a token for its value")
		}
		if len(c.Schemes) > 1 {
			return nil, errors.New("a header is no scheme that a proxy offers, so no other can stand beside it")
		}
		return always(c.Token()), nil
	}
	return nil, fmt.Errorf("there is no scheme %q; there are %s", name, strings.Join(Known, ", "))
}

// Account names whose credential a user name is for, in a way that does not depend on how it is written: DOMAIN\user, user@domain and
// user with a domain beside it can be one account of a directory, which counts what is tried with any of them. Where they are not one, and have the
// same secret, Config.Realm tells them apart.
func Account(username string) string {
	user, _ := splitUser(username, "")
	user, _, _ = strings.Cut(user, "@")
	return strings.ToLower(user)
}

// splitUser takes DOMAIN\user apart. user@domain stays one name: who is meant by it is for the domain to say (MS-NLMP, section 3.3.2).
func splitUser(name, domain string) (user, in string) {
	if d, u, ok := strings.Cut(name, `\`); ok && domain == "" {
		return u, d
	}
	return name, domain
}

// secret is all that proves who we are; when any of it changes, it is another secret.
func (a *Authenticator) secret() string {
	all := reveal(a.c.Password)
	if a.c.Keytab != "" {
		b, _ := os.ReadFile(a.c.Keytab) // what cannot be read is told when it is used
		all += "\x00keytab\x00" + string(b)
	}
	if token := reveal(a.c.Token); token != "" && all != "" {
		all += "\x00token\x00" + token
	} else if token != "" {
		all = token
	}
	return all
}

// Schemes returns the schemes in their order.
func (a *Authenticator) Schemes() []string { return a.c.Schemes }

// Bound reports whether any of the schemes is one that proves for a connection and not for one request (NTLM and Negotiate).
func (a *Authenticator) Bound() bool {
	if a == nil {
		return false
	}
	for _, s := range a.speaks {
		if s.bound() {
			return true
		}
	}
	return false
}

// Pair returns what the guard knows; nil without one.
func (a *Authenticator) Pair() *Pair { return a.pair }

// Closed returns the error of a credential that is not to be used, else nil.
func (a *Authenticator) Closed() *Error {
	if a == nil || a.pair == nil {
		return nil
	}
	return a.pair.Closed()
}

// Proven reports whether the credential can be shown without asking first: it was accepted, or nobody guards it.
func (a *Authenticator) Proven() bool { return a.pair == nil || a.pair.Proven() }

func (a *Authenticator) acquire(ctx context.Context) (*Attempt, error) {
	if a.pair == nil {
		return nil, nil
	}
	return a.pair.Acquire(ctx)
}

func (a *Authenticator) learn(scheme string) {
	if p := a.learned.Load(); p == nil || *p != scheme {
		name := scheme // on the heap only here
		a.learned.Store(&name)
	}
}

// Shut reports whether the credential is closed.
func (a *Authenticator) Shut() bool { return a.pair != nil && a.pair.Shut() }

// NeedsLogin reports whether we have to be let in before a request is sent: what to say is not known yet, or is to be proved for each
// connection, or the credential is not proven, or there is none (a is nil). once says that the request can be sent once only, so that a proxy must not ask again.
func (a *Authenticator) NeedsLogin(once bool) bool {
	if a == nil {
		return true
	}
	name := a.early()
	return name == "" || !a.Proven() || a.speaks[name].bound() || once && name == Digest
}

// Fickle reports whether what was proved may be asked for again at any request.
func (a *Authenticator) Fickle() bool { return a.early() == Digest }

// early is the scheme to begin with unasked: the only one, or what the proxy took before; "" = none.
func (a *Authenticator) early() string {
	if len(a.c.Schemes) == 1 {
		return a.c.Schemes[0]
	}
	if p := a.learned.Load(); p != nil {
		return *p
	}
	return ""
}

// asksFirst reports whether a scheme that would be spoken unasked is not: no answer came when the credential was shown last, so a proxy must be
// there and ask before it is shown again.
func (a *Authenticator) asksFirst(scheme string) bool {
	_, unasked := a.speaks[scheme].(constant)
	return unasked && scheme != Header && a.pair != nil && a.pair.Doubtful()
}

func (a *Authenticator) field() string {
	if a.c.HeaderName != "" && a.c.Schemes[0] == Header {
		return a.c.HeaderName
	}
	return "Proxy-Authorization"
}

// constant is a scheme whose message is always the same: Basic, Bearer and a field of the policy's own. It stands behind a function because
// whatever prints a structure shows no more than an address of that.
type constant struct{ value func() string }

func always(value string) constant { return constant{func() string { return value }} }

func (c constant) first(*Session, *Request, *Challenge) (message, error) {
	return message{c.value(), true}, nil
}

func (c constant) next(*Session, *Request, *Challenge) (message, error) {
	return message{}, errRejected
}

func (constant) bound() bool { return false }
