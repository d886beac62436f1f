package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-krb5/krb5/iana/errorcode"
	"github.com/go-krb5/krb5/iana/etypeID"
	"github.com/go-krb5/krb5/iana/nametype"
	"github.com/go-krb5/krb5/iana/patype"
	"github.com/go-krb5/krb5/messages"
	"github.com/go-krb5/krb5/types"
	"github.com/go-krb5/x/encoding/asn1"
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

// fakeKDC asks for proof of the password, and says nothing when it has it. It counts who showed it.
type fakeKDC struct {
	asked, shown atomic.Int32
	udp          bool // it is there for datagrams alone
	dead         bool // it says nothing at all
	dir          string
}

func (f *fakeKDC) answer(t *testing.T, b []byte) []byte {
	var req messages.ASReq
	if err := req.Unmarshal(b); err != nil {
		t.Errorf("the KDC was sent what it cannot read: %v", err)
		return nil
	}
	f.asked.Add(1)
	for _, pa := range req.PAData {
		if pa.PADataType == patype.PA_ENC_TIMESTAMP {
			f.shown.Add(1)
			if n := len(files(t, f.dir)); n != 1 {
				t.Errorf("the proof is shown, and %d files are on the disk", n)
			}
			return nil
		}
	}
	for _, name := range files(t, f.dir) {
		if e, _, err := newStore(f.dir).load(name); e.State == entryAttempt || err != nil { // a gateway that ends now has shown nothing
			t.Errorf("before there is a proof, %+v is on the disk (%v)", e, err)
		}
	}
	if f.dead {
		return nil
	}
	info, err := asn1.Marshal(types.ETypeInfo2{{EType: etypeID.AES256_CTS_HMAC_SHA1_96, Salt: "X.TESTsvc"}})
	if err != nil {
		t.Error(err)
	}
	data, err := asn1.Marshal(types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: info}})
	if err != nil {
		t.Error(err)
	}
	e := messages.NewKRBError(types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/X.TEST"), "X.TEST", errorcode.KDC_ERR_PREAUTH_REQUIRED, "")
	e.EData = data
	out, err := e.Marshal()
	if err != nil {
		t.Error(err)
	}
	return out
}

// listen finds a port that is free for both.
func (f *fakeKDC) listen(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if f.udp {
			return udp, nil
		}
		if tcp, err := net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal("no port is free")
	return nil, nil
}

func (f *fakeKDC) serve(t *testing.T) (address string) {
	t.Helper()
	udp, tcp := f.listen(t)
	t.Cleanup(func() { udp.Close() })
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			if out := f.answer(t, b[:n]); out != nil {
				udp.WriteTo(out, from)
			}
		}
	}()
	if tcp == nil {
		return udp.LocalAddr().String()
	}
	t.Cleanup(func() { tcp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var n [4]byte
				if _, err := io.ReadFull(c, n[:]); err != nil {
					return
				}
				b := make([]byte, binary.BigEndian.Uint32(n[:]))
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				if out := f.answer(t, b); out != nil {
					c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(out))), out...))
				}
			}()
		}
	}()
	return udp.LocalAddr().String()
}

// What is proved to a KDC is proved to one, by one way, once: each that had it may have counted it. Nothing else is tried with the password then.
func TestProofIsShownToOneKDC(t *testing.T) {
	for name, kdcs := range map[string][]*fakeKDC{
		"two":                    {{}, {}},
		"by datagrams alone":     {{udp: true}},
		"the first says nothing": {{dead: true}, {}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "by datagrams alone" && testing.Short() {
				t.Skip("it waits for an answer for 5 s")
			}
			conf := "[libdefaults]\n default_realm = X.TEST\n dns_lookup_kdc = false\n[realms]\n X.TEST = {\n"
			dir := t.TempDir()
			for _, k := range kdcs {
				k.dir = dir
				conf += "  kdc = " + k.serve(t) + "\n"
			}
			file := filepath.Join(t.TempDir(), "krb5.conf")
			if err := os.WriteFile(file, []byte(conf+" }\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c := userConfig(Negotiate, Basic)
			c.Host, c.Krb5Conf, c.Guard = "proxy.test", file, NewGuard(dir, nil)
			a := mustNew(t, c)
			s := a.NewSession(nil)
			f, err := s.Next(t.Context(), connect, []string{"Negotiate", "Basic realm=x"})
			if err == nil || f.Value != "" || kindOf(err) != Impossible || !strings.Contains(err.Error(), "may have been counted") {
				t.Errorf("%q %v", f.Value, err)
			}
			// and not again at once, by us or by those who come after
			for _, g := range []*Guard{c.Guard, NewGuard(dir, nil)} {
				c.Guard = g
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				if _, err := mustNew(t, c).NewSession(nil).Next(ctx, connect, []string{"Negotiate", "Basic realm=x"}); kindOf(err) != Waiting {
					t.Errorf("%v", err)
				}
				cancel()
			}
			n := int32(0)
			for _, k := range kdcs {
				n += k.shown.Load()
			}
			if n != 1 {
				t.Errorf("shown %d times", n)
			}
		})
	}
}
