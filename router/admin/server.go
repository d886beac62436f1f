package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// Options of a Server. Gateway is needed.
type Options struct {
	Gateway Gateway
	Sources
	Metrics *Metrics // nil = /metrics is not there
	History *History // nil = /v1/history is not there
	Events  *Events  // nil = /v1/events is not there
	// Access is who may come in over TCP: Serve refuses a TCP listener that everybody could use.
	Access Access
	// Dashboard serves "/" and what is below "/ui/": static files, for which nobody is asked who they are. nil = there is none.
	Dashboard http.Handler
	// CA returns the certificate of the authority, in PEM; nil, or an empty answer = there is none. It never returns a key.
	CA func() []byte
	// PAC makes a script that sends browsers to a listener ("" = the first that speaks HTTP), by the name host:port for it ("" = its address).
	PAC func(listener, proxy string) ([]byte, error)
	// Problem is told what goes wrong beside requests, one line at a time; nil = nobody is.
	Problem func(text string)
}

// Server answers at the door. Make it with New; Serve as many listeners as there are.
type Server struct {
	o   Options
	api *api
}

// New returns a server.
func New(o Options) *Server { return &Server{o: o, api: newAPI(&o)} }

// Door is one listener that is being served.
type Door struct {
	ln    net.Listener
	srv   *http.Server
	guard *guard
	done  chan struct{}
	end   context.CancelFunc // of streams
}

const maxConnections = 256 // more wait at accept: operators are few, and streams of events are bounded by themselves

// Serve answers on ln until the Door is closed. It takes ln over.
func (s *Server) Serve(ln net.Listener) (*Door, error) {
	g := &guard{api: s.api, tcp: ln.Addr().Network() != "unix"}
	p, err := s.o.Access.check(g.tcp)
	if err != nil {
		ln.Close()
		return nil, err
	}
	g.policy.Store(p)
	var problems io.Writer = io.Discard
	if s.o.Problem != nil {
		problems = lines(s.o.Problem)
	}
	ctx, end := context.WithCancel(context.Background())
	d := &Door{ln: ln, guard: g, end: end, done: make(chan struct{}), srv: &http.Server{
		Handler:           g,
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(context.Background(), streamsKey{}, ctx) },
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a reload reads lists of any size
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(problems, "", 0),
	}}
	var from net.Listener = netutil.LimitListener(ln, maxConnections)
	if g.tcp {
		from = &secureListener{from, &g.policy}
	}
	go func() {
		defer close(d.done)
		if err := d.srv.Serve(from); err != nil && !errors.Is(err, http.ErrServerClosed) && s.o.Problem != nil {
			s.o.Problem("control door: " + err.Error())
		}
	}()
	return d, nil
}

// streamsKey finds the context that ends with the door, where a request's own is let go on until its answer is complete.
type streamsKey struct{}

// secureListener speaks TLS on the connections that come, as the policy of their moment says.
type secureListener struct {
	net.Listener
	policy *atomic.Pointer[policy]
}

func (l *secureListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if t := l.policy.Load().TLS; t != nil {
		return tls.Server(c, t), nil
	}
	return c, nil
}

// Allow exchanges who may come in. Requests and connections that are under way keep what they were given.
func (d *Door) Allow(a Access) error {
	p, err := a.check(d.guard.tcp)
	if err == nil {
		d.guard.policy.Store(p)
	}
	return err
}

// Addr is where the door is.
func (d *Door) Addr() net.Addr { return d.ln.Addr() }

// Status returns how the door is.
func (d *Door) Status() *DoorStatus {
	p := d.guard.policy.Load()
	s := &DoorStatus{Address: d.ln.Addr().String(), TLS: d.guard.tcp && p.TLS != nil, Write: !d.guard.tcp || p.Write, Pprof: p.Pprof, Refused: d.guard.refused()}
	if d.ln.Addr().Network() == "unix" {
		s.Address = "unix:" + s.Address
	}
	if e := d.guard.api.o.Events; e != nil {
		s.Subscribers = e.Subscribers()
	}
	return s
}

// Close stops listening, ends streams of events, lets other requests under way end until ctx is done, and cuts the rest. It returns when no
// request of this door is being answered any more.
func (d *Door) Close(ctx context.Context) {
	d.end()
	if err := d.srv.Shutdown(ctx); err != nil {
		d.srv.Close()
	}
	d.ln.Close()
	<-d.done
}

// lines makes a writer of a function that takes lines.
type lines func(string)

func (l lines) Write(b []byte) (int, error) {
	l(strings.TrimSpace(string(b)))
	return len(b), nil
}
