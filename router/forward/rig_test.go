package forward

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

func TestMain(m *testing.M) {
	if os.Getenv(loadEnv) != "" {
		runLoad()
		return
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// peer is one end of a connection in the hands of a test.
type peer struct {
	net.Conn
	*bufio.Reader
	t testing.TB
}

func (p *peer) Read(b []byte) (int, error) { return p.Reader.Read(b) }

func newPeer(t testing.TB, c net.Conn) *peer {
	c.SetDeadline(time.Now().Add(patience))
	return &peer{c, bufio.NewReader(c), t}
}

func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	if _, err := io.WriteString(p.Conn, format); err != nil {
		p.t.Errorf("write: %v", err)
	}
}

// head reads up to an empty line.
func (p *peer) head() string {
	p.t.Helper()
	var b strings.Builder
	for {
		line, err := p.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			p.t.Errorf("head: %v after %q", err, b.String())
			return b.String()
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

func (p *peer) take(n int) string {
	p.t.Helper()
	b := make([]byte, n)
	if m, err := io.ReadFull(p.Reader, b); err != nil {
		p.t.Errorf("%v after %q, want %d bytes", err, b[:m], n)
	}
	return string(b)
}

func (p *peer) want(s string) {
	p.t.Helper()
	if got := p.take(len(s)); got != s {
		p.t.Errorf("got %q\nwant %q", got, s)
	}
}

// rest reads to the end, which it returns: nil for FIN.
func (p *peer) rest() (string, error) {
	b, err := io.ReadAll(p.Reader)
	return string(b), err
}

// ends reports that nothing more comes, with FIN or RST.
func (p *peer) ends() {
	p.t.Helper()
	s, err := p.rest()
	if s != "" {
		p.t.Errorf("got %q, want the end", s)
	}
	if isTimeout(err) {
		p.t.Error("the connection is still open")
	}
}

// resets reports that the connection ends with RST, whatever comes before, and returns that.
func (p *peer) resets() string {
	p.t.Helper()
	s, err := p.rest()
	if err == nil || isTimeout(err) {
		p.t.Errorf("the connection ended with %v after %q, want a reset", err, s)
	}
	return s
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func (p *peer) reset() {
	setReset(p.Conn)
	p.Close()
}

func (p *peer) closeWrite() { p.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// pair returns two ends of a TCP connection over loopback.
func pair(t testing.TB) (a, b net.Conn) { return pairWith(t, nil) }

// pairWith is pair, with control called for a before it connects.
func pairWith(t testing.TB, control func(string, string, syscall.RawConn) error) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := net.Dialer{Control: control}
	if a, err = d.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// rig is a client, the loop of a gateway around Carry, and an origin, each in the hands of the test over real sockets.
type rig struct {
	t       testing.TB
	client  *peer
	results chan Result
	records chan *connmodel.Flow
	pool    Pool
	cancel  Canceler
	change  func(*Params)
	server  func(*Server)                    // changes what is dialled
	origin  func(o *peer, n int)             // serves connection n
	wrap    func(net.Conn) net.Conn          // of the connection to the origin
	dialErr func(n int) *connmodel.ConnError // refuses dial n
	dials   int
	control func(string, string, syscall.RawConn) error // of the client's socket

	ln   net.Listener
	wg   sync.WaitGroup
	mu   sync.Mutex
	all  []net.Conn
	gate net.Conn // our end of the client's connection
}

type rigOption func(*rig)

func withParams(f func(*Params)) rigOption { return func(r *rig) { r.change = f } }
func withServer(f func(*Server)) rigOption { return func(r *rig) { r.server = f } }

func newRig(t testing.TB, origin func(o *peer, n int), options ...rigOption) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ln: ln, origin: origin, results: make(chan Result, 4096), records: make(chan *connmodel.Flow, 4096)}
	for _, o := range options {
		o(r)
	}
	a, b := pairWith(t, r.control)
	r.client, r.gate = newPeer(t, a), b
	r.wg.Add(2)
	go r.accept()
	go func() { defer r.wg.Done(); r.serve(b) }()
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	r.ln.Close()
	r.client.Close()
	r.gate.Close()
	r.mu.Lock()
	for _, c := range r.all {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	r.pool.Close()
}

func (r *rig) accept() {
	defer r.wg.Done()
	for n := 0; ; n++ {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.all = append(r.all, c)
		r.mu.Unlock()
		r.wg.Add(1)
		go func() {
			defer r.wg.Done()
			defer c.Close()
			r.origin(newPeer(r.t, c), n)
		}()
	}
}

// serve is what router does around Carry.
func (r *rig) serve(c net.Conn) {
	defer c.Close()
	in := http1.NewReader(c, http1.Limits{})
	defer in.Release()
	live := connmodel.NewSession(connmodel.Accepted{Listener: "desk", Peer: netip.MustParseAddrPort("127.0.0.1:1"), Time: time.Now()}, nil)
	req := new(http1.Request)
	for {
		if err := in.ReadRequest(req); err != nil {
			var bad *http1.Error
			if errors.As(err, &bad) {
				fmt.Fprintf(c, "HTTP/1.1 %d Bad\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", bad.Status)
				lingering(c)
			}
			return
		}
		if !r.carry(c, in, req, live) {
			return
		}
	}
}

func (r *rig) carry(c net.Conn, in *http1.Reader, req *http1.Request, live *connmodel.Session) bool {
	target, _ := connmodel.ParseAddress(r.ln.Addr().String())
	rec := live.NewFlow(connmodel.ProtocolHTTP, target, time.Now())
	rec.Requested(connmodel.Request{Method: req.Method, Scheme: "http", Host: req.Target.Host, Path: req.Target.Path})
	head := req.Method == "HEAD"
	p := &Params{
		Client: c, In: in, Req: req, Rec: rec, Via: "gw", Cancel: &r.cancel,
		Dial:     func(reuse bool) (*Server, *connmodel.ConnError) { return r.dial(rec, target, reuse) },
		Timeouts: connmodel.Timeouts{Response: patience, Idle: patience},
	}
	if r.change != nil {
		r.change(p)
	}
	res := Carry(p)
	if res.Err != nil {
		rec.Fail(res.Err)
	}
	f := rec.Close(connmodel.FlowEnd{Up: res.Up, Down: res.Down, KeepClient: res.KeepClient, KeepServer: res.KeepServer})
	r.records <- f
	if res.Upgraded {
		r.results <- res
		r.tunnel(c, in, res.Server)
		return false
	}
	if res.KeepServer {
		r.pool.Put(res.Server)
	}
	if !res.Responded {
		writeFault(c, res, head)
	}
	r.results <- res
	if !res.KeepClient && (res.Err == nil || !res.Responded) {
		lingering(c)
	}
	return res.KeepClient
}

func writeFault(c net.Conn, res Result, head bool) {
	status, body, more := 502, res.Err.Error(), ""
	if res.Err.Side == connmodel.SideClient && res.Err.Code > 0 || res.Err.Code == 508 {
		status = res.Err.Code
	}
	if !res.KeepClient {
		more = "Connection: close\r\n"
	}
	if head {
		body = ""
	}
	fmt.Fprintf(c, "HTTP/1.1 %d Fault\r\n%sContent-Length: %d\r\n\r\n%s", status, more, len(body), body)
}

// lingering ends with FIN and reads on, as the router does.
func lingering(c net.Conn) {
	if t, ok := c.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, c, 256<<10)
}

func (r *rig) dial(rec *connmodel.Recorder, target connmodel.Address, reuse bool) (*Server, *connmodel.ConnError) {
	if reuse {
		if s := r.pool.Get("origin"); s != nil {
			rec.ReuseServer(s.Record)
			return s, nil
		}
	}
	r.dials++
	if r.dialErr != nil {
		if err := r.dialErr(r.dials); err != nil {
			return nil, err
		}
	}
	rec.BeginDial(target, connmodel.RouteDirect, false)
	at := rec.BeginAttempt(connmodel.RouteDirect)
	c, err := net.Dial("tcp", r.ln.Addr().String())
	if err != nil {
		e := &connmodel.ConnError{Phase: connmodel.PhaseDial, Side: connmodel.SideServer, Kind: connmodel.KindRefused, Message: "refused"}
		at.Fail(e)
		return nil, e
	}
	at.Connected(netip.AddrPort{}, netip.AddrPort{})
	if r.wrap != nil {
		c = r.wrap(c)
	}
	s := &Server{Conn: c, Key: "origin", Close: c.Close, Record: rec.Snapshot().Server}
	s.In.Reset(c, http1.Limits{})
	if r.server != nil {
		r.server(s)
	}
	return s, nil
}

// tunnel is what router/relay does after an upgrade.
func (r *rig) tunnel(c net.Conn, in *http1.Reader, s *Server) {
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		io.Copy(s.Conn, in)
		s.Conn.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, &s.In)
	c.(*net.TCPConn).CloseWrite()
	wg.Wait()
	s.Close()
}

// result waits for the end of one more Carry.
func (r *rig) result() Result {
	r.t.Helper()
	select {
	case res := <-r.results:
		return res
	case <-time.After(patience):
		r.t.Fatal("Carry does not end")
	}
	panic("unreachable")
}

// record returns the record of one more exchange, after result.
func (r *rig) record() *connmodel.Flow { return <-r.records }

// host is what the request names; nobody resolves it.
const host = "origin.test:8080"

func get(path string) string {
	return "GET http://" + host + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
}

// hasFault checks what an exchange failed of.
func hasFault(t testing.TB, res Result, side connmodel.Side, kind connmodel.Kind, phase connmodel.Phase) {
	t.Helper()
	e := res.Err
	if e == nil {
		t.Errorf("no error, want %s %s", side, kind)
		return
	}
	if e.Side != side || e.Kind != kind || e.Phase != phase {
		t.Errorf("error is %s/%s/%s (%v), want %s/%s/%s", e.Side, e.Kind, e.Phase, e, side, kind, phase)
	}
	blame := map[connmodel.Side]connmodel.Blame{
		connmodel.SideClient: connmodel.BlameClient, connmodel.SideServer: connmodel.BlameTarget, connmodel.SideHop: connmodel.BlameProxy,
	}[side]
	if blame != "" && e.Blame != blame {
		t.Errorf("blame is %q, want %q", e.Blame, blame)
	}
	if e.Message == "" {
		t.Error("error without a sentence")
	}
}

// answering is an origin that gives every request on every connection the same bytes, and then reads on.
func answering(bytes string) func(*peer, int) {
	return func(o *peer, _ int) {
		for {
			r, err := http.ReadRequest(o.Reader)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if _, err := io.WriteString(o.Conn, bytes); err != nil {
				return
			}
		}
	}
}

// closing is answering, once, and then FIN.
func closing(bytes string) func(*peer, int) {
	return func(o *peer, _ int) {
		r, err := http.ReadRequest(o.Reader)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(o.Conn, bytes)
		o.closeWrite()
		io.Copy(io.Discard, o.Reader)
	}
}

// pattern is n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func samePattern(t testing.TB, got []byte, n int) {
	t.Helper()
	if !bytes.Equal(got, pattern(n)) {
		t.Errorf("%d bytes came, or others than the %d that were sent", len(got), n)
	}
}

var limitsNone http1.Limits

// params are those of one request that is all in the Reader, for tests without a rig's loop.
func (r *rig) params(client net.Conn, request string) *Params {
	in := http1.NewReader(client, http1.Limits{})
	in.Prepend([]byte(request))
	req := new(http1.Request)
	if err := in.ReadRequest(req); err != nil {
		r.t.Fatal(err)
	}
	live := connmodel.NewSession(connmodel.Accepted{Listener: "desk", Peer: netip.MustParseAddrPort("127.0.0.1:1"), Time: time.Now()}, nil)
	rec := live.NewFlow(connmodel.ProtocolHTTP, connmodel.Address{}, time.Now())
	return &Params{Client: client, In: in, Req: req, Rec: rec, Via: "gw", Timeouts: connmodel.Timeouts{Response: patience, Idle: patience}}
}

// showing is a Login that shows the same always, and has nothing else to say.
type showing string

func (s showing) Authorize(string, string) (name, value string, err *connmodel.ConnError) {
	return "Proxy-Authorization", string(s), nil
}

func (s showing) Challenged(string, string, []string) (again, here bool, err *connmodel.ConnError) {
	return false, false, nil
}
