package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// RequireEnv names the variable that turns a missing program into a failure.
const RequireEnv = "VIADUCT_REQUIRE_PEERS"

// places are searched after PATH: daemons and Squid's helpers live here, and
// an ordinary user's PATH often lacks them.
var places = []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/lib/squid", "/usr/lib64/squid", "/usr/libexec/squid", "/usr/lib/git-core"}

// Look returns the path of a program, or false. "squid-openssl" means a squid
// built with TLS, "chromium" any of the names that Chromium goes by.
func Look(name string) (string, bool) {
	switch name {
	case "squid-openssl":
		path, ok := Look("squid")
		return path, ok && squidTLS(path)
	case "chromium":
		for _, n := range []string{"chromium-browser", "google-chrome"} {
			if path, ok := look(n); ok {
				return path, true
			}
		}
	case "stunnel":
		if path, ok := look("stunnel4"); ok { // Debian's stunnel is a script around it
			return path, true
		}
	}
	return look(name)
}

func look(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range places {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

var squidTLSOnce sync.Map // path -> bool

func squidTLS(path string) bool {
	if v, ok := squidTLSOnce.Load(path); ok {
		return v.(bool)
	}
	out, err := exec.Command(path, "-v").Output()
	has := err == nil && (strings.Contains(string(out), "with-openssl") || strings.Contains(string(out), "with-gnutls"))
	squidTLSOnce.Store(path, has)
	return has
}

func mustLook(name string) (string, error) {
	path, ok := Look(name)
	if !ok {
		return "", fmt.Errorf("peers: %s is not installed", name)
	}
	return path, nil
}

// Tester is the part of testing.TB that Need uses.
type Tester interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// NeedRoot skips the test unless it runs as root, saying what for. With
// VIADUCT_REQUIRE_PEERS=1 it fails the test instead.
func NeedRoot(t Tester, what string) {
	t.Helper()
	switch {
	case os.Getuid() == 0:
	case os.Getenv(RequireEnv) == "1":
		t.Fatalf("%s=1, but not root: %s", RequireEnv, what)
	default:
		t.Skipf("not root: %s", what)
	}
}

// Need skips the test, naming what is missing, unless all programs are there.
// With VIADUCT_REQUIRE_PEERS=1 it fails the test instead.
func Need(t Tester, names ...string) {
	t.Helper()
	var missing []string
	for _, n := range names {
		if _, ok := Look(n); !ok {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return
	}
	if os.Getenv(RequireEnv) == "1" {
		t.Fatalf("%s=1, but not installed: %s", RequireEnv, strings.Join(missing, ", "))
	}
	t.Skipf("not installed: %s", strings.Join(missing, ", "))
}
