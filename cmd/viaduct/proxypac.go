package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"viaduct/connmodel"
	"viaduct/policies"
)

// proxyPAC makes the PAC script of a listener's policy: what goes direct anyway is connected by the browser itself. listener "" is the first
// that speaks HTTP; proxy is how clients reach it, host:port, "" = the address that it is bound to.
func (s *service) proxyPAC(listener, proxy string) ([]byte, error) {
	cur := s.now.Load()
	if cur == nil {
		return nil, errors.New("the gateway has no configuration yet")
	}
	i := slices.IndexFunc(cur.cfg.Listeners, func(l policies.Listener) bool {
		return slices.Contains(l.Protocols, policies.ProtocolHTTP) && l.Network != "unix" && (listener == "" || l.Name == listener)
	})
	if i < 0 {
		return nil, errors.New("there is no such listener that browsers could be sent to by HTTP")
	}
	l := &cur.cfg.Listeners[i]
	if proxy == "" {
		bound := s.router.Addrs()[l.Name]
		if bound == nil {
			return nil, fmt.Errorf("listener %q is not bound", l.Name)
		}
		proxy = bound.String()
		if ap, err := netip.ParseAddrPort(proxy); err == nil && ap.Addr().IsUnspecified() {
			name, err := os.Hostname()
			if err != nil {
				return nil, err
			}
			proxy = fmt.Sprintf("%s:%d", name, ap.Port())
		}
	}
	at, err := connmodel.ParseAddress(proxy)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	word := "PROXY "
	if l.TLS != nil {
		word = "HTTPS "
	}
	return cur.cfg.Programs[l.Policy].ProxyPAC(word + at.String()), nil
}
