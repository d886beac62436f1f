package auth

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-krb5/krb5/asn1tools"
	"github.com/go-krb5/krb5/client"
	"github.com/go-krb5/krb5/config"
	"github.com/go-krb5/krb5/credentials"
	"github.com/go-krb5/krb5/gssapi"
	"github.com/go-krb5/krb5/iana/chksumtype"
	"github.com/go-krb5/krb5/iana/nametype"
	"github.com/go-krb5/krb5/keytab"
	"github.com/go-krb5/krb5/messages"
	"github.com/go-krb5/krb5/spnego"
	"github.com/go-krb5/krb5/types"
	"github.com/go-krb5/x/encoding/asn1"
)

// kerberos is Kerberos 5 in SPNEGO, in the scheme Negotiate (RFC 4559). The ticket comes from a credential cache, or from a KDC to whom we log
// in with a password or a keytab. Only that login can be counted against an account, so it is what the guard watches; a proxy that does not
// take a ticket counts nothing.
//
// The library is asked for single exchanges with a KDC and for nothing that goes on by itself: it would log in again when it thinks fit.
type kerberos struct {
	c    *Config
	pair func() *Pair // nil, or returns nil: nobody guards

	busy    chan struct{} // holds one token: what follows is used by one at a time
	tgt     *ticket
	service *ticket
	from    time.Time // modification time of the credential cache that they are of
	fail    error     // there was no ticket to be had
	until   time.Time // ... and is not before
	early   time.Time // a renewal ahead of time is not tried before
}

// ticket is one with its key.
type ticket struct {
	t          messages.Ticket
	key        types.EncryptionKey
	who        types.PrincipalName // whose
	realm      string              // of whom
	begin, end time.Time
	renewTill  time.Time
}

// How the exchange with a KDC is bounded, and how long one that could not be reached is left alone.
const (
	kdcDial  = 3 * time.Second
	kdcPause = 5 * time.Second
	// renewPause is how long a ticket that could not be renewed ahead of time is used as it is: it is good, and the KDC may be slow to refuse.
	renewPause = time.Minute
)

func newKerberos(c *Config, pair func() *Pair) *kerberos {
	k := &kerberos{c: c, pair: pair, busy: make(chan struct{}, 1)}
	return k
}

func (*kerberos) bound() bool { return true }

func (k *kerberos) first(s *Session, _ *Request, _ *Challenge) (message, error) {
	token, err := k.token(s)
	if err != nil {
		return message{}, err
	}
	return message{value: "Negotiate " + base64.StdEncoding.EncodeToString(token)}, nil
}

// next is a 407 to a ticket: no. What it says beside, nobody can use.
func (k *kerberos) next(*Session, *Request, *Challenge) (message, error) {
	select {
	case k.busy <- struct{}{}:
		k.service = nil // the next one asks for a new one: the proxy may have a new key
		<-k.busy
	default:
	}
	return message{}, errRejected
}

// token makes what is sent for a session.
func (k *kerberos) token(s *Session) (b []byte, err error) {
	select {
	case k.busy <- struct{}{}:
		defer func() { <-k.busy }()
	case <-s.ctx.Done():
		return nil, cannot("others are still asking the KDC for a ticket")
	}
	defer func() {
		if v := recover(); v != nil { // files of unknown origin go through its parsers
			b, err = nil, cannot("a ticket, keytab or cache cannot be read: %v", v)
		}
	}()
	conf, err := k.config()
	if err != nil {
		return nil, err
	}
	spn, err := k.spn(s.ctx)
	if err != nil {
		return nil, err
	}
	t, err := k.ticketFor(s.ctx, conf, spn)
	if err != nil {
		return nil, err
	}
	var bindings []byte
	if s.tls != nil {
		bindings = channelBindings(s.tls)
	}
	return negToken(t, bindings)
}

// config reads krb5.conf, which may change at any time.
func (k *kerberos) config() (*config.Config, error) {
	path := k.confPath()
	conf, err := config.Load(path)
	var unsupported config.UnsupportedDirective
	if err != nil && !errors.As(err, &unsupported) {
		return nil, cannot("%s cannot be read: %w", path, err)
	}
	return conf, nil
}

