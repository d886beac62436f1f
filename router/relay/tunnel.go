package relay

import (
	"net"
	"sync"
	"time"
)

// Side is one end of a tunnel.
type Side struct {
	Conn  net.Conn
	Early []byte // read from Conn before the tunnel began; goes to the other side first. Kept until it is written, not changed
}

// Options are read once, when Run starts. The zero value has no idle timeout and the default timeout for half-closed tunnels.
type Options struct {
	// Idle ends a tunnel without a byte in either direction for this long; 0 or less: never. Bytes that the kernel still delivers to a slow peer
	// count as well, which is why a tunnel whose peer has stopped reading may live for up to 1.25 times Idle.
	Idle time.Duration
	// HalfClosed ends a tunnel of which one side has ended when the other one has not sent a byte for this long; 0: 60 s; less than 0: never.
	HalfClosed time.Duration
	// Observer is told of half-closes as they happen; nil: nobody is.
	Observer Observer
}

const defaultHalfClosed = 60 * time.Second

// Observer is told when a direction ends in good order. The methods are called from the tunnel's goroutines, at most once for each peer, and must not
// block. How the tunnel as a whole ended is in its Result.
type Observer interface {
	ReadClosed(p Peer, at time.Time)  // p has sent its last byte (FIN or close_notify)
	WriteClosed(p Peer, at time.Time) // p has been told that the other one has; not called when both have ended and the connections are closed
}

// Tunnel is one relay. The zero value is ready for one Run; Reset makes it ready for another. It must not be copied after first use. All methods but Run and Reset
// may be called from any goroutine at any time.
type Tunnel struct {
	up, down       direction
	client, server endpoint
	opt            Options
	start          stamp
	timer          *time.Timer // calls check; nil until a timeout is first needed
	wg             sync.WaitGroup

	mu       sync.Mutex
	running  bool
	end      End   // why it ended; Open while it has not
	first    Peer  // whose end was seen first
	err      error // behind end
	half     stamp // when one direction ended while the other went on; 0: has not happened
	passed   bool  // that end was in good order
	flush    bool  // wait until the kernel has delivered before closing
	hurry    bool  // Abort was called after the end: no more waiting
	panicked error // a panic while copying
	probe    sendQueues
	probeAt  stamp // when the send queues were last seen to move
}

// Run relays until both directions have ended or the tunnel is cut, then closes both connections, each once, and says what happened. The caller's
// goroutine copies from server to client, one further goroutine from client to server; both are done when Run returns.
//
// Nobody else may read, write or close the connections meanwhile. A deadline that was left on a plain connection or for reading a TLS connection is
// removed when it fires and does no harm.
func (t *Tunnel) Run(client, server Side, o Options) (r Result) {
	t.RunTo(&r, &client, &server, &o)
	return r
}

// RunTo is Run for a caller that wants its goroutine's stack to stay at the 2 KiB it began with: nothing large is passed. What client, server and o
// point to is not used any more once the relaying has begun.
func (t *Tunnel) RunTo(r *Result, client, server *Side, o *Options) {
	if t.begin(client, server, o) {
		go t.up.run()
		t.down.run() // here, because it is mostly the client that ends first: then nobody waits for the goroutine
		t.wg.Wait()
	}
	t.finish(r)
}

// begin prepares a run, and reports whether there is one: not if Abort came before it.
func (t *Tunnel) begin(client, server *Side, o *Options) bool {
	t.client.set(Client, client.Conn)
	t.server.set(Server, server.Conn)
	t.up.set(t, &t.client, &t.server, client.Early)
	t.down.set(t, &t.server, &t.client, server.Early)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.opt = *o
	if t.opt.HalfClosed == 0 {
		t.opt.HalfClosed = defaultHalfClosed
	}
	t.start = now()
	t.running = true
	if t.end != Open {
		t.up.at = time.Now()
		t.down.at = t.up.at
		return false
	}
	t.arm(t.opt.Idle)
	t.wg.Add(2)
	return true
}

// Abort ends the tunnel for the given reason, usually Drained or Canceled. It does not wait: Run returns soon after. Before Run it makes Run close both
// connections at once; after Run, or when the tunnel is ending already, it does nothing.
func (t *Tunnel) Abort(reason End) {
	if reason == Open {
		reason = Canceled
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hurry = true
	if t.end == Open {
		t.stop(reason, nil)
	}
}

// Reset makes a tunnel whose Run has returned, or which never ran, ready for another Run.
func (t *Tunnel) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running {
		panic("relay: Reset of a running tunnel")
	}
	t.end, t.first, t.err, t.half, t.start = Open, None, nil, 0, 0
	t.passed, t.flush, t.hurry, t.panicked = false, false, false, nil
	t.probe, t.probeAt = sendQueues{}, 0
	t.up.reset()
	t.down.reset()
}

// Up returns the bytes delivered from client to server so far.
func (t *Tunnel) Up() int64 { return t.up.n.Load() }

// Down returns the bytes delivered from server to client so far.
func (t *Tunnel) Down() int64 { return t.down.n.Load() }

// LastActivity returns when a byte last moved, or when the tunnel began if none has; the zero time before Run.
func (t *Tunnel) LastActivity() time.Time {
	t.mu.Lock()
	s := t.start
	t.mu.Unlock()
	if s == 0 {
		return time.Time{}
	}
	return max(s, t.lastByte()).time()
}

// State returns Open while the tunnel runs or has not begun, else why it ended.
func (t *Tunnel) State() End {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
}

func (t *Tunnel) lastByte() stamp { return max(stamp(t.up.last.Load()), stamp(t.down.last.Load())) }

// stop cuts the tunnel: both directions are woken and return. The caller holds mu; end is Open.
func (t *Tunnel) stop(end End, err error) {
	t.end, t.err = end, err
	if t.running {
		t.client.kick()
		t.server.kick()
	}
}

// finish closes both connections as the end asks for, and reports. (The result is not returned by value to keep Run's frame small.)
func (t *Tunnel) finish(r *Result) {
	t.mu.Lock()
	if t.timer != nil {
		t.timer.Stop()
	}
	end := t.end
	t.mu.Unlock()

	switch end {
	case ClientReset, ClientFailed:
		t.deliver(&t.server)
		t.server.reset()
		t.client.reset()
	case ServerReset, ServerFailed:
		t.deliver(&t.client)
		t.client.reset()
		t.server.reset()
	default:
		if t.flush {
			t.deliver(&t.client)
			t.deliver(&t.server)
		}
		t.client.close(t.down.writing.Load())
		t.server.close(t.up.writing.Load())
	}

	t.mu.Lock()
	t.running = false
	t.client.clear()
	t.server.clear()
	t.opt.Observer = nil
	*r = Result{
		Up: t.up.n.Load(), Down: t.down.n.Load(),
		End: end, First: t.first, HalfClosed: t.passed, Err: t.err,
		UpEnd: t.up.at, DownEnd: t.down.at,
	}
	p := t.panicked
	t.mu.Unlock()
	if p != nil {
		panic(p) // on the caller's goroutine, which knows what to do about it
	}
}
