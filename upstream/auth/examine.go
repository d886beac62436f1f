package auth

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/go-krb5/krb5/config"
	"github.com/go-krb5/krb5/credentials"
	"github.com/go-krb5/krb5/iana/errorcode"
	"github.com/go-krb5/krb5/iana/etypeID"
	"github.com/go-krb5/krb5/iana/nametype"
	"github.com/go-krb5/krb5/keytab"
	"github.com/go-krb5/krb5/messages"
	"github.com/go-krb5/krb5/types"
)

// What follows is for those who look for what is wrong. None of it shows a credential, but for Authenticator.Ticket, which goes the way of
// every other login.

// KerberosConfig is what a login is made of, without its secrets.
type KerberosConfig struct {
	Host                                    string // of the proxy
	Username, Keytab, CCache, Krb5Conf, SPN string
	Canonical                               bool
}

// KerberosFacts is what can be known of a login before anybody is asked for a ticket.
type KerberosFacts struct {
	Conf        string // path of krb5.conf
	User, Realm string
	KDCs        []string // host:port, in the order of krb5.conf or of DNS
	FromDNS     bool     // there are none in krb5.conf

	KeytabKeys  []string // kinds of the keys for our principal
	KeytabOther []string // principals of the keytab, where ours is not among them

	CacheOwner string    // principal of the credential cache
	CacheEnd   time.Time // of its ticket-granting ticket; zero = it has none

	SPN, SPNFrom string        // "as given", "from the host", "from the canonical name"
	Skew         time.Duration // that krb5.conf allows

	// What is wrong, each nil where all is well. What follows from another one is not repeated.
	ConfErr, RealmErr, KDCErr, KeytabErr, CacheErr, SPNErr error
}

// ErrNoPrincipal says that a keytab has no key for the user.
var ErrNoPrincipal = errors.New("the keytab holds no key for the user")

// ErrNoTicket says that a credential cache has no ticket-granting ticket.
var ErrNoTicket = errors.New("the credential cache holds no ticket of its realm")

// ExamineKerberos reads the files of a login and looks up its names.
func ExamineKerberos(ctx context.Context, c KerberosConfig) (f KerberosFacts) {
	defer func() {
		if v := recover(); v != nil { // files of unknown origin go through the library's parsers
			f.ConfErr = fmt.Errorf("a file cannot be read: %v", v)
		}
	}()
	k := newKerberos(&Config{Host: c.Host, Username: c.Username, Keytab: c.Keytab, CCache: c.CCache, Krb5Conf: c.Krb5Conf, SPN: c.SPN, Canonical: c.Canonical}, nil)
	f.Conf = k.confPath()
	f.SPNFrom = "as the policy gives it"
	switch {
	case c.SPN != "":
	case c.Canonical:
		f.SPNFrom = "from the canonical name of the proxy's host"
	default:
		f.SPNFrom = "from the proxy's host"
	}
	f.SPN, f.SPNErr = k.spn(ctx)
	conf, err := k.config()
	if err != nil {
		f.ConfErr = err
		return f
	}
	f.Skew = conf.LibDefaults.Clockskew
	if c.CCache != "" && c.Keytab == "" {
		f.readCache(c.CCache)
		if f.CacheErr != nil && f.Realm == "" {
			return f
		}
	} else if f.User, f.Realm, f.RealmErr = k.principal(conf); f.RealmErr != nil {
		return f
	}
	if c.Keytab != "" {
		f.readKeytab(c.Keytab)
	}
	f.findKDCs(conf)
	return f
}

