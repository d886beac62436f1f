package upstream

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
	"viaduct/upstream/httpconnect"
	"viaduct/upstream/socks4"
	"viaduct/upstream/socks5"
)

// errNoIPv4 says that SOCKS4 cannot say the target's address.
var errNoIPv4 = errors.New("SOCKS4 carries IPv4 addresses alone, and the target has none")

// through asks hop n, on conn, for a connection to `to`, and returns the way beyond it.
func (a *attempt) through(n int, conn net.Conn, to connmodel.Address) (net.Conn, *HopError) {
	h := a.hops[n-1]
	rec := a.element1(n, h.spec.Address)
	host, err := a.sayable(n, h, to)
	if err != nil {
		return nil, err
	}
	if h.auth != nil || h.fromClient() {
		return a.tunnel(n, conn, host, to)
	}
	if a.d.q.check && h.login != nil {
		done, err := a.guardedTurn(n)
		if err != nil {
			return nil, err
		}
		defer done()
		if !h.proven() {
			return nil, a.failure(n, connmodel.PhaseAuth, errNotShown)
		}
	}
	start := time.Now()
	if err := a.arm(start, h.spec.Timeouts.Handshake); err != nil {
		return nil, a.failure(n, connmodel.PhaseConnect, err)
	}
	s := &a.steps
	in := a.withEarly(conn)
	*s = steps{conn: in, at: start, phase: connmodel.PhaseConnect, via: a.d.q.Via, look: a.onlooker(n)}
	s.login = a.guardLogin(n)
	bound, early, werr := h.speak(s, host, to.Port)
	s.login.after(s, werr)
	s.took(rec)
	if s.showed {
		rec.UsedCredential(h.credential)
	}
	if werr != nil {
		he := a.failure(n, s.phase, werr)
		he.shown, he.hint = s.showed, s.hint
		return nil, he
	}
	if bound != "" {
		rec.Bound(bound)
	}
	rec.Done()
	a.element1(n+1, a.address(n+1))
	if a.early = early; in != conn { // what came before this handshake and was not used up comes behind what was
		a.early = append(a.early, in.(*earlyConn).early...)
	}
	return conn, nil
}

// address is that of an element.
func (a *attempt) address(n int) connmodel.Address {
	if n <= len(a.hops) {
		return a.hops[n-1].spec.Address
	}
	return a.d.q.Target
}

// sayable returns what hop n is told to connect to: the name where it takes names, else an address.
func (a *attempt) sayable(n int, h *Hop, to connmodel.Address) (string, *HopError) {
	if ip := to.IP(); ip.IsValid() {
		if h.only4() && !ip.Unmap().Is4() {
			return "", a.failure(n+1, connmodel.PhaseResolve, errNoIPv4)
		}
		return to.Host, nil
	}
	if h.takesNames() && !(a.d.q.LocalResolve && n == len(a.hops)) {
		return to.Host, nil
	}
	start := time.Now()
	rec := a.element1(n+1, to)
	a.timed.at = a.until(start, defaultHopTimeout)
	one, addrs, err := a.addresses(n+1, to)
	if err != nil {
		return "", a.failure(n+1, connmodel.PhaseResolve, err)
	}
	rec.Resolved(a.found.said)
	rec.Took(connmodel.PartDNS, time.Since(start))
	if addrs == nil {
		addrs = one[:]
	}
	check := a.d.q.Check
	if n < len(a.hops) {
		check = nil // the next proxy
	}
	ip, err := permitted(addrs, h.only4(), check)
	if err != nil {
		return "", a.failure(n+1, connmodel.PhaseResolve, err)
	}
	return ip.String(), nil
}

// permitted returns the first address that may be told to a proxy.
func permitted(addrs []netip.Addr, only4 bool, check func(netip.Addr) error) (netip.Addr, error) {
	err := error(errNoIPv4)
	for _, ip := range addrs {
		if ip = ip.Unmap(); only4 && !ip.Is4() {
			continue
		}
		if check != nil {
			if e := check(ip); e != nil {
				err = &guardError{e}
				continue
			}
		}
		return ip, nil
	}
	return netip.Addr{}, err
}

