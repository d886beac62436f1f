package main

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"viaduct/upstream/upstreamtest/peers"
)

// terminal opens a pseudo terminal and returns the end that programs write to.
func terminal(t *testing.T) *os.File {
	t.Helper()
	none := func(err error) {
		t.Helper()
		if os.Getenv(peers.RequireEnv) != "" {
			t.Fatalf("no pseudo terminals here: %v", err)
		}
		t.Skipf("no pseudo terminals here: %v", err)
	}
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		none(err)
	}
	t.Cleanup(func() { control.Close() })
	if err := unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	// By descriptor, not by a path below /dev/pts: containers have it elsewhere, or not at all.
	fd, _, no := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if no != 0 {
		none(no)
	}
	tty := os.NewFile(fd, "pseudo terminal")
	t.Cleanup(func() { tty.Close() })
	return tty
}

// TestColours: they are for terminals, and for those who want them.
func TestColours(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if colourful(file) || colourful(&bytes.Buffer{}) {
		t.Error("colours in what is no terminal")
	}
	tty := terminal(t)
	if !colourful(tty) {
		t.Error("no colours on a terminal")
	}
	t.Setenv("TERM", "dumb")
	if colourful(tty) {
		t.Error("colours on a dumb terminal")
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	if colourful(tty) {
		t.Error("colours in spite of NO_COLOR")
	}
	if got := palette(false).bad("x") + palette(true).bad("x"); got != "x\x1b[31mx\x1b[0m" {
		t.Errorf("%q", got)
	}
}
