package router

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bufio"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

// eventLog keeps what is logged beside flows.
type eventLog struct {
	noLog
	mu   sync.Mutex
	list []string
}

func (l *eventLog) Event(level Level, message string, kv ...any) {
	l.mu.Lock()
	l.list = append(l.list, fmt.Sprint(level, " ", message, " ", kv))
	l.mu.Unlock()
}

// count returns how many events hold text.
func (l *eventLog) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.list {
		if strings.Contains(e, text) {
			n++
		}
	}
	return n
}

// pairOnDisk writes a certificate for names into dir and returns it as a listener has it.
func pairOnDisk(t *testing.T, ca *upstreamtest.CA, dir, name string, names ...string) KeyPair {
	t.Helper()
	cert := ca.MustIssue(t, upstreamtest.CertOptions{}, names...)
	certFile, keyFile, err := upstreamtest.WriteFiles(dir, name, cert)
	if err != nil {
		t.Fatal(err)
	}
	return KeyPair{cert, certFile, keyFile}
}

// serial is the serial number of the certificate that the gateway shows for name.
func (g *tlsGateway) serial(t *testing.T, name string) string {
	t.Helper()
	c, err := g.dialTLS(t, g.with(func(c *tls.Config) { c.ServerName = name }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestCertificatesByName(t *testing.T) {
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
		c.Listeners[0].TLS.Pairs = []KeyPair{
			{Certificate: ca.MustIssue(t, upstreamtest.CertOptions{}, "gate.example")},
			{Certificate: ca.MustIssue(t, upstreamtest.CertOptions{}, "*.branch.example")},
			{Certificate: ca.MustIssue(t, upstreamtest.CertOptions{}, "gate.example", "late.example")},
		}
	})
	for name, want := range map[string]string{"gate.example": "gate.example", "x.branch.example": "*.branch.example", "late.example": "late.example", "other.example": "gate.example", "": "gate.example"} {
		c := g.mustDialTLS(t, g.with(func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = name, true }))
		leaf := c.ConnectionState().PeerCertificates[0]
		if got := leaf.DNSNames[len(leaf.DNSNames)-1]; got != want {
			t.Errorf("for %q: the certificate of %s, want %s", name, got, want)
		}
	}
}

// TestCertificateFilesChange: what is written is used without a reload, whatever state it is in between; open connections notice nothing.
func TestCertificateFilesChange(t *testing.T) {
	dir := t.TempDir()
	log := new(eventLog)
	var gate, other KeyPair
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
		o.Log = log
		gate, other = pairOnDisk(t, ca, dir, "gate", "gate.example"), pairOnDisk(t, ca, dir, "other", "other.example")
		c.Listeners[0].TLS.Pairs = []KeyPair{gate, other}
	})
	target := echo(t)
	open := g.mustDialTLS(t, g.trust)
	fmt.Fprintf(open, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
	io.ReadFull(open, make([]byte, len(connectOK)))

	serials := func() string { return g.serial(t, "gate.example") + " " + g.serial(t, "other.example") }
	want := func(gate, other *x509.Certificate) {
		t.Helper()
		s := gate.SerialNumber.String() + " " + other.SerialNumber.String()
		waitFor(t, func() bool { return serials() == s })
	}
	want(gate.Certificate.Leaf, other.Certificate.Leaf)
	if n := log.count("certificate changed") + log.count("cannot be used"); n != 0 {
		t.Errorf("nothing has changed, and the log says %q", log.list)
	}

	next := pairOnDisk(t, g.ca, dir, "gate", "gate.example")
	want(next.Certificate.Leaf, other.Certificate.Leaf)
	if n := log.count("certificate changed"); n != 1 {
		t.Errorf("the change was told %d times: %q", n, log.list)
	}

	// Only the certificate, then half of the key, then all of it.
	third := g.ca.MustIssue(t, upstreamtest.CertOptions{}, "gate.example")
	chain, key, err := upstreamtest.EncodePEM(third)
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(next.CertificateFile, chain, 0o600)
	waitFor(t, func() bool { g.serial(t, "gate.example"); return log.count("cannot be used") == 1 })
	want(next.Certificate.Leaf, other.Certificate.Leaf)
	time.Sleep(lookAtPairs + 100*time.Millisecond)
	want(next.Certificate.Leaf, other.Certificate.Leaf)
	if n := log.count("private key does not match"); n != 1 {
		t.Errorf("the pair that does not fit was told %d times: %q", n, log.list)
	}
	os.WriteFile(next.KeyFile, key[:len(key)/2], 0o600)
	waitFor(t, func() bool { g.serial(t, "gate.example"); return log.count("cannot be used") == 2 })
	os.WriteFile(next.KeyFile, key, 0o600)
	want(third.Leaf, other.Certificate.Leaf)

	// Gone, then back.
	os.Rename(other.KeyFile, other.KeyFile+".away")
	waitFor(t, func() bool { g.serial(t, "gate.example"); return log.count("no such file") == 1 })
	want(third.Leaf, other.Certificate.Leaf)
	fourth := pairOnDisk(t, g.ca, dir, "other", "other.example")
	want(third.Leaf, fourth.Certificate.Leaf)

	open.SetDeadline(time.Now().Add(10 * time.Second))
	if err := shake(open, []byte("still here")); err != nil {
		t.Errorf("the tunnel that was open all the time: %v", err)
	}
}

