package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/doctor"
)

// going is one way under way: what is known of it is in its record, which is looked at again and again, so that whoever watches sees each
// part when it is over. Nothing on the way is slowed by that, nor does it know.
type going struct {
	*journey
	w   traceWay
	t   *traced
	rec *connmodel.Recorder
	by  time.Time // it has to be over

	secured time.Duration // that the handshake took which trace made itself

	mu      sync.Mutex
	said    []upstream.Said
	shownTo int // parts that have been printed
	quit    chan struct{}
	over    chan struct{}
}

// lookEvery is how often the record is looked at.
const lookEvery = 25 * time.Millisecond

// maxHeard bounds the answers of proxies that are kept.
const maxHeard = 200

// heard takes what a proxy answers.
func (g *going) heard(s upstream.Said) {
	g.mu.Lock()
	if len(g.said) < maxHeard {
		g.said = append(g.said, s)
	}
	g.mu.Unlock()
}

// follow begins to print.
func (g *going) follow() {
	if g.out == nil {
		return
	}
	g.out.begin(g.w.name())
	g.quit, g.over = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(g.over)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				g.tell(g.rec.Snapshot(), false)
			case <-g.quit:
				return
			}
		}
	}()
}

// arrived prints what is left, and keeps the parts.
func (g *going) arrived() {
	if g.quit != nil {
		close(g.quit)
		<-g.over
	}
	parts := g.tell(g.t.Connection, true)
	for _, p := range parts {
		if p.step != nil {
			g.t.Steps = append(g.t.Steps, &traceStep{p.attempt, p.hop, p.upstream, p.step})
		}
	}
}

// tell prints the parts that are over and were not printed yet.
func (g *going) tell(f *connmodel.Flow, all bool) []part {
	g.mu.Lock()
	defer g.mu.Unlock()
	parts := partsOf(f, g.said)
	if all {
		parts = g.farEnd(f, parts)
	}
	if g.out == nil {
		return parts
	}
	for g.shownTo < len(parts) && (all || parts[g.shownTo].settled) {
		g.out.part(&parts[g.shownTo])
		g.shownTo++
	}
	if !all {
		g.out.waitFor(f, g.shownTo < len(parts))
	}
	return parts
}

// part is something to be printed: the head of an attempt, the head of a hop, or one of its steps.
type part struct {
	attempt, hop int
	upstream     string
	head         string // of a hop
	again        string // way of an attempt that is not the first
	step         *doctor.Step
	settled      bool // it does not change any more
}

// partsOf makes them of what is known. Parts that are settled stay what and where they are when more gets known.
func partsOf(f *connmodel.Flow, said []upstream.Said) (parts []part) {
	if f.Server == nil {
		return nil
	}
	for i := range f.Server.Attempts {
		a := &f.Server.Attempts[i]
		if i > 0 {
			parts = append(parts, part{attempt: a.Number, again: a.Route, settled: true})
		}
		for k := range a.Hops {
			p := parting{f: f, a: a, h: &a.Hops[k], k: k}
			for _, s := range said {
				if s.Attempt == a.Number && s.Hop == k+1 {
					p.said = append(p.said, s)
				}
			}
			parts = append(parts, p.all()...)
		}
		if e := a.Error; e != nil && !blamed(a) {
			s := &doctor.Step{Name: stepOf(e.Phase), Status: doctor.Fail, Says: shown(e.Message)}
			if e.Kind == connmodel.KindCanceled {
				s.Status = doctor.Skip
			}
			parts = append(parts, part{attempt: a.Number, hop: len(a.Hops), step: s, settled: true})
		}
	}
	return parts
}

// blamed reports whether a hop of the attempt has its error.
func blamed(a *connmodel.Attempt) bool {
	for i := range a.Hops {
		if a.Hops[i].Error != nil {
			return true
		}
	}
	return false
}

// stepOf is how a phase is called here.
func stepOf(p connmodel.Phase) string {
	switch p {
	case connmodel.PhaseResolve:
		return "dns"
	case connmodel.PhaseDial:
		return "tcp"
	}
	return string(p)
}

