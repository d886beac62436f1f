package policies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/crypto/bcrypt"
)

func hash(t *testing.T, password string) string {
	t.Helper()
	b, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUsers(t *testing.T) {
	l := &loader{}
	u := l.readUsers([]byte("# people\r\n\nanna:"+strings.Replace(hash(t, "sesame"), "$2a$", "$2y$", 1)+"\r\notto:"+hash(t, "")+"\n"), "users", hcl.Range{})
	if len(l.diags) > 0 || u.Len() != 2 {
		t.Fatal(l.diags)
	}
	for _, x := range []struct {
		user, password string
		right          bool
	}{
		{"anna", "sesame", true}, {"anna", "sesame", true}, {"anna", "Sesame", false}, {"anna", "", false}, {"anna", "sesame\x00", false},
		{"ann", "asesame", false}, {"otto", "", true}, {"otto", "x", false}, {"eve", "sesame", false}, {"", "", false}, {"# people", "", false},
		{"anna", strings.Repeat("s", 73), false},
	} {
		if got := u.Verify(x.user, x.password); got != x.right {
			t.Errorf("Verify(%q, %q) is %v", x.user, x.password, got)
		}
	}
}

func TestUsersRefused(t *testing.T) {
	good := hash(t, "x")
	for _, x := range []struct{ name, src, want string }{
		{"MD5", "anna:$apr1$abcdefgh$0123456789012345678901\n", "not bcrypt"},
		{"plain text", "anna:sesame\n", "not bcrypt"},
		{"SHA", "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", "not bcrypt"},
		{"twice", "anna:" + good + "\nanna:" + good + "\n", "twice"},
		{"no colon", "anna\n", "name:hash"},
		{"no name", ":" + good + "\n", "name:hash"},
		{"control character", "an\x01na:" + good + "\n", "name:hash"},
		{"cost", "anna:" + strings.Replace(good, "$04$", "$31$", 1) + "\n", "at most 15"},
		{"nobody", "# nobody\n", "nobody gets in"},
	} {
		l := &loader{}
		u := l.readUsers([]byte(x.src), "users", hcl.Range{})
		if len(l.diags) == 0 || !strings.Contains(l.diags[0].Detail, x.want) || strings.Contains(l.diags[0].Detail, "sesame") {
			t.Errorf("%s: %v", x.name, l.diags)
		}
		if x.name != "twice" && u.Verify("anna", "sesame") {
			t.Errorf("%s: somebody gets in", x.name)
		}
	}
}

func TestUsersRenew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	put := func(s string) []byte {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		return []byte(s)
	}
	first, second := "anna:"+hash(t, "one")+"\n", "anna:"+hash(t, "two")+"\notto:"+hash(t, "three")+"\n"
	u := newLoader(Options{}).readUsers(put(first), path, hcl.Range{})
	renew := func(changed bool, says string) {
		t.Helper()
		got, err := u.Renew()
		if got != changed || (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%v, %v; want %v, %q", got, err, changed, says)
		}
	}
	if renew(false, ""); !u.Verify("anna", "one") {
		t.Error("not let in")
	}
	put(second)
	if renew(true, ""); u.Verify("anna", "one") || !u.Verify("anna", "two") || !u.Verify("otto", "three") || u.Len() != 2 {
		t.Error("the file before is still in use") // the password before was remembered as right
	}
	renew(false, "")
	put("otto:" + hash(t, "three") + "\nanna:plain\n")
	renew(false, "not bcrypt")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if renew(false, "There is no"); !u.Verify("anna", "two") || u.Len() != 2 {
		t.Error("what was wrong has changed something")
	}
	put("# nobody\n")
	if renew(true, ""); u.Verify("anna", "two") || u.Len() != 0 {
		t.Error("somebody is let in")
	}
	put(second)
	if renew(true, ""); !u.Verify("anna", "two") {
		t.Error("not let in any more")
	}
}
