package main

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCgroupMemory: the tightest limit on the way up counts, "max" is none, and what cannot be read is no limit.
func TestCgroupMemory(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("system.slice/memory.max", "1000000\n")
	write("system.slice/viaduct.service/memory.max", "max\n")
	write("user.slice/memory.max", "500\n")
	write("user.slice/app/memory.max", "100\n")
	for _, c := range []struct {
		self string
		want int64
	}{
		{"0::/system.slice/viaduct.service\n", 1000000},
		{"12:cpu:/x\n0::/user.slice/app\n", 100},
		{"0::/elsewhere\n", 0},
		{"0::/../outside\n", 0},
		{"", 0},
	} {
		if got := cgroupMemory(root, write("self", c.self)); got != c.want {
			t.Errorf("%q: %d, expected %d", c.self, got, c.want)
		}
	}
	if got := cgroupMemory(root, filepath.Join(root, "nosuch")); got != 0 {
		t.Errorf("without a file: %d", got)
	}
}

// TestLimits looks at the limits of a gateway that runs: no core files, all descriptors that the system allows.
func TestLimits(t *testing.T) {
	g := startGateway(t, here)
	var core, files unix.Rlimit
	for what, lim := range map[int]*unix.Rlimit{unix.RLIMIT_CORE: &core, unix.RLIMIT_NOFILE: &files} {
		if err := unix.Prlimit(g.cmd.Process.Pid, what, nil, lim); err != nil {
			t.Fatal(err)
		}
	}
	if core.Cur != 0 || core.Max != 0 {
		t.Errorf("limit of core files: %+v", core)
	}
	if files.Cur != files.Max {
		t.Errorf("limit of descriptors: %+v", files)
	}
}

// TestPrivateDir: a directory below /tmp is trusted only when nobody else can write there.
func TestPrivateDir(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "a", "b")
	if err := privateDir(good); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(good); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	if err := os.Chmod(good, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := privateDir(good); err == nil {
		t.Error("a directory that all can write was taken")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := privateDir(link); err == nil {
		t.Error("a link was taken")
	}
	if os.Getuid() == 0 {
		theirs := filepath.Join(dir, "theirs")
		if err := os.Mkdir(theirs, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(theirs, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if err := privateDir(theirs); err == nil {
			t.Error("another user's directory was taken")
		}
	}
}

// TestNoCore: unless it is asked for, nobody may look into the memory of the process.
func TestNoCore(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Setrlimit(unix.RLIMIT_CORE, &before)
		unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	})
	dumpable := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	if prepareProcess(true); dumpable() != 1 {
		t.Error("--dumpable has no effect")
	}
	var now unix.Rlimit
	prepareProcess(false)
	if unix.Getrlimit(unix.RLIMIT_CORE, &now); dumpable() != 0 || now.Cur != 0 {
		t.Errorf("dumpable %d, core files of %d bytes", dumpable(), now.Cur)
	}
	ballast = nil
}
