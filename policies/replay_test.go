package policies

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"viaduct/connmodel"
)

// What plan stands on: the record of a flow that a policy decided, asked of the same policy, gives the same decision. Policies and flows are made at
// random, of every protocol and every kind of fact; the record is written and read as the journal does.

var replayTests = []string{
	`listener = "l1"`, `client = ["10.0.0.0/8"]`, `client = "2001:db8::/32"`, `user = "anna"`, `user = ["", "b*"]`, `protocol = ["http", "connect"]`,
	`protocol = ["tproxy", "redirect", "socks5"]`, `protocol = "socks5-udp"`, `host = "*.example"`, `host = ["a.example", "/^b/"]`, `host = "192.0.2.0"`, `port = [80, "400-500"]`, `scheme = "http"`,
	`method = ["GET", "HEAD"]`, `path = "/api/*"`, `header = { "x-team" = "blue*" }`, `header = { "User-Agent" = ["curl/*", "wget*"] }`, `header = { "cookie" = "a=*" }`,
	`address = "192.0.2.0/24"`, "address = [\"198.51.100.0/24\", \"127.0.0.0/8\"]\nresolve = false", `sni = "*.example"`, `alpn = "h2"`, `ja4 = "t13d*"`, `time = "mon-fri 08:00-18:00"`,
}

var replayWhens = []string{
	`now.hour >= 12`, `client.user != "" && target.port == 443`, `request.header["x-team"] == "red"`, `request.method == "POST" || tls.sni == "a.example"`,
	`cidr(target.addresses, "192.0.2.0/24")`, `target.sni_mismatch`, `request.query == "q=1"`, `startswith(target.host, "a")`, `protocol == "connect" && contains(tls.alpn, "h2")`,
	`network.reachable("192.0.2.250:80") || request.header["user-agent"] == ""`, `now.minute % 2 == 0`,
}

var replayOutcomes = []string{
	`via = direct`, `via = upstream.a`, `via = upstream.b`, `via = [upstream.a, upstream.b]`, "deny {}", "deny {\nstatus = 451\n}",
	"via = direct\nserver = \"10.9.9.9:443\"", "via = direct\ntls {\nmode = \"upgrade\"\n}",
}

