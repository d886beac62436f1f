package doctor

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"time"

	"viaduct/upstream/auth"
)

// kerberos looks at what a ticket takes: files and names, the KDCs, clocks, and then the ticket itself.
func (x *exam) kerberos() {
	c := x.Spec.Kerberos()
	var f auth.KerberosFacts
	if s := x.step("kerberos", func(s *Step) { f = auth.ExamineKerberos(x.ctx, c); x.kerberosFacts(s, &f) }); s.Status == Fail && len(f.KDCs) == 0 {
		x.step("ticket", func(s *Step) { s.skip("there is nobody to ask for one") })
		return
	}
	reached := x.kdcs(c, &f)
	x.step("ticket", func(s *Step) { x.ticket(s, &f, reached) })
}

// kerberosFacts says what the files hold.
func (x *exam) kerberosFacts(s *Step, f *auth.KerberosFacts) {
	s.about["conf"], s.about["realm"], s.about["user"], s.about["spn"] = f.Conf, f.Realm, f.User, f.SPN
	s.about["keytab"], s.about["ccache"] = x.Spec.Auth.Keytab, x.Spec.Auth.CCache
	s.fact("krb5_conf", f.Conf)
	s.fact("spn", f.SPN)
	s.fact("realm", f.Realm)
	s.fact("principal", f.User)
	s.fact("kdcs", f.KDCs)
	if f.SPN != "" {
		s.detail("the proxy's service is %s, %s", clean(f.SPN), f.SPNFrom)
	}
	if x.canonic != "" && x.Spec.Auth.SPN == "" && !x.Spec.Auth.Canonical {
		s.detail("the host is an alias of %s: if the KDC knows the proxy by that name, set canonical_name = true", clean(x.canonic))
	}
	if len(f.KDCs) > 0 {
		where := f.Conf
		if f.FromDNS {
			where = "DNS"
		}
		s.detail("KDCs of %s by %s: %s", clean(f.Realm), where, clean(short(f.KDCs)))
	}
	if len(f.KeytabKeys) > 0 {
		s.fact("keytab_keys", f.KeytabKeys)
		s.detail("keys in %s: %s", x.Spec.Auth.Keytab, clean(short(f.KeytabKeys)))
	}
	switch {
	case f.ConfErr != nil:
		s.fail("krb5_conf", "%s", plain(f.ConfErr))
	case f.RealmErr != nil:
		s.fail("krb5_realm", "%s", plain(f.RealmErr))
	case f.CacheErr != nil && errors.Is(f.CacheErr, auth.ErrNoTicket):
		s.fail("ccache_empty", "the cache of %s holds no ticket of %s", clean(f.CacheOwner), clean(f.Realm))
	case f.CacheErr != nil:
		s.fail(fileCode("ccache", f.CacheErr), "the credential cache cannot be read: %s", plain(f.CacheErr))
	case errors.Is(f.KeytabErr, auth.ErrNoPrincipal):
		s.about["others"] = clean(short(f.KeytabOther))
		s.fail("keytab_principal", "the keytab holds no key for %s@%s, but for %s", clean(f.User), clean(f.Realm), clean(short(f.KeytabOther)))
	case f.KeytabErr != nil:
		s.fail(fileCode("keytab", f.KeytabErr), "the keytab cannot be read: %s", plain(f.KeytabErr))
	case f.SPNErr != nil:
		s.fail("spn_canonical", "%s", plain(f.SPNErr))
	case f.KDCErr != nil:
		s.fail("kdc_none", "no KDC of %s is known: %s", clean(f.Realm), plain(f.KDCErr))
	case !f.CacheEnd.IsZero() && time.Now().After(f.CacheEnd):
		s.fail("ccache_expired", "the ticket of %s ended %s", clean(f.CacheOwner), f.CacheEnd.Local().Format("2006-01-02 15:04"))
	default:
		who := f.User + "@" + f.Realm
		switch {
		case f.CacheOwner != "":
			who = "a ticket of " + f.CacheOwner + " until " + f.CacheEnd.Local().Format("2006-01-02 15:04")
			s.fact("ccache_end", f.CacheEnd)
		case x.Spec.Auth.Keytab != "":
			who += " by keytab"
		default:
			who += " by password"
		}
		s.ok("%s, for %s", clean(who), clean(f.SPN))
	}
}

func fileCode(what string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return what + "_missing"
	case errors.Is(err, fs.ErrPermission):
		return what + "_forbidden"
	}
	return what + "_unreadable"
}

