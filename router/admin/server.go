package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"
)

// Options of a Server. Gateway is needed.
type Options struct {
	Gateway Gateway
	Metrics *Metrics // nil = /metrics is not there
	History *History // nil = /v1/history is not there
	// Token is asked for over TCP; Serve refuses a TCP listener without one of at least 16 bytes.
	Token string
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
	api http.Handler
}

// New returns a server.
func New(o Options) *Server { return &Server{o: o, api: routes(&o)} }

// Door is one listener that is being served.
type Door struct {
	ln   net.Listener
	srv  *http.Server
	done chan struct{}
}

// ErrNoToken says that a TCP listener would be open to every user of the machine.
var ErrNoToken = errors.New("control door: over TCP it needs a token of at least 16 bytes")

const (
	minToken       = 16
	maxConnections = 64 // more wait at accept: operators are few
)

// Serve answers on ln until the Door is closed. It takes ln over.
func (s *Server) Serve(ln net.Listener) (*Door, error) {
	g := &guard{next: s.api, tcp: ln.Addr().Network() != "unix"}
	if g.tcp {
		if len(s.o.Token) < minToken {
			ln.Close()
			return nil, ErrNoToken
		}
		g.token = sha256.Sum256([]byte(s.o.Token))
	}
	var problems io.Writer = io.Discard
	if s.o.Problem != nil {
		problems = lines(s.o.Problem)
	}
	d := &Door{ln: ln, done: make(chan struct{}), srv: &http.Server{
		Handler:           g,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a reload reads lists of any size
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(problems, "", 0),
	}}
	go func() {
		defer close(d.done)
		if err := d.srv.Serve(netutil.LimitListener(ln, maxConnections)); err != nil && !errors.Is(err, http.ErrServerClosed) && s.o.Problem != nil {
			s.o.Problem("control door: " + err.Error())
		}
	}()
	return d, nil
}

// Addr is where the door is.
func (d *Door) Addr() net.Addr { return d.ln.Addr() }

// Close stops listening, lets requests under way end until ctx is done, and cuts the rest. It returns when no request of
// this door is being answered any more.
func (d *Door) Close(ctx context.Context) {
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
