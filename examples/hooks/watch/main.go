// Watch prints the state and the TLS facts of every connection while it is made.
//
//	go run ./examples/hooks/watch
//	curl -x http://127.0.0.1:3128 https://example.com/
package main

import (
	"flag"
	"log"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
)

// hooks print to l.
func hooks(l *log.Logger) *connmodel.Hooks {
	return &connmodel.Hooks{Observe: func(e connmodel.Event, flow func() *connmodel.Flow, c *connmodel.Client) {
		switch e.Kind {
		case connmodel.EventClientConnected:
			clientConnected(l, c)
		case connmodel.EventServerConnect:
			s := flow().Server
			l.Printf("Connecting to: %s (attempt %d)", s.Address, e.Attempt)
			l.Printf("Connection state: %s", s.State)
		case connmodel.EventServerConnected:
			serverConnected(l, flow().Server)
		case connmodel.EventTLSEstablished:
			if e.Side == connmodel.SideServer {
				tlsFacts(l, flow().Server)
			}
		case connmodel.EventServerDisconnected:
			l.Printf("%v", flow())
		}
	}}
}

func clientConnected(l *log.Logger, c *connmodel.Client) {
	l.Printf("Client connected from: %s", c.Address)
	if c.TLSEstablished() {
		l.Print("Client using TLS")
		if c.TLSInfo.SNI != "" {
			l.Printf("Client SNI: %q", c.TLSInfo.SNI)
		}
	}
}

func serverConnected(l *log.Logger, s *connmodel.Server) {
	l.Printf("Connected: %v by %s", s, s.Route)
	if s.State.Has(connmodel.CanWrite) {
		l.Print("Server ready for writing")
	}
	if s.State.Has(connmodel.CanRead) {
		l.Print("Server ready for reading")
	}
}

func tlsFacts(l *log.Logger, s *connmodel.Server) {
	t := s.TLSInfo
	l.Printf("TLS cipher: %s", t.Cipher)
	if t.ALPN != nil {
		l.Printf("ALPN protocol: %q", *t.ALPN)
	}
	l.Printf("SNI: %q", t.SNI)
	l.Printf("Certificate count: %d", len(t.Certificates))
}

func main() {
	listen := flag.String("listen", "127.0.0.1:3128", "address to listen on")
	flag.Parse()
	if err := gateway.Run(gateway.Options{Listen: *listen, Hooks: hooks(log.Default())}); err != nil {
		log.Fatal(err)
	}
}