// only4 reports whether the hop can be told IPv4 addresses alone.
func (h *Hop) only4() bool { return h.spec.Scheme == schemeSOCKS4 || h.spec.Scheme == schemeSOCKS4a }

// speak is the handshake of the hop's protocol on s. It returns the address the proxy says it used, and what came behind
// its answer.
func (h *Hop) speak(s *steps, host string, port uint16) (bound string, early []byte, err error) {
	switch h.spec.Scheme {
	case schemeHTTP, schemeHTTPS:
		req := httpconnect.Request{Host: host, Port: port}
		if s.via != "" {
			req.Header = http1.Header{{Name: "Via", Value: s.via}}
		}
		res, err := httpconnect.Connect(s, req)
		s.look.http(s, &res, err)
		var no *httpconnect.StatusError
		if errors.As(err, &no) {
			// Error pages quote requests, ours with the credentials: the record of a failure keeps the status.
			s.hint = hintOf(no.Header)
			no.Header, no.BodySnippet, no.ProxyAuthenticate, no.Reason = nil, nil, nil, ""
		}
		return "", res.Leftover, err
	case schemeSOCKS4, schemeSOCKS4a:
		user := ""
		if h.spec.Auth != nil {
			user, s.showed = h.spec.Auth.Username, true
		}
		b, early, err := socks4.Connect(s, host, port, user, h.takesNames())
		s.look.socks(s, h.spec.Scheme, err)
		return boundText(b.Addr(), "", b.Port()), early, err
	case schemeSOCKS5, schemeSOCKS5h:
		s.socks5 = true
		b, early, err := socks5.Connect(s, host, port, h.socks5Auth())
		s.look.socks(s, h.spec.Scheme, err)
		return boundText(b.IP, b.Name, b.Port), early, err
	}
	return "", nil, errors.New("scheme " + h.spec.Scheme + " is not built in")
}

// boundText writes a bound address, or "" for one that says nothing.
func boundText(ip netip.Addr, name string, port uint16) string {
	switch {
	case name != "":
		return connmodel.Address{Host: name, Port: port}.String()
	case !ip.IsValid() || ip.IsUnspecified() && port == 0:
		return ""
	}
	return netip.AddrPortFrom(ip, port).String()
}

// steps is the connection of one handshake, and a note of how far it is: each message we write begins a step.
type steps struct {
	conn   net.Conn
	phase  connmodel.Phase
	at     time.Time // when the step began
	socks5 bool
	wrote  bool
	showed bool // credentials were sent
	hint   string
	via    string
	login  *socksLogin // nil = nobody guards what is shown
	look   *onlooker   // nil = nobody looks on

	greeting, auth, connect time.Duration
}

// Read implements io.Reader.
func (s *steps) Read(p []byte) (int, error) { return s.conn.Read(p) }

// Write implements io.Writer.
func (s *steps) Write(p []byte) (int, error) {
	if s.socks5 && len(p) > 0 {
		switch {
		case !s.wrote:
			s.phase = connmodel.PhaseGreeting
		case p[0] == 0x01: // RFC 1929, section 2
			s.step(connmodel.PhaseAuth)
			if err := s.login.before(); err != nil {
				return 0, err
			}
			s.showed = true
		default:
			s.step(connmodel.PhaseConnect)
		}
	}
	s.wrote = true
	return s.conn.Write(p)
}

func (s *steps) step(next connmodel.Phase) {
	now := time.Now()
	switch took := now.Sub(s.at); s.phase {
	case connmodel.PhaseGreeting:
		s.greeting = took
	case connmodel.PhaseAuth:
		s.auth = took
	default:
		s.connect = took
	}
	s.phase, s.at = next, now
}

// took writes the times down.
func (s *steps) took(rec connmodel.HopRecorder) {
	if rec == (connmodel.HopRecorder{}) {
		return
	}
	s.step(s.phase)
	if s.greeting > 0 {
		rec.Took(connmodel.PartGreeting, s.greeting)
	}
	if s.auth > 0 {
		rec.Took(connmodel.PartAuth, s.auth)
	}
	if s.connect > 0 {
		rec.Took(connmodel.PartConnect, s.connect)
	}
}