// kdcs asks each KDC for a ticket without proof, and returns whether one answered.
func (x *exam) kdcs(c auth.KerberosConfig, f *auth.KerberosFacts) (reached bool) {
	answers := make([]auth.KDCAnswer, len(f.KDCs))
	done := make(chan struct{})
	for i, a := range f.KDCs {
		go func() { answers[i] = auth.AskKDC(x.ctx, c, f, a); done <- struct{}{} }()
	}
	for range f.KDCs {
		<-done
	}
	var clock *time.Duration
	var from string
	for i, a := range answers {
		reached = reached || a.Err == nil
		if a.Err == nil && !a.Time.IsZero() && clock == nil {
			d := time.Until(a.Time).Round(time.Second)
			clock, from = &d, f.KDCs[i]
		}
	}
	for i, a := range answers {
		s := x.step("kdc", func(s *Step) { x.kdc(s, f, f.KDCs[i], &a, reached) })
		s.Took = millis(a.Took)
	}
	if clock != nil {
		x.step("clock", func(s *Step) { s.fact("kdc", from); x.compare(s, *clock, "KDC") })
	}
	return reached
}

func (x *exam) kdc(s *Step, f *auth.KerberosFacts, address string, a *auth.KDCAnswer, others bool) {
	s.fact("address", address)
	s.about["kdc"], s.about["realm"], s.about["user"], s.about["conf"] = clean(address), clean(f.Realm), clean(f.User), f.Conf
	if a.Err != nil {
		as := Fail
		if others {
			as = Warn
		}
		var d *net.DNSError
		code := netCode("kdc", a.Err)
		if errors.As(a.Err, &d) {
			code = "kdc_dns"
		}
		s.wrong(as, code, "%s: %s", clean(address), plain(a.Err))
		return
	}
	s.fact("network", a.Network)
	s.fact("code", a.Code)
	switch a.Code {
	case "", "KDC_ERR_PREAUTH_REQUIRED":
		s.ok("%s answers (%s) and knows %s", clean(address), a.Network, clean(f.User))
	case "KDC_ERR_C_PRINCIPAL_UNKNOWN":
		s.fail("kdc_no_user", "%s does not know %s@%s", clean(address), clean(f.User), clean(f.Realm))
	case "KDC_ERR_CLIENT_REVOKED":
		s.fail("kdc_revoked", "%s: the account %s is locked or disabled", clean(address), clean(f.User))
	case "KDC_ERR_KEY_EXPIRED", "KDC_ERR_NAME_EXP":
		s.fail("kdc_expired", "%s: the password or the account of %s has expired", clean(address), clean(f.User))
	case "KDC_ERR_WRONG_REALM":
		s.fail("kdc_wrong_realm", "%s is no KDC of %s", clean(address), clean(f.Realm))
	case "KDC_ERR_ETYPE_NOSUPP":
		s.fail("kdc_etypes", "%s takes none of the kinds of keys that krb5.conf allows", clean(address))
	default:
		s.warn("kdc_other", "%s answers %s", clean(address), clean(a.Code))
	}
}

// ticket gets one as a connection would.
func (x *exam) ticket(s *Step, f *auth.KerberosFacts, reached bool) {
	a := x.hop.Authenticator()
	switch {
	case x.NoCredentials != "":
		s.skip("no credential is shown: %s", x.NoCredentials)
		return
	case a == nil:
		s.skip("there is no credential")
		return
	case x.open:
		s.skip("the proxy lets us in without one")
		return
	case x.raw407 != nil && x.taken != auth.Negotiate: // no flow would ask for one, which may be a login
		s.skip("the proxy is shown %s, so no flow asks for one", orNothing(x.taken))
		return
	case !reached && f.CacheOwner == "":
		s.skip("no KDC answers")
		return
	}
	s.about["spn"], s.about["realm"], s.about["user"] = clean(f.SPN), clean(f.Realm), clean(f.User)
	t, err := a.Ticket(x.ctx)
	if err != nil {
		s.fail(ticketCode(err), "%s", plain(err))
		return
	}
	s.fact("spn", t.SPN)
	s.fact("client", t.Client)
	s.fact("encryption", t.Encryption)
	s.fact("end", t.End)
	says := "a ticket of " + t.Client + " for " + t.SPN + " until " + t.End.Local().Format("2006-01-02 15:04")
	if t.RenewTill.After(t.End) {
		says += ", renewable until " + t.RenewTill.Local().Format("2006-01-02 15:04")
	}
	s.ok("%s, %s", clean(says), t.Encryption)
}

func ticketCode(err error) string {
	var e *auth.Error
	text := err.Error()
	switch {
	case errors.As(err, &e):
		switch e.Kind {
		case auth.Rejected:
			return "ticket_rejected"
		case auth.Closed:
			return "credential_closed"
		case auth.Waiting:
			return "credential_waiting"
		case auth.NotStored:
			return "credential_not_stored"
		}
	case strings.Contains(text, "knows no service"):
		return "ticket_no_service"
	case strings.Contains(text, "clocks"):
		return "clock_kdc"
	case strings.Contains(text, "KDC does not answer"):
		return "ticket_no_kdc"
	case strings.Contains(text, "expired"):
		return "ccache_expired"
	}
	return "ticket_failed"
}

func orNothing(scheme string) string {
	if scheme == "" {
		return "nothing"
	}
	return scheme
}