// parting makes the parts of one hop.
type parting struct {
	f    *connmodel.Flow
	a    *connmodel.Attempt
	h    *connmodel.HopResult
	k    int // index of h
	said []upstream.Said
	out  []part
	sum  time.Duration // of the parts so far
}

// over reports whether the hop did its part, or will not.
func (p *parting) over() bool { return p.h.Total > 0 || p.h.Error != nil || !p.a.End.IsZero() }

func (p *parting) all() []part {
	h := p.h
	head := fmt.Sprintf("%d. %s at %s://%s", p.k+1, shown(h.Upstream), h.Protocol, h.Address)
	if strings.Contains(h.Upstream, "://") {
		head = fmt.Sprintf("%d. %s, not declared", p.k+1, shown(h.Upstream))
	}
	if h.Upstream == "" {
		head = fmt.Sprintf("%d. the server %s", p.k+1, h.Address)
	}
	p.add(part{head: head, settled: true})
	reached := h.TCP > 0 || h.Peer.IsValid() || p.over()
	p.step("dns", h.DNS > 0 || h.Resolved != nil && reached, h.DNS, p.dns(), nil, true)
	p.step("tcp", h.TCP > 0, h.TCP, fmt.Sprintf("%s answers, from %s", h.Peer, h.Local.Addr()), nil, true)
	if h.Reused {
		p.add(part{step: &doctor.Step{Name: "tcp", Status: doctor.Skip, Says: "a connection that is there already is used again"}, settled: p.over()})
	}
	if h.TLSInfo != nil {
		p.tls(h.TLSInfo)
	}
	p.step("greeting", h.Greeting > 0, h.Greeting, "the way to log in was agreed on", nil, p.over() || h.Auth > 0 || h.Connect > 0)
	last := p.replies()
	p.step("auth", h.Auth > 0, h.Auth, p.auth(), nil, p.over())
	if h.ProxyProto > 0 {
		p.add(part{step: &doctor.Step{Name: "header", Status: doctor.OK, Says: fmt.Sprintf("it was told of the client by a PROXY protocol header, version %d", h.ProxyProto)}, settled: p.over()})
	}
	p.connect(last)
	p.failure()
	p.open()
	return p.out
}

func (p *parting) add(x part) {
	x.attempt, x.hop, x.upstream = p.a.Number, p.k+1, p.h.Upstream
	p.out = append(p.out, x)
}

// step adds one that is known. Where the hop failed in it, it says so.
func (p *parting) step(name string, known bool, took time.Duration, says string, detail []string, settled bool) {
	if !known {
		return
	}
	p.sum += took
	s := &doctor.Step{Name: name, Status: doctor.OK, Took: inMillis(took), Says: says, Detail: detail}
	if e := p.h.Error; e != nil && stepOf(e.Phase) == name {
		s.Status, s.Says = doctor.Fail, shown(e.Message)
		if name == "tls" && p.h.TLSInfo != nil && p.h.TLSInfo.Version != "" {
			s.Says = says + "; " + s.Says
		}
	}
	p.add(part{step: s, settled: settled})
}

// failure adds the step in which the hop failed, unless it is there.
func (p *parting) failure() {
	e := p.h.Error
	if e == nil {
		return
	}
	for i := range p.out {
		if s := p.out[i].step; s != nil && s.Status == doctor.Fail {
			return
		}
	}
	name := stepOf(e.Phase)
	if p.h.Upstream == "" && e.Hop > 0 { // a proxy says so
		name = "server"
	}
	s := &doctor.Step{Name: name, Status: doctor.Fail, Took: inMillis(max(p.h.Total-p.sum, 0)), Says: shown(e.Message)}
	if e.Kind == connmodel.KindCanceled {
		s.Status = doctor.Skip
	}
	p.add(part{step: s, settled: true})
}

// open says that the way is open, behind the last element of an attempt that worked.
func (p *parting) open() {
	if p.k != len(p.a.Hops)-1 || !p.a.Connected() {
		return
	}
	says := "the way to it is open"
	if p.h.Upstream != "" {
		says = "the way to the proxy is open, which is asked for the page itself"
	}
	p.add(part{step: &doctor.Step{Name: "open", Status: doctor.OK, Took: inMillis(p.a.End.Sub(p.a.Start)), Says: says}, settled: true})
}

