package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/resolve"
)

// decide asks the listener's policy, gathering facts as evaluation reaches rules that need them: a name is resolved at most
// once per flow, and only if a rule asks; the client's first bytes are waited for only if a rule asks, and after that. It returns the
// decision, or the reason why the flow is refused.
func (s *session) decide(p *pin, rec *connmodel.Recorder, f *connmodel.Facts) (*connmodel.Decision, *connmodel.ConnError) {
	d, err := s.settle(p, rec, f)
	rec.Gathered(f.Gather(rec.Target(), p.l.Headers))
	if p.l.Shadow != nil && d != nil {
		d = s.shadowed(p, f, d)
	}
	return d, err
}

func (s *session) settle(p *pin, rec *connmodel.Recorder, f *connmodel.Facts) (*connmodel.Decision, *connmodel.ConnError) {
	for {
		d, need := p.l.Decider.Decide(f)
		if need&connmodel.NeedName != 0 { // it is in either
			need |= f.Lacks(firstBytes)
		}
		switch {
		case d != nil && d.Denied():
			return d, denial(d)
		case d != nil:
			return d, s.checkNamed(p, rec, f, d)
		case need&^f.Have&connmodel.NeedAddresses != 0 && !f.TargetIP.IsValid():
			if err := s.gatherAddresses(p, f); err != nil {
				return nil, err
			}
		case s.unread(f, need): // which rule would have taken it is not known, and nothing fails open
			return nil, s.peek.err
		case f.Lacks(need)&firstBytes != 0:
			if err := s.gatherFirst(p, rec, f, f.Lacks(need)&firstBytes); err != nil {
				return nil, err
			}
		default:
			return nil, &connmodel.ConnError{
				Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindInternal,
				Message: "the policy needs facts that cannot be gathered here: " + need.String(), Blame: connmodel.BlameLocal,
			}
		}
	}
}

// resolveTime bounds a resolution for a rule, whatever the resolver does.
const resolveTime = 10 * time.Second

// gatherAddresses resolves the target's name for a rule. If that fails the flow is refused: which rule would have taken it is
// not known, and nothing fails open.
func (s *session) gatherAddresses(p *pin, f *connmodel.Facts) *connmodel.ConnError {
	start := time.Now()
	a, err := s.lookup(p, f.Target.Host)
	if err != nil {
		e := lookupFailed(err)
		e.Message = asking(p.l.Decider, f) + " asks for the address of " + f.Target.Host + ", and it could not be resolved: " + err.Error()
		return e
	}
	f.Addresses, f.Resolved = a.Addrs, upstream.Resolved(&a, time.Since(start))
	f.Have |= connmodel.NeedAddresses
	return nil
}

// asking names the rule that asks for what f lacks, where the decider can tell.
func asking(d connmodel.Decider, f *connmodel.Facts) string {
	teller, ok := d.(interface {
		Asks(f *connmodel.Facts) (rule, file string, line int)
	})
	if !ok {
		return "a rule"
	}
	rule, file, line := teller.Asks(f)
	switch {
	case rule == "":
		return "a rule"
	case file == "":
		return fmt.Sprintf("rule %q", rule)
	}
	return fmt.Sprintf("rule %q (%s:%d)", rule, file, line)
}

// lookup resolves a name for a rule.
func (s *session) lookup(p *pin, name string) (resolve.Answer, error) {
	ctx, cancel := context.WithTimeout(&s.life, resolveTime)
	defer cancel()
	r := p.l.Resolver
	if r == nil {
		r = p.gen.resolver
	}
	a, err := resolve.Find(ctx, r, name)
	if err == nil && len(a.Addrs) == 0 {
		err = errors.New("the name has no address")
	}
	return a, err
}

// lookupFailed is why a flow is refused whose rule asks for what could not be resolved. The caller says what it is about.
func lookupFailed(err error) *connmodel.ConnError {
	e := &connmodel.ConnError{Phase: connmodel.PhaseResolve, Side: connmodel.SideViaduct, Kind: connmodel.KindDNS, Blame: connmodel.BlameTarget, Cause: err}
	var de *net.DNSError
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &de) && de.IsTimeout {
		e.Kind = connmodel.KindTimeout
	}
	return e
}

// denial is what a refused client is told.
func denial(d *connmodel.Decision) *connmodel.ConnError {
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseDecide, Side: connmodel.SideViaduct, Kind: connmodel.KindDenied, Code: 403, CodeOf: "http",
		Message: "denied by policy", Blame: connmodel.BlameClient,
	}
	if d.Rule != "" {
		e.Message = `denied by rule "` + d.Rule + `"`
	} else {
		e.Message = "denied: no rule of policy \"" + d.Policy + "\" took the connection"
	}
	if n := d.Denial; n != nil {
		if n.Status != 0 {
			e.Code = n.Status
		}
		if n.Reason != "" {
			e.Message += ": " + n.Reason
		}
	}
	return e
}

// facts prepares what rules may look at. target is canonical.
func (s *session) newFacts(p *pin, proto connmodel.Protocol, target connmodel.Address, user string, now time.Time) *connmodel.Facts {
	if loc := p.gen.cfg.Location; loc != nil {
		now = now.In(loc)
	}
	s.facts = connmodel.Facts{
		Listener: p.l.Name, Client: netip.AddrPortFrom(s.client.Addr().WithZone(""), s.client.Port()), Time: now, User: user, Protocol: proto, Target: target, TargetIP: target.IP(),
		Reach: p.gen.cfg.Reach,
	}
	return &s.facts
}
