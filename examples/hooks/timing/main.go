// Timing breaks down where the time of every connection and request went. It needs no hooks: the record has every time, also
// the end, which no earlier moment can know.
//
//	go run ./examples/hooks/timing
//	curl -x http://127.0.0.1:3128 http://example.com/
package main

import (
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
)

// records print the breakdown of each finished flow to l.
func records(l *log.Logger) connmodel.Sink {
	return connmodel.SinkFunc(func(f *connmodel.Flow) { l.Print(breakdown(f)) })
}

// breakdown leaves out what did not happen.
func breakdown(f *connmodel.Flow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: total %s", f.Protocol, f.Target, span(f.Start, f.End))
	part := func(name string, from, to time.Time) {
		if !from.IsZero() && !to.IsZero() {
			fmt.Fprintf(&b, ", %s %s", name, span(from, to))
		}
	}
	part("decision", f.Start, f.Decided)
	if s := f.Server; s != nil && s.Reused {
		b.WriteString(", server connection reused")
	} else if s != nil {
		part("client waits for server", f.Client.Start, s.Start)
		part("server connect", s.Start, s.TCPSetup)
		part("server TLS", s.TCPSetup, s.TLSSetup)
		hops(&b, s)
	}
	if q := f.Request; q != nil {
		part("request send", q.Start, q.End)
		if p := f.Response; p != nil {
			part("waiting", q.End, p.Start)
			part("response receive", p.Start, p.End)
		}
	}
	return b.String()
}

// hops tells the way of the attempt that worked, or of the last one.
func hops(b *strings.Builder, s *connmodel.Server) {
	if len(s.Attempts) == 0 {
		return
	}
	for _, h := range s.Attempts[len(s.Attempts)-1].Hops {
		name := h.Upstream
		if name == "" {
			name = "server"
		}
		for _, p := range []struct {
			name string
			took time.Duration
		}{{"DNS", h.DNS}, {"TCP", h.TCP}, {"TLS", h.TLS}, {"greeting", h.Greeting}, {"auth", h.Auth}, {"connect", h.Connect}} {
			if p.took > 0 {
				fmt.Fprintf(b, ", %s %s %s", name, p.name, p.took.Round(time.Microsecond))
			}
		}
	}
}

func span(from, to time.Time) string { return to.Sub(from).Round(time.Microsecond).String() }

func main() {
	listen := flag.String("listen", "127.0.0.1:3128", "address to listen on")
	flag.Parse()
	if err := gateway.Run(gateway.Options{Listen: *listen, Records: records(log.Default())}); err != nil {
		log.Fatal(err)
	}
}
