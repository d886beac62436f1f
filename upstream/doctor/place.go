package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"viaduct/upstream/auth"
)

// configuration is what the policy says.
func (x *exam) configuration(s *Step) {
	sp := &x.Spec
	says := []string{sp.Scheme + "://" + sp.Address.String()}
	s.fact("scheme", sp.Scheme)
	s.fact("address", sp.Address.String())
	if x.Through != "" {
		says = append(says, "through "+x.Through)
	}
	if sp.SourceAddress.IsValid() {
		says = append(says, "from "+sp.SourceAddress.String())
		s.fact("source_address", sp.SourceAddress.String())
	}
	if sp.Interface != "" {
		says = append(says, "on "+sp.Interface)
		s.fact("interface", sp.Interface)
	}
	if sp.TLS != nil && sp.TLS.InsecureSkipVerify {
		says = append(says, "any certificate is taken (verify = false)")
	}
	if sp.Auth == nil {
		s.ok("%s, no credential", strings.Join(says, ", "))
		return
	}
	s.fact("credential", x.credential())
	what := "credential " + quoted(x.credential())
	if schemes := x.schemes(); len(schemes) > 0 {
		what += " (" + strings.Join(schemes, ", ") + ")"
		s.fact("schemes", schemes)
	}
	says = append(says, what)
	all := strings.Join(says, ", ")
	switch {
	case x.Unreadable != "":
		s.fail("credential_unreadable", "%s, which cannot be read: %s", all, x.Unreadable)
	case sp.Auth.FromClient:
		s.ok("%s, which each client brings", all)
	case sp.Auth.Kerberos() && sp.Auth.Password.IsZero():
		s.ok("%s", all)
	default:
		s.ok("%s, which was read", all)
	}
	if x.hop != nil && s.Status == OK {
		x.guarded(s)
	}
	if x.NoCredentials != "" {
		s.detail("no credential is shown: %s", x.NoCredentials)
	}
}

// guarded tells what the guard knows of the credential.
func (x *exam) guarded(s *Step) {
	p := x.hop.Pair()
	if p == nil {
		return
	}
	state, since, why := p.Status()
	s.fact("credential_state", state.String())
	if state == auth.Shut {
		says := s.Says
		s.fail("credential_closed", "%s; it is closed since %s: %s", says, since.Format(time.RFC3339), why)
	}
}

// reach finds the addresses of the proxy and which of them answer.
func (x *exam) reach() bool {
	if x.Through != "" {
		x.step("dns", func(s *Step) { s.skip("the proxy's name is looked up by the hop before it") })
		return x.step("tcp", x.through).Status != Fail
	}
	var addrs []netip.Addr
	if s := x.step("dns", func(s *Step) { addrs = x.dns(s) }); s.Status == Fail || len(addrs) == 0 {
		return false
	}
	more := len(addrs) - maxAddresses
	steps := make([]*Step, min(len(addrs), maxAddresses))
	var wg sync.WaitGroup
	for i := range steps {
		wg.Go(func() { steps[i] = x.tcp(netip.AddrPortFrom(addrs[i], x.Spec.Address.Port)) })
	}
	wg.Wait()
	for i, s := range steps {
		if s.Status == OK && !x.at.IsValid() {
			x.at = netip.AddrPortFrom(addrs[i], x.Spec.Address.Port)
		}
	}
	for _, s := range steps {
		if s.Status == Fail && x.at.IsValid() { // connections go on to the next address
			s.Status = Warn
		}
		x.rep.Steps = append(x.rep.Steps, s)
		x.Tell(s)
	}
	if more > 0 {
		x.step("tcp", func(s *Step) { s.skip("%d more addresses are not connected to", more) })
	}
	return x.at.IsValid()
}

func (x *exam) dns(s *Step) []netip.Addr {
	host := x.Spec.Address.Host
	if ip := x.Spec.Address.IP(); ip.IsValid() {
		s.skip("%s is an address, no name", host)
		s.fact("addresses", []string{ip.Unmap().String()})
		return []netip.Addr{ip.Unmap()}
	}
	ctx, cancel := context.WithTimeout(x.ctx, x.Timeout)
	defer cancel()
	addrs, err := x.Resolver.Lookup(ctx, host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if err != nil {
		s.fail(dnsCode(err), "%s: %s", host, plain(err))
		return nil
	}
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.String())
	}
	s.fact("addresses", texts)
	s.ok("%s is %s", host, short(texts))
	short, cancelShort := context.WithTimeout(x.ctx, min(x.Timeout, 3*time.Second))
	defer cancelShort()
	if name, err := net.DefaultResolver.LookupCNAME(short, host); err == nil {
		if name = strings.ToLower(strings.TrimSuffix(name, ".")); name != "" && name != host {
			x.canonic = name
			s.fact("canonical_name", name)
			s.Says += ", canonical name " + quoted(name)
		}
	}
	return addrs
}

func dnsCode(err error) string {
	var d *net.DNSError
	switch {
	case errors.As(err, &d) && d.IsNotFound:
		return "dns_not_found"
	case errors.As(err, &d) && d.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return "dns_timeout"
	}
	return "dns_failed"
}

// tcp connects to one address.
func (x *exam) tcp(to netip.AddrPort) *Step {
	s := &Step{Name: "tcp", Status: OK, about: x.words()}
	s.about["address"] = to.String()
	s.fact("address", to.String())
	start := time.Now()
	ctx, cancel := context.WithTimeout(x.ctx, x.Timeout)
	defer cancel()
	c, err := x.hop.ConnectTo(ctx, to)
	s.Took = millis(time.Since(start))
	switch {
	case x.ctx.Err() != nil:
		s.skip("interrupted")
	case err != nil:
		s.fail(netCode("tcp", err), "%s: %s", to, plain(err))
	default:
		from := ""
		if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
			from = a.AddrPort().Addr().Unmap().String()
			s.fact("source", from)
		}
		s.ok("%s answers, from %s", to, from)
	}
	if c != nil {
		c.Close()
	}
	return s
}

// through reaches the proxy by the hops before it.
func (x *exam) through(s *Step) {
	c, err := x.dial()
	if err != nil {
		s.fail("through_failed", "%s through %s: %s", x.Spec.Address, x.Through, plain(err))
		return
	}
	c.Close()
	s.ok("%s answers through %s", x.Spec.Address, x.Through)
}

// short joins a few of many.
func short(all []string) string {
	if n := len(all) - maxAddresses; n > 0 {
		return strings.Join(all[:maxAddresses], ", ") + fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(all, ", ")
}
