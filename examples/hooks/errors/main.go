// Errors tells failed connections apart by what failed and whose fault it was, counts them, and may send clients to another server
// when theirs cannot be reached.
//
//	go run ./examples/hooks/errors -fallback backup.example.com:443
//	curl -x http://127.0.0.1:3128 http://localhost:1/
package main

import (
	"context"
	"flag"
	"log"
	"sync"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
)

// tally counts failures by kind. The kind is one of a few words and never depends on the message.
type tally struct {
	mu sync.Mutex
	n  map[connmodel.Kind]int
}

func (t *tally) add(k connmodel.Kind) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = make(map[connmodel.Kind]int)
	}
	t.n[k]++
	return t.n[k]
}

// category says what an operator would do about it.
func category(e *connmodel.ConnError) string {
	switch e.Kind {
	case connmodel.KindRefused, connmodel.KindUnreachable, connmodel.KindTimeout, connmodel.KindReset, connmodel.KindEOF:
		return "connection"
	case connmodel.KindDNS:
		return "name"
	case connmodel.KindTLS:
		return "certificate or TLS"
	case connmodel.KindAuth, connmodel.KindDenied:
		return "permission"
	case connmodel.KindCanceled:
		return "client left"
	}
	return "fault"
}

// hooks print to l. A server that cannot be reached is replaced by fallback, once; the zero Address replaces none.
func hooks(l *log.Logger, fallback connmodel.Address) *connmodel.Hooks {
	var t tally
	h := &connmodel.Hooks{Observe: func(e connmodel.Event, flow func() *connmodel.Flow, _ *connmodel.Client) {
		switch {
		case e.Kind == connmodel.EventServerConnectError:
			l.Printf("attempt %d to reach %s failed: %v", e.Attempt, flow().Server.Address, e.Error)
		case e.Kind == connmodel.EventError && flow != nil:
			f := flow()
			l.Printf("%s error (%s, number %d): %v", category(e.Error), e.Error.Kind, t.add(e.Error.Kind), e.Error)
			l.Printf("  target: %s, client: %v, blame: %q", f.Target, f.Client, e.Error.Blame)
			if f.Server != nil {
				l.Printf("  server: %v after %d attempts", f.Server, len(f.Server.Attempts))
			}
		}
	}}
	if !fallback.IsZero() {
		h.ServerConnectError = func(_ context.Context, f *connmodel.Flow, p *connmodel.ServerPlan, err *connmodel.ConnError) (bool, error) {
			if p.Address == fallback || category(err) != "connection" {
				return false, nil
			}
			l.Printf("sending %s to %s instead", f.Target, fallback)
			p.Address = fallback
			return true, nil
		}
	}
	return h
}

func main() {
	listen := flag.String("listen", "127.0.0.1:3128", "address to listen on")
	to := flag.String("fallback", "", "host:port to send clients to whose server cannot be reached")
	flag.Parse()
	var fallback connmodel.Address
	if *to != "" {
		var err error
		if fallback, err = connmodel.ParseAddress(*to); err != nil {
			log.Fatal(err)
		}
	}
	if err := gateway.Run(gateway.Options{Listen: *listen, Hooks: hooks(log.Default(), fallback)}); err != nil {
		log.Fatal(err)
	}
}
