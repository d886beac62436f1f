package apitest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReadme runs every example of the manual, as it stands there but for the places of sockets and files.
func TestReadme(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("VIADUCT_REQUIRE_PEERS") != "" {
			t.Fatal(err)
		}
		t.Skip("there is no curl")
	}
	b, err := os.ReadFile(filepath.Join(root(), "router/admin/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	const small = "gateway {\n  admin {\n    address = \"DOOR\"\n  }\n}\nlistener \"desk\" {\n  address = \"LISTEN\"\n}\nupstream \"corp\" { url = \"http://127.0.0.1:9\" }\npolicy \"default\" {\n  otherwise { via = upstream.corp }\n}\n"
	unix, tcp := start(t, "unix", small, nil), start(t, "tcp", small, nil)
	examples := regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(examples) < 10 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, x := range examples {
		command := strings.NewReplacer("/run/viaduct/admin.sock", filepath.Join(unix.dir, "s"), "/var/lib/viaduct/admin.token", filepath.Join(tcp.dir, "state", "admin.token"),
			"127.0.0.1:9090", strings.TrimPrefix(tcp.base, "http://"), "curl -sS", "curl -fsS").Replace(x[1])
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput()
		cancel()
		if err != nil || len(out) == 0 {
			t.Errorf("%s: %v\n%s", x[1], err, out)
		}
	}
	for _, rt := range regexp.MustCompile("`(?:GET|POST|DELETE) (/[a-zA-Z0-9./_-]*)").FindAllStringSubmatch(string(b), -1) {
		path := strings.NewReplacer("/ID", "/{id}", "/NAME/", "/{name}/").Replace(rt[1])
		doc, err := os.ReadFile(filepath.Join(root(), "router/admin/openapi.json"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(doc), `"`+path+`"`) {
			t.Errorf("the manual speaks of %s, which the document does not know", path)
		}
	}
}
