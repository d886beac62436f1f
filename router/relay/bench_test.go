//go:build unix

package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks run the relay in a process of its own (this test binary, started again with benchRelay set), so that its CPU time and memory are the
// relay's and nobody else's. Absolute numbers depend on the machine; compare the variants of one run.

const (
	benchRelay = "RELAY_BENCH_VARIANT"
	benchTLS   = "RELAY_BENCH_TLS" // set: clients speak TLS to the relay
)

// relayVariants are what the relay is compared with. Each copies both ways and closes both.
var relayVariants = map[string]func(client, server net.Conn){
	"viaduct": func(c, s net.Conn) {
		var t Tunnel
		t.Run(Side{Conn: c}, Side{Conn: s}, Options{Idle: time.Hour})
	},
	"iocopy": func(c, s net.Conn) { // the kernel splices, pipes are held
		copyBoth(c, s, func(dst, src net.Conn) { io.Copy(dst, src) })
	},
	"copying": func(c, s net.Conn) {
		copyBoth(c, s, func(dst, src net.Conn) {
			io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 32<<10))
		})
	},
}

//go:noinline
func tlsServer(c net.Conn) net.Conn { // its large frame would be part of every tunnel's stack
	return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{testCertificate()}})
}

type halfCloser interface{ CloseWrite() error }

func copyBoth(c, s net.Conn, cp func(dst, src net.Conn)) {
	done := make(chan struct{})
	go func() {
		cp(s, c)
		s.(halfCloser).CloseWrite()
		close(done)
	}()
	cp(c, s)
	c.(halfCloser).CloseWrite()
	<-done
	c.Close()
	s.Close()
}

// serveRelay is the relaying process: it accepts, dials the address in the first argument, relays. A line on stdin ends it; "gc" prints memory.
func serveRelay(variant string) {
	relay := relayVariants[variant]
	to := os.Getenv("RELAY_BENCH_TO")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr())
	withTLS := os.Getenv(benchTLS) != ""
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				s, err := net.Dial("tcp", to)
				if err != nil {
					c.Close()
					return
				}
				if withTLS {
					c = tlsServer(c)
				}
				relay(c, s)
			}()
		}
	}()
	var cmd string
	for {
		if _, err := fmt.Scanln(&cmd); err != nil {
			return
		}
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		var u unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &u)
		fds, _ := os.ReadDir("/proc/self/fd")
		rss := 0
		if b, err := os.ReadFile("/proc/self/statm"); err == nil {
			var total int
			fmt.Sscan(string(b), &total, &rss)
		}
		fmt.Println(u.Utime.Nano()+u.Stime.Nano(), rss*os.Getpagesize(), m.StackInuse, m.HeapAlloc, len(fds))
	}
}

// relayProcess is a running relaying process.
type relayProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  io.Reader
	addr string
}

type usage struct {
	cpu              time.Duration
	rss, stack, heap int
	fds              int
}

func startRelay(b testing.TB, variant, to string) *relayProcess {
	b.Helper()
	p := &relayProcess{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), benchRelay+"="+variant, "RELAY_BENCH_TO="+to, "GOMAXPROCS=1")
	p.cmd.Stderr = os.Stderr
	p.in, _ = p.cmd.StdinPipe()
	out, _ := p.cmd.StdoutPipe()
	p.out = out
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fscan(p.out, &p.addr); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		p.in.Close()
		p.cmd.Wait()
	})
	return p
}

func (p *relayProcess) usage(b testing.TB) (u usage) {
	b.Helper()
	fmt.Fprintln(p.in, "gc")
	if _, err := fmt.Fscan(p.out, &u.cpu, &u.rss, &u.stack, &u.heap, &u.fds); err != nil {
		b.Fatal(err)
	}
	return u
}

// origin listens and serves each connection with f.
func origin(b testing.TB, f func(net.Conn)) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				f(c)
				c.Close()
			})
		}
	})
	b.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func eachVariant(b *testing.B, f func(b *testing.B, variant string)) {
	for _, v := range []string{"viaduct", "iocopy", "copying"} {
		b.Run(v, func(b *testing.B) { f(b, v) })
	}
}

