package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"viaduct/connmodel"
)

// door is one bound socket. It outlives generations: a reload only changes what is pinned to it.
type door struct {
	r    *Router
	ln   net.Listener
	pin  atomic.Pointer[pin]
	gone atomic.Bool // close was called
	done chan struct{}

	mu      sync.Mutex
	clients map[netip.Addr]int // open sessions by client address; nil until a listener limits them
}

// pin is the configuration that a flow keeps for its whole life.
type pin struct {
	gen *generation
	l   *Listener
}

type doorKey struct{ network, address string }

func keyOf(l *Listener) doorKey { return doorKey{l.Network, l.Address} }

func (d *door) name() string { return d.pin.Load().l.Name }

// bind opens the listener's socket. TCP options are set once on the listening socket: accepted ones inherit them, which
// saves four system calls a connection.
func bind(l *Listener) (net.Listener, error) {
	switch l.Network {
	case "systemd":
		return inherited(l.Address)
	case "unix":
		return bindUnix(l)
	}
	lc := net.ListenConfig{KeepAlive: -1, Control: func(network, address string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { setKeepAlive(int(fd)) })
	}}
	ln, err := lc.Listen(context.Background(), "tcp", l.Address)
	if err != nil {
		return nil, bindError(l.Address, err)
	}
	return ln, nil
}

// setKeepAlive makes the kernel notice dead peers on connections that are silent by nature: 60 s, then 6 probes 15 s apart.
func setKeepAlive(fd int) {
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 6)
}

func bindError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: another program does (see: ss -ltnp)", address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE or a systemd socket)", address)
	}
	return fmt.Errorf("cannot listen on %s: %w", address, err)
}

func bindUnix(l *Listener) (net.Listener, error) {
	if err := removeStale(l.Address); err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", l.Address)
	if err != nil {
		return nil, bindError(l.Address, err)
	}
	mode := os.FileMode(l.FileMode)
	if mode == 0 {
		mode = 0o660
	}
	if err := os.Chmod(l.Address, mode); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// removeStale removes a socket file that nobody listens on any more.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	if st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on %s: a file that is not a socket is in the way", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("cannot listen on %s: another program does", path)
	}
	return os.Remove(path)
}

// inheritedSockets are the sockets systemd passed at start, by name. They are taken once: the environment is cleared.
var inheritedSockets = sync.OnceValues(func() (map[string][]net.Listener, error) { return activation.ListenersWithNames() })

func inherited(name string) (net.Listener, error) {
	byName, err := inheritedSockets()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	switch ls := byName[name]; len(ls) {
	case 0:
		return nil, fmt.Errorf("systemd passed no socket named %q (FileDescriptorName= in the socket unit)", name)
	case 1:
		if ls[0] == nil {
			return nil, fmt.Errorf("the socket %q from systemd is not a stream socket", name)
		}
		if tl, ok := ls[0].(*net.TCPListener); ok {
			if rc, err := tl.SyscallConn(); err == nil {
				rc.Control(func(fd uintptr) { setKeepAlive(int(fd)) })
			}
		}
		return ls[0], nil
	default:
		return nil, fmt.Errorf("systemd passed %d sockets named %q: give each a name of its own", len(ls), name)
	}
}

func (d *door) start() {
	d.done = make(chan struct{})
	go d.acceptLoop()
}

// close stops accepting and waits until the loop has ended: no session begins after it returns.
func (d *door) close() {
	d.gone.Store(true)
	d.ln.Close()
	d.r.gate.nudge()
	if d.done != nil {
		<-d.done
	}
}

// acceptLoop hands over sockets. When descriptors run out it pauses (5 ms, doubling to 1 s) instead of spinning; when the
// limit of connections is reached, further clients wait in the kernel's queue. A panic here ends the process, so that the
// service manager starts it again.
func (d *door) acceptLoop() {
	defer close(d.done)
	pause := time.Duration(0)
	for {
		if !d.r.gate.enter(d.gone.Load) {
			return
		}
		nc, err := d.ln.Accept()
		if err != nil {
			d.r.gate.leave()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EINTR) {
				continue
			}
			if pause = min(max(2*pause, 5*time.Millisecond), time.Second); pause == time.Second || pause == 5*time.Millisecond {
				d.r.opt.Log.Event(LevelWarn, "cannot accept", "listener", d.name(), "error", err.Error())
			}
			time.Sleep(pause)
			continue
		}
		pause = 0
		d.admit(nc)
	}
}

// admit begins a session, or refuses the client: by network, or because it has too many connections.
func (d *door) admit(nc net.Conn) {
	p := d.pin.Load()
	now := time.Now()
	peer := addrPort(nc.RemoteAddr())
	if reason := d.refuse(p.l, peer.Addr()); reason != "" {
		d.r.opt.Meter.SessionRefused(p.l.Name, reason)
		d.r.opt.Log.Event(LevelWarn, "client refused", "listener", p.l.Name, "client", peer.String(), "reason", reason)
		abortConn(nc)
		d.r.gate.leave()
		return
	}
	s := d.r.newSession(d, nc)
	s.live = connmodel.NewSession(connmodel.Accepted{Listener: p.l.Name, Peer: peer, Local: addrPort(nc.LocalAddr()), Time: now}, d.r.opt.Hooks)
	s.peer, s.started = peer, now
	d.r.sessions.add(s)
	go s.serve()
}

func (d *door) refuse(l *Listener, client netip.Addr) string {
	if l.Clients != nil && client.IsValid() {
		inside := false
		for _, p := range l.Clients {
			if p.Contains(client) {
				inside = true
				break
			}
		}
		if !inside {
			return "client_network"
		}
	}
	if l.PerClient > 0 && client.IsValid() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.clients == nil {
			d.clients = make(map[netip.Addr]int)
		}
		if d.clients[client] >= l.PerClient {
			return "client_limit"
		}
		d.clients[client]++
	}
	return ""
}

// release undoes what refuse counted.
func (d *door) release(client netip.Addr) {
	d.mu.Lock()
	if n, ok := d.clients[client]; ok {
		if n <= 1 {
			delete(d.clients, client)
		} else {
			d.clients[client] = n - 1
		}
	}
	d.mu.Unlock()
}

// abortConn closes with RST, so that the client knows at once and we keep no TIME_WAIT.
func abortConn(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	nc.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