// dns says who looked the name up.
func (p *parting) dns() string {
	h := p.h
	says := h.Address.Host + " was looked up"
	if h.Peer.IsValid() {
		says = h.Address.Host + " is " + h.Peer.Addr().String()
	}
	r := h.Resolved
	switch {
	case r == nil:
		return says + ", by the resolver of this machine"
	case r.Server != "":
		return says + fmt.Sprintf(", by resolver %s, %s (%s)", r.Resolver, shown(r.Server), r.From)
	}
	return says + fmt.Sprintf(", by resolver %s (%s)", r.Resolver, r.From)
}

func (p *parting) auth() string {
	rounds := "1 round"
	if n := p.h.AuthRounds; n != 1 {
		rounds = strconv.Itoa(int(n)) + " rounds"
	}
	if p.h.Credential == "" {
		return rounds + ", without a credential"
	}
	return fmt.Sprintf("%s, credential %q", rounds, p.h.Credential)
}

// tls says what was agreed on. The handshake is over when it says which protocol, and nothing is wrong.
func (p *parting) tls(t *connmodel.TLSInfo) {
	done := t.ALPN != nil && (t.Problem == "" || t.Unverified)
	p.step("tls", true, p.h.TLS, tlsFacts(t), chainLines(t, time.Now()), done || p.over())
}

// tlsFacts is TLS in one line.
func tlsFacts(t *connmodel.TLSInfo) string {
	if t.Version == "" {
		return "no handshake"
	}
	facts := []string{t.Version, t.Cipher}
	if t.ALPN != nil && *t.ALPN != "" {
		facts = append(facts, "ALPN "+shown(*t.ALPN))
	}
	if t.SNI != "" {
		facts = append(facts, "name sent "+shown(t.SNI))
	}
	switch {
	case t.Unverified:
		facts = append(facts, "the certificate is NOT VERIFIED (verify = false)")
	case t.VerifiedName != "":
		facts = append(facts, "verified for "+shown(t.VerifiedName))
	}
	if t.ClientAuth == connmodel.ClientAuthSent {
		facts = append(facts, "our certificate was asked for and sent")
	}
	return strings.Join(facts, ", ")
}

// chainLines is a line for each certificate of a peer, and what is wrong with them.
func chainLines(t *connmodel.TLSInfo, now time.Time) (lines []string) {
	for i := range t.Certificates {
		c := &t.Certificates[i]
		text := fmt.Sprintf("%d. %s", i+1, shown(c.Subject))
		if names := append(append(append([]string(nil), c.SANs.DNS...), c.SANs.IP...), c.SANs.URI...); len(names) > 0 {
			text += ", for " + someNames(names, len(names))
		}
		text += ", by " + shown(c.Issuer) + ", until " + c.NotAfter.UTC().Format("2006-01-02 15:04 MST")
		switch c.VerdictAt(now) {
		case connmodel.CertExpired:
			text += " (EXPIRED " + days(now.Sub(c.NotAfter)) + " ago)"
		case connmodel.CertNotYetValid:
			text += " (NOT VALID YET)"
		default:
			text += " (" + days(c.NotAfter.Sub(now)) + ")"
		}
		lines = append(lines, text)
	}
	if t.Problem != "" {
		lines = append(lines, shown(t.Problem))
	}
	return lines
}

// replies adds those that ask for more, and returns the last one. Whether a 407 is that is known when another answer came, or all is over.
func (p *parting) replies() *upstream.Said {
	for i := range p.said {
		s, last := &p.said[i], i == len(p.said)-1
		if s.Protocol != "http" || s.Code != 407 || last && p.h.Connect > 0 {
			return s
		}
		p.add(part{step: &doctor.Step{Name: "reply", Status: doctor.OK, Took: inMillis(s.Took), Says: replyWords(s)}, settled: !last || p.over()})
	}
	return nil
}

