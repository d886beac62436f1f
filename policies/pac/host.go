package pac

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// This file is the far side of prelude.js. Arguments are texts and numbers; what does not fit is a "no", as in browsers.

func text(args []any, i int) string {
	if i >= len(args) {
		return ""
	}
	s, _ := args[i].(string)
	return s
}

func (e *quickJS) glob(args []any) (any, error) { return globMatch(text(args, 0), text(args, 1)), nil }

func (e *quickJS) has(args []any) (any, error) {
	a, b := text(args, 1), text(args, 2)
	switch text(args, 0) {
	case "plain":
		_, err := netip.ParseAddr(a)
		return err != nil && !strings.Contains(a, "."), nil
	case "local":
		return a == b || strings.HasPrefix(b, a+"."), nil
	}
	return strings.Count(a, "."), nil // dnsDomainLevels
}

func (e *quickJS) date(args []any) (any, error) {
	if len(args) < 2 {
		return false, nil
	}
	n := fieldOf(args[1])
	rest := args[2:]
	if !n.ok || n.n < 0 || n.n > len(rest) {
		return false, nil
	}
	name, rest := text(args, 0), rest[:n.n]
	answer := dateFunc(name, rest, e.o.Now().In(e.o.Location))
	if c := e.call; c != nil {
		if same := func(d dated) bool { return d.name == name && slices.Equal(d.args, rest) }; slices.ContainsFunc(c.found.dated, same) {
			// a loop that asks the same again
		} else if len(c.found.dated) < maxDated {
			c.found.dated = append(c.found.dated, dated{name, rest, answer})
		} else {
			c.found.Unsteady = true
		}
	}
	return answer, nil
}

// clock is what the prelude makes Date of: the time of now in milliseconds, or how far the zone of the policy is from UTC at a time. Word of
// chance comes here, too.
func (e *quickJS) clock(args []any) (any, error) {
	if text(args, 0) == "zone" {
		var at float64
		switch x := args[1].(type) {
		case int:
			at = float64(x)
		case int32:
			at = float64(x)
		case int64:
			at = float64(x)
		case float64:
			at = x
		}
		if math.IsNaN(at) || math.Abs(at) > 8.64e15 { // the days that Date knows
			return 0, nil
		}
		_, off := time.UnixMilli(int64(at)).In(e.o.Location).Zone()
		return off * 1000, nil
	}
	if e.call != nil {
		e.call.found.Unsteady = true
	}
	return float64(e.o.Now().UnixMilli()), nil
}

func (e *quickJS) alert(args []any) (any, error) {
	c := e.call
	if c == nil || len(c.found.Alerts) >= maxAlerts {
		if c != nil {
			c.found.Dropped++
		}
		return nil, nil
	}
	s := clip(strings.ToValidUTF8(text(args, 0), "?"), maxAlertText)
	c.found.Alerts = append(c.found.Alerts, s)
	if e.o.Alert != nil {
		e.o.Alert(s)
	}
	return nil, nil
}

func (e *quickJS) net(args []any) (any, error) {
	a, b := text(args, 1), text(args, 2)
	switch text(args, 0) {
	case "resolvable":
		return e.first4(a).IsValid(), nil
	case "resolvableEx":
		return len(e.addresses(a)) > 0, nil
	case "resolve":
		if ip := e.first4(a); ip.IsValid() {
			return ip.String(), nil
		}
		return nil, nil // null
	case "resolveEx":
		return joined(e.addresses(a)), nil
	case "in":
		return e.inNet(a, b, text(args, 3)), nil
	case "inEx":
		return e.inNetEx(a, b), nil
	case "my":
		v4, v6 := e.o.Mine()
		switch {
		case v4.IsValid():
			return v4.String(), nil
		case v6.IsValid():
			return v6.String(), nil
		}
		return "127.0.0.1", nil
	case "myEx":
		v4, v6 := e.o.Mine()
		return joined([]netip.Addr{v6, v4}), nil
	case "convert":
		ip, ok := parseIPv4(a)
		if !ok {
			return 0, nil
		}
		b := ip.As4()
		return int(int32(binary.BigEndian.Uint32(b[:]))), nil // as the operators of JavaScript count
	}
	return sortAddresses(a), nil
}

