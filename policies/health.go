package policies

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"viaduct/upstream"
)

var (
	healthServer = []string{"ca", "system_roots", "server_name", "pins", "verify"} // how the server of an https URL is verified
	healthSchema = schema(attrs("every", "timeout", "healthy", "unhealthy", "tcp", "tls", "connect", "http", "method", "status"), attrs(healthServer...))
)

// minCheckEvery keeps checks from being a flood.
const minCheckEvery = time.Second

// health reads the health block of a pool or an upstream, which may be nil.
func (l *loader) health(x *hcl.Block) *upstream.HealthSpec {
	if x == nil {
		return nil
	}
	b := l.open(x, healthSchema)
	s := &upstream.HealthSpec{Every: b.duration("every"), Timeout: b.duration("timeout"), Healthy: b.number("healthy", 1, 1000), Unhealthy: b.number("unhealthy", 1, 1000)}
	if s.Every != 0 && s.Every < minCheckEvery {
		l.errorAt(b.rng("every"), "Wrong duration", `"every" is at least "1s": a check costs the proxy a connection.`)
	}
	var given []string
	for _, kind := range []string{upstream.CheckTCP, upstream.CheckTLS, upstream.CheckConnect, upstream.CheckHTTP} {
		if !b.has(kind) {
			continue
		}
		if given = append(given, kind); len(given) > 1 {
			l.errorAt(b.attrs[kind].NameRange, "Two checks", fmt.Sprintf("The block asks for %q already. A later kind includes those before it: tcp, tls, connect, http.", given[0]))
			continue
		}
		switch kind {
		case upstream.CheckTCP, upstream.CheckTLS:
			if s.Kind = kind; !b.boolean(kind, true) {
				l.errorAt(b.rng(kind), "Without effect", fmt.Sprintf("Leave %q out to ask for something else; without a health block nothing is checked.", kind))
			}
		case upstream.CheckConnect:
			s.Target = b.hostPort(kind)
		case upstream.CheckHTTP:
			b.httpCheck(s)
		}
	}
	for _, name := range append([]string{"method", "status"}, healthServer...) {
		if a := b.attrs[name]; a != nil && !b.has(upstream.CheckHTTP) {
			l.errorAt(a.NameRange, "Without effect", fmt.Sprintf("%q is about the request of a check: http = \"https://www.example.com/\".", name))
		}
	}
	return s
}

// httpCheck reads the check that makes a request.
func (b *block) httpCheck(s *upstream.HealthSpec) {
	text := b.text(upstream.CheckHTTP)
	if text == "" {
		return
	}
	c, err := upstream.HTTPCheck(text)
	if err != nil {
		b.l.errorAt(b.rng(upstream.CheckHTTP), "Wrong URL", upperFirst(err.Error())+" The URL is asked for through the member, as in http = \"https://www.example.com/\".")
		return
	}
	s.Check = *c
	s.Method = b.oneOf("method", "GET", "HEAD")
	for _, e := range b.entries("status") {
		if r, ok := statusRange(e.text); ok {
			s.Status = append(s.Status, r)
		} else {
			b.l.errorAt(e.r, "Wrong status", `"status" lists statuses of answers and ranges of them: status = [200, "300-399"].`)
		}
	}
	if s.Secure {
		x := b.clientTLS()
		s.TLS = x.config
		s.TLS.ServerName = x.serverName
		return
	}
	for _, name := range healthServer {
		if a := b.attrs[name]; a != nil {
			b.l.errorAt(a.NameRange, "Without effect", fmt.Sprintf("%q is about a certificate, and the URL is one of http://.", name))
		}
	}
}

func statusRange(text string) (r upstream.StatusRange, ok bool) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	a, err := strconv.Atoi(strings.TrimSpace(from))
	b, err2 := strconv.Atoi(strings.TrimSpace(to))
	return upstream.StatusRange{From: a, To: b}, err == nil && err2 == nil && a >= 200 && a <= b && b <= 599
}

// failBack reads a time span, or "off" for at once.
func (b *block) failBack() time.Duration {
	if a := b.attrs["fail_back"]; a != nil && isLiteral(a.Expr) && slices.Contains([]string{"off", "0s", "0"}, b.text("fail_back")) {
		return -1
	}
	return b.duration("fail_back")
}

// checkHealth warns of an upstream that is checked as the first hop and never is one.
func (l *loader) checkHealth(cfg *Config) {
	first, later := map[string]bool{}, map[string]bool{}
	for _, c := range cfg.Upstreams.Chains {
		for i, h := range c.Hops {
			if i == 0 {
				first[h] = true
			} else {
				later[h] = true
			}
		}
	}
	for _, p := range cfg.Upstreams.Pools {
		for _, m := range p.Members {
			first[m] = true
		}
	}
	for _, p := range l.policies {
		for _, r := range p.rules {
			first[r.decision.Route] = true
		}
		if p.otherwise != nil {
			first[p.otherwise.decision.Route] = true
		}
	}
	for _, u := range l.upstreams {
		if name := kindUpstream + "." + u.spec.Name; u.spec.Health != nil && later[name] && !first[name] {
			l.warnAt(u.src.DefRange, "Checked in another place", "The health block makes this gateway connect to the upstream itself, and every route reaches it behind another hop. Put the checks into a pool whose member is the chain.")
		}
	}
}
