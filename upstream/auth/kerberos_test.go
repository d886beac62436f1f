package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the KDC's words mean, and whether they count against the account.
func TestWordsOfTheKDC(t *testing.T) {
	for _, tt := range []struct {
		word, says string
		closes     bool
	}{
		{"[Root cause: KDC_Error] KRB Error: (24) KDC_ERR_PREAUTH_FAILED Pre-authentication information was invalid", "the password or key is wrong", true},
		{"AS_REP is not valid or client password/keytab incorrect", "the password or key is wrong", true},
		{"KRB Error: (18) KDC_ERR_CLIENT_REVOKED Clients credentials have been revoked", "locked or disabled", true},
		{"KRB Error: (6) KDC_ERR_C_PRINCIPAL_UNKNOWN Client not found in Kerberos database", "no such account", true},
		{"KRB Error: (23) KDC_ERR_KEY_EXPIRED Password has expired", "the password has expired", true},
		{"KRB Error: (37) KRB_AP_ERR_SKEW Clock skew too great", "the clocks of this machine and of the KDC of R differ", false},
		{"[Root cause: Networking_Error] AS Exchange Error: failed sending AS_REQ to KDC", "the KDC does not answer", false},
		{"something else", "the login at R failed", false},
	} {
		p := NewGuard(t.TempDir(), nil).Pair(identity("x"))
		k := newKerberos(&Config{}, func() *Pair { return p })
		err := k.loginFailed(acquire(t, p), errors.New(tt.word), "svc", "R")
		var no *impossible
		if !strings.Contains(err.Error(), tt.says) || p.Shut() != tt.closes || errors.As(err, &no) == tt.closes || tt.closes != (kindOf(err) == Rejected) {
			t.Errorf("%s: %v, closed %v", tt.word, err, p.Shut())
		}
	}
	for word, says := range map[string]string{
		"KRB Error: (7) KDC_ERR_S_PRINCIPAL_UNKNOWN Server not found in Kerberos database": "knows no service HTTP/p",
		"KRB Error: (37) KRB_AP_ERR_SKEW Clock skew too great":                             "the clocks",
		"KRB Error: (32) KRB_AP_ERR_TKT_EXPIRED Ticket expired":                            "has expired",
		"communication error with KDC via TCP":                                             "the KDC does not answer",
	} {
		if err := serviceError(errors.New(word), "HTTP/p", "R"); !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// Without a ticket another scheme that is offered is used.
func TestNegotiateGivesWay(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	if err := os.WriteFile(conf, []byte("[libdefaults]\n default_realm = X.TEST\n dns_lookup_kdc = false\n[realms]\n X.TEST = {\n  kdc = 127.0.0.1:1\n }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("\x05\x04\xff\xff\xff\xffgarbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		edit func(*Config)
		says string
	}{
		"no KDC":         {func(c *Config) {}, "the KDC does not answer"},
		"no cache":       {func(c *Config) { c.CCache = "FILE:" + filepath.Join(dir, "nosuch") }, "the credential cache cannot be read"},
		"broken cache":   {func(c *Config) { c.CCache = garbage }, "cannot be read"},
		"broken keytab":  {func(c *Config) { c.Keytab = garbage }, "cannot be read"},
		"no keytab":      {func(c *Config) { c.Keytab = filepath.Join(dir, "nosuch") }, "the keytab cannot be read"},
		"no krb5.conf":   {func(c *Config) { c.Krb5Conf = filepath.Join(dir, "nosuch") }, "nosuch cannot be read"},
		"no realm there": {func(c *Config) { c.Username = "svc@nosuch.test" }, "KDC"},
	} {
		c := userConfig(Negotiate, Basic)
		c.Host, c.Krb5Conf, c.Guard = "proxy.test", conf, NewGuard(t.TempDir(), nil)
		tt.edit(&c)
		s := mustNew(t, c).NewSession(nil)
		s.First(t.Context(), connect)
		f, err := s.Next(t.Context(), connect, []string{"Negotiate", "Basic realm=x"})
		if err != nil || !strings.HasPrefix(f.Value, "Basic ") || len(s.failed) != 1 || !strings.Contains(s.failed[0].err.Error(), tt.says) {
			t.Errorf("%s: %q %v %v", name, f.Value, err, s.failed)
		}
		s.Unsent()
		s = mustNew(t, c).NewSession(nil)
		if _, err := s.Next(t.Context(), connect, []string{"Negotiate"}); kindOf(err) != Impossible {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []Config{
		{Schemes: []string{Negotiate}, Username: "u"},
		{Schemes: []string{Negotiate}, CCache: "KEYRING:persistent:0"},
		{Schemes: []string{NTLM}, Username: "u"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