// TestOwnCertificatesEnd: the end of a certificate of ours is told before it comes, and not all the time.
func TestOwnCertificatesEnd(t *testing.T) {
	ca := upstreamtest.MustCA(t)
	now := time.Now()
	cert := func(left time.Duration) KeyPair {
		return KeyPair{Certificate: ca.MustIssue(t, upstreamtest.CertOptions{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(left)}, "gate.example")}
	}
	var told []*connmodel.CertificateWarning
	k := newKeyPairs("desk", []KeyPair{cert(100 * 24 * time.Hour), cert(24 * time.Hour), cert(-time.Minute)}, noLog{}, func(w *connmodel.CertificateWarning) { told = append(told, w) }, 0)
	if len(told) != 2 || told[0].Reason != connmodel.ChainExpiringSoon || told[1].Reason != connmodel.ChainExpired || told[0].Side != connmodel.SideViaduct || !strings.Contains(told[0].Message, `listener "desk" for gate.example ends`) {
		t.Fatalf("%+v", told)
	}
	k.look(now.Add(time.Minute))
	if len(told) != 2 {
		t.Errorf("told again after a minute: %+v", told)
	}
	k.look(now.Add(90 * 24 * time.Hour))
	if len(told) != 5 {
		t.Errorf("after 90 days: %d warnings, want 5", len(told))
	}
}

