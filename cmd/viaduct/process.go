package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// prepareProcess sets the limits of a process that holds secrets and many sockets. The soft limit of descriptors was raised to
// the hard one by the Go runtime already; descriptors returns it.
// Passwords of upstreams are in its memory, which nobody of the same user may look into, and of which there is no core file, unless it is to be
// dumpable. (The runtime makes one with GOTRACEBACK=crash alone; and where core files go to a program, the limit does not count, and that the
// process is not dumpable does.)
func prepareProcess(dumpable bool) (descriptors uint64, memory int64) {
	if !dumpable {
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		if files.Cur < files.Max {
			files.Cur = files.Max
			unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
			unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
		}
		descriptors = files.Cur
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if max := cgroupMemory("/sys/fs/cgroup", "/proc/self/cgroup"); max > 0 {
			memory = max / 10 * 8 // the rest is for what Go does not count: stacks of the kernel, sockets, the page cache
			debug.SetMemoryLimit(memory)
		}
	}
	ballast = make([]byte, ballastSize)
	return descriptors, memory
}

// ballast is never touched, so it takes address space and no memory. It counts as live for the collector, which then lets 2 x 24 MiB of
// garbage more come together before it runs: with the few megabytes that a quiet gateway holds, it would run every few hundred
// connections, at a tenth of their cost. Beside 10,000 tunnels it makes no difference any more.
var ballast []byte

const ballastSize = 24 << 20

// cgroupMemory returns the smallest memory.max of the process' cgroup (v2) and those above it, or 0 when there is none.
func cgroupMemory(root, self string) int64 {
	b, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	var path string
	for line := range bytes.Lines(b) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "0::"); ok {
			path = p
		}
	}
	if path == "" || strings.Contains(path, "..") { // a cgroup outside our namespace
		return 0
	}
	var least int64
	for dir := filepath.Join("/", path); ; dir = filepath.Dir(dir) {
		if b, err := os.ReadFile(filepath.Join(root, dir, "memory.max")); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		if dir == "/" {
			return least
		}
	}
}
