package policies

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/policies/pac"
	"viaduct/upstream"
)

// PAC is a script that chooses the way of each flow.
type PAC struct {
	Name    string
	URL     string        // "" = it is a file
	File    string        // full path
	Text    string        // of the file, decoded; "" = it could not be read (lenient)
	Refresh time.Duration // of a URL; 0 = default
	Timeout time.Duration // for all names that the script looks up in one call; 0 = default
}

// Route is what rules call it.
func (p *PAC) Route() string { return kindPAC + "." + p.Name }

// pacBlock is a pac block.
type pacBlock struct {
	src     *hcl.Block
	pac     PAC
	dynamic upstream.DynamicSpec
}

var pacSchema = schema(attrs("url", "file", "refresh", "timeout", "on_error", "undeclared"))

func (l *loader) buildPAC(x *pacBlock) {
	b := l.open(x.src, pacSchema)
	p := &x.pac
	p.Name = x.src.Labels[0]
	p.Refresh, p.Timeout = b.duration("refresh"), b.duration("timeout")
	x.dynamic = upstream.DynamicSpec{Name: p.Route(), Undeclared: b.boolean("undeclared", true), OnError: l.onError(b)}
	x.dynamic.Refuse = b.has("on_error") && x.dynamic.OnError == ""
	switch {
	case b.has("url") && b.has("file"):
		l.errorAt(b.attrs["file"].NameRange, "Two scripts", `A pac block has "url" or "file". Keep one.`)
	case b.has("url"):
		if p.URL = b.text("url"); p.URL != "" {
			if err := pac.CheckURL(p.URL); err != nil {
				l.errorAt(b.rng("url"), "Wrong URL", upperFirst(err.Error()))
			} else if strings.HasPrefix(p.URL, "http://") {
				l.noteAt(b.rng("url"), "Script in the clear", "Whoever sits between here and the web server can change the script, and with it where connections go. Credentials go to declared upstreams alone, whatever it says. Use https:// if there is one.")
			}
		}
	case b.has("file"):
		l.pacFile(b, p)
	default:
		b.need("url", `where the script is, such as "http://wpad.corp.example/wpad.dat"; or "file"`)
	}
	if b.has("refresh") && !b.has("url") {
		l.errorAt(b.rng("refresh"), "Without effect", `A file is read at the start and by "viaduct reload"; "refresh" is about a URL.`)
	} else if b.has("refresh") && p.Refresh < 10*time.Second && p.Refresh != 0 {
		l.errorAt(b.rng("refresh"), "Wrong duration", `"refresh" is at least "10s".`)
	}
}

// pacFile reads the script, and evaluates it once, without names.
func (l *loader) pacFile(b *block, p *PAC) {
	s := b.text("file")
	if s == "" {
		return
	}
	body, full, ok := l.dataFile(b.rng("file"), s, pac.MaxSource, "PAC script")
	if p.File = full; !ok {
		return
	}
	text, err := pac.Decode(body, "")
	if err == nil {
		var script *pac.Script
		if script, err = pac.New(context.Background(), text, pac.Options{Engines: 1}); err == nil {
			script.Close()
			p.Text = text
			return
		}
	}
	l.errorAt(b.rng("file"), "Not a PAC script", fmt.Sprintf("%s: %s.", full, strings.TrimPrefix(err.Error(), "PAC script: ")))
}

// onError reads "deny", which is the default, or a route.
func (l *loader) onError(b *block) string {
	a := b.attrs["on_error"]
	if a == nil {
		return ""
	}
	if _, isName := traversal(a.Expr); !isName {
		if items, diags := hcl.ExprList(a.Expr); diags.HasErrors() || len(items) == 0 {
			b.oneOf("on_error", "deny")
			return ""
		}
	}
	name := l.route(a.Expr, b.src.Labels[0]+"/on_error")
	l.noScript = append(l.noScript, placed{name, a.Expr.Range(), "PAC upon PAC", "When a script fails, the way must not depend on a script. Name an upstream, a pool, a chain or direct."})
	return name
}

// comparePAC runs the script for a flow, at the time of the test and with no names but the target's, and compares its entries.
func (t *Test) comparePAC(c *Config, d *connmodel.Decision, f *connmodel.Facts) (diff []string) {
	if t.expect.pac == nil {
		return nil
	}
	want := strings.Join(t.expect.pac, "; ")
	p, to := c.script(d.Route)
	if p == nil {
		return []string{fmt.Sprintf("pac is not asked: via is %s, expected the entries %s", d.Route, want)}
	}
	if p.Text == "" {
		return []string{fmt.Sprintf("pac is not known here: the script of %s is not a file that could be read", p.Route())}
	}
	got, err := p.ask(c.Gateway.Timezone, f, t.resolve, to)
	switch {
	case err != nil:
		return []string{fmt.Sprintf("pac fails (%s), expected %s", err, want)}
	case got != want:
		return []string{fmt.Sprintf("pac is %s, expected %s", got, want)}
	}
	return nil
}

// script finds the first PAC in a route, and the next hop that it is asked about; zero = the target.
func (c *Config) script(route string) (p *PAC, to connmodel.Address) {
	kind, name, _ := strings.Cut(route, ".")
	switch kind {
	case kindPAC:
		if i := slices.IndexFunc(c.PACs, func(p PAC) bool { return p.Name == name }); i >= 0 {
			return &c.PACs[i], connmodel.Address{}
		}
	case kindPool:
		for _, m := range c.parts(route) {
			if p, to = c.script(m); p != nil {
				return p, to
			}
		}
	case kindChain:
		hops := c.parts(route)
		for i, h := range hops {
			if p, to = c.script(h); p != nil {
				if to.IsZero() && i+1 < len(hops) {
					to = c.entrance(hops[i+1])
				}
				return p, to
			}
		}
	}
	return nil, connmodel.Address{}
}

// testNames resolves the target of a test and nothing else.
type testNames struct {
	host  string
	addrs []netip.Addr
}

// Lookup implements pac.Resolver.
func (n testNames) Lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if host == n.host {
		return n.addrs, nil
	}
	return nil, nil
}

func (p *PAC) ask(zone *time.Location, f *connmodel.Facts, resolve []netip.Addr, to connmodel.Address) (string, error) {
	s, err := pac.New(context.Background(), p.Text, pac.Options{Engines: 1, Location: zone, Now: func() time.Time { return f.Time }, Resolver: testNames{f.Target.Host, resolve}})
	if err != nil {
		return "", err
	}
	defer s.Close()
	path := ""
	if f.Request != nil && f.Protocol == connmodel.ProtocolHTTP {
		path = f.Request.Path
	}
	q := pac.QueryFor(f.Target, path)
	if !to.IsZero() {
		q = pac.QueryFor(to, "")
	}
	a, err := s.Find(context.Background(), q)
	if err != nil {
		return "", err
	}
	var out []string
	for _, e := range a.Entries {
		out = append(out, e.String())
	}
	return strings.Join(out, "; "), nil
}

// expectPAC reads the entries that the script is expected to give, in one spelling.
func (l *loader) expectPAC(b *block, e *expectation) {
	for _, x := range b.entries("pac") {
		got, problems, err := pac.ParseResult(x.text)
		if err != nil || len(problems) > 0 {
			l.errorAt(x.r, "Wrong entry", fmt.Sprintf("%q is no entry of a PAC script, such as \"PROXY proxy.corp.example:8080\" or \"DIRECT\".", x.text))
			continue
		}
		for _, y := range got {
			e.pac = append(e.pac, y.String())
		}
	}
}
