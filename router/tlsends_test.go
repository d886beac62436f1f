package router

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/upstreamtest"
)

// lockedText is a log that may be read while it is written.
type lockedText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// line waits for the close line of a flow.
func (l *lockedText) line(flow string) string {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		s := l.b.String()
		l.mu.Unlock()
		for _, line := range strings.Split(s, "\n") {
			if strings.Contains(line, "msg=close") && strings.Contains(line, flow) {
				return line
			}
		}
	}
	return ""
}

// TestTLSEndsThroughTheGateway: whatever is wrong with TLS at an https proxy, or at a server that a rule upgrades to, each client is told in its own
// protocol, and record, answer, page and log say the same.
func TestTLSEndsThroughTheGateway(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	trust := &tls.Config{RootCAs: ca.Pool()}
	ends := upstreamtest.TLSEnds(t, ca, "127.0.0.1")
	const wait = 2 * time.Second
	ways := upstream.Config{Direct: upstream.DirectSpec{TLSTimeout: wait}}
	decisions := map[connmodel.Address]*connmodel.Decision{}
	targets := map[string]string{}
	for i := range ends {
		e := &ends[i]
		at := upstreamtest.ListenTLSEnd(t, e)
		name, ours := fmt.Sprintf("end%d", i), wait
		if e.Kind == "timeout" {
			ours = 200 * time.Millisecond
		}
		ways.Upstreams = append(ways.Upstreams, upstream.Spec{Name: name, Scheme: "https", Address: address(t, at), TLS: trust, Timeouts: upstream.HopTimeouts{TLS: ours}})
		targets["proxy/"+e.Name], targets["server/"+e.Name] = name+".example:8080", at
		decisions[address(t, name+".example:8080")] = via("upstream." + name)
		d := loopbackOpen()
		d.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSUpgrade, Config: trust}
		decisions[address(t, at)] = d
	}
	var text lockedText
	log := logrus.New()
	log.SetOutput(&text)
	log.SetFormatter(&LineFormatter{Base: &logrus.TextFormatter{DisableColors: true}})
	g := start(t, func(o *Options, c *Config) {
		o.Log = LogrusLog{L: log, Lines: true}
		c.Routes = routes(t, ways)
		c.Listeners[0].Decider = connmodel.DeciderFunc(func(f *connmodel.Facts) (*connmodel.Decision, connmodel.Need) { return decisions[f.Target], 0 })
	})
	for i := range ends {
		e := &ends[i]
		for _, as := range []string{"proxy", "server"} {
			t.Run(as+"/"+e.Name, func(t *testing.T) {
				target := targets[as+"/"+e.Name]
				silent := e.Kind == "timeout" && as == "server" // there the time is one for all ends
				if silent && testing.Short() {
					t.Skip("it takes seconds")
				}
				if e.OK {
					c, err := g.open(target)
					if err != nil {
						t.Fatal(err)
					}
					c.Close()
					if f := g.records.next(t); f.Error != nil {
						t.Error(f.Error)
					}
					return
				}
				resp := g.answer(t, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
				page, _ := io.ReadAll(resp.Body)
				checkEndRecord(t, e, as, "page", g.records.next(t))
				if !strings.Contains(string(page), e.Says) {
					t.Errorf("the page does not say %q:\n%s", e.Says, page)
				}
				for _, client := range asClients {
					if client.name == "connect 1.0" || silent {
						continue
					}
					code, said := client.ask(t, g, target)
					f := g.records.next(t)
					checkEndRecord(t, e, as, client.name, f)
					want, kind := toldOf(e, client.name)
					if code != want || f.Reply == nil || int(f.Reply.Code) != code {
						t.Errorf("%s: told %d, want %d; the record says %+v", client.name, code, want, f.Reply)
					}
					if want >= 400 && (!strings.HasPrefix(said, g.name+"; error="+kind+";") || (as == "proxy") != strings.Contains(said, "next-hop=") ||
						(e.Alert != 0) != strings.Contains(said, fmt.Sprintf("; alert-id=%d;", e.Alert))) {
						t.Errorf("%s: Proxy-Status: %s, want %s", client.name, said, kind)
					}
					if line := text.line(f.ID.String()); !strings.Contains(strings.ReplaceAll(line, `\"`, `"`), e.Says) {
						t.Errorf("%s: the log does not say %q:\n%s", client.name, e.Says, line)
					}
				}
			})
		}
	}
}

