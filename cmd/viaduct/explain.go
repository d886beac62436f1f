package main

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"viaduct/connmodel"
	"viaduct/policies"
)

const explainLong = `Says what the gateway would do with a connection, and why: every rule that is tried, with the reason why
it did or did not match, then the route hop by hop, with the credential by name and who turns names into
addresses, and whether the destination is allowed. It is the code that serves which decides; nothing is
opened, dialled or resolved, but for PAC scripts, which are asked as the service would ask them: the copy that a
gateway has kept, or else the one on its web server, and with the names that it looks up (--no-dns does neither). What a rule asks
network.reachable about is tried once, unless --reachable says what can be reached.

Without a target and without a policy to read, it prints the default policy itself.

What comes by a listener of protocol forward has one target, that of the listener: ask with --listener alone. A listener of protocol
redirect or tproxy is asked for an ADDRESS:PORT; the name that the client asks for inside is that of --sni.

The target is a URL or HOST:PORT. http:// is a plain request, https:// and HOST:PORT a CONNECT tunnel,
udp://HOST:PORT a datagram of a SOCKS5 client; --protocol says otherwise. Where a rule opens the tunnel of
an https:// URL, what is done with the request in it is explained, too. When a rule asks for the address of a name, --resolve says which it has;
--resolve policy looks it up as the gateway would, --resolve system by the resolver of this machine. When a rule asks what a TLS client says first in its
tunnel, --sni, --alpn and --ja4 say it; --sni "" is a client that speaks no TLS there.

` + sourceHelp + `

Exit codes: 0 explained, 1 the policy has errors or leaves the question open, 2 usage.`

// question is what explain is asked.
type question struct {
	src      source
	client   string
	user     string
	listener string
	at       string
	resolve  []string
	method   string
	usual    string // method that is asked where the command line does not say; "" = GET
	headers  []string
	protocol string
	sni      string
	alpn     []string
	ja4      string
	inner    *connmodel.RequestFacts
	hello    bool     // one of sni, alpn and ja4 was given
	reach    []string // what can be reached, where it was given
	told     bool     // --reachable was given
	noDNS    bool     // PAC scripts: look no names up, get nothing
	asJSON   bool

	inside *connmodel.RequestFacts // what is in the tunnel, of an https:// URL
}

func newExplain() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "explain [URL|HOST:PORT]",
		Short: "Say what would be done with a connection, and why",
		Long:  explainLong,
		Example: "  viaduct explain > viaduct.hcl\n" +
			"  viaduct explain https://www.example.com/\n" +
			"  viaduct explain -c viaduct.hcl --client 10.20.1.7 --user ann --at '2026-11-23 20:15' api.partner.example:443\n" +
			"  viaduct explain -c viaduct.hcl --method POST --header 'Content-Type: text/xml' http://www.example.com/upload",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.told = c.Flags().Changed("reachable")
			q.hello = c.Flags().Changed("sni") || c.Flags().Changed("alpn") || c.Flags().Changed("ja4")
			switch {
			case len(args) > 0:
				return q.run(c, args[0])
			case q.listener != "":
				return q.run(c, "")
			}
			return q.src.printDefault(c)
		},
	}
	q.src.flags(c)
	q.flags(c, "GET", nil)
	return c
}

// flags are those of a question, without where the policy is. method and resolve are what is asked where the command line does not say.
func (q *question) flags(c *cobra.Command, method string, resolve []string) {
	f := c.Flags()
	f.StringVar(&q.client, "client", "127.0.0.1", "address of the client")
	f.StringVar(&q.user, "user", "", "user that the client has proved to be")
	f.StringVar(&q.listener, "listener", "", "listener it connects to; default: the first one")
	f.StringVar(&q.at, "at", "", "when: 2026-11-23T20:15:00Z, '2026-11-23 20:15' or 20:15 in the gateway's time zone; default: now")
	f.StringSliceVar(&q.resolve, "resolve", resolve, "addresses that the target's name has, or policy to look it up as the gateway would, or system for the machine's resolver")
	f.StringVar(&q.method, "method", method, "method of the request")
	f.StringArrayVar(&q.headers, "header", nil, "header field of the request, 'Name: value'; may be repeated")
	f.StringVar(&q.protocol, "protocol", "", "how the client asks: http, connect, socks4, socks4a, socks5, socks5-udp")
	f.StringVar(&q.sni, "sni", "", "server name that the TLS client in the tunnel asks for")
	f.StringSliceVar(&q.alpn, "alpn", nil, "protocols that it offers, such as h2,http/1.1")
	f.StringVar(&q.ja4, "ja4", "", "its JA4 fingerprint")
	f.StringSliceVar(&q.reach, "reachable", nil, "what network.reachable says yes to, instead of trying it now; \"\" for nothing")
	f.BoolVar(&q.noDNS, "no-dns", false, "touch no network: for PAC scripts look no names up and get nothing from a web server, and try nothing for network.reachable")
	f.BoolVar(&q.asJSON, "json", false, "print JSON")
	complete(c, "protocol", func(*policies.Config) []string { return protocolNames() }, &q.src)
	complete(c, "listener", listenerNames, &q.src)
	q.usual = method
}

