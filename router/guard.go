package router

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"viaduct/connmodel"
)

// ownAddresses are the sockets that the gateway itself listens on: never a target, or a client could loop through us or
// reach the control door under our name.
type ownAddresses struct {
	ports map[uint16][]netip.Addr // unspecified address = every address of this machine
}

func (o *ownAddresses) addListener(a net.Addr) {
	if ap := addrPort(a); ap.IsValid() {
		o.add(ap)
	}
}

func (o *ownAddresses) add(ap netip.AddrPort) {
	if o.ports == nil {
		o.ports = make(map[uint16][]netip.Addr)
	}
	o.ports[ap.Port()] = append(o.ports[ap.Port()], ap.Addr().Unmap().WithZone(""))
}

// has reports whether ip:port is one of ours. A port that is not ours costs one map look-up.
func (o *ownAddresses) has(ip netip.Addr, port uint16) bool {
	bound, ok := o.ports[port]
	if !ok {
		return false
	}
	ip = connmodel.Embedded(ip)
	for _, b := range bound {
		// Linux connects 0.0.0.0 and :: to loopback.
		if b == ip || (ip.IsUnspecified() && (b.IsLoopback() || b.IsUnspecified())) {
			return true
		}
		if b.IsUnspecified() && (ip.IsLoopback() || machineHas(ip)) {
			return true
		}
	}
	return false
}

// machine caches the addresses of the network interfaces for a moment; they are needed only when a target has the port of
// one of our wildcard listeners.
var machine struct {
	sync.Mutex
	at    time.Time
	addrs map[netip.Addr]bool
}

func machineHas(ip netip.Addr) bool {
	machine.Lock()
	defer machine.Unlock()
	if time.Since(machine.at) > 5*time.Second {
		list, err := net.InterfaceAddrs()
		if err != nil {
			return true // not knowing, it may be ours: fail closed
		}
		machine.addrs = make(map[netip.Addr]bool, len(list))
		for _, a := range list {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					machine.addrs[ip.Unmap()] = true
				}
			}
		}
		machine.at = time.Now()
	}
	return machine.addrs[ip]
}

// Owns reports whether the gateway listens at an address, as far as the configuration in force says.
func (r *Router) Owns(a netip.AddrPort) bool {
	g := r.current.Load()
	return g != nil && g.own.has(a.Addr(), a.Port())
}

// named is the address that the policy itself sends a flow to: the server of the rule that took it, or else the target of a forward
// listener. Zero when the client chose.
func (l *Listener) named(d *connmodel.Decision) connmodel.Address {
	if !d.Server.IsZero() || l == nil {
		return d.Server
	}
	return l.Target
}

// checkAddress says whether a flow that came by l may have ip:port as its far end, under decision d.
func (g *generation) checkAddress(l *Listener, d *connmodel.Decision, target connmodel.Address, ip netip.Addr, port uint16) *connmodel.ConnError {
	if g.own.has(ip, port) {
		return refusal("%s is an address of this gateway itself", netip.AddrPortFrom(ip, port))
	}
	name, refused := connmodel.RefusedRange(ip)
	if !refused {
		return nil
	}
	plain := connmodel.Embedded(ip)
	if target == l.named(d) && (target.IP() == ip || isLocalhost(target.Host) && plain.IsLoopback()) {
		return nil
	}
	for _, p := range d.AllowAddresses {
		if p.Contains(plain) && connmodel.OpensRefused(p) {
			return nil
		}
	}
	if d.AllowLocalhost && plain.IsLoopback() && isLocalhost(target.Host) {
		return nil
	}
	return refusal("%s is %s %s address; a rule that lists it in match { address } would allow it", ip, article(name), name)
}

// checkName does what can be done before anything is resolved: literal addresses are checked, and so is localhost, which a
// proxy further on would take for itself.
func (g *generation) checkName(l *Listener, d *connmodel.Decision, server connmodel.Address, ip netip.Addr) *connmodel.ConnError {
	if ip.IsValid() {
		return g.checkAddress(l, d, server, ip, server.Port)
	}
	if isLocalhost(server.Host) {
		if e := g.checkAddress(l, d, server, loopback4, server.Port); e != nil {
			return e
		}
	}
	return nil
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// isLocalhost follows RFC 6761, section 6.3: localhost and every name below it.
func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// article is the one that goes before word.
func article(word string) string {
	if word != "" && strings.IndexByte("aeiou", word[0]) >= 0 {
		return "an"
	}
	return "a"
}

func refusal(format string, args ...any) *connmodel.ConnError {
	return &connmodel.ConnError{
		Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied,
		Message: "refused: " + fmt.Sprintf(format, args...), Blame: connmodel.BlameClient,
	}
}

// CheckTarget says what the service would say of the address that decision d sends a flow to, as far as it can be said without a
// network: for literal addresses, for localhost, and for addrs, which the name is known to have. l is the listener that the flow came by,
// or nil. nil = allowed. It is the check that flows pass, for tools that explain.
func CheckTarget(c *Config, l *Listener, d *connmodel.Decision, target connmodel.Address, addrs []netip.Addr) *connmodel.ConnError {
	return NewTargetChecker(c).Refuses(l, d, target, addrs)
}

// TargetChecker is CheckTarget for those who ask often. It is safe for concurrent use.
type TargetChecker struct{ g *generation }

// NewTargetChecker prepares the check by a configuration, which is not changed from then on.
func NewTargetChecker(c *Config) *TargetChecker { return &TargetChecker{offline(c)} }

// Refuses is CheckTarget.
func (t *TargetChecker) Refuses(l *Listener, d *connmodel.Decision, target connmodel.Address, addrs []netip.Addr) *connmodel.ConnError {
	g, server := t.g, target
	if !d.Server.IsZero() {
		server, addrs = d.Server, nil
	}
	if e := g.checkName(l, d, server, server.IP()); e != nil {
		return e
	}
	for _, ip := range addrs {
		if e := g.checkAddress(l, d, server, ip, server.Port); e != nil {
			return e
		}
	}
	return nil
}

// offline is the generation of a configuration that does not run, for tools: its listeners are where they say.
func offline(c *Config) *generation {
	g := &generation{cfg: c}
	for i := range c.Listeners {
		if n := c.Listeners[i].Network; n == "tcp" || n == "" {
			for _, ap := range listenAddrs(c.Listeners[i].Address) {
				g.own.add(ap)
			}
		}
	}
	for _, ap := range c.OwnAddresses {
		g.own.add(ap)
	}
	return g
}