func (f *KerberosFacts) readCache(name string) {
	cc, err := credentials.LoadCCache(strings.TrimPrefix(name, "FILE:"))
	if err != nil {
		f.CacheErr = err
		return
	}
	f.User, f.Realm = cc.GetClientPrincipalName().PrincipalNameString(), cc.GetClientRealm()
	f.CacheOwner = f.User + "@" + f.Realm
	tgt, ok := cc.GetEntry(types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", f.Realm}})
	if !ok {
		f.CacheErr = ErrNoTicket
		return
	}
	f.CacheEnd = tgt.EndTime
}

// maxPrincipals bounds how many others of a keytab are named.
const maxPrincipals = 8

func (f *KerberosFacts) readKeytab(path string) {
	kt, err := keytab.Load(path)
	if err != nil {
		f.KeytabErr = err
		return
	}
	for _, e := range kt.Entries {
		who := strings.Join(e.Principal.Components, "/")
		if who == f.User && e.Principal.Realm == f.Realm {
			f.KeytabKeys = append(f.KeytabKeys, EncryptionName(e.Key.KeyType)+" (version "+strconv.FormatUint(uint64(max(e.KVNO, uint32(e.KVNO8))), 10)+")")
		} else if name := who + "@" + e.Principal.Realm; len(f.KeytabOther) < maxPrincipals && !slices.Contains(f.KeytabOther, name) {
			f.KeytabOther = append(f.KeytabOther, name)
		}
	}
	if len(f.KeytabKeys) == 0 {
		f.KeytabErr = ErrNoPrincipal
	}
}

// maxKDCs bounds how many are looked at.
const maxKDCs = 8

func (f *KerberosFacts) findKDCs(conf *config.Config) {
	var found []string
	for _, r := range conf.Realms {
		if r.Realm == f.Realm {
			found = r.KDC
		}
	}
	if f.FromDNS = len(found) == 0; f.FromDNS {
		_, ordered, err := conf.GetKDCs(f.Realm, true)
		if err != nil {
			f.KDCErr = err
			return
		}
		for i := 1; i <= len(ordered); i++ {
			found = append(found, ordered[i])
		}
	}
	for _, a := range found {
		if a == "" || len(f.KDCs) == maxKDCs {
			continue
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			a = net.JoinHostPort(a, "88")
		}
		f.KDCs = append(f.KDCs, a)
	}
	if len(f.KDCs) == 0 {
		f.KDCErr = errors.New("none is known")
	}
}

// EncryptionName names a kind of key (RFC 3961, section 8).
func EncryptionName(etype int32) string {
	best := ""
	for name, n := range etypeID.ETypesByName {
		if n == etype && (best == "" || len(name) > len(best) || len(name) == len(best) && name < best) {
			best = name
		}
	}
	if best == "" {
		return "kind " + strconv.Itoa(int(etype))
	}
	return best
}

// KDCAnswer is what a KDC says to somebody who asks for a ticket and proves nothing.
type KDCAnswer struct {
	Network string // "tcp" or "udp"
	Took    time.Duration
	Code    string    // KDC_ERR_PREAUTH_REQUIRED is what most say; "" = it gave a ticket, which only the user can read
	Time    time.Time // its clock, to the second at least; zero = it did not say
	Err     error     // it did not answer
}

// maxKDCReply bounds what is read of a KDC's.
const maxKDCReply = 64 << 10

// AskKDC asks a KDC for a ticket of the user without proof of who we are, which counts as no logon: whether it answers, what it knows of the
// user, and what time it has.
func AskKDC(ctx context.Context, c KerberosConfig, f *KerberosFacts, address string) (a KDCAnswer) {
	defer func() {
		if v := recover(); v != nil {
			a.Err = fmt.Errorf("its answer cannot be read: %v", v)
		}
	}()
	k := newKerberos(&Config{Krb5Conf: c.Krb5Conf}, nil)
	conf, err := k.config()
	if err != nil {
		a.Err = err
		return a
	}
	req, err := messages.NewASReqForTGT(f.Realm, conf, types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, f.User))
	if err != nil {
		a.Err = err
		return a
	}
	raw, err := req.Marshal()
	if err != nil {
		a.Err = err
		return a
	}
	for _, a.Network = range []string{"tcp", "udp"} {
		start := time.Now()
		var reply []byte
		reply, err = exchange(ctx, a.Network, address, raw)
		a.Took = time.Since(start)
		if err == nil {
			a.read(reply)
			return a
		}
		if a.Err == nil {
			a.Err = err // what TCP says is more telling
		}
	}
	a.Network = "tcp"
	return a
}

func exchange(ctx context.Context, network, address string, out []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, kdcDial)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if network == "udp" {
		if _, err := c.Write(out); err != nil {
			return nil, err
		}
		b := make([]byte, maxKDCReply)
		n, err := c.Read(b)
		return b[:n], err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(out))), out...)); err != nil { // RFC 4120, section 7.2.2
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxKDCReply {
		return nil, errors.New("what answers there is no KDC")
	}
	b := make([]byte, n)
	_, err = io.ReadFull(c, b)
	return b, err
}

