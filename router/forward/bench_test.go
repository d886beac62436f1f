package forward

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// BenchmarkExchange is what the gateway's process spends on one keep-alive request, its own part of router/http.go included as far as
// it is plain HTTP: reading the request, the record, Carry, the pool. cpu-us is user and system time of this process; reads and
// writes are system calls of these kinds (recvfrom, with which the pool looks, and epoll are not in them).
func BenchmarkExchange(b *testing.B) {
	for _, name := range []string{"get", "chunked", "post", "1MiB", "floor"} {
		b.Run(name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			load, gateway := name, benchGateway
			if name == "floor" {
				load, gateway = "get", benchFloor
			}
			origin, ask := startLoad(b, load, ln.Addr())
			client, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			over := make(chan bool)
			go func() { gateway(client, origin); close(over) }()
			defer func() { client.Close(); <-over }()
			ask(100)
			b.ReportAllocs()
			cpu, reads, writes := spent()
			b.ResetTimer()
			ask(b.N)
			b.StopTimer()
			cpu2, reads2, writes2 := spent()
			n := float64(b.N)
			b.ReportMetric(float64((cpu2-cpu).Nanoseconds())/1000/n, "cpu-us/op")
			b.ReportMetric(float64(reads2-reads)/n, "reads/op")
			b.ReportMetric(float64(writes2-writes)/n, "writes/op")
		})
	}
}

func spent() (cpu time.Duration, reads, writes int64) {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	if text, err := os.ReadFile("/proc/self/io"); err == nil {
		var skip int64
		fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d", &skip, &skip, &reads, &writes)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), reads, writes
}

// benchGateway is the smallest loop that uses Carry as the router does.
func benchGateway(c net.Conn, origin string) {
	defer c.Close()
	var pool Pool
	defer pool.Close()
	var cancel Canceler
	in := http1.NewReader(c, http1.Limits{})
	defer in.Release()
	live := connmodel.NewSession(connmodel.Accepted{Listener: "desk", Peer: netip.MustParseAddrPort("127.0.0.1:1"), Time: time.Now()}, nil)
	target, _ := connmodel.ParseAddress("origin.test:80")
	req := new(http1.Request)
	for in.ReadRequest(req) == nil {
		rec := live.NewFlow(connmodel.ProtocolHTTP, target, time.Time{})
		rec.Requested(connmodel.Request{Method: req.Method, Scheme: "http", Host: req.Target.Host, Path: req.Target.Path})
		res := Carry(&Params{
			Client: c, In: in, Req: req, Rec: rec, Via: "gw", Cancel: &cancel,
			Dial: func(reuse bool) (*Server, *connmodel.ConnError) {
				if s := pool.Get(origin); s != nil {
					rec.ReuseServer(s.Record)
					return s, nil
				}
				rec.BeginDial(target, connmodel.RouteDirect, false)
				at := rec.BeginAttempt(connmodel.RouteDirect)
				sc, err := net.Dial("tcp", origin)
				if err != nil {
					panic(err)
				}
				at.Connected(netip.AddrPort{}, netip.AddrPort{})
				s := &Server{Conn: sc, Key: origin, Close: sc.Close, Record: rec.Snapshot().Server}
				s.In.Reset(sc, http1.Limits{})
				return s, nil
			},
			Timeouts: connmodel.Timeouts{Response: time.Minute, Idle: time.Hour},
		})
		if res.Err != nil || !res.KeepClient || !res.KeepServer {
			return
		}
		rec.Close(connmodel.FlowEnd{Reason: connmodel.CloseDone, Up: res.Up, Down: res.Down, KeepClient: true, KeepServer: true})
		pool.Put(res.Server)
	}
}

// benchFloor reads and writes the same bytes without looking at them: what Go and the kernel take for it.
func benchFloor(c net.Conn, origin string) {
	defer c.Close()
	s, err := net.Dial("tcp", origin)
	if err != nil {
		return
	}
	defer s.Close()
	buf := make([]byte, 4096)
	for {
		for _, way := range [...][2]net.Conn{{c, s}, {s, c}} {
			n, err := way[0].Read(buf)
			if err != nil {
				return
			}
			way[1].Write(buf[:n])
		}
	}
}
