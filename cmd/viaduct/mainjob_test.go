package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"viaduct/connmodel"
	"viaduct/router/admin"
	"viaduct/upstream/upstreamtest/peers"
)

// mainJob is one policy that sends four targets four ways.
const mainJob = `
variable "listen" { type = string }
variable "records" { type = string }
variable "squid" { type = string }
variable "dante" { type = string }
variable "tinyproxy" { type = string }
variable "one" { type = number }
variable "two" { type = number }
variable "three" { type = number }
variable "elsewhere" { type = string }

gateway {
  name = "main-job"
  records { path = var.records }
}

listener "desk" {
  address = var.listen
}

upstream "squid" {
  url = "http://${var.squid}"
  auth {
    username = "svc"
    password = "squid-secret"
    name     = "corp"
  }
}

upstream "dante" {
  url = "socks5h://${var.dante}"
  auth {
    username = "jumper"
    password = "dante-secret"
    name     = "jump"
  }
}

upstream "tinyproxy" {
  url = "http://${var.tinyproxy}"
}

pool "corp" {
  members = [upstream.squid, upstream.tinyproxy]
  retry {
    attempts = 2
  }
}

chain "partner" {
  hops = [upstream.squid, upstream.dante]
}

locals {
  here = ["127.0.0.1/32"]
}

policy "default" {
  rule "near" {
    match {
      address = local.here
      port    = var.one
    }
    via = direct
  }
  rule "one hop" {
    match {
      address = local.here
      port    = var.two
    }
    via = pool.corp
  }
  rule "two hops" {
    match {
      address = local.here
      port    = var.three
    }
    via = chain.partner
  }
  rule "moved" {
    match {
      host = "moved.example"
      port = 80
    }
    via    = direct
    server = var.elsewhere
  }
}
`

// job is the landscape of the main job.
type job struct {
	t                       *testing.T
	squid, dante, tinyproxy *peers.Proc
	origins                 [4]*peers.NginxProc // direct, one hop, two hops, moved
	gw                      *gateway
	seen                    int // records looked at
}

// way is one of the four, and what its records must say.
type way struct {
	rule, target, origin string
	route                string   // of a tunnel
	hops                 []string // names of its proxies
}

func startJob(t *testing.T) *job {
	t.Helper()
	peers.Need(t, "curl", "squid", "danted", "tinyproxy", "nginx", "openssl")
	j := &job{t: t}
	dir := t.TempDir()
	// Every peer lives until the test ends, longer than t.Context: the gateway is stopped first.
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	keep := func(p *peers.Proc, err error) *peers.Proc {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s:\n%s", p.Name(), p.Log())
			}
			p.Close()
		})
		return p
	}
	j.squid = keep(peers.Squid(ctx, dir, peers.SquidOptions{User: "svc", Password: "squid-secret"}))
	j.dante = keep(peers.Dante(ctx, dir, peers.DanteOptions{User: "jumper", Password: "dante-secret"}))
	j.tinyproxy = keep(peers.Tinyproxy(ctx, dir, peers.TinyproxyOptions{}))
	for i := range j.origins {
		n, err := peers.Nginx(ctx, t.TempDir(), peers.NginxOptions{})
		if err != nil {
			t.Fatal(err)
		}
		keep(n.Proc, nil)
		j.origins[i] = n
	}
	j.gw = startGateway(t, mainJob, "squid", j.squid.Addr(), "dante", j.dante.Addr(), "tinyproxy", j.tinyproxy.Addr(),
		"one", portOf(j.origins[0].Addr()), "two", portOf(j.origins[1].Addr()), "three", portOf(j.origins[2].Addr()), "elsewhere", j.origins[3].Addr())
	return j
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err) // of an address that a listener told
	}
	return port
}

func (j *job) ways() []way {
	return []way{
		{rule: "near", target: j.origins[0].Addr(), origin: j.origins[0].Addr(), route: "direct"},
		{rule: "one hop", target: j.origins[1].Addr(), origin: j.origins[1].Addr(), route: "squid", hops: []string{"squid"}},
		{rule: "two hops", target: j.origins[2].Addr(), origin: j.origins[2].Addr(), route: "squid > dante", hops: []string{"squid", "dante"}},
		{rule: "moved", target: "moved.example:80", origin: j.origins[3].Addr(), route: "direct"},
	}
}

// asking is how curl goes to its proxy.
type asking struct {
	protocol connmodel.Protocol
	args     []string
}

func (j *job) askings() []asking {
	return []asking{
		{connmodel.ProtocolConnect, []string{"-p", "-x", "http://" + j.gw.addr}},
		{connmodel.ProtocolHTTP, []string{"-x", "http://" + j.gw.addr}},
		{connmodel.ProtocolSOCKS5, []string{"-x", "socks5h://" + j.gw.addr}},
	}
}

