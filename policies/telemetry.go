package policies

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Traces says where distributed traces of flows go, by OTLP over HTTP. Zero values are left to the environment (OTEL_...), and to the
// defaults that OpenTelemetry has.
type Traces struct {
	Endpoint string            // URL of the collector without /v1/traces
	Headers  map[string]string // of each export; nil = none are written. The values may be secrets
	Service  string            // service.name
	Sample   *float64          // share of flows without a parent that are recorded
	Start    *bool             // flows without a parent begin a trace
	Timeout  time.Duration
	TLS      *tls.Config // nil = nothing is said of it
}

var (
	telemetrySchema = schema(blocks("traces"))
	tracesSchema    = schema(attrs("endpoint", "headers", "service_name", "sample", "start", "timeout"), blocks("tls"))
	tracesTLSSchema = schema(clientTLSAttrs)
)

// telemetry reads what is sent to where things are watched.
func (l *loader) telemetry(x *hcl.Block) *Traces {
	if x = l.open(x, telemetrySchema).one("traces"); x == nil {
		return nil
	}
	b := l.open(x, tracesSchema)
	t := &Traces{Service: b.text("service_name"), Sample: b.share("sample"), Timeout: b.duration("timeout")}
	t.Endpoint = b.collector("endpoint")
	t.Headers = b.exportHeaders("headers")
	if b.has("start") {
		start := b.boolean("start", true)
		t.Start = &start
	}
	if t.Timeout > time.Minute {
		l.errorAt(b.rng("timeout"), "Duration out of range", "An export takes at most a minute: spans that wait for it take memory, and what comes meanwhile is dropped.")
	}
	if x := b.one("tls"); x != nil {
		c := l.open(x, tracesTLSSchema)
		if strings.HasPrefix(t.Endpoint, "http:") {
			l.errorAt(x.DefRange, "Without effect", "The endpoint is http://, so no TLS is made. Write https://, or leave the block out.")
		}
		made := c.clientTLS()
		t.TLS = made.config
		t.TLS.ServerName = made.serverName
	}
	return t
}

// collector reads the URL of a collector.
func (b *block) collector(name string) string {
	s := b.text(name)
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "":
		b.l.errorAt(b.rng(name), "Wrong URL", fmt.Sprintf(`%q is where a collector takes OTLP over HTTP, such as "http://127.0.0.1:4318"; /v1/traces is added.`, name))
	case u.User != nil:
		b.l.errorAt(b.rng(name), "Password in a URL", `A URL is shown in logs and status. Write headers = { authorization = credential("name") }.`)
	case u.Port() == "4317":
		b.l.warnAt(b.rng(name), "Port of another protocol", "4317 is where collectors take OTLP over gRPC, which is not spoken here. OTLP over HTTP is usually on 4318.")
	}
	return s
}

// share reads a number from 0 to 1; nil = there is none.
func (b *block) share(name string) *float64 {
	v, r, ok := b.value(name)
	if !ok {
		return nil
	}
	x, ok := b.l.to(v, cty.Number, r, quoted(name))
	if !ok {
		return nil
	}
	n, _ := x.AsBigFloat().Float64()
	if n < 0 || n > 1 {
		b.l.errorAt(r, "Number out of range", fmt.Sprintf("%q is a share from 0 (none) to 1 (all).", name))
		return nil
	}
	return &n
}

// exportHeaders reads fields whose values may be secrets.
func (b *block) exportHeaders(name string) map[string]string {
	a := b.attrs[name]
	if a == nil {
		return nil
	}
	l, r := b.l, a.Expr.Range()
	all := map[string]string{}
	v, ok := l.evaluate(a.Expr)
	if !ok {
		return all
	}
	plain, _ := v.UnmarkDeep()
	if t := plain.Type(); plain.IsNull() || !(t.IsObjectType() || t.IsMapType()) {
		l.errorAt(r, "Wrong type", fmt.Sprintf(`%q is names of fields with their values, such as { authorization = credential("collector") }.`, name))
		return all
	}
	if !plain.IsWhollyKnown() { // a secret that is not on this machine has been told of
		return all
	}
	for it := plain.ElementIterator(); it.Next(); {
		k, e := it.Element()
		key := k.AsString()
		s, ok := l.to(e, cty.String, r, quoted(name))
		switch {
		case !ok:
		case !isToken(key) || isFraming(key):
			l.errorAt(r, "Wrong field name", "A field of an export is one that neither frames nor routes the request, such as authorization.")
		case strings.ContainsAny(s.AsString(), "\r\n\x00"):
			l.errorAt(r, "Wrong field value", "The value of a field is one line.")
		default:
			all[key] = s.AsString()
		}
	}
	pairs, _ := hcl.ExprMap(a.Expr)
	for _, p := range pairs {
		if key := hcl.ExprAsKeyword(p.Key); isSecretName(key, nil) || isSecretName(literal(p.Key), nil) {
			if isLiteral(p.Value) || hasDefault(p.Value) {
				l.warnAt(p.Value.Range(), "Password in the policy", `Whoever reads this file reads what the collector is shown. Write credential("name") or env("NAME").`)
			}
		}
	}
	return all
}

// literal returns the text that e is written as; "" = it is made of something else.
func literal(e hcl.Expression) string {
	if v, diags := e.Value(nil); !diags.HasErrors() && v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
		return v.AsString()
	}
	return ""
}
