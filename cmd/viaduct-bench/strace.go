package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"viaduct/upstream/upstreamtest/peers"
)

// tracedTunnels are enough to make what strace's own coming and going costs vanish in the quotient.
const tracedTunnels = 400

// sampleSyscalls counts the system calls of a tunnel with strace attached to the whole process. Tunnels come one at a time: then
// the first number is the same in every run.
func sampleSyscalls(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	if err := d.tunnels(ctx, b.env.origin.echo, 2*clients, 1); err != nil {
		return nil, err
	}
	var failed error
	calls, err := straced(ctx, b.env, p.pids(), func() {
		if failed = d.tunnels(ctx, b.env.origin.echo, tracedTunnels, 1); failed == nil {
			failed = b.env.origin.settled()
		}
		time.Sleep(100 * time.Millisecond)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	var exact, all float64
	by := map[string]float64{}
	for name, n := range calls {
		by[name] = float64(n) / tracedTunnels
		all += by[name]
		if !byTheClock[name] {
			exact += by[name]
		}
	}
	b.report.calls(p.contender, by)
	return []float64{exact, all}, nil
}

// byTheClock are the calls whose number depends on when things happen: waiting, threads, signals, memory. Under load a runtime
// waits once for many tunnels, when they come one at a time it waits several times for each.
var byTheClock = map[string]bool{
	"epoll_wait": true, "epoll_pwait": true, "epoll_pwait2": true, "poll": true, "ppoll": true, "select": true, "pselect6": true,
	"futex": true, "nanosleep": true, "clock_nanosleep": true, "sched_yield": true, "restart_syscall": true, "sched_getaffinity": true,
	"clone": true, "clone3": true, "set_robust_list": true, "rseq": true, "exit": true, "wait4": true,
	"tgkill": true, "getpid": true, "rt_sigreturn": true, "rt_sigprocmask": true, "rt_sigaction": true, "sigaltstack": true,
	"brk": true, "mmap": true, "munmap": true, "mprotect": true, "madvise": true, "pread64": true, // the last: Go looks at its cgroup
}

// straced counts the system calls of pids by name while f runs.
func straced(ctx context.Context, e *env, pids []int, f func()) (map[string]int, error) {
	path, ok := peers.Look("strace")
	if !ok {
		return nil, fmt.Errorf("strace is not installed")
	}
	table := filepath.Join(e.dir, "strace")
	args := []string{"-c", "-f", "-U", "calls,name", "-o", table}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	said, err := os.CreateTemp(e.dir, "strace-*.log")
	if err != nil {
		return nil, err
	}
	defer said.Close()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// strace says "Process 1 attached" or "Process 1 attached with 8 threads" for each.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(said.Name())
		if bytes.Count(text, []byte(" attached")) >= len(pids) {
			break
		}
		if time.Now().After(end) || bytes.Contains(text, []byte("attach:")) {
			ended(cmd, syscall.SIGINT)
			return nil, fmt.Errorf("strace does not attach: %s", bytes.TrimSpace(text))
		}
	}
	f()
	ended(cmd, syscall.SIGINT) // its status is the signal; what matters is the table
	b, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	return parseCalls(string(b))
}

// parseCalls reads the two columns "calls" and "syscall" of strace -c.
func parseCalls(table string) (map[string]int, error) {
	calls := map[string]int{}
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) != 2 || f[1] == "total" {
			continue
		}
		if n, err := strconv.Atoi(f[0]); err == nil {
			calls[f[1]] += n
		}
	}
	if len(calls) == 0 {
		return nil, fmt.Errorf("strace counted nothing:\n%s", table)
	}
	return calls, nil
}
