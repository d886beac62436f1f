package auth

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var connect = &Request{Method: "CONNECT", URI: "a.example:443"}

func userConfig(schemes ...string) Config {
	return Config{Credential: "corp", Upstream: "a", Schemes: schemes, Username: "svc", Password: secretOf("p4ss")}
}

func mustNew(t *testing.T, c Config) *Authenticator {
	t.Helper()
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 255
}

func TestChoice(t *testing.T) {
	basic := "Basic c3ZjOnA0c3M="
	for _, tt := range []struct {
		name    string
		schemes []string
		offers  []string
		first   string // unasked
		next    string // prefix
		err     Kind
		says    string
	}{
		{name: "the only one goes unasked", schemes: []string{Basic}, first: basic},
		{name: "order of the policy", schemes: []string{Digest, Basic}, offers: []string{`Basic realm="x"`, `Digest realm="x", nonce="n", qop="auth"`}, next: "Digest "},
		{name: "what is offered", schemes: []string{Digest, Basic}, offers: []string{`Negotiate, NTLM, Basic realm="x"`}, next: basic},
		{name: "impossible gives way", schemes: []string{Digest, Basic}, offers: []string{`Digest realm="x", nonce="n", algorithm=SHA-999`, `Basic realm="x"`}, next: basic},
		{name: "impossible, and nothing else", schemes: []string{Digest, Basic}, offers: []string{`Digest realm="x", nonce="n", qop="auth-int"`}, err: Impossible, says: "auth-int"},
		{name: "no offer", schemes: []string{Digest, Basic}, offers: []string{"Negotiate", "NTLM"}, err: NoOffer, says: "offers negotiate, ntlm, and the policy allows digest, basic"},
		{name: "none at all", schemes: []string{Digest, Basic}, err: NoOffer, says: "offers no scheme"},
		{name: "malformed", schemes: []string{Digest, Basic}, offers: []string{`="`}, err: Malformed, says: "cannot be read"},
		{name: "malformed beside a good one", schemes: []string{Digest, Basic}, offers: []string{`="`, "Basic realm=x"}, next: basic},
		{name: "the strongest digest", schemes: []string{Digest, Basic},
			offers: []string{`Digest realm="x", nonce="m", algorithm=MD5`, `Digest realm="x", nonce="s", algorithm=SHA-256, qop="auth"`}, next: `Digest username="svc", realm="x", nonce="s"`},
	} {
		s := mustNew(t, userConfig(tt.schemes...)).NewSession(nil)
		f, err := s.First(t.Context(), connect)
		if err != nil || f.Value != tt.first {
			t.Errorf("%s: unasked %q, %v", tt.name, f.Value, err)
			continue
		}
		if tt.first != "" {
			continue
		}
		f, err = s.Next(t.Context(), connect, tt.offers)
		if tt.next == "" {
			if err == nil || kindOf(err) != tt.err || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %q, %v", tt.name, f.Value, err)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(f.Value, tt.next) || f.Name != "Proxy-Authorization" {
			t.Errorf("%s: %q %q, %v", tt.name, f.Name, f.Value, err)
		}
	}
}

func TestRejectedIsNotTriedAnotherWay(t *testing.T) {
	c := userConfig(Digest, Basic)
	c.Guard = NewGuard(t.TempDir(), nil)
	a := mustNew(t, c)
	s := a.NewSession(nil)
	offers := []string{`Digest realm="x", nonce="n", qop="auth"`, `Basic realm="x"`}
	if _, err := s.First(t.Context(), connect); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Next(t.Context(), connect, offers); err != nil || !s.Proving() {
		t.Fatal(err)
	}
	_, err := s.Next(t.Context(), connect, []string{`Digest realm="x", nonce="n2", qop="auth"`, `Basic realm="x"`})
	if kindOf(err) != Rejected || !a.Shut() {
		t.Fatalf("%v", err)
	}
	_, _, why := a.Pair().Status()
	if !strings.Contains(why, "407 after digest, when asked for CONNECT a.example:443") {
		t.Error(why)
	}
	if _, err := a.NewSession(nil).First(t.Context(), connect); kindOf(err) != Closed {
		t.Errorf("%v", err)
	}
}

