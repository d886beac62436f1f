//go:build linux

package relay

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// usePipes replaces the pool of the process for one test, and closes its pipes at the end.
func usePipes(t *testing.T, p *pipePool) {
	t.Helper()
	old := pipes
	pipes = p
	t.Cleanup(func() {
		eventually(t, "all pipes are closed", func() bool {
			p.trim()
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.made == 0 && p.parked == 0 && len(p.free) == 0
		})
		pipes = old
	})
}

// inFlight returns the pipes in use and those that wait with a slow peer.
func (p *pipePool) inFlight() (used, parked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made - len(p.free), p.parked
}

// Bulk goes through pipes, an idle tunnel has none, and those not needed are closed.
func TestPipesComeBack(t *testing.T) {
	p := &pipePool{most: 4, reserve: 1, size: 1 << 20, least: 64 << 10, rest: 20 * time.Millisecond}
	usePipes(t, p)
	r := start(t, tcpLink(t), tcpLink(t), Options{})
	before := descriptors(t)
	errs := make(chan error, 1)
	b := random(4 << 20)
	go func() { _, err := r.server.Write(b); errs <- err }()
	if got := mustRead(t, r.client, len(b)); !bytes.Equal(got, b) {
		t.Error("wrong bytes")
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	made := p.made
	p.mu.Unlock()
	if made == 0 {
		t.Error("no pipe was made: bulk was copied")
	}
	eventually(t, "the pipes are closed", func() bool { return descriptors(t) == before })
	if s := r.State(); s != Open {
		t.Error(s)
	}
}

// With no pipe to be had, or only small ones, bytes are copied.
func TestNoPipes(t *testing.T) {
	for name, p := range map[string]*pipePool{
		"none":  {rest: time.Hour},
		"small": {most: 4, size: 8 << 10, least: 64 << 10, rest: time.Hour}, // what an unprivileged user gets
		"tiny":  {most: 4, reserve: 1, size: 8 << 10, least: 4 << 10, rest: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			usePipes(t, p)
			exchange(t, start(t, tcpLink(t), tcpLink(t), Options{}), random(3_000_000), random(3_000_000), 1<<20, nil, nil)
		})
	}
}

// More readers stop reading than there are pipes. The others go on at full speed, through pipes, and what the stopped ones hold is bounded; when they read
// again they get every byte.
func TestStalledReaders(t *testing.T) {
	p := &pipePool{most: 8, reserve: 2, size: 1 << 20, least: 64 << 10, rest: time.Hour}
	usePipes(t, p)
	const stuck = 16      // twice the pipes
	const size = 12 << 20 // more than the socket buffers on the way hold
	b := random(size)
	var ms runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&ms)
	heap := int64(ms.HeapAlloc)

	var wg sync.WaitGroup
	tunnels := make([]*running, stuck)
	for i := range tunnels {
		r := start(t, tcpLink(t), tcpLink(t), Options{})
		tunnels[i] = r
		wg.Go(func() {
			if err := send(r.server, b, 1<<20); err != nil {
				t.Error(err)
			}
		})
	}
	for _, r := range tunnels {
		last, since := int64(-1), time.Now()
		eventually(t, "stuck", func() bool {
			if n := r.Down(); n != last {
				last, since = n, time.Now()
			}
			return last > 0 && time.Since(since) > 50*time.Millisecond
		})
		if last >= size {
			t.Fatal("not stuck: the sockets have taken it all")
		}
	}
	used, parked := p.inFlight()
	// Those that were moving bytes when the last place was taken may overdraw: one for each other processor.
	if parked > min(p.most, p.most-p.reserve+runtime.GOMAXPROCS(0)-1) || used != parked {
		t.Errorf("%d pipes used, %d of them by waiting directions", used, parked)
	}
	runtime.GC()
	runtime.ReadMemStats(&ms)
	if each := (int64(ms.HeapAlloc) - heap) / stuck; each > 200<<10 {
		t.Errorf("%d bytes of heap for each stuck tunnel", each)
	} else {
		t.Logf("%d bytes of heap for each stuck tunnel, %d with a pipe", each, parked)
	}

	exchange(t, start(t, tcpLink(t), tcpLink(t), Options{}), random(5_000_000), random(5_000_000), 1<<20, nil, nil)

	for i, r := range tunnels {
		if got, err := io.ReadAll(r.client); err != nil || !bytes.Equal(got, b) {
			t.Errorf("tunnel %d: %d bytes, %v", i, len(got), err)
		}
		r.client.(*net.TCPConn).CloseWrite()
		if res := r.wait(t); res.End != ServerClosed {
			t.Errorf("tunnel %d: %+v", i, res)
		}
	}
	wg.Wait()
}
