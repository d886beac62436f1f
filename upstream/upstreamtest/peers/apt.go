package peers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// AptPackage is the name of the one package in an AptRepo.
const AptPackage = "viaduct-test-package"

// AptRepo is a signed repository with one small package, suite "stable",
// component "main".
type AptRepo struct {
	*Web
	// Keyring is the file with the public key that signed it.
	Keyring string
}

// Apt builds a package with dpkg-deb, indexes it with apt-ftparchive, signs it
// with a key made by gpg for the occasion, and serves it; by TLS if config is
// not nil.
func Apt(ctx context.Context, dir string, config *tls.Config) (*AptRepo, error) {
	for _, n := range []string{"dpkg-deb", "apt-ftparchive", "gpg"} {
		if _, err := mustLook(n); err != nil {
			return nil, err
		}
	}
	own, err := place(dir, "apt")
	if err != nil {
		return nil, err
	}
	keyring := filepath.Join(own, "key.gpg")
	if err := aptTree(ctx, own, keyring); err != nil {
		return nil, err
	}
	web, err := serveWeb(http.FileServer(http.Dir(filepath.Join(own, "www"))), config)
	if err != nil {
		return nil, err
	}
	return &AptRepo{Web: web, Keyring: keyring}, nil
}

// aptTree makes www/pool, www/dists and the keyring.
func aptTree(ctx context.Context, dir, keyring string) error {
	www := filepath.Join(dir, "www")
	pkg := filepath.Join(dir, "pkg")
	index := filepath.Join(www, "dists/stable/main/binary-"+debArch())
	for _, d := range []string{
		filepath.Join(pkg, "DEBIAN"), filepath.Join(pkg, "usr/share", AptPackage),
		filepath.Join(www, "pool"), index,
	} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("peers: %w", err)
		}
	}
	control := "Package: " + AptPackage + "\nVersion: 1.0\nArchitecture: all\nMaintainer: peers <peers@example.test>\nDescription: a package to fetch\n"
	if _, err := write(pkg, "DEBIAN/control", control, 0o644); err != nil {
		return err
	}
	if _, err := write(pkg, "usr/share/"+AptPackage+"/blob", noise(50_000), 0o644); err != nil {
		return err
	}
	// gpg's agent wants a short socket path, which a test's directory is not.
	home, err := os.MkdirTemp("", "gpg-")
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	defer os.RemoveAll(home)
	gpg := []string{"gpg", "--homedir", home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}
	defer exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() // the agent that gpg starts
	release := filepath.Join(www, "dists/stable/Release")
	steps := []struct {
		to   string // file that takes stdout
		args []string
	}{
		{"", []string{"dpkg-deb", "--root-owner-group", "--build", pkg, filepath.Join(www, "pool", AptPackage+"_1.0_all.deb")}},
		{filepath.Join(index, "Packages"), []string{"apt-ftparchive", "packages", "pool"}},
		{release, []string{"apt-ftparchive", "-o", "APT::FTPArchive::Release::Suite=stable",
			"-o", "APT::FTPArchive::Release::Components=main", "-o", "APT::FTPArchive::Release::Architectures=" + debArch(),
			"release", "dists/stable"}},
		{"", append(gpg, "--quick-gen-key", "peers <peers@example.test>", "ed25519", "sign", "1d")},
		{keyring, append(gpg, "--export")},
		{filepath.Join(www, "dists/stable/InRelease"), append(gpg, "--clearsign", "--output", "-", release)},
	}
	for _, s := range steps {
		if err := run(ctx, www, s.to, s.args); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command, its stdout to a file if one is given. The file is put in
// place when complete, since apt-ftparchive reads the folder it writes to.
func run(ctx context.Context, dir, to string, args []string) error {
	path, err := mustLook(args[0])
	if err != nil {
		return err
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("peers: %s: %w: %s", args[0], err, stderr.String())
	}
	if to == "" {
		return nil
	}
	if err := os.WriteFile(to, out, 0o644); err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	return nil
}

func debArch() string {
	switch runtime.GOARCH {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "ppc64le":
		return "ppc64el"
	}
	return runtime.GOARCH
}

// AptGetOptions says how AptGet reaches the repository.
type AptGetOptions struct {
	// Proxy is the URL of Acquire::http::Proxy and Acquire::https::Proxy, such as
	// "http://u:p@127.0.0.1:3128" or "socks5h://127.0.0.1:3128"; "" means direct.
	Proxy string
	// CAFile verifies an https repository.
	CAFile string
	// BaseURL replaces the repository's own URL, for a name that a proxy knows.
	BaseURL string
}

// AptGet runs apt-get with lists, cache and configuration of its own: update,
// then download of AptPackage into a directory, and returns the .deb file and
// what apt-get said. The system's apt is neither read nor changed.
func (r *AptRepo) AptGet(ctx context.Context, dir string, o AptGetOptions) (deb, output string, err error) {
	apt, err := mustLook("apt-get")
	if err != nil {
		return "", "", err
	}
	own, err := place(dir, "apt-get")
	if err != nil {
		return "", "", err
	}
	config, err := r.aptConfig(own, o)
	if err != nil {
		return "", "", err
	}
	for _, args := range [][]string{{"update"}, {"download", AptPackage}} {
		cmd := exec.CommandContext(ctx, apt, args...)
		cmd.Dir = own
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=" + own, "APT_CONFIG=" + config}
		out, err := cmd.CombinedOutput()
		output += string(out)
		if err != nil {
			return "", output, fmt.Errorf("peers: apt-get %s: %w: %s", args[0], err, out)
		}
	}
	found, err := filepath.Glob(filepath.Join(own, AptPackage+"_*.deb"))
	if err != nil || len(found) != 1 {
		return "", output, fmt.Errorf("peers: apt-get download left %d packages: %s", len(found), output)
	}
	return found[0], output, nil
}

// aptConfig writes the configuration and the directories it names.
func (r *AptRepo) aptConfig(dir string, o AptGetOptions) (file string, err error) {
	if err := plain(o.Proxy, o.CAFile, o.BaseURL); err != nil {
		return "", err
	}
	for _, d := range []string{"etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d", "etc/auth.conf.d", "state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", fmt.Errorf("peers: %w", err)
		}
	}
	if _, err := write(dir, "state/status", "", 0o644); err != nil {
		return "", err
	}
	base := o.BaseURL
	if base == "" {
		base = r.URL("")
	}
	source := fmt.Sprintf("deb [signed-by=%s] %s stable main\n", r.Keyring, base)
	if _, err := write(dir, "etc/sources.list", source, 0o644); err != nil {
		return "", err
	}
	var b strings.Builder
	set := func(key, value string) { fmt.Fprintf(&b, "%s %q;\n", key, value) }
	set("Dir::Etc", filepath.Join(dir, "etc"))
	set("Dir::State", filepath.Join(dir, "state"))
	set("Dir::State::status", filepath.Join(dir, "state/status"))
	set("Dir::Cache", filepath.Join(dir, "cache"))
	set("Dir::Log", filepath.Join(dir, "log"))
	set("APT::Sandbox::User", "") // stays who it is; the directories are ours
	set("APT::Architecture", debArch())
	set("APT::Architectures", debArch())
	set("Acquire::Languages", "none")
	set("Acquire::Retries", "0")
	if o.Proxy != "" {
		set("Acquire::http::Proxy", o.Proxy)
		set("Acquire::https::Proxy", o.Proxy)
	}
	if o.CAFile != "" {
		set("Acquire::https::CAInfo", o.CAFile)
	}
	return write(dir, "apt.conf", b.String(), 0o644)
}