// toldOf is what a client is told of an end: a status with an error of Proxy-Status, or a SOCKS reply.
func toldOf(e *upstreamtest.TLSEnd, client string) (code int, kind string) {
	code, kind = 502, "tls_protocol_error"
	switch {
	case e.Verdict != "":
		kind = "tls_certificate_error"
	case e.Alert != 0:
		kind = "tls_alert_received"
	case e.Kind == "timeout":
		code, kind = 504, "connection_timeout"
	case e.Kind != "tls":
		kind = "connection_terminated"
	}
	switch {
	case client == "socks4a":
		code = 0x5b
	case client == "socks5" && e.Kind == "timeout":
		code = 4
	case client == "socks5":
		code = 1
	}
	return code, kind
}

func checkEndRecord(t *testing.T, e *upstreamtest.TLSEnd, as, client string, f *connmodel.Flow) {
	t.Helper()
	side, blame := connmodel.SideServer, connmodel.BlameTarget
	if as == "proxy" {
		side, blame = connmodel.SideHop, connmodel.BlameProxy
	}
	x := f.Error
	if x == nil || x.Side != side || x.Blame != blame || string(x.Kind) != e.Kind || string(x.Verdict) != e.Verdict || x.Code != e.Alert || !strings.Contains(x.Message, e.Says) {
		t.Errorf("%s: the record says %+v", client, x)
		return
	}
	var info *connmodel.TLSInfo
	for _, a := range f.Server.Attempts {
		info = a.Hops[len(a.Hops)-1].TLSInfo
		if as == "proxy" {
			info = a.Hops[0].TLSInfo
		}
	}
	if info == nil || string(info.Verdict) != e.Verdict || e.Verdict != "" && len(info.Certificates) != len(e.Config.Certificates[0].Certificate) {
		t.Errorf("%s: of the handshake the record has %+v", client, info)
	}
	if line := f.AppendJSON(nil); len(line) > connmodel.MaxRecord {
		t.Errorf("%s: a record of %d bytes", client, len(line))
	}
}

// TestCertificateWarningsAreLoggedOnceADay: one line a day for a certificate and what is wrong with it, however often it is seen, and a bounded memory.
func TestCertificateWarningsAreLoggedOnceADay(t *testing.T) {
	now := time.Now()
	warning := func(sha, up string, reason connmodel.ChainVerdict) *connmodel.CertificateWarning {
		return &connmodel.CertificateWarning{Reason: reason, Upstream: up, Certificate: connmodel.Certificate{SHA256: sha}}
	}
	var c warnedCertificates
	for _, x := range []struct {
		w     *connmodel.CertificateWarning
		after time.Duration
		want  bool
	}{
		{warning("a", "", connmodel.ChainExpired), 0, true},
		{warning("a", "", connmodel.ChainExpired), time.Hour, false},
		{warning("a", "", connmodel.ChainName), time.Hour, true},
		{warning("a", "corp", connmodel.ChainExpired), time.Hour, true},
		{warning("b", "", connmodel.ChainExpired), time.Hour, true},
		{warning("a", "", connmodel.ChainExpired), 23*time.Hour + 59*time.Minute, false},
		{warning("a", "", connmodel.ChainExpired), 24 * time.Hour, true},
		{warning("a", "", connmodel.ChainExpired), 25 * time.Hour, false},
	} {
		if got := c.first(x.w, now.Add(x.after)); got != x.want {
			t.Errorf("%+v after %v: %v", x.w, x.after, got)
		}
	}
	logged := 0
	for i := range 3 * maxWarned {
		if c.first(warning(fmt.Sprint(i), "", connmodel.ChainExpired), now.Add(26*time.Hour)) {
			logged++
		}
	}
	if len(c.at) > maxWarned || logged > maxWarned {
		t.Errorf("%d are kept, %d were logged", len(c.at), logged)
	}
	if !c.first(warning("later", "", connmodel.ChainExpired), now.Add(51*time.Hour)) || len(c.at) > maxWarned {
		t.Errorf("a day later nothing is forgotten: %d", len(c.at))
	}
}