// parseIPv4 reads four decimal numbers; leading zeros are nothing special, as in browsers.
func parseIPv4(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	var b [4]byte
	if len(parts) != 4 {
		return netip.Addr{}, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil || len(p) > 3 {
			return netip.Addr{}, false
		}
		b[i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}

// inNet compares the first IPv4 address of a host with a pattern, in the bits of a mask.
func (e *quickJS) inNet(host, pattern, mask string) bool {
	p, ok := parseIPv4(pattern)
	m, ok2 := parseIPv4(mask)
	if !ok || !ok2 {
		return false
	}
	ip := e.first4(host)
	if !ip.IsValid() {
		return false
	}
	a, b, c := ip.As4(), p.As4(), m.As4()
	for i := range c {
		if a[i]&c[i] != b[i]&c[i] {
			return false
		}
	}
	return true
}

// inNetEx reports whether an address of a host lies in a prefix.
func (e *quickJS) inNetEx(host, prefix string) bool {
	p, err := netip.ParsePrefix(strings.TrimSpace(prefix))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(e.addresses(host), p.Contains)
}

// sortAddresses sorts a list as browsers do, IPv6 before IPv4; false if it is none.
func sortAddresses(list string) any {
	type item struct {
		ip   netip.Addr
		text string
	}
	var items []item
	for _, s := range strings.Split(list, ";") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return false
		}
		items = append(items, item{ip, s})
	}
	if len(items) == 0 {
		return false
	}
	slices.SortStableFunc(items, func(a, b item) int {
		if a.ip.Is4() != b.ip.Is4() {
			if a.ip.Is4() {
				return 1
			}
			return -1
		}
		return a.ip.Compare(b.ip)
	})
	var out []string
	for _, i := range items {
		out = append(out, i.text)
	}
	return strings.Join(out, ";")
}

func joined(ips []netip.Addr) string {
	var out []string
	for _, ip := range ips {
		if ip.IsValid() {
			out = append(out, ip.String())
		}
	}
	return strings.Join(out, ";")
}

func (e *quickJS) first4(host string) netip.Addr {
	if ip, ok := parseIPv4(host); ok {
		return ip
	}
	for _, ip := range e.addresses(host) {
		if ip.Is4() {
			return ip
		}
	}
	return netip.Addr{}
}

// addresses looks a host up, each name once in a call, within the bounds: beyond them, and for what cannot be a name, there are none.
func (e *quickJS) addresses(host string) []netip.Addr {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{ip.Unmap()}
	}
	c := e.call
	name, err := connmodel.CanonicalHost(host)
	if err != nil || c == nil || e.o.Resolver == nil {
		return nil
	}
	if ips, known := c.names[name]; known {
		return ips
	}
	left := e.o.DNS - c.found.DNS
	if len(c.names) >= e.o.Lookups || left <= 0 {
		c.found.Unasked++
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, min(left, e.o.Lookup))
	defer cancel()
	done := c.wait()
	ips, err := e.o.Resolver.Lookup(ctx, name)
	done()
	c.found.Lookups++
	if err != nil {
		ips = nil
		var de *net.DNSError
		if !errors.As(err, &de) || !de.IsNotFound {
			c.found.Failed++
		}
	}
	plain := make([]netip.Addr, 0, min(len(ips), 64))
	for _, ip := range ips[:min(len(ips), 64)] {
		plain = append(plain, ip.Unmap())
	}
	if c.names == nil {
		c.names = make(map[string][]netip.Addr)
	}
	c.names[name] = plain
	return plain
}

// DefaultSource returns the addresses that connections to the internet leave from, as the routes say; none is asked of name servers, and
// nothing is sent.
func DefaultSource() (v4, v6 netip.Addr) {
	return sourceToward("udp4", "192.0.2.1:9"), sourceToward("udp6", "[2001:db8::1]:9") // RFC 5737, RFC 3849: nobody's addresses
}

func sourceToward(network, to string) netip.Addr {
	c, err := net.Dial(network, to)
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
