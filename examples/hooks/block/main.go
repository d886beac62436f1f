// Block refuses clients by address as soon as they connect, from a list that can change while it runs.
//
//	go run ./examples/hooks/block -clients 192.0.2.66,198.51.100.0/24
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/netip"
	"strings"
	"sync/atomic"

	"viaduct/connmodel"
	"viaduct/examples/hooks/gateway"
)

// blocklist holds the networks that may not connect. Set may be called at any time.
type blocklist struct {
	nets atomic.Pointer[[]netip.Prefix]
}

// Set replaces the list: addresses and networks, separated by commas.
func (b *blocklist) Set(s string) error {
	var nets []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			ip, errIP := netip.ParseAddr(part)
			if errIP != nil {
				return fmt.Errorf("%q is neither an address nor a network", part)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		nets = append(nets, connmodel.PlainPrefix(p))
	}
	b.nets.Store(&nets)
	return nil
}

func (b *blocklist) hooks(l *log.Logger) *connmodel.Hooks {
	return &connmodel.Hooks{ClientConnected: func(_ context.Context, c *connmodel.Client) error {
		ip := connmodel.Embedded(c.Peer.Addr())
		if nets := b.nets.Load(); nets != nil {
			for _, p := range *nets {
				if p.Contains(ip) {
					l.Printf("Client %s blocked by %s", c.Address, p)
					return fmt.Errorf("%s is blocked", p)
				}
			}
		}
		l.Printf("Client %s connected", c.Address)
		return nil
	}}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:3128", "address to listen on")
	clients := flag.String("clients", "", "addresses and networks to refuse")
	flag.Parse()
	var b blocklist
	if err := b.Set(*clients); err != nil {
		log.Fatal(err)
	}
	if err := gateway.Run(gateway.Options{Listen: *listen, Hooks: b.hooks(log.Default())}); err != nil {
		log.Fatal(err)
	}
}