// spn names the service: what the policy says, else HTTP and the host of the proxy.
func (k *kerberos) spn(ctx context.Context) (string, error) {
	if k.c.SPN != "" {
		return k.c.SPN, nil
	}
	host := strings.ToLower(strings.TrimSuffix(k.c.Host, "."))
	if k.c.Canonical {
		ctx, cancel := context.WithTimeout(ctx, kdcDial)
		defer cancel()
		name, err := net.DefaultResolver.LookupCNAME(ctx, host)
		if err != nil {
			return "", cannot("the canonical name of %s cannot be found: %w", host, err)
		}
		host = strings.ToLower(strings.TrimSuffix(name, "."))
	}
	return "HTTP/" + host, nil
}

// fresh reports whether a ticket is good for a while.
func (t *ticket) fresh(now time.Time) bool {
	return t != nil && now.Before(t.end.Add(-min(t.end.Sub(t.begin)/6, 5*time.Minute))) && !now.Before(t.begin.Add(-5*time.Minute))
}

// due reports whether a ticket has lived half of its life and can be renewed beyond it: a gateway that is idle for a while must not find
// that it has expired meanwhile, since one of a cache can be had again only by somebody who logs in.
func (t *ticket) due(now time.Time) bool {
	return t != nil && now.Before(t.end) && t.renewTill.After(t.end) && now.After(t.begin.Add(t.end.Sub(t.begin)/2))
}

// ticketFor returns a ticket for the service.
func (k *kerberos) ticketFor(ctx context.Context, conf *config.Config, spn string) (*ticket, error) {
	now := time.Now()
	if k.c.CCache != "" && k.c.Keytab == "" {
		if err := k.loadCache(spn); err != nil {
			return nil, err
		}
	}
	if k.tgt.due(now) && now.After(k.early) {
		k.early = now.Add(renewPause)
		if k.renew(conf) {
			k.service, k.early = nil, time.Time{}
		}
	}
	if k.service.fresh(now) {
		return k.service, nil
	}
	if now.Before(k.until) {
		return nil, k.fail
	}
	t, err := k.ask(ctx, conf, spn, now)
	var no *impossible
	if errors.As(err, &no) { // whatever it is, the KDC is not asked about it by every flow
		k.fail, k.until = err, time.Now().Add(kdcPause)
	}
	if err == nil {
		k.service, k.fail = t, nil
	}
	return t, err
}

func (k *kerberos) ask(ctx context.Context, conf *config.Config, spn string, now time.Time) (*ticket, error) {
	if !k.tgt.fresh(now) {
		if err := k.renewOrLogin(ctx, conf, now); err != nil {
			return nil, err
		}
	}
	cl := k.exchanger(conf, k.tgt)
	defer cl.Destroy()
	name := types.NewPrincipalName(nametype.KRB_NT_SRV_INST, spn)
	realm := cl.Config.ResolveRealm(name.NameString[len(name.NameString)-1])
	if realm == "" || realm != k.tgt.realm {
		realm = k.tgt.realm // it refers us on where the service is another's
	}
	_, rep, err := cl.TGSREQGenerateAndExchange(name, realm, k.tgt.t, k.tgt.key, false)
	if err != nil {
		return nil, serviceError(err, spn, realm)
	}
	e := &rep.DecryptedEncPart
	return &ticket{rep.Ticket, e.Key, k.tgt.who, k.tgt.realm, e.StartTime, e.EndTime, e.RenewTill}, nil
}

// exchanger is a client that knows nothing to log in with.
func (k *kerberos) exchanger(conf *config.Config, t *ticket) *client.Client {
	cl := client.NewWithPassword("", t.realm, "", conf, client.DisablePAFXFAST(true), client.UseDialer(&net.Dialer{Timeout: kdcDial}))
	cl.Credentials.SetCName(t.who)
	cl.Credentials.SetDomain(t.realm)
	return cl
}

// renewOrLogin gets a new ticket-granting ticket.
func (k *kerberos) renewOrLogin(ctx context.Context, conf *config.Config, now time.Time) error {
	if k.tgt != nil && now.Before(k.tgt.end) && now.Before(k.tgt.renewTill) && k.renew(conf) {
		return nil
	}
	if k.c.CCache != "" && k.c.Keytab == "" {
		if k.tgt != nil && now.Before(k.tgt.end) {
			return nil // not for long, but it is good
		}
		return cannot("the ticket in %s has expired: somebody has to log in there (kinit)", k.c.CCache)
	}
	t, err := k.login(ctx, conf)
	if err == nil {
		k.tgt = t
	}
	return err
}