// connect is what became of the question for the next hop.
func (p *parting) connect(last *upstream.Said) {
	h := p.h
	if h.Connect == 0 {
		return
	}
	says := "the tunnel is open"
	if last != nil {
		says = replyWords(last)
	}
	if h.BoundAddr != "" {
		says += ", from " + shown(h.BoundAddr)
	}
	if h.Credential != "" && h.AuthRounds == 0 {
		says += fmt.Sprintf(", with credential %q", h.Credential)
	}
	p.step("connect", true, h.Connect, says, nil, p.over())
	s := p.out[len(p.out)-1].step
	switch bad := last != nil && !last.OK(); {
	case bad:
		s.Status, s.Says = doctor.Fail, says // in its own words; what it means comes last
	case p.a.Error != nil && s.Status == doctor.OK && last == nil && p.k == len(p.a.Hops)-1:
		s.Status, s.Says = doctor.Fail, shown(p.a.Error.Message)
	}
}

// replyWords is an answer of a proxy in one line.
func replyWords(s *upstream.Said) string {
	text := strings.TrimRight(fmt.Sprintf("%d %s", s.Code, shown(s.Text)), " ")
	if s.Protocol != "http" {
		text = fmt.Sprintf("%s reply %d, %s", s.Protocol, s.Code, shown(s.Text))
	}
	for _, f := range s.Fields {
		text += "; " + f.Name + ": " + shown(f.Value)
	}
	if s.Withheld {
		text += " (what repeats our credential is left out)"
	}
	return text
}

// farEnd adds what trace did itself behind the way.
func (g *going) farEnd(f *connmodel.Flow, parts []part) []part {
	n := 1
	if f.Server != nil {
		if k := len(f.Server.Attempts); k > 0 {
			n = len(f.Server.Attempts[k-1].Hops)
		}
	}
	number := 1
	if f.Server != nil {
		number = max(1, len(f.Server.Attempts))
	}
	add := func(s *doctor.Step) {
		parts = append(parts, part{attempt: number, hop: n, step: s, settled: true})
	}
	if s := g.t.TLS; s != nil {
		x := &doctor.Step{Name: "tls", Status: doctor.OK, Took: inMillis(g.secured), Says: tlsFacts(s.TLS), Detail: chainLines(s.TLS, time.Now())}
		if !s.Accepted {
			x.Status = doctor.Warn
		} else if s.Authority != "" {
			x.Says += ", up to " + shown(s.Authority)
		}
		x.Detail = append(x.Detail, s.Warnings...)
		add(x)
	} else if g.secured > 0 && f.Error != nil {
		add(&doctor.Step{Name: "tls", Status: doctor.Fail, Took: inMillis(g.secured), Says: shown(f.Error.Message)})
	}
	if r := g.t.Response; r != nil {
		x := &doctor.Step{Name: "request", Status: doctor.OK, Took: r.FirstByte, Says: responseWords(r)}
		if r.Status >= 400 {
			x.Status = doctor.Warn
		}
		add(x)
	} else if g.ask && f.Error != nil && f.Server != nil && f.Server.State == connmodel.Closed && reachedAll(f) && g.secured == 0 {
		add(&doctor.Step{Name: "request", Status: doctor.Fail, Says: shown(f.Error.Message)})
	}
	return parts
}

// reachedAll reports whether the way was open to its end.
func reachedAll(f *connmodel.Flow) bool {
	n := len(f.Server.Attempts)
	return n > 0 && f.Server.Attempts[n-1].Error == nil
}

func responseWords(r *traceResponse) string {
	text := fmt.Sprintf("%s: HTTP %d %s", r.Method, r.Status, shown(orStatus(r.Reason, r.Status)))
	for _, x := range [][2]string{{"Server", r.Server}, {"Via", r.Via}, {"Location", r.Location}} {
		if x[1] != "" {
			text += "; " + x[0] + ": " + shown(x[1])
		}
	}
	switch {
	case r.Cut:
		text += fmt.Sprintf("; a body of more than %d octets, of which no more was read", maxFetched)
	case r.Bytes > 0:
		text += fmt.Sprintf("; %d octets of body", r.Bytes)
	}
	return text
}