func (q *question) run(c *cobra.Command, target string) error {
	cfg, diags, err := q.src.load(nil)
	if err != nil {
		return err
	}
	if cfg == nil {
		return policyErrors(c, diags, q.asJSON)
	}
	if err := defaultWarnings(c, cfg, diags); err != nil {
		return err
	}
	l, err := q.listenerOf(cfg)
	if err != nil {
		return err
	}
	if _, problem := routerListener(cfg, l); problem != nil {
		diags.List = append(diags.List, problem)
		return policyErrors(c, diags, q.asJSON)
	}
	f, err := q.facts(cfg, l, target)
	if err != nil {
		return err
	}
	e, err := explainFlow(c.Context(), cfg, l, f, q)
	if err != nil {
		return err
	}
	if q.asJSON {
		err = writeJSON(c.OutOrStdout(), e)
	} else {
		err = e.print(c.OutOrStdout())
	}
	if err == nil && e.Open != "" {
		err = quiet(exitProblems)
	}
	return err
}

// printDefault prints the policy that runs without a file. It is the one policy that cannot be looked at otherwise.
func (s *source) printDefault(c *cobra.Command) error {
	if len(s.paths(nil)) > 0 || c.Flags().NFlag() > 0 {
		return usageError("explain what? Write a URL or HOST:PORT; without any, and without flags and a policy, the default policy is printed")
	}
	cfg, diags, err := s.load(nil)
	if err != nil {
		return err
	}
	if cfg == nil {
		return policyErrors(c, diags, false)
	}
	if err := defaultWarnings(c, cfg, diags); err != nil {
		return err
	}
	text, _ := policies.Default(os.LookupEnv) // load has reported what it says
	_, err = c.OutOrStdout().Write(text)
	return err
}

func listenerNames(cfg *policies.Config) []string {
	var names []string
	for i := range cfg.Listeners {
		names = append(names, cfg.Listeners[i].Name)
	}
	return names
}

func (q *question) listenerOf(cfg *policies.Config) (*policies.Listener, error) {
	if len(cfg.Listeners) == 0 {
		return nil, &exitError{exitProblems, fmt.Errorf("the policy has no listener, so nobody can connect")}
	}
	if q.listener == "" {
		return &cfg.Listeners[0], nil
	}
	for i := range cfg.Listeners {
		if cfg.Listeners[i].Name == q.listener {
			return &cfg.Listeners[i], nil
		}
	}
	return nil, usageError("there is no listener %q; there are: %s", q.listener, strings.Join(listenerNames(cfg), ", "))
}

var askedBy = []connmodel.Protocol{connmodel.ProtocolHTTP, connmodel.ProtocolConnect, connmodel.ProtocolSOCKS4, connmodel.ProtocolSOCKS4a, connmodel.ProtocolSOCKS5, connmodel.ProtocolUDP, connmodel.ProtocolRedirect, connmodel.ProtocolTProxy}

func protocolNames() (names []string) {
	for _, p := range askedBy {
		names = append(names, string(p))
	}
	return names
}

// facts puts the question into the form that rules look at.
func (q *question) facts(cfg *policies.Config, l *policies.Listener, target string) (*connmodel.Facts, error) {
	f := &connmodel.Facts{Listener: l.Name, User: q.user}
	if l.Network != "unix" {
		ip, err := netip.ParseAddr(q.client)
		if err != nil || ip.Zone() != "" {
			return nil, usageError("--client %s: write an IP address", q.client)
		}
		f.Client = netip.AddrPortFrom(ip.Unmap(), 40000)
	}
	var err error
	if f.Time, err = q.time(cfg.Gateway.Timezone); err != nil {
		return nil, err
	}
	if slices.Contains(l.Protocols, policies.ProtocolForward) {
		if target != "" || q.protocol != "" {
			return nil, usageError("what comes by listener %q goes to %s: leave the target and --protocol out", l.Name, l.Target)
		}
		f.Target, f.TargetIP, f.Protocol = l.Target, l.Target.IP(), connmodel.ProtocolForward
		return f, q.noRequest(f)
	}
	if target == "" {
		return nil, usageError("explain what? Write a URL or HOST:PORT")
	}
	if err := q.target(f, target); err != nil {
		return nil, err
	}
	for _, p := range [...]string{policies.ProtocolRedirect, policies.ProtocolTProxy} {
		if q.protocol == "" && slices.Contains(l.Protocols, p) {
			q.protocol = p
		}
	}
	if q.protocol != "" {
		p := connmodel.Protocol(q.protocol)
		if !slices.Contains(askedBy, p) {
			return nil, usageError("--protocol %s: write one of %s", q.protocol, strings.Join(protocolNames(), ", "))
		}
		if (p == connmodel.ProtocolHTTP) != (f.Request != nil) && p == connmodel.ProtocolHTTP {
			return nil, usageError("--protocol http: write the target as a URL, http://%s/", target)
		}
		if f.Protocol = p; p != connmodel.ProtocolHTTP {
			q.inner = f.Request // behind SOCKS a rule may look into the tunnel for it
			f.Request, f.Scheme = nil, ""
		}
	}
	if f.KernelSent() && !f.TargetIP.IsValid() {
		return nil, usageError("a firewall sends connections to addresses: write ADDRESS:PORT, and the name that the client asks for inside with --sni NAME, or http://ADDRESS/ and --header 'Host: NAME'")
	}
	if f.Protocol == connmodel.ProtocolUDP { // no first bytes: a datagram is no connection
		f.Have |= connmodel.NeedHello | connmodel.NeedRequest
	}
	return f, q.noRequest(f)
}

