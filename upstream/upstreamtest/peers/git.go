package peers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// GitOptions configures a git origin. The zero value serves plain HTTP.
type GitOptions struct {
	// TLS, if set, makes it https.
	TLS *tls.Config
	// Size is the number of bytes of one incompressible file in the
	// repository; 0 means 100,000.
	Size int
}

// GitRepo is one repository behind git's own http-backend.
type GitRepo struct {
	*Web
	// Commit is the ID of its one commit, on branch main.
	Commit string
}

// CloneURL is what to give to git clone.
func (g *GitRepo) CloneURL() string { return g.URL("/repo.git") }

// Git makes a repository with one commit, of a README and a large file, and
// serves it, for clone and for push, by git http-backend.
func Git(ctx context.Context, dir string, o GitOptions) (*GitRepo, error) {
	git, err := mustLook("git")
	if err != nil {
		return nil, err
	}
	own, err := place(dir, "git")
	if err != nil {
		return nil, err
	}
	if o.Size == 0 {
		o.Size = 100_000
	}
	commit, err := gitRepo(ctx, git, own, o.Size)
	if err != nil {
		return nil, err
	}
	web, err := serveWeb(&cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Dir: own,
		Env: append(gitEnv(own), "GIT_PROJECT_ROOT="+own, "GIT_HTTP_EXPORT_ALL=1"),
	}, o.TLS)
	if err != nil {
		return nil, err
	}
	return &GitRepo{Web: web, Commit: commit}, nil
}

func gitRepo(ctx context.Context, git, dir string, size int) (commit string, err error) {
	work := filepath.Join(dir, "work")
	run := func(at string, args ...string) string {
		if err != nil {
			return ""
		}
		cmd := exec.CommandContext(ctx, git, args...)
		cmd.Dir, cmd.Env = at, append(os.Environ(), gitEnv(dir)...)
		out, e := cmd.CombinedOutput()
		if e != nil {
			err = fmt.Errorf("peers: git %s: %w: %s", args[0], e, out)
		}
		return strings.TrimSpace(string(out))
	}
	run(dir, "init", "-q", "-b", "main", work)
	if err != nil {
		return "", err
	}
	if _, err := write(work, "README", "a repository to clone\n", 0o644); err != nil {
		return "", err
	}
	if _, err := write(work, "blob", noise(size), 0o644); err != nil {
		return "", err
	}
	run(work, "add", ".")
	run(work, "commit", "-q", "-m", "one commit")
	commit = run(work, "rev-parse", "HEAD")
	run(dir, "clone", "-q", "--bare", work, "repo.git")
	run(filepath.Join(dir, "repo.git"), "config", "http.receivepack", "true")
	return commit, err
}

// gitEnv keeps git from the user's and the system's configuration.
func gitEnv(home string) []string {
	return []string{
		"HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=peers", "GIT_AUTHOR_EMAIL=peers@example.test",
		"GIT_COMMITTER_NAME=peers", "GIT_COMMITTER_EMAIL=peers@example.test",
	}
}

// noise is n bytes that do not compress, the same each time (xorshift).
func noise(n int) string {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}
