// Package gateway is the smallest gateway that a Go program can embed: one listener, everything direct. The programs around it
// add their hooks. It is not the way to run Viaduct with a policy: that is cmd/viaduct.
package gateway

import (
	"context"
	"errors"
	"net/netip"
	"os/signal"
	"syscall"
	"time"

	"viaduct/connmodel"
	"viaduct/router"
	"viaduct/upstream"
)

// Options of a Gateway. The zero value serves HTTP and SOCKS on 127.0.0.1:3128 and goes direct.
type Options struct {
	Listen  string            // "" = 127.0.0.1:3128
	Hooks   *connmodel.Hooks  // nil = none
	Records connmodel.Sink    // nil = none are kept
	Decider connmodel.Decider // nil = Direct for everything
}

// Gateway is a running gateway.
type Gateway struct {
	router *router.Router
	routes *upstream.Table
}

// Direct is the decision to dial the target itself. Servers on this machine may be reached, because only clients on this
// machine reach the gateway.
func Direct() *connmodel.Decision {
	return &connmodel.Decision{
		Policy: "embedded", Rule: "direct", Outcome: connmodel.OutcomeVia, Route: connmodel.RouteDirect, AllowLocalhost: true,
		AllowAddresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
}

// Always decides d for every flow.
func Always(d *connmodel.Decision) connmodel.Decider {
	return connmodel.DeciderFunc(func(*connmodel.Facts) (*connmodel.Decision, connmodel.Need) { return d, 0 })
}

// Start begins to serve.
func Start(o Options) (*Gateway, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:3128"
	}
	if o.Decider == nil {
		o.Decider = Always(Direct())
	}
	routes, err := upstream.NewTable(upstream.Config{}, nil)
	if err != nil {
		return nil, err
	}
	g := &Gateway{router: router.New(router.Options{Hooks: o.Hooks, Records: o.Records}), routes: routes}
	err = g.router.Apply(&router.Config{
		Generation: 1, Routes: routes,
		Listeners: []router.Listener{{Name: "desk", Network: "tcp", Address: o.Listen, Protocols: router.AllProtocols, Policy: "embedded", Decider: o.Decider}},
	})
	if err != nil {
		routes.Close()
		return nil, err
	}
	return g, nil
}

// Addr is where the gateway listens.
func (g *Gateway) Addr() string { return g.router.Addrs()["desk"].String() }

// Close ends the gateway; connections that are open are cut when ctx is done.
func (g *Gateway) Close(ctx context.Context) {
	g.router.Shutdown(ctx)
	g.routes.Close()
}

// Run serves until the program is interrupted.
func Run(o Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	g, err := Start(o)
	if err != nil {
		return errors.Join(errors.New("cannot start the gateway"), err)
	}
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	g.Close(ctx)
	return nil
}