// curl asks for url and returns the body.
func (j *job) curl(a asking, url string, more ...string) string {
	j.t.Helper()
	return client(j.t, "curl", slices.Concat([]string{"-sS", "--max-time", "30"}, a.args, more, []string{url})...)
}

// record awaits the next record.
func (j *job) record() *connmodel.Flow {
	j.t.Helper()
	f := j.gw.next(j.seen)
	j.seen++
	return f
}

// TestMainJob is what Viaduct is for: curl, in three protocols, by one policy, four ways, through real proxies with passwords, to
// a real server; and a record of each connection that says all of it.
func TestMainJob(t *testing.T) {
	j := startJob(t)
	for _, w := range j.ways() {
		for _, a := range j.askings() {
			t.Run(fmt.Sprintf("%s by %s", w.rule, a.protocol), func(t *testing.T) {
				in := *j
				in.t, in.gw.t = t, t
				defer func() { j.seen, j.gw.t = in.seen, j.t }()
				body := in.curl(a, "http://"+w.target+"/headers")
				for _, secret := range []string{"squid-secret", "dante-secret", "Basic "} {
					if strings.Contains(body, secret) {
						t.Errorf("the server was told %q:\n%s", secret, body)
					}
				}
				if want := "host: " + strings.TrimSuffix(w.target, ":80") + "\n"; !strings.Contains(body, want) {
					t.Errorf("no %q in\n%s", want, body)
				}
				f := in.record()
				checkFlow(t, f, w, a)
				if a.protocol == connmodel.ProtocolHTTP {
					checkVia(t, body, w)
				}
			})
		}
	}
	j.failOver()
	j.failures()
	var st admin.Status
	j.gw.door("/v1/status", &st)
	if st.Panics != 0 || st.Sessions.Flows != uint64(j.seen) || len(st.Records) != 1 || st.Records[0].Dropped != 0 {
		t.Errorf("after %d records the gateway says %+v, %+v, %d panics", j.seen, st.Sessions, st.Records, st.Panics)
	}
	if len(st.Pools) != 1 || len(st.Pools[0].Members) != 2 || st.Pools[0].Members[0].LastError == "" {
		t.Errorf("pools %+v", st.Pools)
	}
}

// checkVia looks at what the server was told of the proxies: ourselves always, Squid when it was spoken to as a proxy.
func checkVia(t *testing.T, body string, w way) {
	t.Helper()
	_, via, _ := strings.Cut(body, "via: ")
	via, _, _ = strings.Cut(via, "\n")
	if !strings.Contains(via, "1.1 main-job") {
		t.Errorf("Via is %q", via)
	}
	if squid := strings.Contains(via, "squid"); squid != (len(w.hops) == 1) {
		t.Errorf("Via is %q", via)
	}
}

// checkFlow holds a record against the way that the connection went.
func checkFlow(t *testing.T, f *connmodel.Flow, w way, a asking) {
	t.Helper()
	if f.Protocol != a.protocol || f.Target.String() != w.target || f.Error != nil {
		t.Fatalf("record of %s %s, error %v; expected %s %s", f.Protocol, f.Target, f.Error, a.protocol, w.target)
	}
	d := f.Decision
	if d == nil || d.Rule != w.rule || d.File != "viaduct.hcl" || d.Line != lineOf(`rule "`+w.rule+`"`) {
		t.Errorf("decision %+v", d)
	}
	s := f.Server
	if s == nil || s.Route != w.route || s.Address.String() != w.origin || len(s.Attempts) != 1 || !s.Attempts[0].Connected() {
		t.Fatalf("server %#v", s)
	}
	at := s.Attempts[0]
	if at.Start.IsZero() || at.End.Before(at.Start) {
		t.Errorf("attempt from %v to %v", at.Start, at.End)
	}
	var names []string
	for i, h := range at.Hops {
		if int(h.Index) != i+1 || h.Start.IsZero() || h.Total <= 0 || h.Error != nil {
			t.Errorf("hop %+v", h)
		}
		if h.Upstream != "" {
			names = append(names, h.Upstream)
		}
	}
	if !slices.Equal(names, w.hops) {
		t.Errorf("hops %q, expected %q", names, w.hops)
	}
	checkHopTimes(t, at.Hops, f.Protocol)
	if f.Down == 0 || f.Start.IsZero() || !f.End.After(f.Start) {
		t.Errorf("%d bytes down, %v to %v", f.Down, f.Start, f.End)
	}
}