func TestTheChoiceIsRemembered(t *testing.T) {
	a := mustNew(t, userConfig(Digest, Basic))
	s := a.NewSession(nil)
	if !a.NeedsLogin(false) {
		t.Error("nothing is known, and no login is needed")
	}
	s.First(t.Context(), connect)
	s.Next(t.Context(), connect, []string{"Basic realm=x"})
	s.Answered(200)
	if a.NeedsLogin(true) || a.Fickle() {
		t.Error("basic was accepted, and a login is needed")
	}
	if f, err := a.NewSession(nil).First(t.Context(), connect); err != nil || !strings.HasPrefix(f.Value, "Basic ") {
		t.Errorf("%v %v", f, err)
	}
}

// digestServer verifies as RFC 7616 says.
type digestServer struct {
	user, password, realm, nonce, algorithm string
	count                                   map[string]int
}

func (d *digestServer) challenge(stale bool) []string {
	return []string{fmt.Sprintf(`Digest realm="%s", nonce="%s", opaque="o", qop="auth,auth-int", algorithm=%s, stale=%v`, d.realm, d.nonce, d.algorithm, stale)}
}

func (d *digestServer) ok(r *Request, value string) error {
	all, err := Parse([]string{value}) // of the same form
	if err != nil || len(all) != 1 || all[0].Scheme != "digest" {
		return fmt.Errorf("%q: %v", value, err)
	}
	get := func(name string) string { v, _ := all[0].Get(name); return v }
	sum := func(s string) string {
		h := map[string]func() hash.Hash{"MD5": md5.New, "SHA-256": sha256.New, "SHA-512-256": sha512.New512_256}[d.algorithm]()
		h.Write([]byte(s))
		return hex.EncodeToString(h.Sum(nil))
	}
	want := sum(sum(d.user+":"+d.realm+":"+d.password) + ":" + d.nonce + ":" + get("nc") + ":" + get("cnonce") + ":auth:" + sum(r.Method+":"+r.URI))
	if get("response") != want || get("nonce") != d.nonce || get("qop") != "auth" || get("uri") != r.URI || get("username") != d.user || get("realm") != d.realm || get("opaque") != "o" {
		return fmt.Errorf("wrong: %s", value)
	}
	if d.count == nil {
		d.count = make(map[string]int)
	}
	if d.count[get("nc")]++; d.count[get("nc")] > 1 {
		return fmt.Errorf("nc %s was used before", get("nc"))
	}
	return nil
}