// renew has the KDC renew the ticket-granting ticket, and reports whether it did.
func (k *kerberos) renew(conf *config.Config) bool {
	cl := k.exchanger(conf, k.tgt)
	defer cl.Destroy()
	name := types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", k.tgt.realm}}
	_, rep, err := cl.TGSREQGenerateAndExchange(name, k.tgt.realm, k.tgt.t, k.tgt.key, true)
	if err != nil {
		return false
	}
	e := &rep.DecryptedEncPart
	k.tgt = &ticket{rep.Ticket, e.Key, k.tgt.who, k.tgt.realm, e.StartTime, e.EndTime, e.RenewTill}
	return true
}

// login asks the KDC for a ticket-granting ticket, once.
func (k *kerberos) login(ctx context.Context, conf *config.Config) (*ticket, error) {
	user, realm, err := k.principal(conf)
	if err != nil {
		return nil, err
	}
	newClient := func(conf *config.Config, d client.Dialer) (*client.Client, error) {
		options := []func(*client.Settings){client.DisablePAFXFAST(true), client.UseDialer(d)}
		if k.c.Keytab == "" {
			return client.NewWithPassword(user, realm, reveal(k.c.Password), conf, options...), nil
		}
		kt, err := keytab.Load(k.c.Keytab)
		if err != nil {
			return nil, cannot("the keytab cannot be read: %w", err)
		}
		return client.NewWithKeytab(user, realm, kt, conf, options...), nil
	}
	d := &onceDialer{ctx: ctx, pair: k.pair()}
	if d.pair != nil {
		if no := d.pair.Closed(); no != nil {
			return nil, no
		}
	}
	shown := false
	defer func() { // where the library panics
		if shown {
			d.at.Silent()
		} else {
			d.at.Unused()
		}
	}()
	last := fmt.Errorf("no KDC is known of %s", realm)
	for _, one := range oneByOne(conf, realm) {
		d.network, d.used = one.network, 0
		cl, err := newClient(one.conf, d)
		if err != nil {
			return nil, err
		}
		defer cl.Destroy()
		req, err := messages.NewASReqForTGT(realm, one.conf, cl.Credentials.CName())
		if err != nil {
			return nil, cannot("%w", err)
		}
		shown = true // should it panic
		rep, err := cl.ASExchange(realm, req, 0)
		shown = d.used > 1
		if err == nil || says(err, saysNo) != "" { // where no proof was wanted it was not asked for yet
			d.acquire()
		}
		switch {
		case d.no != nil:
			return nil, d.no
		case err == nil:
			d.at.Accepted()
			e := &rep.DecryptedEncPart
			return &ticket{rep.Ticket, e.Key, cl.Credentials.CName(), realm, e.StartTime, e.EndTime, e.RenewTill}, nil
		case says(err, saysNo) != "" || says(err, saysNothing) == "":
			return nil, k.loginFailed(d.at, err, user, realm)
		case shown:
			d.at.Silent()
			return nil, &Error{Kind: Impossible, Scheme: Negotiate, Err: err,
				Text: fmt.Sprintf("the KDC of %s asked for proof of the password of %s and did not answer when it had it: it may have been counted as wrong", realm, user)}
		}
		last = err
	}
	return nil, k.loginFailed(d.at, last, user, realm)
}

// onceDialer connects to a KDC twice: the first time it is asked who is known there and how that is to be proved, the second time it is shown the
// proof, if the guard allows it. The library shows it as often as it gets no answer, to each KDC by UDP and by TCP, and each of them may count
// that as a failed logon.
type onceDialer struct {
	ctx     context.Context
	network string
	used    int

	pair *Pair    // nil = nobody guards
	at   *Attempt // of the proof
	no   error    // of the guard
}

// acquire asks the guard, once.
func (d *onceDialer) acquire() {
	if d.pair != nil && d.at == nil && d.no == nil {
		d.at, d.no = d.pair.Acquire(d.ctx)
	}
}

var errShownOnce = errors.New("not tried again")

