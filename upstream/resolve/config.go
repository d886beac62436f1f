package resolve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"viaduct/upstream/certcheck"
)

// Config is what a Client is made of. It is read once, by New, and not changed afterwards.
type Config struct {
	Name string // in records, metrics and errors
	// Groups are who is asked: the first one has the suffix "", and takes what no other takes.
	Groups []Group
	Hosts  map[string][]netip.Addr // names that nobody is asked for
	Search []string                // what is added to names without a dot, in order; the bare name is asked for last
	Family Family

	Timeout  time.Duration // of one query to one server; 0 = 2 s
	Attempts int           // rounds over the servers; 0 = 2
	InFlight int           // names asked for at the same time; 0 = 1024

	CacheSize  int           // names; 0 = 10,000
	MinTTL     time.Duration // an answer is good for at least that
	MaxTTL     time.Duration // and at most that; 0 = 1 h
	Negative   time.Duration // how long "no such name" is remembered at most; 0 = 30 s, negative = not at all
	ServeStale time.Duration // how long an answer past its time may stand in where no server answers; 0 = not at all
}

// Group is the servers for the names under a suffix.
type Group struct {
	Suffix  string // "corp.example", for that name and all below it; "" = all names
	Servers []Server
	System  bool        // the machine's resolver is asked; then there are no Servers
	Via     string      // route to the servers; "" = direct
	TLS     *tls.Config // for tls and https; nil = defaults. ServerName in it counts where it is set
	Pins    []string    // those that TLS.VerifyConnection wants, for people
}

// Server is one name server.
type Server struct {
	Scheme string // udp, tcp, tls, https
	Host   string // an address; for others than udp it may be a name, which the machine's resolver, or the route, looks up
	Port   uint16
	Path   string // of https
	Get    bool   // https: asked by GET, where caches on the way may keep the answer
}

// Schemes are those of servers.
func Schemes() []string { return []string{"udp", "tls", "tcp", "https"} }

var usualPorts = map[string]uint16{"udp": 53, "tcp": 53, "tls": 853, "https": 443}

// ParseServer reads "udp://10.0.0.53", "tcp://10.0.0.53:5353", "tls://dns.example", "https://dns.example/dns-query", or an address
// alone, which is udp. canonical gives the one spelling of a host.
func ParseServer(text string, canonical func(string) (string, error)) (Server, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		return Server{Scheme: "udp", Host: ip.Unmap().String(), Port: 53}, nil
	}
	text, get := strings.CutSuffix(text, "{?dns}") // RFC 8484, section 4.1: the template of a server that wants GET
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return Server{}, errors.New(`write scheme://host:port, as in "udp://10.0.0.53", "tls://dns.example" or "https://dns.example/dns-query"`)
	}
	s := Server{Scheme: strings.ToLower(u.Scheme), Path: u.EscapedPath(), Get: get, Port: usualPorts[strings.ToLower(u.Scheme)]}
	switch {
	case s.Port == 0:
		return s, fmt.Errorf("the scheme %q is none of %s", u.Scheme, strings.Join(Schemes(), ", "))
	case u.User != nil:
		return s, errors.New("name servers are shown no password")
	case s.Scheme != "https" && (s.Path != "" && s.Path != "/" || get):
		return s, errors.New("nothing comes after the port but with https")
	case u.RawQuery != "" || u.Fragment != "":
		return s, errors.New("a URL of a name server has no query and no fragment")
	}
	if s.Scheme != "https" {
		s.Path = ""
	} else if s.Path == "" {
		s.Path = "/dns-query"
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return s, errors.New("a port is a number from 1 to 65535")
		}
		s.Port = uint16(n)
	}
	if s.Host, err = canonical(u.Hostname()); err != nil {
		return s, err
	}
	if _, err := netip.ParseAddr(s.Host); err != nil && s.Scheme == "udp" {
		return s, errors.New("a server of udp is given by its address: its name would have to be looked up first")
	}
	return s, nil
}

// String names the server without its path, which may be a secret.
func (s *Server) String() string {
	return s.Scheme + "://" + net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))
}

// Family is which addresses are wanted.
type Family uint8

// The families.
const (
	Any      Family = iota // both, in the order in which this machine reaches them
	PreferV4               // both, IPv4 first
	PreferV6
	OnlyV4
	OnlyV6
)

// Families are the words of policies, by Family.
func Families() []string { return []string{"any", "prefer_v4", "prefer_v6", "v4_only", "v6_only"} }

// Ways are how servers are reached.
type Ways interface {
	// Stream connects to a server through a route. host is an address or a name.
	Stream(ctx context.Context, route, host string, port uint16) (net.Conn, error)
	// Datagrams opens a socket that is connected to an address, from a port that the kernel chooses.
	Datagrams(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// straight is the way without routes.
type straight struct{ d net.Dialer }

// Stream implements Ways.
func (s *straight) Stream(ctx context.Context, route, host string, port uint16) (net.Conn, error) {
	if route != "" && route != "direct" {
		return nil, errors.New("there is no way by " + route + " yet")
	}
	return s.d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
}

// Datagrams implements Ways.
func (s *straight) Datagrams(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return s.d.DialContext(ctx, "udp", to.String())
}

// Same reports whether two configurations mean the same: then a Client of one may go on for the other.
func Same(a, b *Config) bool {
	return a.Name == b.Name && a.Family == b.Family && a.Timeout == b.Timeout && a.Attempts == b.Attempts && a.InFlight == b.InFlight &&
		a.CacheSize == b.CacheSize && a.MinTTL == b.MinTTL && a.MaxTTL == b.MaxTTL && a.Negative == b.Negative && a.ServeStale == b.ServeStale &&
		slices.Equal(a.Search, b.Search) && maps.EqualFunc(a.Hosts, b.Hosts, slices.Equal[[]netip.Addr]) && slices.EqualFunc(a.Groups, b.Groups, sameGroup)
}

func sameGroup(a, b Group) bool {
	return a.Suffix == b.Suffix && a.System == b.System && a.Via == b.Via && slices.Equal(a.Servers, b.Servers) && slices.Equal(a.Pins, b.Pins) &&
		certcheck.Same(a.TLS, b.TLS) && (a.TLS == nil || a.TLS.ServerName == b.TLS.ServerName)
}
