package peers

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one line of the process table.
type process struct{ pid, parent, group int }

// processes is the process table without zombies.
func processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if parent, group, ok := stat(pid); ok {
				all = append(all, process{pid, parent, group})
			}
		}
	}
	return all
}

// family is a process, those of its group, and the descendants of them all.
func family(first int) []int {
	all := processes()
	ours := map[int]bool{first: true}
	for grown := true; grown; {
		grown = false
		for _, l := range all {
			if !ours[l.pid] && (ours[l.parent] || l.group == first) {
				ours[l.pid], grown = true, true
			}
		}
	}
	return slices.Sorted(maps.Keys(ours))
}

// endGroup kills what outlives the first process of a group, and waits until
// nothing of it runs: a worker that is still dying may still accept
// connections. The first process may have forked until its last moment.
func endGroup(group int) {
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) {
		if syscall.Kill(-group, syscall.SIGKILL) == syscall.ESRCH {
			return
		}
		if !slices.ContainsFunc(processes(), func(p process) bool { return p.group == group }) {
			return // zombies alone
		}
		time.Sleep(time.Millisecond)
	}
}

// alive reports whether pid runs; a zombie does not.
func alive(pid int) bool {
	_, _, ok := stat(pid)
	return ok
}

// stat reads parent and group from /proc/<pid>/stat (proc(5)).
func stat(pid int) (parent, group int, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	_, rest, ok := strings.Cut(string(b), ") ") // the name may hold spaces
	f := strings.Fields(rest)
	if !ok || len(f) < 3 || f[0] == "Z" {
		return 0, 0, false
	}
	parent, err1 := strconv.Atoi(f[1])
	group, err2 := strconv.Atoi(f[2])
	return parent, group, err1 == nil && err2 == nil
}

// awaitDead waits until none of pids runs, those that left the group included.
// A second is far more than SIGKILL takes.
func awaitDead(pids []int) {
	deadline := time.Now().Add(time.Second)
	for _, pid := range pids {
		for alive(pid) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
}