// Dial implements client.Dialer.
func (d *onceDialer) Dial(network, address string) (net.Conn, error) {
	if network != d.network || d.used == 2 {
		return nil, errShownOnce
	}
	if d.used == 1 {
		if d.acquire(); d.no != nil {
			return nil, d.no
		}
	}
	c, err := (&net.Dialer{Timeout: kdcDial}).Dial(network, address)
	if err == nil {
		d.used++
	}
	return c, err
}

// oneKDC is a configuration that knows one KDC of a realm, by one way.
type oneKDC struct {
	conf    *config.Config
	network string
}

// maxAskedKDCs bounds those that are asked one after the other, since somebody waits.
const maxAskedKDCs = 4

// oneByOne returns the KDCs of a realm, by TCP, where an answer is not lost by itself, and then by UDP those that are there for nothing else.
func oneByOne(conf *config.Config, realm string) (all []oneKDC) {
	for _, network := range []string{"tcp", "udp"} {
		n, kdcs, err := conf.GetKDCs(realm, network == "tcp")
		if err != nil {
			continue
		}
		for i := 1; i <= min(n, maxAskedKDCs); i++ {
			one := *conf
			one.LibDefaults.UDPPreferenceLimit = 1 // never by UDP
			if network == "udp" {
				one.LibDefaults.UDPPreferenceLimit = 64 << 10
			}
			one.Realms = []config.Realm{{Realm: realm, KDC: []string{kdcs[i]}}}
			for _, r := range conf.Realms {
				if r.Realm != realm {
					one.Realms = append(one.Realms, r)
				}
			}
			all = append(all, oneKDC{&one, network})
		}
	}
	return all
}

