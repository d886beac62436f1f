package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"viaduct/policies"
	"viaduct/router"
	"viaduct/upstream"
)

// This file is where the packages meet: what policies read becomes what the router runs. Nothing is decided here.

// routerConfig translates a checked policy. door is the address of the control door.
func routerConfig(c *policies.Config, generation uint64, routes *upstream.Table, door string) (*router.Config, error) {
	rc := &router.Config{
		Generation: generation,
		Routes:     routes,
		Resolver:   c.Upstreams.Resolver,
		Limits:     router.Limits{Connections: c.Gateway.Limits.Connections, Timeouts: c.Gateway.Timeouts},
		Location:   c.Gateway.Timezone,
		Name:       c.Gateway.Name,
	}
	if ap, err := netip.ParseAddrPort(door); err == nil {
		rc.OwnAddresses = append(rc.OwnAddresses, ap)
	}
	for i := range c.Listeners {
		l, err := routerListener(c, &c.Listeners[i])
		if err != nil {
			return nil, err
		}
		rc.Listeners = append(rc.Listeners, l)
	}
	return rc, nil
}

func routerListener(c *policies.Config, l *policies.Listener) (router.Listener, error) {
	out := router.Listener{
		Name: l.Name, Network: l.Network, Address: l.Address, FileMode: l.FileMode, Clients: l.Clients, Policy: l.Policy, Realm: l.Realm,
		HandshakeTimeout: l.HandshakeTimeout, KeepAliveTimeout: l.KeepAliveTimeout, MaxHeadBytes: l.MaxHeadBytes, PerClient: l.PerClient,
	}
	if l.TLS != nil {
		return out, fmt.Errorf("%s:%d: listener %q: TLS toward clients is not there yet", l.File, l.Line, l.Name)
	}
	program := c.Programs[l.Policy]
	if program == nil {
		return out, fmt.Errorf("%s:%d: listener %q: there is no policy %q", l.File, l.Line, l.Name, l.Policy)
	}
	out.Decider = program
	if l.Users != nil {
		out.Auth = l.Users
	}
	for _, p := range l.Protocols {
		switch p {
		case policies.ProtocolHTTP:
			out.Protocols |= router.HTTP
		case policies.ProtocolSOCKS4:
			out.Protocols |= router.SOCKS4
		case policies.ProtocolSOCKS5:
			out.Protocols |= router.SOCKS5
		default:
			return out, fmt.Errorf("%s:%d: listener %q: unknown protocol %q", l.File, l.Line, l.Name, p)
		}
	}
	return out, nil
}

// setLog makes the logger what the policy says.
func setLog(log *logrus.Logger, g *policies.Gateway) {
	level := logrus.InfoLevel
	switch g.LogLevel {
	case "error":
		level = logrus.ErrorLevel
	case "warn":
		level = logrus.WarnLevel
	case "debug":
		level = logrus.DebugLevel
	}
	log.SetLevel(level)
	if strings.EqualFold(g.LogFormat, "json") {
		log.SetFormatter(&router.LineFormatter{JSON: true, Base: &logrus.JSONFormatter{
			TimestampFormat: "2006-01-02T15:04:05.000Z07:00", DisableHTMLEscape: true,
		}})
		return
	}
	log.SetFormatter(&router.LineFormatter{NoTime: underJournal(), Base: &logrus.TextFormatter{
		FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00",
		DisableColors: !colourful(os.Stderr), DisableTimestamp: underJournal(),
	}})
}

// wireUp joins a configuration without opening anything, to find what would keep it from running. The caller closes the table.
func wireUp(c *policies.Config) (*router.Config, *upstream.Table, error) {
	plain := c.Upstreams
	plain.Pools = slices.Clone(plain.Pools)
	for i := range plain.Pools {
		plain.Pools[i].Health = nil // nothing is dialled
	}
	table, err := upstream.NewTable(plain, nil)
	if err != nil {
		return nil, nil, err
	}
	rc, err := routerConfig(c, 0, table, c.Gateway.Admin)
	if err != nil {
		table.Close()
		return nil, nil, err
	}
	return rc, table, nil
}