// BenchmarkTunnel is a whole tunnel: connect, one byte there and back, close by the client. us/tunnel is the CPU time of the relaying process.
func BenchmarkTunnel(b *testing.B) {
	eachVariant(b, func(b *testing.B, variant string) {
		p := startRelay(b, variant, origin(b, func(c net.Conn) { io.Copy(c, c) }))
		before := p.usage(b).cpu
		var wg sync.WaitGroup
		const clients = 16
		for i := range clients {
			wg.Go(func() {
				one := []byte{1}
				for range (b.N + i) / clients {
					c, err := net.Dial("tcp", p.addr)
					if err != nil {
						b.Error(err)
						return
					}
					c.Write(one)
					if _, err := io.ReadFull(c, one); err != nil {
						b.Error(err)
					}
					c.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, c)
					c.Close()
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64((p.usage(b).cpu-before).Microseconds())/float64(b.N), "us/tunnel")
	})
}

// BenchmarkRoundTrip is one byte there and back in an open tunnel.
func BenchmarkRoundTrip(b *testing.B) {
	eachVariant(b, func(b *testing.B, variant string) {
		p := startRelay(b, variant, origin(b, func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }))
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		one := []byte{1}
		before := p.usage(b).cpu
		b.ResetTimer()
		for b.Loop() {
			c.Write(one)
			if _, err := io.ReadFull(c, one); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((p.usage(b).cpu-before).Nanoseconds())/1e3/float64(b.N), "us/round_trip")
	})
}

// BenchmarkBulk sends 64 MiB to the client in each iteration. ms/GB is the CPU time of the relaying process.
func BenchmarkBulk(b *testing.B) { benchmarkBulk(b, func(c net.Conn) net.Conn { return c }) }

// BenchmarkBulkTLS is the same with TLS between client and relay. No kernel can splice that: "iocopy" and "copying" are crypto/tls alone.
func BenchmarkBulkTLS(b *testing.B) {
	b.Setenv(benchTLS, "1")
	benchmarkBulk(b, func(c net.Conn) net.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) })
}

func benchmarkBulk(b *testing.B, client func(net.Conn) net.Conn) {
	const size = 64 << 20
	eachVariant(b, func(b *testing.B, variant string) {
		block := make([]byte, 1<<20)
		p := startRelay(b, variant, origin(b, func(c net.Conn) {
			for range size / len(block) {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		}))
		before := p.usage(b).cpu
		b.SetBytes(size)
		for b.Loop() {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				b.Fatal(err)
			}
			c = client(c)
			if t, ok := c.(*tls.Conn); ok {
				if err := t.Handshake(); err != nil {
					b.Fatal(err)
				}
			}
			buf := make([]byte, 256<<10)
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf)
			if n != size || err != nil {
				b.Fatal(n, err)
			}
			c.Close()
		}
		b.ReportMetric(float64((p.usage(b).cpu-before).Milliseconds())/(float64(b.N)*size/1e9), "ms/GB")
	})
}

// BenchmarkIdle opens tunnels, sends one byte there and back through each, and reports what each holds after that. Set RELAY_BENCH_IDLE for
// their number (default 1,000).
func BenchmarkIdle(b *testing.B) {
	count := 1000
	if n, err := strconv.Atoi(os.Getenv("RELAY_BENCH_IDLE")); err == nil {
		count = n
	}
	var l syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	if l.Cur < uint64(6*count) {
		b.Skipf("needs %d descriptors, has %d", 6*count, l.Cur)
	}
	eachVariant(b, func(b *testing.B, variant string) {
		p := startRelay(b, variant, origin(b, func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }))
		before := p.usage(b)
		conns := make([]net.Conn, count)
		one := []byte{1}
		for i := range conns {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				b.Fatal(err)
			}
			conns[i] = c
			c.Write(one)
			if _, err := io.ReadFull(c, one); err != nil {
				b.Fatal(err)
			}
		}
		for range 3 { // stacks shrink by half in each collection
			p.usage(b)
		}
		after := p.usage(b)
		b.ReportMetric(float64(after.rss-before.rss)/float64(count), "B_rss/tunnel")
		b.ReportMetric(float64(after.stack-before.stack)/float64(count), "B_stack/tunnel")
		b.ReportMetric(float64(after.heap-before.heap)/float64(count), "B_heap/tunnel")
		b.ReportMetric(float64(after.fds-before.fds)/float64(count), "fds/tunnel")
		b.ReportMetric(0, "ns/op")
		for _, c := range conns {
			c.Close()
		}
	})
}
