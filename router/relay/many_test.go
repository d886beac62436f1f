//go:build unix

package relay

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// 200 tunnels at once, of which some are reset or aborted; nothing is left of them.
func TestManyTunnels(t *testing.T) {
	exchangeOnce := func() {
		c, s := tcpLink(t), tcpLink(t)
		r := start(t, c, s, Options{Idle: time.Minute})
		exchange(t, r, random(100), random(100), 10, nil, nil)
		c.peer.Close()
		s.peer.Close()
	}
	exchangeOnce() // so that what the process opens once is open
	before := descriptors(t)
	var wg sync.WaitGroup
	for i := range 200 {
		c, s := tcpLink(t), tcpLink(t)
		r := start(t, c, s, Options{Idle: time.Minute})
		wg.Go(func() {
			switch i % 5 {
			case 0:
				r.client.Write(random(10_000))
				reset(r.client)
			case 1:
				r.server.Write(random(10_000))
				reset(r.server)
			case 2:
				go r.server.Write(random(1_000_000))
				r.Abort(Drained)
			default:
				exchange(t, r, random(rand.IntN(300_000)), random(rand.IntN(300_000)), 50_000, nil, nil)
			}
			res := r.wait(t)
			want := map[int]End{0: ClientReset, 1: ServerReset, 2: Drained}
			if w, ok := want[i%5]; ok && res.End != w {
				t.Errorf("%d: %+v", i, res)
			}
			c.peer.Close()
			s.peer.Close()
		})
	}
	wg.Wait()
	eventually(t, "all descriptors are closed, pooled pipes too", func() bool { return descriptors(t) <= before })
}

// Both sides do whatever they like, in any order. Whatever was delivered is a prefix of what was sent; all of it, if the end was an orderly one.
func TestAnySchedule(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	kinds := []func(testing.TB) link{tcpLink, tcpLink, unixLink, tlsLink, shownLink}
	var wg sync.WaitGroup
	limit := make(chan struct{}, 16)
	for range rounds {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 0))
		limit <- struct{}{}
		c, s := kinds[rnd.IntN(len(kinds))](t), kinds[rnd.IntN(len(kinds))](t)
		wg.Go(func() {
			defer func() { <-limit }()
			anySchedule(t, seed, rnd, c, s)
		})
	}
	wg.Wait()
}

func anySchedule(t *testing.T, seed uint64, rnd *rand.Rand, c, s link) {
	early := func() []byte {
		if rnd.IntN(3) > 0 {
			return nil
		}
		return random(1 + rnd.IntN(50_000))
	}
	sides := [2]struct {
		link
		early, sent, got []byte
		err              error
	}{{link: c, early: early()}, {link: s, early: early()}}
	o := Options{Idle: time.Duration(rnd.IntN(3)) * 10 * time.Second}
	r := startSides(t, c, s, Side{c.ours, sides[0].early}, Side{s.ours, sides[1].early}, o)

	rough := rnd.IntN(4) == 0 // this time a side may also reset, or the tunnel be aborted
	var wg sync.WaitGroup
	for i := range sides {
		side := &sides[i]
		script := rand.New(rand.NewPCG(seed, uint64(i+1)))
		slow := script.IntN(3) == 0
		wg.Go(func() {
			for range script.IntN(12) {
				b := random(1 + script.IntN(1<<script.IntN(20)))
				side.sent = append(side.sent, b...)
				if _, err := side.peer.Write(b); err != nil {
					return
				}
				if script.IntN(4) == 0 {
					time.Sleep(time.Duration(script.IntN(3)) * time.Millisecond) // let the relay run dry
				}
			}
			if rough && script.IntN(3) == 0 {
				r.Abort(Canceled)
				return
			}
			if n, ok := side.peer.(*net.TCPConn); rough && ok && script.IntN(2) == 0 {
				n.SetLinger(0)
				n.Close()
				return
			}
			side.peer.(interface{ CloseWrite() error }).CloseWrite()
		})
		wg.Go(func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := side.peer.Read(buf)
				side.got = append(side.got, buf[:n]...)
				if err != nil {
					if err != io.EOF {
						side.err = err
					}
					return
				}
				if slow {
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	wg.Wait()
	res := r.wait(t)
	for i := range sides {
		from, to := &sides[i], &sides[1-i]
		want := append(append([]byte(nil), from.early...), from.sent...)
		if !bytes.HasPrefix(want, to.got) {
			t.Errorf("seed %d: wrong bytes after %+v", seed, res)
		}
		if res.End.Orderly() && (len(to.got) != len(want) || to.err != nil) {
			t.Errorf("seed %d: %d of %d bytes, %v, after %+v", seed, len(to.got), len(want), to.err, res)
		}
	}
	if !rough && !res.End.Orderly() {
		t.Errorf("seed %d: %+v", seed, res)
	}
	if d := []int64{res.Up, res.Down}; d[0] < int64(len(sides[1].got)) || d[1] < int64(len(sides[0].got)) {
		t.Errorf("seed %d: counted %v, received %d and %d", seed, d, len(sides[1].got), len(sides[0].got))
	}
	c.peer.Close()
	s.peer.Close()
}
