package upstream

import (
	"maps"
	"slices"
	"sync"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/h2"

	"net/netip"
)

// An https proxy that takes up h2 is asked for many tunnels on one connection. Connections to the same proxy by the same way are a
// lane; each of them is a trunk. A trunk belongs to no attempt: attempts get streams on it, and what happens to them, their
// deadlines and their cancellation, is the stream's alone.

// lanes are those of a table, by the names of the hops up to the proxy.
type lanes struct {
	mu     sync.Mutex
	open   map[string]*lane // nil: the table is none that keeps anything
	closed bool
}

// of returns the lane of a way; nil when connections are not kept.
func (l *lanes) of(hops []*Hop) *lane {
	name := wayName(hops)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil || l.closed {
		return nil
	}
	x := l.open[name]
	if x == nil {
		if len(l.open) >= maxLanes {
			return nil
		}
		x = new(lane)
		l.open[name] = x
	}
	return x
}

// close lets every trunk end with the last of its streams.
func (l *lanes) close() {
	l.mu.Lock()
	l.closed = true
	all := l.open
	l.open = nil
	l.mu.Unlock()
	for _, x := range all {
		x.close()
	}
}

const (
	// maxLanes bounds them: pools within chains can make many ways of few proxies.
	maxLanes = 4096
	// trunkIdle is how long a trunk without streams is kept.
	trunkIdle = 90 * time.Second
	// A trunk that has been silent is asked whether it is there, when a stream is opened on it and every so often.
	trunkSilence = time.Second
	trunkPing    = 20 * time.Second
	trunkAnswer  = 5 * time.Second
)

// spoken is what the proxy has been found to take up.
type spoken uint8

const (
	notKnown spoken = iota
	speaksH2
	speaksHTTP1
	wantsHTTP1 // it said so over HTTP/2 (HTTP_1_1_REQUIRED, RFC 9113 7): h2 is not offered any more
)

// lane is what is known of a proxy at the end of a way, and the trunks to it.
type lane struct {
	mu     sync.Mutex
	spoken spoken
	trunks []*trunk
	flight *flight // a trunk that is being made; nil = none is
	closed bool
}

// trunk is an HTTP/2 connection that attempts share.
type trunk struct {
	client      *h2.Client
	shown       []*connmodel.TLSInfo // of the hops up to the proxy, nil for those without TLS
	local, peer netip.AddrPort
}

// flight is the making of a trunk: one makes it, the others wait.
type flight struct {
	done chan struct{} // closed when it is over
	fail *HopError     // what those who wait are told; nil = they look again
}

// board looks for a place: a stream on a trunk, or a flight to wait for. Without either the caller makes a connection itself; it then
// must land the flight it is given, unless that is nil, too.
func (l *lane) board() (s *h2.Stream, t *trunk, wait, own *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.trunks[:0]
	for _, x := range l.trunks {
		if !x.client.Usable() {
			continue
		}
		kept = append(kept, x)
		if s == nil {
			if got, err := x.client.TryOpen(); err == nil {
				s, t = got, x
			}
		}
	}
	clear(l.trunks[len(kept):])
	l.trunks = kept
	switch {
	case s != nil:
		return s, t, nil, nil
	case l.flight != nil:
		return nil, nil, l.flight, nil
	case l.spoken == speaksHTTP1, l.spoken == wantsHTTP1:
		return nil, nil, nil, nil // there is nothing to wait for: each has a connection of its own
	}
	l.flight = &flight{done: make(chan struct{})}
	return nil, nil, nil, l.flight
}

// land ends a flight. fail is for those who wait.
func (l *lane) land(f *flight, fail *HopError) {
	if f == nil {
		return
	}
	l.mu.Lock()
	if l.flight == f {
		l.flight = nil
	}
	l.mu.Unlock()
	f.fail = fail
	close(f.done)
}

// learn notes what the proxy takes up.
func (l *lane) learn(s spoken) {
	var all []*trunk
	l.mu.Lock()
	if l.spoken != wantsHTTP1 {
		l.spoken = s
	}
	if s == wantsHTTP1 {
		all, l.trunks = l.trunks, nil
	}
	l.mu.Unlock()
	for _, t := range all {
		t.client.CloseWhenDone()
	}
}

// offersH2 reports whether h2 is still offered.
func (l *lane) offersH2() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spoken != wantsHTTP1
}

// keep puts a trunk in, for others, once its proxy has said how many streams it takes, and ends the flight. One for a closed table ends with
// its first stream.
func (l *lane) keep(t *trunk, f *flight) {
	defer l.land(f, nil)
	<-t.client.Ready()
	l.mu.Lock()
	closed := l.closed || l.spoken == wantsHTTP1
	if !closed {
		l.trunks = append(l.trunks, t)
	}
	l.mu.Unlock()
	if closed {
		t.client.CloseWhenDone()
	}
}

// drop takes a trunk out that was found dead. Its streams find out by themselves.
func (l *lane) drop(t *trunk) {
	l.mu.Lock()
	for i, x := range l.trunks {
		if x == t {
			l.trunks = append(l.trunks[:i], l.trunks[i+1:]...)
			break
		}
	}
	l.mu.Unlock()
	t.client.CloseWhenDone()
}

// retire lets every trunk there is end with the last of its streams; others are made for streams to come.
func (l *lanes) retire() {
	l.mu.Lock()
	all := slices.Collect(maps.Values(l.open))
	l.mu.Unlock()
	for _, x := range all {
		x.empty(false)
	}
}

func (l *lane) close() { l.empty(true) }

func (l *lane) empty(forGood bool) {
	l.mu.Lock()
	l.closed = l.closed || forGood
	all := l.trunks
	l.trunks = nil
	l.mu.Unlock()
	for _, t := range all {
		t.client.CloseWhenDone()
	}
}
