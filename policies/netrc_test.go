package policies

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNetrc(t *testing.T) {
	for name, row := range map[string]struct {
		src, machine, login string
		user, password      string // of what is found; "" = nothing is
	}{
		"one line":               {"machine a.example login u password p", "a.example", "", "u", "p"},
		"many lines":             {"machine a.example\n\tlogin u\n\tpassword p\n", "A.Example", "", "u", "p"},
		"CRLF":                   {"machine a.example\r\nlogin u\r\npassword p\r\n", "a.example", "", "u", "p"},
		"the second machine":     {"machine b login x password y machine a login u password p", "a", "", "u", "p"},
		"by login":               {"machine a login x password y machine a login u password p", "a", "u", "u", "p"},
		"another login":          {"machine a login x password y", "a", "u", "", ""},
		"default":                {"machine b login x password y default login u password p", "a", "", "u", "p"},
		"machine before default": {"default login x password y machine a login u password p", "a", "", "u", "p"},
		"default of any user":    {"default password p", "a", "u", "", "p"},
		"no password":            {"machine a login u default login d password p", "a", "", "d", "p"},
		"quotes":                 {`machine a login "u v" password "p \"q\" \\ #\t"`, "a", "", "u v", "p \"q\" \\ #\t"},
		"empty quotes":           {`machine a login "" password p`, "a", "", "", "p"},
		"quote inside":           {`machine a login u password p"q`, "a", "", "u", `p"q`},
		"a keyword as value":     {"machine a login password password machine", "a", "", "password", "machine"},
		"comment":                {"# machine a login x password y\nmachine a login u password p # no\n", "a", "", "", ""},
		"comments":               {"# machine a login x password y\n  # more\nmachine a login u password p\n# end", "a", "", "u", "p"},
		"hash in a password":     {"machine a login u password #p", "a", "", "u", "#p"},
		"account":                {"machine a login u account acct password p", "a", "", "u", "p"},
		"macro":                  {"machine b login x password y\nmacdef init\nmachine a login no password no\n\nmachine a login u password p", "a", "", "u", "p"},
		"macro to the end":       {"machine a login u password p\nmacdef init\ncd /\nquit", "a", "", "u", "p"},
		"nothing":                {"", "a", "", "", ""},
		"blanks":                 {" \n\t\r\n", "a", "", "", ""},
		"no machine asked":       {"machine a login u password p", "", "", "", ""},
	} {
		all, err := parseNetrc(row.src)
		if err != nil {
			if row.password != "" || !strings.Contains(err.Error(), "line ") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		e, ok := findNetrc(all, row.machine, row.login)
		if ok != (row.password != "") || e.login != row.user || e.password != row.password {
			t.Errorf("%s: %v %+v", name, ok, e)
		}
	}
	for name, src := range map[string]string{
		"no value":           "machine a login u password",
		"no machine":         "login u password c4n4ry",
		"open quote":         `machine a login u password "c4n4ry`,
		"quote over lines":   "machine a login u password \"c4n4ry\nx\"",
		"behind a quote":     `machine a login u password "c4n4ry"x`,
		"an unknown word":    "machine a login u password c4n4ry c4n4ry",
		"quoted keyword":     `"machine" a login u password c4n4ry`,
		"a long word":        "machine a login u password " + strings.Repeat("c4n4ry", 1000),
		"a long file":        strings.Repeat("machine a login u password c4n4ry\n", 10_000),
		"backslash at end":   `machine a login u password "c4n4ry\`,
		"machine at the end": "machine",
	} {
		all, err := parseNetrc(src)
		if err == nil || strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("%s: %v, %v", name, all, err)
		}
	}
}

func FuzzNetrc(f *testing.F) {
	f.Add("machine a login u password p\ndefault login d password \"q\\n\"\nmacdef x\ny\n\n# c\n")
	f.Add("machine a macdef b\n\nlogin")
	f.Fuzz(func(t *testing.T, src string) {
		all, err := parseNetrc(src)
		if err != nil && len(all) > 0 && strings.Contains(err.Error(), src) && len(src) > 60 {
			t.Errorf("the error repeats the file: %v", err)
		}
		if len(all) > len(src) {
			t.Errorf("%d entries in %d bytes", len(all), len(src))
		}
		for _, e := range all {
			if len(e.password) > maxNetrcToken || len(e.login) > maxNetrcToken {
				t.Error("a word is too long")
			}
			if got, ok := findNetrc(all, e.machine, e.login); e.password != "" && (!ok || got.password == "") {
				t.Errorf("%+v is not found again", e)
			}
		}
	})
}

func TestNetrcMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, good := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o644: false, 0o660: false, 0o604: false, 0o601: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := checkNetrcMode(path); (err == nil) != good {
			t.Errorf("%04o: %v", mode, err)
		}
	}
	if err := checkNetrcMode(path + "x"); err != nil {
		t.Error(err)
	}
}