// noRequest refuses what is asked of a request where there is none.
func (q *question) noRequest(f *connmodel.Facts) error {
	if f.Request == nil && q.inner == nil && q.inside == nil && (len(q.headers) > 0 || q.method != cmp.Or(q.usual, "GET")) {
		return usageError("--method and --header are of requests: write the target as a URL, http://HOST/PATH")
	}
	return q.checkHello(f)
}

// checkHello looks at what is said of the TLS client in the tunnel.
func (q *question) checkHello(f *connmodel.Facts) error {
	if f.Protocol == connmodel.ProtocolHTTP && q.hello {
		return usageError("--sni, --alpn and --ja4 are of a TLS client in a tunnel: write the target as https://HOST or HOST:PORT")
	}
	if q.sni != "" {
		name, err := connmodel.CanonicalHost(q.sni)
		if err != nil {
			return usageError("--sni: %w", err)
		}
		if _, err := netip.ParseAddr(name); err == nil {
			return usageError("--sni %s: a server name never is an address", q.sni)
		}
		q.sni = name
	}
	return nil
}

func (q *question) time(zone *time.Location) (time.Time, error) {
	if zone == nil {
		zone = time.Local
	}
	now := time.Now().In(zone)
	if q.at == "" {
		return now, nil
	}
	return since("at", q.at, now, zone)
}

// target reads a URL or host:port.
func (q *question) target(f *connmodel.Facts, text string) error {
	scheme, _, isURL := strings.Cut(text, "://")
	if !isURL {
		a, err := connmodel.ParseAddress(text)
		if err != nil {
			return usageError("%w; write a URL or HOST:PORT", err)
		}
		f.Target, f.TargetIP, f.Protocol = a, a.IP(), connmodel.ProtocolConnect
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return usageError("%q is not a URL", text)
	}
	port := map[string]uint16{"http": 80, "ws": 80, "https": 443, "wss": 443}[strings.ToLower(scheme)]
	if _, p, err := net.SplitHostPort(u.Host); err == nil {
		if port, err = connmodel.ParsePort(p); err != nil {
			return usageError("%s: %w", text, err)
		}
	}
	if port == 0 {
		return usageError("%s: write the port, or a URL of http or https", text)
	}
	a, err := connmodel.MakeAddress(u.Hostname(), port)
	if err != nil {
		return usageError("%w", err)
	}
	f.Target, f.TargetIP, f.Protocol = a, a.IP(), connmodel.ProtocolConnect
	fields, err := headerFields(q.headers)
	if err != nil {
		return err
	}
	request := &connmodel.RequestFacts{Method: q.method, Path: u.RequestURI(), Header: fields}
	switch strings.ToLower(scheme) {
	case "http", "ws":
		f.Protocol, f.Scheme, f.Request = connmodel.ProtocolHTTP, "http", request
	case "https", "wss":
		q.inside = request
	case "udp":
		f.Protocol = connmodel.ProtocolUDP
	}
	return nil
}

// fields are header fields as written on the command line.
type fields [][2]string

func headerFields(lines []string) (fields, error) {
	var all fields
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, usageError("--header %q: write 'Name: value'", line)
		}
		all = append(all, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	}
	return all, nil
}

// Lookup implements connmodel.HeaderLookup.
func (f fields) Lookup(name string, i int) (string, bool) {
	for _, x := range f {
		if strings.EqualFold(x[0], name) {
			if i == 0 {
				return x[1], true
			}
			i--
		}
	}
	return "", false
}
