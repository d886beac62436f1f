package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree returns pid and its living descendants.
func tree(pid int) []int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		if s, ok := readStat(f); ok {
			parents[s.pid] = s.parent
		}
	}
	ours := []int{pid}
	for i := 0; i < len(ours); i++ {
		for child, parent := range parents {
			if parent == ours[i] && !slices.Contains(ours, child) {
				ours = append(ours, child)
			}
		}
	}
	return ours
}

// stat is what /proc/PID/stat says, as far as it is needed (proc_pid_stat(5)).
type stat struct {
	pid, parent int
	own         time.Duration // user and system time of all threads, those that ended included
	reaped      time.Duration // the same of children that ended and were waited for
}

// tick is the unit of times in stat: USER_HZ, 100 on every Linux there is.
const tick = 10 * time.Millisecond

func readStat(path string) (stat, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return stat{}, false
	}
	// The second field is the program's name in parentheses, and may hold anything.
	text := string(b)
	i, j := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if i < 0 || j < i {
		return stat{}, false
	}
	f := strings.Fields(text[j+1:])
	if len(f) < 15 {
		return stat{}, false
	}
	n := func(i int) int { v, _ := strconv.Atoi(f[i]); return v }
	pid, _ := strconv.Atoi(strings.TrimSpace(text[:i]))
	return stat{pid: pid, parent: n(1), own: time.Duration(n(11)+n(12)) * tick, reaped: time.Duration(n(13)+n(14)) * tick}, true
}

// cpuTime is the processor time that pids have used. The process clock counts the same time as stat does, in nanoseconds
// instead of ticks; children that ended are known in ticks only.
func cpuTime(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		s, ok := readStat(fmt.Sprintf("/proc/%d/stat", pid))
		if !ok {
			continue
		}
		var ts unix.Timespec
		if unix.ClockGettime(int32(^pid<<3|2), &ts) == nil { // clock_getcpuclockid(3)
			s.own = time.Duration(ts.Nano())
		}
		sum += s.own + s.reaped
	}
	return sum
}

// footprint is what processes hold at a moment.
type footprint struct {
	memory      int64 // bytes, proportional set size: shared pages are divided among those who share them
	descriptors int
	pipes       int   // descriptors that are ends of pipes
	kernel      int64 // bytes, of the whole machine: see kernelMemory
}

func footprintOf(pids []int) footprint {
	f := footprint{kernel: kernelMemory()}
	for _, pid := range pids {
		f.memory += 1024 * field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		fds, _ := os.ReadDir(dir)
		f.descriptors += len(fds)
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && strings.HasPrefix(to, "pipe:") {
				f.pipes++
			}
		}
	}
	return f
}

// kernelMemory is what the kernel itself has allocated: slab objects, the stacks of threads, page tables, and what is charged to
// TCP buffers. It is of the whole machine, so only its growth says something, and the sockets of the load are in it.
func kernelMemory() int64 {
	const meminfo = "/proc/meminfo"
	kb := field(meminfo, "Slab:") + field(meminfo, "KernelStack:") + field(meminfo, "PageTables:")
	return kb<<10 + tcpMemory()
}

func tcpMemory() int64 {
	b, _ := os.ReadFile("/proc/net/sockstat")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if i := slices.Index(f, "mem"); i > 0 && f[0] == "TCP:" && i+1 < len(f) {
			n, _ := strconv.ParseInt(f[i+1], 10, 64)
			return n * int64(os.Getpagesize())
		}
	}
	return 0
}

// field reads the number after a name at the beginning of a line.
func field(path, name string) int64 {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				return n
			}
		}
	}
	return 0
}

// cpus are the two processors that the bench uses; equal when there is only one.
type cpus struct{ proxy, load int }

func findCPUs() (cpus, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cpus{}, fmt.Errorf("sched_getaffinity: %w", err)
	}
	var have []int
	for i := range 1024 {
		if set.IsSet(i) {
			have = append(have, i)
		}
	}
	return cpus{have[0], have[len(have)-1]}, nil
}

func affinity(thread int, on ...int) error {
	var set unix.CPUSet
	for _, cpu := range on {
		set.Set(cpu)
	}
	return unix.SchedSetaffinity(thread, &set)
}

// pinSelf moves every thread of this process to one CPU; further threads inherit that.
func pinSelf(cpu int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, _ := strconv.Atoi(t.Name())
		if err := affinity(id, cpu); err != nil && err != unix.ESRCH {
			return fmt.Errorf("sched_setaffinity: %w", err)
		}
	}
	return nil
}

// unpinned runs start on a thread that may use all the CPUs of the bench.
func unpinned(c cpus, start func() error) error { return onCPUs([]int{c.proxy, c.load}, c.load, start) }

// pinned runs start on a thread that is bound to a CPU: the processes that it starts inherit that before they run, so that
// those which look at the number of CPUs see one.
func pinned(cpu, back int, start func() error) error { return onCPUs([]int{cpu}, back, start) }

func onCPUs(on []int, back int, start func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := affinity(0, on...); err != nil {
			done <- fmt.Errorf("sched_setaffinity: %w", err)
			return
		}
		err := start()
		if e := affinity(0, back); err == nil && e != nil {
			err = e
		}
		done <- err
	}()
	return <-done
}