// checkHopTimes wants each hop's own parts: the socket to the first one, the handshakes of each, the credential by name.
func checkHopTimes(t *testing.T, hops []connmodel.HopResult, p connmodel.Protocol) {
	t.Helper()
	for i, h := range hops {
		if i == 0 && (h.TCP <= 0 || !h.Peer.IsValid() || !h.Local.IsValid()) {
			t.Errorf("the socket to the first hop is not in the record: %+v", h)
		}
		switch h.Upstream {
		case "squid":
			if absolute := p == connmodel.ProtocolHTTP && len(hops) == 1; !absolute && h.Connect <= 0 {
				t.Errorf("CONNECT took %v", h.Connect)
			}
			if h.Credential != "corp" {
				t.Errorf("credential of squid %q", h.Credential)
			}
		case "dante":
			if h.Greeting <= 0 || h.Auth <= 0 || h.Connect <= 0 || h.Credential != "jump" {
				t.Errorf("hop %+v", h)
			}
		}
	}
}

// lineOf is the line of the policy that holds text.
func lineOf(text string) int {
	before, _, ok := strings.Cut(mainJob, text)
	if !ok {
		return -1
	}
	return 1 + strings.Count(before, "\n")
}

// failOver stops Squid: the pool goes on with tinyproxy, and the record shows both attempts.
func (j *job) failOver() {
	t := j.t
	if err := j.squid.Stop(); err != nil {
		t.Fatal(err)
	}
	w := j.ways()[1]
	for _, a := range j.askings() {
		if body := j.curl(a, "http://"+w.target+"/headers"); !strings.Contains(body, "host: "+w.target) {
			t.Errorf("by %s through the pool without Squid:\n%s", a.protocol, body)
		}
		f := j.record()
		s := f.Server
		if f.Error != nil || s == nil || s.Route != "tinyproxy" || f.Decision.Rule != w.rule {
			t.Fatalf("by %s: %v", a.protocol, f)
		}
		if len(s.Attempts) == 0 || !s.Attempts[len(s.Attempts)-1].Connected() {
			t.Fatalf("by %s: attempts %+v", a.protocol, s.Attempts)
		}
		if a.protocol != connmodel.ProtocolConnect {
			continue // Squid may be left out already
		}
		if len(s.Attempts) != 2 {
			t.Fatalf("attempts %+v", s.Attempts)
		}
		if e := s.Attempts[0].Error; e == nil || e.Hop != 1 || e.HopName != "squid" || e.Kind != connmodel.KindRefused || e.Phase != connmodel.PhaseDial {
			t.Errorf("the first attempt failed with %+v", e)
		}
		if h := s.Attempts[0].Hops; len(h) != 1 || h[0].Upstream != "squid" || h[0].Error == nil {
			t.Errorf("hops of the first attempt %+v", h)
		}
		if h := s.Attempts[1].Hops; len(h) == 0 || h[0].Upstream != "tinyproxy" || h[0].Total <= 0 {
			t.Errorf("hops of the second attempt %+v", h)
		}
	}
}

// failures: the record names the hop that failed, and why; so does the answer to the client.
func (j *job) failures() {
	t := j.t
	w := j.ways()[2]
	a := j.askings()[1]
	body := j.curl(a, "http://"+w.target+"/headers", "-D", "-")
	if !strings.Contains(body, " 502 ") || !strings.Contains(body, "squid") || !strings.Contains(strings.ToLower(body), "proxy-status: ") {
		t.Errorf("the answer without Squid:\n%s", body)
	}
	f := j.record()
	if e := f.Error; e == nil || e.Hop != 1 || e.HopName != "squid" || e.Kind != connmodel.KindRefused || e.Message == "" {
		t.Errorf("the error without Squid is %+v", e)
	}

	if err := j.squid.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := j.dante.Stop(); err != nil {
		t.Fatal(err)
	}
	body = j.curl(a, "http://"+w.target+"/headers", "-D", "-")
	if !strings.Contains(body, " 502 ") && !strings.Contains(body, " 504 ") || !strings.Contains(body, "dante") {
		t.Errorf("the answer without Dante:\n%s", body)
	}
	f = j.record()
	if e := f.Error; e == nil || e.Hop != 2 || e.HopName != "dante" || e.Message == "" {
		t.Errorf("the error without Dante is %+v", e)
	}
	if len(f.Server.Attempts) == 0 || len(f.Server.Attempts[0].Hops) != 2 {
		t.Errorf("attempts %+v", f.Server.Attempts)
	}

	// A server that refuses is neither proxy's fault.
	if err := j.dante.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := j.origins[2].Stop(); err != nil {
		t.Fatal(err)
	}
	j.curl(a, "http://"+w.target+"/headers", "-D", "-")
	f = j.record()
	if e := f.Error; e == nil || e.Kind != connmodel.KindRefused || e.Blame != connmodel.BlameTarget || e.CodeOf != "socks5" || e.Code != 5 {
		t.Errorf("the error without the server is %+v", e)
	}
}