// TestPipesAreNoCertificates: a file that is replaced by something that cannot be read to an end does not stop handshakes.
func TestPipesAreNoCertificates(t *testing.T) {
	dir := t.TempDir()
	f := pairFiles{certificate: dir, key: "/dev/zero"}
	if _, _, err := f.read(time.Now()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	f.certificate = "/dev/zero"
	if _, _, err := f.read(time.Now()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device: %v", err)
	}
}

// certificateOf is the configuration of a client that has a certificate, and resumes sessions.
func (g *tlsGateway) certificateOf(t *testing.T, name string) *tls.Config {
	return g.with(func(c *tls.Config) {
		c.Certificates = []tls.Certificate{g.ca.MustIssue(t, upstreamtest.CertOptions{Client: true}, name)}
		c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	})
}

func (g *tlsGateway) get(t *testing.T, c *tls.Conn, br *bufio.Reader, url string) int {
	t.Helper()
	fmt.Fprintf(c, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", url)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestIdentitiesAndReload: sessions are resumed within one configuration, never across one; a connection that stays open is checked again.
func TestIdentitiesAndReload(t *testing.T) {
	origin := okOrigin(t)
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) { c.Listeners[0].TLS.ClientCAs = ca.Pool() })
	conf := g.certificateOf(t, "anna")
	var kept *tls.Conn
	var br *bufio.Reader
	for i := range 3 {
		c := g.mustDialTLS(t, conf)
		kept, br = c, bufio.NewReader(c)
		if status := g.get(t, c, br, origin.URL); status != 200 {
			t.Fatal(status)
		}
		f := g.records.next(t)
		if f.Client.User != "anna" || f.Client.TLSInfo.Resumed != (i > 0) || len(f.Client.TLSInfo.Certificates) != 1 {
			t.Errorf("connection %d: user %q, resumed %v, %d certificates", i, f.Client.User, f.Client.TLSInfo.Resumed, len(f.Client.TLSInfo.Certificates))
		}
	}

	// The same authorities: known as before, but by a handshake of its own.
	same := *g.Config().Listeners[0].TLS
	if err := g.Apply(g.next(func(c *Config) { c.Listeners[0].TLS = &same })); err != nil {
		t.Fatal(err)
	}
	if status := g.get(t, kept, br, origin.URL); status != 200 {
		t.Errorf("a kept connection after a reload that changes nothing: %d", status)
	}
	if f := g.records.next(t); f.Client.User != "anna" {
		t.Errorf("after a reload that changes nothing the user is %q", f.Client.User)
	}
	if c := g.mustDialTLS(t, conf); c.ConnectionState().DidResume {
		t.Error("a session was resumed across generations")
	}

	// Other authorities: the client that was somebody is nobody, and gets nowhere.
	others := upstreamtest.MustCA(t)
	foreign := same
	foreign.ClientCAs = others.Pool()
	if err := g.Apply(g.next(func(c *Config) { c.Listeners[0].TLS = &foreign })); err != nil {
		t.Fatal(err)
	}
	if status := g.get(t, kept, br, origin.URL); status != 403 {
		t.Errorf("a kept connection whose authority is not trusted any more: %d", status)
	}
	if f := g.records.next(t); f.Client.User != "" && f.Error == nil || f.Error == nil || !strings.Contains(f.Error.Message, "does not take the client's certificate any more") {
		t.Errorf("record: user %q, %v", f.Client.User, f.Error)
	}
	c, err := g.dialTLS(t, conf)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil || err == io.EOF {
		t.Errorf("a new connection with the old certificate: %v", err)
	}
	if f := g.records.next(t); f.Error == nil || f.Error.Phase != connmodel.PhaseTLS {
		t.Errorf("record: %v", f.Error)
	}
}

// TestCertificatesChangeUnderLoad: handshakes never fail while certificates change and configurations come and go.
func TestCertificatesChangeUnderLoad(t *testing.T) {
	dir := t.TempDir()
	target := echo(t)
	var pair KeyPair
	g := startTLS(t, func(o *Options, c *Config, ca *upstreamtest.CA) {
		pair = pairOnDisk(t, ca, dir, "gate", "gate.example")
		c.Listeners[0].TLS.Pairs = []KeyPair{pair}
	})
	g.records.more = make(chan struct{}, 1<<20)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var done atomic.Int64
	for range pick(4, 16) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				nc, err := net.Dial("tcp", g.addr)
				if err != nil {
					t.Error(err)
					return
				}
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				c := tls.Client(nc, g.trust)
				fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nping", target)
				got := make([]byte, len(connectOK)+4)
				if _, err := io.ReadFull(c, got); err != nil || !strings.HasSuffix(string(got), "ping") {
					t.Errorf("after %d: %q %v", done.Load(), got, err)
					nc.Close()
					return
				}
				c.Close()
				done.Add(1)
			}
		}()
	}
	for end := time.Now().Add(pick(2500*time.Millisecond, time.Minute)); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		next := pairOnDisk(t, g.ca, dir, "gate", "gate.example")
		tlsConf := *g.Config().Listeners[0].TLS
		tlsConf.Pairs = []KeyPair{next}
		if err := g.Apply(g.next(func(c *Config) { c.Listeners[0].TLS = &tlsConf })); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	if done.Load() < 10 {
		t.Errorf("only %d connections were made", done.Load())
	}
}