// principal is who we are: user@REALM, or user in the default realm of krb5.conf.
func (k *kerberos) principal(conf *config.Config) (user, realm string, err error) {
	user, realm, _ = strings.Cut(k.c.Username, "@")
	if _, u, ok := strings.Cut(user, `\`); ok {
		user = u
	}
	if realm == "" {
		realm = conf.LibDefaults.DefaultRealm
	}
	if realm == "" {
		return "", "", cannot("the user name has no realm (user@REALM), and krb5.conf has no default_realm")
	}
	for _, r := range conf.Realms {
		if r.Realm == realm {
			return user, realm, nil
		}
	}
	return user, strings.ToUpper(realm), nil
}

// unreachable is a KDC that does not answer.
type unreachable struct{ err error }

func (e *unreachable) Error() string {
	return "the KDC does not answer, or is not known (krb5.conf, DNS): " + e.err.Error()
}
func (e *unreachable) Unwrap() error { return e.err }

// What the library's errors hold of the words of KDCs (RFC 4120, section 7.5.9); the errors themselves hold texts alone.
var (
	saysNo      = []string{"KDC_ERR_PREAUTH_FAILED", "KDC_ERR_CLIENT_REVOKED", "KDC_ERR_C_PRINCIPAL_UNKNOWN", "KDC_ERR_KEY_EXPIRED", "KDC_ERR_NAME_EXP", "KRB_AP_ERR_BAD_INTEGRITY", "client password/keytab incorrect"}
	saysSkew    = []string{"KRB_AP_ERR_SKEW", "clock skew"}
	saysNothing = []string{"Networking_Error", "communication error with KDC", "failed to communicate with KDC", "no KDC", "no KDC SRV"}
)

func says(err error, words []string) string {
	text := err.Error()
	for _, w := range words {
		if strings.Contains(text, w) {
			return w
		}
	}
	return ""
}

var meanings = map[string]string{
	"KDC_ERR_PREAUTH_FAILED":           "the password or key is wrong",
	"client password/keytab incorrect": "the password or key is wrong",
	"KRB_AP_ERR_BAD_INTEGRITY":         "the password or key is wrong",
	"KDC_ERR_CLIENT_REVOKED":           "the account is locked or disabled",
	"KDC_ERR_C_PRINCIPAL_UNKNOWN":      "there is no such account",
	"KDC_ERR_KEY_EXPIRED":              "the password has expired",
	"KDC_ERR_NAME_EXP":                 "the account has expired",
}

// loginFailed says what the failure of a login means, also to the guard.
func (k *kerberos) loginFailed(at *Attempt, err error, user, realm string) error {
	if w := says(err, saysNo); w != "" {
		text := fmt.Sprintf("the KDC of %s rejected %s: %s (%s)", realm, user, meanings[w], w)
		at.Rejected(text)
		return &Error{Kind: Rejected, Scheme: Negotiate, Text: text}
	}
	at.Unused()
	if says(err, saysSkew) != "" {
		return cannot("the clocks of this machine and of the KDC of %s differ by more than it allows", realm)
	}
	if says(err, saysNothing) != "" {
		return &impossible{&unreachable{err}}
	}
	return cannot("the login at %s failed: %w", realm, err)
}

// serviceError says what it means that there is no ticket for a service.
func serviceError(err error, spn, realm string) error {
	switch {
	case says(err, []string{"KDC_ERR_S_PRINCIPAL_UNKNOWN"}) != "":
		return cannot("the KDC of %s knows no service %s: say the right one with spn, or canonical_name = true where the proxy's name is an alias", realm, spn)
	case says(err, saysSkew) != "":
		return cannot("the clocks of this machine and of the KDC of %s differ by more than it allows", realm)
	case says(err, []string{"KRB_AP_ERR_TKT_EXPIRED"}) != "":
		return cannot("the KDC of %s says that our ticket has expired", realm)
	case says(err, saysNothing) != "":
		return &impossible{&unreachable{err}}
	}
	return cannot("no ticket for %s: %w", spn, err)
}

// loadCache reads the credential cache, if it has changed.
func (k *kerberos) loadCache(spn string) error {
	path := strings.TrimPrefix(k.c.CCache, "FILE:")
	st, err := os.Stat(path)
	if err != nil {
		return cannot("the credential cache cannot be read: %w", err)
	}
	if st.ModTime().Equal(k.from) && k.tgt != nil {
		return nil
	}
	cc, err := credentials.LoadCCache(path)
	if err != nil {
		return cannot("the credential cache cannot be read: %w", err)
	}
	k.tgt, k.service, k.until = nil, nil, time.Time{}
	who, realm := cc.GetClientPrincipalName(), cc.GetClientRealm()
	get := func(name types.PrincipalName) (*ticket, error) {
		c, ok := cc.GetEntry(name)
		if !ok {
			return nil, nil
		}
		t := &ticket{key: c.Key, who: who, realm: realm, begin: c.StartTime, end: c.EndTime, renewTill: c.RenewTill}
		if t.begin.Unix() <= 0 {
			t.begin = c.AuthTime
		}
		return t, t.t.Unmarshal(c.Ticket)
	}
	if k.service, err = get(types.NewPrincipalName(nametype.KRB_NT_SRV_INST, spn)); err != nil {
		return cannot("the credential cache cannot be read: %w", err)
	}
	if k.tgt, err = get(types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", realm}}); err != nil {
		return cannot("the credential cache cannot be read: %w", err)
	}
	if k.tgt == nil && k.service == nil {
		return cannot("the credential cache %s holds no ticket of %s: somebody has to log in there (kinit)", path, realm)
	}
	k.from = st.ModTime()
	return nil
}

// negToken makes the token of SPNEGO (RFC 4178) with a request of Kerberos (RFC 4121, section 4.1) in it.
func negToken(t *ticket, bindings []byte) ([]byte, error) {
	a, err := types.NewAuthenticator(t.realm, t.who)
	if err != nil {
		return nil, cannot("%w", err)
	}
	sum := make([]byte, 24)
	binary.LittleEndian.PutUint32(sum, 16)
	copy(sum[4:20], bindings)
	binary.LittleEndian.PutUint32(sum[20:], uint32(gssapi.ContextFlagInteg|gssapi.ContextFlagConf))
	a.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum}
	req, err := messages.NewAPReq(t.t, t.key, a)
	if err != nil {
		return nil, cannot("%w", err)
	}
	raw, err := req.Marshal()
	if err != nil {
		return nil, cannot("%w", err)
	}
	oid, err := asn1.Marshal(gssapi.OIDKRB5.OID())
	if err != nil {
		return nil, cannot("%w", err)
	}
	inner := asn1tools.AddASNAppTag(append(append(oid, 1, 0), raw...), 0)
	token := spnego.SPNEGOToken{Init: true, NegTokenInit: spnego.NegTokenInit{MechTypes: []asn1.ObjectIdentifier{gssapi.OIDKRB5.OID()}, MechTokenBytes: inner}}
	out, err := token.Marshal()
	if err != nil {
		return nil, cannot("%w", err)
	}
	return out, nil
}
