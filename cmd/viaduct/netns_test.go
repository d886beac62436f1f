package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"viaduct/upstream/upstreamtest/peers"
)

// landscape is three machines in network namespaces of this test: a client, a gateway between two networks, and servers behind it. The
// client's way to the servers leads through the gateway.
type landscape struct {
	t                       *testing.T
	client, gateway, server string
}

// The addresses of the landscape. The servers' machine has two of each family.
const (
	client4, client6   = "10.20.0.2", "fd00:20::2"
	gateway4, gateway6 = "10.20.0.1", "fd00:20::1" // toward the client
	server4, server6   = "192.0.2.10", "2001:db8::10"
	other4, other6     = "192.0.2.11", "2001:db8::11"
)

// newLandscape makes the namespaces, which end with the test. names are what the gateway finds in its hosts file.
func newLandscape(t *testing.T, names map[string]string) *landscape {
	t.Helper()
	peers.Need(t, "ip", "nft", "curl")
	w := &landscape{t: t}
	if os.Getuid() != 0 {
		w.impossible("they can be made by root alone")
	}
	for i, name := range []*string{&w.client, &w.gateway, &w.server} {
		*name = fmt.Sprintf("vd%d-%d%c", os.Getpid(), landscapes.next(), "cgs"[i])
		t.Cleanup(func() {
			exec.Command("ip", "netns", "del", *name).Run()
			os.RemoveAll(filepath.Join("/etc/netns", *name))
		})
		if out, err := exec.Command("ip", "netns", "add", *name).CombinedOutput(); err != nil {
			w.impossible(string(out))
		}
		w.in(*name, "ip link set lo up")
	}
	w.hosts(names)
	w.cable(w.client, client4, client6, w.gateway, gateway4, gateway6)
	w.cable(w.server, server4, server6, w.gateway, "192.0.2.1", "2001:db8::1")
	w.in(w.server, "ip address add "+other4+"/24 dev eth0 && ip -6 address add "+other6+"/64 dev eth0 nodad")
	for _, at := range []string{w.client, w.server} {
		v4, v6 := gateway4, gateway6
		if at == w.server {
			v4, v6 = "192.0.2.1", "2001:db8::1"
		}
		w.in(at, "ip route add default via "+v4+" && ip -6 route add default via "+v6)
	}
	w.in(w.gateway, "echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
	return w
}

// impossible skips the test, or fails it where nothing may be missing.
func (w *landscape) impossible(why string) {
	w.t.Helper()
	why = "no network namespaces here: " + strings.TrimSpace(why)
	if os.Getenv("VIADUCT_REQUIRE_PEERS") == "1" {
		w.t.Fatal(why)
	}
	w.t.Skip(why)
}

// hosts is the gateway's hosts file, and an empty list of name servers: nothing is asked for outside.
func (w *landscape) hosts(names map[string]string) {
	dir := filepath.Join("/etc/netns", w.gateway)
	text := "127.0.0.1 localhost\n"
	for name, addr := range names {
		for a := range strings.FieldsSeq(addr) {
			text += a + " " + name + "\n"
		}
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "hosts"), []byte(text), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "nsswitch.conf"), []byte("hosts: files\n"), 0o644)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// cable connects two machines. On the first its end is eth0.
func (w *landscape) cable(a, a4, a6, b, b4, b6 string) {
	w.t.Helper()
	far := "to-" + a[len(a)-1:]
	w.in(a, fmt.Sprintf("ip link add eth0 type veth peer name %s netns %s", far, b))
	for _, end := range []struct{ at, dev, v4, v6 string }{{a, "eth0", a4, a6}, {b, far, b4, b6}} {
		w.in(end.at, fmt.Sprintf("ip link set %[1]s up && ip address add %[2]s/24 dev %[1]s && ip -6 address add %[3]s/64 dev %[1]s nodad", end.dev, end.v4, end.v6))
	}
}

// in runs a command of the shell on a machine, which must succeed.
func (w *landscape) in(at, command string) string {
	w.t.Helper()
	out, err := w.try(at, "sh", "-c", command)
	if err != nil {
		w.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

func (w *landscape) try(at string, args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", at}, args...)...).CombinedOutput()
	return string(out), err
}

// listen opens a listener on a machine. A socket stays in the namespace it was made in, whoever uses it.
func (w *landscape) listen(at, addr string) net.Listener {
	w.t.Helper()
	type result struct {
		ln  net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, for it is elsewhere now
		fd, err := unix.Open("/run/netns/"+at, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		ln, err := net.Listen("tcp", addr)
		done <- result{ln, err}
	}()
	r := <-done
	if r.err != nil {
		w.t.Fatal(r.err)
	}
	w.t.Cleanup(func() { r.ln.Close() })
	return r.ln
}

// counter gives numbers to things that must not have the same name.
type counter struct{ ch chan int }

func (c counter) next() int { n := <-c.ch; c.ch <- n + 1; return n }

var landscapes = func() counter {
	c := counter{make(chan int, 1)}
	c.ch <- 0
	return c
}()
