package router

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// idleTunnels opens n tunnels through g whose ends are bare sockets, so that what the process holds for them is the gateway's.
func idleTunnels(t testing.TB, g *gateway, n int) {
	t.Helper()
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(server) })
	if err := unix.Bind(server, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(server, n+1); err != nil {
		t.Fatal(err)
	}
	sa, _ := unix.Getsockname(server)
	request := fmt.Appendf(nil, "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8\r\n\r\n", sa.(*unix.SockaddrInet4).Port)
	door := g.Addrs()["desk"].(*net.TCPAddr).Port
	reply := make([]byte, 256)
	fds := make([]int, 0, n)
	t.Cleanup(func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	})
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: door}); err != nil {
			t.Fatal(err)
		}
		unix.Write(fd, request)
		if m, err := unix.Read(fd, reply); err != nil || !strings.HasPrefix(string(reply[:m]), "HTTP/1.1 200") {
			t.Fatalf("%q %v", reply[:m], err)
		}
	}
}

// inUse is the memory that the program uses: heap and stacks after a collection.
func inUse() (heap, stacks uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.StackInuse
}

func resident() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseUint(strings.Fields(string(b))[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

// TestIdleTunnelMemory bounds what an idle tunnel costs the process.
func TestIdleTunnelMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	n := pick(500, 3000)
	g := start(t, func(o *Options, c *Config) { o.Records = nil })
	idleTunnels(t, g, 20)
	heap, stacks := inUse()
	rss := resident()
	idleTunnels(t, g, n)
	fds := descriptors()
	heap2, stacks2 := inUse()
	per := func(a, b uint64) int64 { return (int64(b) - int64(a)) / int64(n) }
	t.Logf("an idle tunnel: %d bytes of heap, %d of stacks, %d resident", per(heap, heap2), per(stacks, stacks2), per(rss, resident()))
	if total := per(heap, heap2) + per(stacks, stacks2); total > 12<<10 {
		t.Errorf("an idle tunnel costs %d bytes", total)
	}
	if open := g.Stats().SessionsOpen; fds > 4*open+100 { // two of the gateway, two of this test
		t.Errorf("%d descriptors for %d tunnels", fds, open)
	}
}
