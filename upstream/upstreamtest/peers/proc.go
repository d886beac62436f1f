package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"viaduct/upstream/upstreamtest"
)

const (
	readyTimeout = 20 * time.Second // from start to the first accepted connection
	stopTimeout  = 15 * time.Second // from SIGTERM to SIGKILL; a busy machine takes its time
)

// Proc is one program, with the processes it starts itself. Its methods may be
// called from any goroutine.
type Proc struct {
	name string
	spec spec
	hold []*upstreamtest.Reservation

	mu    sync.Mutex
	cmd   *exec.Cmd     // the latest
	done  chan struct{} // closed when cmd has ended
	undo  func()        // ends the watch on the caller's context
	clean []func()      // run by Close
}

// spec says how to start a program.
type spec struct {
	path   string
	args   []string
	dir    string   // its own directory
	addr   string   // where it accepts when ready
	logs   []string // files it writes besides stdout and stderr
	env    []string // besides that of the test
	binds  []bind   // files it sees in place of the system's
	litter string   // glob of what it leaves outside dir when killed
	stop   syscall.Signal
}

// begin starts a program on reserved ports. It is killed when ctx ends, but
// only Close gives its ports back.
func begin(ctx context.Context, name string, s spec, hold ...*upstreamtest.Reservation) (*Proc, error) {
	if s.stop == 0 {
		s.stop = syscall.SIGTERM
	}
	p := &Proc{name: name, spec: s, hold: hold}
	if err := p.start(ctx); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

func (p *Proc) start(ctx context.Context) error {
	out, err := os.OpenFile(p.output(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	defer out.Close()
	path, args := p.spec.path, p.spec.args
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if len(p.spec.binds) > 0 {
		path, args = wrap(attr, p.spec.binds, path, args)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = p.spec.dir, out, out, attr
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), p.spec.env...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("peers: %s: %w", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		endGroup(cmd.Process.Pid)
		p.sweep()
		close(done)
	}()
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.undo = sync.OnceFunc(contextStop(ctx, p))
	p.mu.Unlock()
	if err := p.ready(ctx, done); err != nil {
		p.Kill()
		return fmt.Errorf("peers: %s: %w\n%s", p.name, err, p.Log())
	}
	return nil
}

func contextStop(ctx context.Context, p *Proc) func() {
	stop := context.AfterFunc(ctx, func() { p.Kill() })
	return func() { stop() }
}

// ready waits until the program accepts a connection.
func (p *Proc) ready(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", p.spec.addr)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-done:
			return errors.New("ended while starting")
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-tick.C:
		}
	}
}

// Name is the program's name.
func (p *Proc) Name() string { return p.name }

// Addr is the "host:port" it accepts at, the same after Restart.
func (p *Proc) Addr() string { return p.spec.addr }

// Dir is its own directory, with its configuration and logs.
func (p *Proc) Dir() string { return p.spec.dir }

// Pid is the process ID of the first process, 0 if it is not running.
func (p *Proc) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return 0
	default:
		return p.cmd.Process.Pid
	}
}

// Pids are all its processes, workers and helpers included: those in its
// process group and their descendants.
func (p *Proc) Pids() []int {
	first := p.Pid()
	if first == 0 {
		return nil
	}
	return family(first)
}

// Stop ends it gracefully, and by SIGKILL after 15 seconds, which is an
// error. The port stays reserved: dials are refused, Restart takes it again.
func (p *Proc) Stop() error {
	pid := p.Pid()
	if pid == 0 {
		return nil
	}
	p.mu.Lock()
	done, undo := p.done, p.undo
	p.mu.Unlock()
	undo()
	pids := p.Pids()
	syscall.Kill(pid, p.spec.stop)
	select {
	case <-done:
		awaitDead(pids)
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("peers: %s did not end within %v of %v", p.name, stopTimeout, p.spec.stop)
	}
}

// Kill ends all its processes at once, as a crash does. The port stays reserved.
func (p *Proc) Kill() {
	p.mu.Lock()
	cmd, done, undo := p.cmd, p.done, p.undo
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	undo()
	pids := p.Pids() // none once it has ended
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	<-done
	awaitDead(pids)
}

// Restart stops it if it runs and starts it again on the same port. From now
// on it ends with this ctx.
func (p *Proc) Restart(ctx context.Context) error {
	if err := p.Stop(); err != nil {
		return err
	}
	return p.start(ctx)
}

// Close is Stop for good: the port is given back.
func (p *Proc) Close() error {
	err := p.Stop()
	p.release()
	return err
}

func (p *Proc) release() {
	for _, h := range p.hold {
		h.Release()
	}
	p.mu.Lock()
	clean := p.clean
	p.clean = nil
	p.mu.Unlock()
	for _, f := range clean {
		f()
	}
}

// sweep removes what the program left outside its directory.
func (p *Proc) sweep() {
	if p.spec.litter == "" {
		return
	}
	left, _ := filepath.Glob(p.spec.litter) // the pattern is ours and good
	for _, f := range left {
		os.Remove(f)
	}
}

// Log is what it wrote so far: stdout and stderr, then its log files.
func (p *Proc) Log() string {
	var b strings.Builder
	for _, f := range append([]string{p.output()}, p.spec.logs...) {
		text, err := os.ReadFile(f)
		if err != nil || len(text) == 0 {
			continue
		}
		fmt.Fprintf(&b, "--- %s\n%s", filepath.Base(f), text)
	}
	return b.String()
}

func (p *Proc) output() string { return filepath.Join(p.spec.dir, "output.log") }

// AwaitLog waits until Log holds text.
func (p *Proc) AwaitLog(ctx context.Context, text string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.Log(), text) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("peers: %s: %q is not in its log: %w", p.name, text, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