func TestDigest(t *testing.T) {
	for _, algorithm := range []string{"MD5", "SHA-256", "SHA-512-256"} {
		d := &digestServer{user: `s"v\c`, password: "p4ss:ü", realm: `a "realm"\`, nonce: "n1", algorithm: algorithm}
		c := userConfig(Digest)
		c.Username, c.Password, c.Guard = d.user, secretOf(d.password), NewGuard(t.TempDir(), nil)
		a := mustNew(t, c)
		d.realm = strings.ReplaceAll(strings.ReplaceAll(d.realm, `\`, ``), `"`, ``)
		s := a.NewSession(nil)
		if f, err := s.First(t.Context(), connect); err != nil || f.Name != "" {
			t.Fatalf("%v %v", f, err)
		}
		f, err := s.Next(t.Context(), connect, d.challenge(false))
		if err == nil {
			err = d.ok(connect, f.Value)
		}
		if err != nil || !s.Proving() {
			t.Fatalf("%s: %v", algorithm, err)
		}
		s.Answered(200)
		// the nonce serves others, unasked, and each has a count of its own
		for range 3 {
			s = a.NewSession(nil)
			f, err = s.First(t.Context(), connect)
			if err == nil {
				err = d.ok(connect, f.Value)
			}
			if err != nil || s.Proving() {
				t.Fatalf("%s: %v", algorithm, err)
			}
			s.Answered(200)
		}
		// too old: asked again with the new one, which is no rejection
		d.nonce, d.count = "n2", nil
		s = a.NewSession(nil)
		s.First(t.Context(), connect)
		f, err = s.Next(t.Context(), connect, d.challenge(true))
		if err == nil {
			err = d.ok(connect, f.Value)
		}
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		s.Answered(403)
		// so is one that a proxy, started anew, does not know any more, though it does not say stale
		s.Answered(200)
		d.nonce, d.count = "n3", nil
		s = a.NewSession(nil)
		s.First(t.Context(), connect)
		if f, err = s.Next(t.Context(), connect, d.challenge(false)); err != nil || d.ok(connect, f.Value) != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		// but the answer to that is final
		d.nonce = "n4"
		if _, err = s.Next(t.Context(), connect, d.challenge(false)); kindOf(err) != Rejected || !a.Shut() {
			t.Fatalf("%s: %v", algorithm, err)
		}
	}
}

func TestStaleForEver(t *testing.T) {
	a := mustNew(t, userConfig(Digest))
	s := a.NewSession(nil)
	s.First(t.Context(), connect)
	for i := range maxStale + 1 {
		if _, err := s.Next(t.Context(), connect, []string{fmt.Sprintf(`Digest realm=x, nonce="%d", stale=true`, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Next(t.Context(), connect, []string{`Digest realm=x, nonce="last", stale=true`}); kindOf(err) != Rejected {
		t.Fatal(err)
	}
	// the same nonce again, although it is said to be stale
	s = mustNew(t, userConfig(Digest)).NewSession(nil)
	s.Next(t.Context(), connect, []string{`Digest realm=x, nonce="1"`})
	if _, err := s.Next(t.Context(), connect, []string{`Digest realm=x, nonce="1", stale=true`}); kindOf(err) != Rejected {
		t.Fatal(err)
	}
}

// What proves a credential, and what says nothing about it.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		status  int
		asked   bool
		unasked State
	}{{200, true, Proven}, {403, true, Proven}, {404, true, Proven}, {302, true, Proven}, {400, true, Unproven}, {429, true, Unproven}, {500, true, Unproven}, {503, true, Unproven}} {
		c := userConfig(Basic)
		c.Guard = NewGuard(t.TempDir(), nil)
		a := mustNew(t, c)
		s := a.NewSession(nil)
		s.First(t.Context(), connect)
		s.Answered(tt.status)
		if got, _, _ := a.Pair().Status(); got != tt.unasked {
			t.Errorf("%d unasked: %v", tt.status, got)
		}
		c = userConfig(Digest, Basic)
		c.Guard = NewGuard(t.TempDir(), nil)
		a = mustNew(t, c)
		s = a.NewSession(nil)
		s.Next(t.Context(), connect, []string{"Basic realm=x"})
		s.Answered(tt.status)
		if got, _, _ := a.Pair().Status(); got != Proven {
			t.Errorf("%d after a 407: %v", tt.status, got)
		}
	}
}

func TestBearerAndHeader(t *testing.T) {
	a := mustNew(t, Config{Schemes: []string{Bearer}, Token: secretOf("tok")})
	if f, err := a.NewSession(nil).First(t.Context(), connect); err != nil || f != (Field{"Proxy-Authorization", "Bearer tok"}) {
		t.Errorf("%v %v", f, err)
	}
	a = mustNew(t, Config{Schemes: []string{Header}, HeaderName: "X-Key", Token: secretOf("tok")})
	if f, err := a.NewSession(nil).First(t.Context(), connect); err != nil || f != (Field{"X-Key", "tok"}) {
		t.Errorf("%v %v", f, err)
	}
	for name, c := range map[string]Config{
		"nothing":         {},
		"unknown":         {Schemes: []string{"kerberos"}},
		"twice":           userConfig(Basic, Basic),
		"no password":     {Schemes: []string{Basic}, Username: "u"},
		"no token":        {Schemes: []string{Bearer}},
		"colon":           {Schemes: []string{Basic}, Username: "a:b", Password: secretOf("x")},
		"control":         {Schemes: []string{Digest}, Username: "a\nb", Password: secretOf("x")},
		"space in token":  {Schemes: []string{Bearer}, Token: secretOf("a b")},
		"header and more": {Schemes: []string{Header, Basic}, HeaderName: "X", Token: secretOf("a"), Username: "u", Password: secretOf("p")},
		"header unnamed":  {Schemes: []string{Header}, Token: secretOf("a")},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNothingOfTheSecretIsPrinted(t *testing.T) {
	c := userConfig(Digest, Basic)
	c.Guard = NewGuard(t.TempDir(), nil)
	a := mustNew(t, c)
	s := a.NewSession(nil)
	s.Next(t.Context(), connect, []string{`Basic realm=x`})
	for _, v := range []any{a, a.c, s, a.Pair()} {
		if text := fmt.Sprintf("%v %+v %#v %s %d", v, v, v, v, v); strings.Contains(text, "p4ss") || strings.Contains(text, "c3Zj") {
			t.Error(text)
		}
	}
	if d := cmp.Diff("GET http://a.example/?", "GET "+plainly("http://a.example/private?key=x")+"?"); d != "" {
		t.Error(d)
	}
}