func drawReplayPolicy(t *rapid.T, name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy %q {\n", name)
	for i := range rapid.IntRange(1, 8).Draw(t, "rules") {
		fmt.Fprintf(&b, "rule \"r%d\" {\n", i)
		for range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "blocks") {
			b.WriteString("match {\n")
			var inside []string
			seen := map[string]bool{}
			for _, s := range rapid.SliceOfN(rapid.SampledFrom(replayTests), 1, 3).Draw(t, "tests") {
				key := strings.SplitN(s, " ", 2)[0]
				if seen[key] {
					continue
				}
				seen[key] = true
				inside = append(inside, s)
			}
			if len(inside) > 1 && rapid.IntRange(0, 3).Draw(t, "not") == 0 {
				last := len(inside) - 1
				inside[last] = "not {\n" + inside[last] + "\n}"
			}
			b.WriteString(strings.Join(inside, "\n") + "\n}\n")
		}
		if rapid.IntRange(0, 3).Draw(t, "when") == 0 {
			fmt.Fprintf(&b, "when = %s\n", rapid.SampledFrom(replayWhens).Draw(t, "condition"))
		}
		if rapid.IntRange(0, 5).Draw(t, "shadow") == 0 {
			b.WriteString("shadow = true\n")
		}
		b.WriteString(rapid.SampledFrom(replayOutcomes).Draw(t, "outcome") + "\n}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

const replayHead = `
gateway {
  timezone = "Europe/Berlin"
}
listener "l1" {
  address = "127.0.0.1:1"
  policy = policy.p
}
listener "l2" {
  address = "127.0.0.1:2"
  policy = policy.p
}
upstream "a" {
  url = "http://192.0.2.201:1"
}
upstream "b" {
  url = "http://192.0.2.202:1"
}
`

// loadReplay loads policies, or gives up where a draw makes no policy.
func loadReplay(t *rapid.T, policies ...string) *Config {
	src := replayHead + strings.Join(policies, "")
	c, d := Load(Options{Source: map[string][]byte{"r.hcl": []byte(src)}})
	if c == nil {
		if strings.Contains(d.Error(), "never holds") || strings.Contains(d.Error(), "exclude each other") {
			t.Skip("a test that never holds")
		}
		t.Fatalf("%v\n%s", d.Error(), src)
	}
	return c
}

type replayFields [][2]string

func (h replayFields) Lookup(name string, i int) (string, bool) {
	for _, f := range h {
		if strings.EqualFold(f[0], name) {
			if i == 0 {
				return f[1], true
			}
			i--
		}
	}
	return "", false
}

// replayFlow is a flow as the router meets it: what it is asked first, and what more there is to be found out.
type replayFlow struct {
	facts   connmodel.Facts
	asked   connmodel.Address
	addrs   []netip.Addr
	hello   *connmodel.ClientHello
	first   *connmodel.RequestFacts // in the tunnel
	host    string                  // of that
	garbage bool                    // what is in the tunnel cannot be read
	reach   bool
}

func (x *replayFlow) Reachable(connmodel.Address) bool { return x.reach }

var (
	replayHosts = []string{"a.example", "b.example", "bad.test", "192.0.2.0", "192.0.2.1", "198.51.100.9", "2001:db8::1", "localhost", "xn--e1afmkfd.example"}
	replaySNIs  = []string{"", "a.example", "b.example", "bad.test"}
)

func drawReplayRequest(t *rapid.T) *connmodel.RequestFacts {
	var h replayFields
	for range rapid.IntRange(0, 4).Draw(t, "fields") {
		h = append(h, [2]string{
			rapid.SampledFrom([]string{"X-Team", "x-team", "User-Agent", "Cookie", "Accept"}).Draw(t, "field"),
			rapid.SampledFrom([]string{"", "blue", "blue-7", "red", "curl/8.1", "Wget", "a=secret", "\x1b[31m", "\xe9\xff", "ü\u202e", strings.Repeat("blue", 300)}).Draw(t, "value"),
		})
	}
	return &connmodel.RequestFacts{
		Method: rapid.SampledFrom([]string{"GET", "POST", "HEAD", "PROPFIND"}).Draw(t, "method"),
		Path:   rapid.SampledFrom([]string{"/", "/api/x", "/%61pi//x?q=1", "/x?q=1", "*", "/api/" + strings.Repeat("p", 2100), "/\xff"}).Draw(t, "path"),
		Header: h,
	}
}

func drawReplayFlow(t *rapid.T) *replayFlow {
	x := &replayFlow{reach: rapid.Bool().Draw(t, "reach")}
	f := &x.facts
	f.Listener = rapid.SampledFrom([]string{"l1", "l2"}).Draw(t, "l")
	f.User = rapid.SampledFrom([]string{"", "anna", "bob", "ü\x00\x1b"}).Draw(t, "user")
	f.Protocol = rapid.SampledFrom([]connmodel.Protocol{"http", "connect", "socks4", "socks5", "socks5-udp", "redirect", "tproxy", "forward", "connect"}).Draw(t, "protocol")
	zone, _ := time.LoadLocation("Europe/Berlin")
	f.Time = time.Date(2026, 11, 27, 0, 0, 0, 0, zone).Add(time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "time"))).Truncate(time.Nanosecond)
	if c := rapid.SampledFrom([]string{"10.0.0.1", "2001:db8::5", "192.0.2.9", ""}).Draw(t, "client"); c != "" {
		f.Client = netip.AddrPortFrom(netip.MustParseAddr(c), 4711)
	}
	f.Target = connmodel.Address{Host: rapid.SampledFrom(replayHosts).Draw(t, "host"), Port: uint16(rapid.SampledFrom([]int{80, 443, 8443}).Draw(t, "port"))}
	if f.KernelSent() {
		f.Target.Host = "198.51.100.7"
	}
	f.TargetIP, x.asked, f.Reach = f.Target.IP(), f.Target, x
	for _, a := range rapid.SliceOfN(rapid.SampledFrom([]string{"192.0.2.7", "198.51.100.7", "127.0.0.1", "2001:db8::9"}), 1, 20).Draw(t, "addresses") {
		x.addrs = append(x.addrs, netip.MustParseAddr(a))
	}
	switch rapid.IntRange(0, 4).Draw(t, "begins with") {
	case 0, 1:
		x.hello = &connmodel.ClientHello{
			SNI: rapid.SampledFrom(replaySNIs).Draw(t, "sni"), ALPN: rapid.SampledFrom([][]string{nil, {"h2", "http/1.1"}, {"http/1.1"}}).Draw(t, "alpn"),
			JA4: rapid.SampledFrom([]string{"t13d1516h2_8daaf6152771_e5627efa2ab1", "t12i1516h2_8daaf6152771_e5627efa2ab1"}).Draw(t, "ja4"),
		}
	case 2:
		x.first, x.host = drawReplayRequest(t), rapid.SampledFrom(replaySNIs).Draw(t, "inner host")
	case 3:
		x.garbage = true
	}
	switch {
	case f.Protocol == connmodel.ProtocolHTTP:
		f.Scheme, f.Request = "http", drawReplayRequest(t)
	case f.Protocol == connmodel.ProtocolUDP:
		f.Have = connmodel.NeedHello | connmodel.NeedRequest
	case x.hello != nil && rapid.IntRange(0, 2).Draw(t, "inside") == 0: // a request in a tunnel that was opened
		f.Tunnel = f.Target
		if f.KernelSent() || f.Protocol == "redirect" || f.Protocol == "tproxy" {
			f.TargetIP = netip.MustParseAddr("198.51.100.7")
		}
		if x.hello.SNI != "" && rapid.Bool().Draw(t, "named inside") {
			f.Target.Host, x.asked.Host = x.hello.SNI, x.hello.SNI
		}
		f.Scheme, f.Hello, f.Request = "https", x.hello, drawReplayRequest(t)
		f.Have |= connmodel.NeedHello
	}
	return x
}

// decide is what the router does: it gathers what is asked for.
func (x *replayFlow) decide(p *Program) (*connmodel.Decision, connmodel.Need) {
	f := &x.facts
	for range 10 {
		d, need := p.Decide(f)
		if d != nil {
			return d, 0
		}
		first := need&^connmodel.NeedAddresses != 0
		switch {
		case need&connmodel.NeedAddresses != 0:
			f.Addresses, f.Have = x.addrs, f.Have|connmodel.NeedAddresses
		case first && (f.HelloUnread || f.RequestUnread || f.Have&(connmodel.NeedHello|connmodel.NeedRequest) == connmodel.NeedHello|connmodel.NeedRequest):
			return nil, need
		case first:
			x.look(need)
		}
	}
	panic("asked for ever")
}

// look is what router/sniff.go finds.
func (x *replayFlow) look(need connmodel.Need) {
	f := &x.facts
	const both = connmodel.NeedHello | connmodel.NeedRequest
	if need&connmodel.NeedName != 0 {
		need |= both
	}
	switch {
	case x.hello != nil:
		f.Hello, f.Have = x.hello, f.Have|both
		f.Named(x.hello.SNI)
	case x.garbage && f.Have&connmodel.NeedHello == 0:
		f.HelloUnread, f.Have = true, f.Have|connmodel.NeedRequest
	case x.first != nil && need&connmodel.NeedRequest != 0:
		f.Request, f.Have = x.first, f.Have|both
		f.Named(x.host)
	case x.first != nil:
		f.Have |= connmodel.NeedHello
	default:
		f.Have |= both
	}
}

// record is what stands in the journal of it, written and read.
func (x *replayFlow) record(t interface{ Fatalf(string, ...any) }, d *connmodel.Decision, fields []string) *connmodel.Flow {
	f := &x.facts
	r := &connmodel.Flow{
		ID: connmodel.NewID(f.Time), Protocol: f.Protocol, Target: x.asked, Start: f.Time, End: f.Time, Decision: d,
		Client:   &connmodel.Client{Connection: connmodel.Connection{Peer: f.Client}, Listener: f.Listener, User: f.User, Hello: f.Hello},
		Gathered: f.Gather(x.asked, fields),
	}
	if q := f.Request; q != nil && (f.Protocol == connmodel.ProtocolHTTP || !f.Tunnel.IsZero()) {
		path := q.Path
		if len(path) > 2048 { // as Recorder.Requested has it
			path = path[:2048] + "..."
		}
		r.Request = &connmodel.Request{Method: q.Method, Scheme: f.Scheme, Host: f.Target.Host, Path: path}
		if !f.Tunnel.IsZero() {
			r.Request.Tunnel, r.Request.Within = connmodel.NewID(f.Time), f.Tunnel
		}
	}
	var back connmodel.Flow
	if err := json.Unmarshal(r.AppendJSON(nil), &back); err != nil {
		t.Fatalf("%v", err)
	}
	return &back
}

// lossy reports whether the policy may have looked at what no record keeps: secrets, the network, and text that was cut or is no UTF-8.
func (x *replayFlow) lossy(src string) bool {
	q := x.facts.Request
	if q == nil || len(x.facts.Addresses) > 16 {
		return strings.Contains(src, "network.reachable") || len(x.facts.Addresses) > 16
	}
	text := q.Path
	for _, f := range q.Header.(replayFields) {
		text += f[1]
	}
	return strings.Contains(src, "network.reachable") || strings.Contains(src, `"cookie"`) || len(text) > 500 || strings.ContainsRune(text, '\ufffd')
}

func TestReplaySaysTheSame(t *testing.T) {
	var told, open, denied, undecided int
	rapid.Check(t, func(t *rapid.T) {
		src := drawReplayPolicy(t, "p")
		p := loadReplay(t, src).Programs["p"]
		shadow := newShadowPolicy(p, nil)
		zone, _ := time.LoadLocation("Europe/Berlin")
		for range 10 {
			x := drawReplayFlow(t)
			d, need := x.decide(p)
			if d != nil { // a shadow that is the policy itself knows what that knew, and says the same
				if s := shadow.Shadow(&x.facts, d); s.Undecided != "" || s.Differs(d) || s.Rule != d.Rule {
					t.Fatalf("%+v: decided %+v, shadow %+v\n%s", x.facts, d, s, src)
				}
			}
			r := x.record(t, d, p.Headers())
			f, missing := r.Facts()
			if missing&connmodel.MissingCut != 0 {
				if x.facts.User != "" && strings.ContainsRune(x.facts.User, '\ufffd') {
					continue
				}
				t.Fatalf("the record of %+v is taken for one that was cut", x.facts)
			}
			f.Time = f.Time.In(zone)
			v := p.Judge(f)
			switch {
			case d == nil: // what could not be had then is not there now
				if undecided++; v.Certain() && v.Asks == nil {
					t.Fatalf("%+v: refused for want of %s, and now %+v\n%s", x.facts, need, v.Decision, src)
				}
			case !v.Certain():
				if open++; !x.lossy(src) {
					t.Fatalf("%+v\nas %+v\nlacks %s for rule %q\n%s", x.facts, f, v.Need, v.Asks.Rule, src)
				}
			case !SameWay(v.Decision, d), v.Asks == nil && v.Decision.Rule != d.Rule:
				t.Fatalf("%+v\nas %+v\nwas %+v\nis %+v\n%s", x.facts, f, d, v.Decision, src)
			default:
				told++
				denied += boolInt(d.Denied())
				var again connmodel.Decision
				if again = *v.Decision; !SameWay(&again, r.Decision) { // what the record has of it is enough to compare
					t.Fatalf("%+v is not what the record has: %+v", again, r.Decision)
				}
			}
		}
	})
	if told < 100 && !testing.Short() || denied == 0 || open > told {
		t.Errorf("the flows are too tame: %d told, %d of them denied, %d open, %d without a decision", told, denied, open, undecided)
	}
}

// What a verdict says is so whatever the facts turn out to be that were not known.
func TestJudgeNeverGuesses(t *testing.T) {
	var certain, either, open int
	rapid.Check(t, func(t *rapid.T) {
		src := drawReplayPolicy(t, "p")
		p := loadReplay(t, src).Programs["p"]
		p.few = rapid.SampledFrom([]int{-1, fewCandidates}).Draw(t, "few")
		for range 10 {
			x := drawReplayFlow(t)
			r := x.record(t, nil, rapid.SampledFrom([][]string{nil, {"x-team"}, p.Headers()}).Draw(t, "kept")) // nobody has asked for anything
			f, missing := r.Facts()
			if missing&connmodel.MissingCut != 0 {
				continue
			}
			f.Time = f.Time.In(x.facts.Time.Location())
			v := p.Judge(f)
			d, _ := x.decide(p)
			switch {
			case !v.Certain():
				open++
				if v.Asks == nil || v.Need == 0 {
					t.Fatalf("%+v does not say what is missing", v)
				}
				continue
			case v.Asks != nil:
				either++
			default:
				certain++
			}
			if d == nil {
				if v.Asks == nil {
					t.Fatalf("%+v is certain, and the service has no decision\n%s", v, src)
				}
				continue
			}
			if !SameWay(v.Decision, d) || v.Asks == nil && v.Decision.Rule != d.Rule {
				t.Fatalf("%+v\nas %+v\nverdict %+v %+v\nbut %+v\n%s", x.facts, f, v, v.Decision, d, src)
			}
		}
	})
	if certain == 0 || open == 0 || either == 0 && !testing.Short() {
		t.Errorf("the flows are too tame: %d certain, %d either way, %d open", certain, either, open)
	}
}