func (a *KDCAnswer) read(b []byte) {
	a.Err = nil
	var no messages.KRBError
	if err := no.Unmarshal(b); err == nil {
		a.Code, a.Time = errorName(no.ErrorCode), no.STime
		return
	}
	var yes messages.ASRep
	if err := yes.Unmarshal(b); err != nil {
		a.Err = errors.New("what answers there is no KDC")
	}
}

// errorName is the name alone of what the library describes as "(25) KDC_ERR_PREAUTH_REQUIRED text".
func errorName(code int32) string {
	for _, word := range strings.Fields(errorcode.Lookup(code)) {
		if strings.Contains(word, "_ERR_") {
			return word
		}
	}
	return "error " + strconv.Itoa(int(code))
}

// Ticket is a ticket for a proxy.
type Ticket struct {
	SPN                   string // that it is for
	Client                string
	Encryption            string // kind of its key, which the proxy must have
	Begin, End, RenewTill time.Time
}

// Ticket gets a ticket for the proxy as a connection would, and keeps it for connections. Where that takes a login the guard is asked.
func (a *Authenticator) Ticket(ctx context.Context) (t Ticket, err error) {
	k, ok := a.speaks[Negotiate].(*kerberos)
	if !ok {
		return t, errors.New("negotiate is not among the schemes")
	}
	if no := a.Closed(); no != nil {
		return t, no
	}
	if _, err := k.token(&Session{ctx: ctx, a: a}); err != nil {
		return t, err
	}
	k.busy <- struct{}{}
	defer func() { <-k.busy }()
	if k.service == nil {
		return t, errors.New("there is no ticket")
	}
	s := k.service
	return Ticket{SPN: s.t.SName.PrincipalNameString(), Client: s.who.PrincipalNameString() + "@" + s.realm, Encryption: EncryptionName(s.t.EncPart.EType),
		Begin: s.begin, End: s.end, RenewTill: s.renewTill}, nil
}

// NTLMFacts is what a proxy says of itself before it knows who asks.
type NTLMFacts struct {
	Computer, Domain       string // NetBIOS names
	DNSComputer, DNSDomain string
	Time                   time.Time // its clock; zero = it does not say
}

// NTLMHello is the value of Proxy-Authorization that begins a handshake. It holds nothing of ours.
func NTLMHello() string { return "NTLM " + base64.StdEncoding.EncodeToString(ntlmNegotiate()) }

// ReadNTLM reads the challenges of the 407 that answers NTLMHello.
func ReadNTLM(fields []string) (f NTLMFacts, err error) {
	offers, _ := Parse(fields)
	c := find(offers, NTLM)
	if c == nil || c.Token68 == "" {
		return f, errors.New("the proxy did not answer the first message of the handshake")
	}
	raw, err := base64.StdEncoding.DecodeString(c.Token68)
	if err != nil {
		return f, errors.New("the proxy's challenge is not in base64")
	}
	ch, err := parseNTLMChallenge(raw)
	if err != nil {
		return f, err
	}
	for _, p := range ch.pairs {
		switch p.id {
		case 1:
			f.Computer = fromUTF16(p.value)
		case 2:
			f.Domain = fromUTF16(p.value)
		case 3:
			f.DNSComputer = fromUTF16(p.value)
		case 4:
			f.DNSDomain = fromUTF16(p.value)
		case avTimestamp:
			f.Time = fromFileTime(p.value)
		}
	}
	return f, nil
}

// maxNTLMName bounds what is kept of a name.
const maxNTLMName = 255

func fromUTF16(b []byte) string {
	b = b[:min(len(b), 2*maxNTLMName)&^1]
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) > 0; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}

// fromFileTime reads steps of 100 ns since 1601; what is no time of our days is none.
func fromFileTime(b []byte) time.Time {
	const between = 11644473600
	n := binary.LittleEndian.Uint64(b)
	if s := n / 10_000_000; s > between && s < between+1<<33 {
		return time.Unix(int64(s-between), int64(n%10_000_000)*100)
	}
	return time.Time{}
}

// confPath is where krb5.conf is.
func (k *kerberos) confPath() string {
	path := k.c.Krb5Conf
	if path == "" {
		path, _, _ = strings.Cut(os.Getenv("KRB5_CONFIG"), ":")
	}
	if path == "" {
		path = "/etc/krb5.conf"
	}
	return path
}
