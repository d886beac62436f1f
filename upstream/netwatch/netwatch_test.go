package netwatch

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// message makes one of the kernel's.
func message(kind uint16, body ...byte) []byte {
	b := make([]byte, headerLen, headerLen+len(body)+3)
	binary.NativeEndian.PutUint32(b, uint32(headerLen+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func route(protocol byte, flags uint32) []byte {
	b := make([]byte, rtmsgLen)
	b[rtmsgProtocol] = protocol
	binary.NativeEndian.PutUint32(b[rtmsgFlags:], flags)
	return b
}

func TestParse(t *testing.T) {
	both := append(message(unix.RTM_NEWADDR, 1, 2, 3), message(unix.RTM_NEWROUTE, route(unix.RTPROT_STATIC, 0)...)...)
	for name, c := range map[string]struct {
		b    []byte
		want event
	}{
		"nothing":       {nil, 0},
		"address":       {message(unix.RTM_DELADDR), eventAddress},
		"link":          {message(unix.RTM_NEWLINK, 1, 2, 3, 4, 5), eventAddress},
		"route":         {message(unix.RTM_DELROUTE, route(unix.RTPROT_STATIC, 0)...), eventRoute},
		"by DHCP":       {message(unix.RTM_NEWROUTE, route(unix.RTPROT_DHCP, 0)...), eventRoute},
		"cached route":  {message(unix.RTM_NEWROUTE, route(unix.RTPROT_STATIC, unix.RTM_F_CLONED)...), 0},
		"own address":   {message(unix.RTM_NEWROUTE, route(unix.RTPROT_KERNEL, 0)...), 0},
		"short route":   {message(unix.RTM_NEWROUTE, 1, 2, 3), 0},
		"neighbour":     {message(unix.RTM_NEWNEIGH, 1, 2, 3, 4), 0},
		"two":           {both, eventAddress | eventRoute},
		"second is cut": {both[:len(both)-5], eventAddress},
		"size too big":  {[]byte{255, 255, 255, 255, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0},
		"size zero":     {make([]byte, 64), 0},
	} {
		if got := parse(c.b); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message(unix.RTM_NEWADDR, 1, 2, 3))
	f.Add(message(unix.RTM_NEWROUTE, route(unix.RTPROT_STATIC, 0)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e := parse(b); e&^(eventAddress|eventRoute) != 0 {
			t.Errorf("%d", e)
		}
	})
}

// TestQuiet: many messages are one change, and a flood of them does not put it off for ever.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := make(chan event)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var told []time.Duration
		start := time.Now()
		over := make(chan struct{})
		go func() {
			defer close(over)
			gather(ctx, events, nil, func(c Change) {
				if !c.Routes {
					t.Error("no routes")
				}
				mu.Lock()
				defer mu.Unlock()
				told = append(told, time.Since(start))
			})
		}()
		for range 10 {
			events <- eventRoute
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(told) != 1 || told[0] != 1900*time.Millisecond {
			t.Fatalf("told after %v", told)
		}
		mu.Lock()
		start, told = time.Now(), nil
		mu.Unlock()
		for range 100 {
			events <- eventRoute
			time.Sleep(100 * time.Millisecond)
		}
		mu.Lock()
		if len(told) < 1 || told[0] > longest+quiet {
			t.Errorf("told after %v", told)
		}
		mu.Unlock()
		time.Sleep(time.Minute)
		cancel()
		<-over
	})
}

// TestSameAddresses: addresses that are renewed are no change.
func TestSameAddresses(t *testing.T) {
	have, err := addresses()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		events := make(chan event, 1)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		n := 0
		before := append([]netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}, have...)
		go func() {
			defer close(over)
			gather(ctx, events, before, func(c Change) {
				if n++; len(c.Gone) != 1 || len(c.Added) != 0 || c.String() != "gone 192.0.2.1/24" {
					t.Errorf("%v", c)
				}
			})
		}()
		for range 3 {
			events <- eventAddress
			time.Sleep(time.Minute)
		}
		cancel()
		<-over
		if n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

func TestWords(t *testing.T) {
	many := Change{Routes: true}
	for i := range 10 {
		many.Added = append(many.Added, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 24))
	}
	if got := many.String(); got != "new 10.0.0.0/24, 10.0.0.1/24, 10.0.0.2/24, 10.0.0.3/24, 10.0.0.4/24, 10.0.0.5/24, 10.0.0.6/24, 10.0.0.7/24, and 2 more; other routes" {
		t.Error(got)
	}
}

// TestWatchEnds, and leaves nothing behind.
func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := Watch(ctx, func(Change) {})
	if err != nil {
		t.Skip(err)
	}
	cancel()
	wait()
}
