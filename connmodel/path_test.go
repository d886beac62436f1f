package connmodel

import "testing"

func TestRulePath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a/b?c=/../%61": "/a/b", "*": "*", "": "", "/a/": "/a/",
		"/%61dmin": "/admin", "//admin": "/admin", "/./admin": "/admin", "/x/../admin": "/admin", "/%2e/admin": "/admin",
		"/x/%2E%2e/admin": "/admin", "/x%2f..%2Fadmin": "/admin", "/../../admin": "/admin", "/a//b///c": "/a/b/c",
		"/%2561dmin": "/%61dmin", "/a%20b": "/a%20b", "/%c3%a9": "/%C3%A9", "/%00": "/%00", "/%zz%4": "/%zz%4", "/%": "/%",
		"/a/..": "/", "/a/.": "/a/", "/a/b/..": "/a/", "/..": "/", "/.hidden/..x/...": "/.hidden/..x/...", "/x;/../admin": "/admin",
	} {
		if got := (&RequestFacts{Path: in}).RulePath(); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = (&RequestFacts{Path: "/a/b/c?d=//.%41"}).RulePath() }); n != 0 {
		t.Errorf("a usual path costs %v allocations", n)
	}
}
