// Certificates takes plain requests over verified TLS to their servers, prints the certificates that those send, and warns of
// the ones that are not valid, or not for long.
//
//	go run ./examples/hooks/certificates -warn 720h
//	curl -x http://127.0.0.1:3128 http://example.com/
package main

import (
	"crypto/tls"
	"flag"
	"log"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
)

// hooks print to l, and warn of certificates that expire within soon.
func hooks(l *log.Logger, soon time.Duration, now func() time.Time) *connmodel.Hooks {
	return &connmodel.Hooks{Observe: func(e connmodel.Event, flow func() *connmodel.Flow, _ *connmodel.Client) {
		switch {
		case e.Kind == connmodel.EventTLSFailed:
			l.Printf("TLS with %s failed: %v", flow().Server.Address, e.Error)
		case e.Kind == connmodel.EventTLSEstablished && e.Side == connmodel.SideServer:
			s := flow().Server
			if len(s.TLSInfo.Certificates) > 0 { // the first is the server's own
				describe(l, s.Address, &s.TLSInfo.Certificates[0], soon, now())
			}
		}
	}}
}

func describe(l *log.Logger, server connmodel.Address, c *connmodel.Certificate, soon time.Duration, now time.Time) {
	l.Printf("%s: certificate subject: %q", server, c.Subject)
	l.Printf("%s: certificate issuer: %q", server, c.Issuer)
	l.Printf("%s: certificate valid from: %s", server, c.NotBefore.UTC().Format(time.RFC3339))
	l.Printf("%s: certificate valid until: %s", server, c.NotAfter.UTC().Format(time.RFC3339))
	switch c.VerdictAt(now) {
	case connmodel.CertNotYetValid:
		l.Printf("%s: WARNING: certificate not yet valid", server)
	case connmodel.CertExpired:
		l.Printf("%s: WARNING: certificate expired", server)
	case connmodel.CertOK:
		if left := c.NotAfter.Sub(now); left < soon {
			l.Printf("%s: WARNING: certificate expires in %s", server, left.Round(time.Minute))
		}
	}
	names := append(append(append([]string(nil), c.SANs.DNS...), c.SANs.IP...), c.SANs.URI...)
	if len(names) == 0 {
		l.Printf("%s: no SAN extension found", server)
		return
	}
	l.Printf("%s: SAN entries: %q", server, strings.Join(names, " "))
}

// overTLS decides that plain requests for port 80 go to port 443 of the same host, and others to the port they name, by TLS.
func overTLS(config *tls.Config) connmodel.Decider {
	return connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) {
		d := gateway.Direct()
		if f.Protocol == connmodel.ProtocolHTTP {
			d.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: config}
			if f.Target.Port == 80 {
				d.Server = connmodel.Address{Host: f.Target.Host, Port: 443}
			}
		}
		return d, 0
	})
}

func main() {
	listen := flag.String("listen", "127.0.0.1:3128", "address to listen on")
	soon := flag.Duration("warn", 30*24*time.Hour, "warn of certificates that expire within")
	flag.Parse()
	err := gateway.Run(gateway.Options{Listen: *listen, Hooks: hooks(log.Default(), *soon, time.Now), Decider: overTLS(&tls.Config{})})
	if err != nil {
		log.Fatal(err)
	}
}
