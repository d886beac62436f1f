package upstream

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"viaduct/connmodel"
)

// answerer is a peer that costs little itself: for each message it reads it writes the next answer, from one goroutine.
func answerer(b *testing.B, answers ...string) connmodel.Address {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		var buf [1024]byte
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for _, a := range answers {
				if _, err := c.Read(buf[:]); err != nil {
					break
				}
				c.Write([]byte(a))
			}
			c.Read(buf[:]) // until the other side resets: no TIME_WAIT, so the ports last
			c.Close()
		}
	}()
	return addr(b, l.Addr().String())
}

const succeeded5 = "\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"

// BenchmarkDial includes the peer's part, which BenchmarkDial/net shows alone with net.Dialer.
func BenchmarkDial(b *testing.B) {
	direct := answerer(b)
	web := answerer(b, "HTTP/1.1 200 Connection established\r\n\r\n")
	five := answerer(b, "\x05\x00", succeeded5)
	tab, err := NewTable(Config{
		Upstreams: []Spec{{Name: "web", Scheme: "http", Address: web, Auth: &Auth{Username: "u", Password: NewSecret("p")}}, {Name: "five", Scheme: "socks5h", Address: five}},
		Pools:     []PoolSpec{{Name: "p", Members: []string{"upstream.web", "upstream.five"}}},
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer tab.Close()
	b.Run("net", func(b *testing.B) {
		b.ReportAllocs()
		var d net.Dialer
		to := netip.AddrPortFrom(direct.IP(), direct.Port)
		for b.Loop() {
			c, err := d.DialTCP(context.Background(), "tcp", netip.AddrPort{}, to)
			if err != nil {
				b.Fatal(err)
			}
			c.SetLinger(0)
			c.Close()
		}
	})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	check := func(netip.Addr) error { return nil }
	session := connmodel.NewSession(connmodel.Accepted{Time: time.Now()}, nil)
	for _, c := range []struct {
		name, route string
		target      connmodel.Address
		record      bool
	}{
		{"direct", "direct", direct, false},
		{"direct recorded", "direct", direct, true},
		{"http", "upstream.web", connmodel.Address{Host: "www.example.com", Port: 443}, false},
		{"http recorded", "upstream.web", connmodel.Address{Host: "www.example.com", Port: 443}, true},
		{"http in a pool recorded", "pool.p", connmodel.Address{Host: "www.example.com", Port: 443}, true},
		{"socks5h", "upstream.five", connmodel.Address{Host: "www.example.com", Port: 443}, false},
		{"socks5h recorded", "upstream.five", connmodel.Address{Host: "www.example.com", Port: 443}, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var r *connmodel.Recorder
				if c.record {
					r = session.NewFlow(connmodel.ProtocolConnect, c.target, time.Now())
				}
				conn, err := tab.Dial(ctx, &Request{Route: c.route, Target: c.target, Check: check}, r)
				if err != nil {
					b.Fatal(err)
				}
				conn.Conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		})
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, sel := range []string{SelectFirstHealthy, SelectRoundRobin, SelectLeastConnections, SelectFastest, SelectHash} {
		c := Config{Pools: []PoolSpec{{Name: "p", Select: sel}}}
		for i := range 8 {
			s := Spec{Name: string(rune('a' + i)), Scheme: "http", Address: connmodel.Address{Host: "10.0.0.1", Port: 1}}
			c.Upstreams = append(c.Upstreams, s)
			c.Pools[0].Members = append(c.Pools[0].Members, "upstream."+s.Name)
		}
		tab, err := NewTable(c, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer tab.Close()
		p, d, now := tab.routes["pool.p"].pool, &dialing{t: tab, q: &Request{}, tried: new(Tried)}, time.Now()
		b.Run(sel, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.choose(d, now)
			}
		})
	}
}
