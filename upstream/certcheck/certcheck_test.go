package certcheck

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream/upstreamtest"
)

func TestParsePin(t *testing.T) {
	good := connmodel.PinOf(upstreamtest.MustCA(t).Cert)
	for pin, ok := range map[string]bool{
		good: true, "": false, "sha256/": false, strings.TrimPrefix(good, "sha256/"): false, strings.Replace(good, "/", "//", 1): false,
		good + "=": false, good[:len(good)-1]: false, good + "\n": false, " " + good: false, "sha1/AAAAAAAAAAAAAAAAAAAAAAAAAAA=": false,
		"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=": false, // the same 32 bytes as another text: one of the two would never match
	} {
		if err := ParsePin(pin); (err == nil) != ok {
			t.Errorf("%q: %v", pin, err)
		}
	}
}

// TestFirstToEnd: of several ways to verify a chain, that which lasts longest counts, without its root.
func TestFirstToEnd(t *testing.T) {
	now := time.Now()
	c := func(days int) *x509.Certificate {
		return &x509.Certificate{NotAfter: now.Add(time.Duration(days) * 24 * time.Hour)}
	}
	leaf, short, long, root := c(90), c(10), c(400), c(1)
	for _, x := range []struct {
		chains [][]*x509.Certificate
		want   *x509.Certificate
	}{
		{nil, leaf},
		{[][]*x509.Certificate{{leaf}}, leaf},
		{[][]*x509.Certificate{{leaf, root}}, leaf},
		{[][]*x509.Certificate{{leaf, short, root}}, short},
		{[][]*x509.Certificate{{leaf, short, root}, {leaf, long, root}}, leaf},
	} {
		if got := firstToEnd([]*x509.Certificate{leaf}, x.chains); got != x.want {
			t.Errorf("of %d chains it is the one that ends at %v", len(x.chains), got.NotAfter)
		}
	}
}

// FuzzCertificates: whatever a peer calls a certificate, what is said of it is bounded and fit for a line of a log.
func FuzzCertificates(f *testing.F) {
	ca := upstreamtest.MustCA(f)
	for _, o := range []upstreamtest.CertOptions{{}, upstreamtest.Expired(), {SelfSigned: true}, {CNOnly: true}, {SHA1: true}, {Client: true}} {
		f.Add(ca.MustIssue(f, o, "a.example", "192.0.2.1").Certificate[0], ca.Cert.Raw, "b.example")
	}
	f.Add([]byte("\x30\x82"), ca.Cert.Raw, "\x00\r\n")
	roots := ca.Pool()
	f.Fuzz(func(t *testing.T, first, second []byte, name string) {
		var sent []*x509.Certificate
		for _, der := range [][]byte{first, second} {
			if c, err := x509.ParseCertificate(der); err == nil {
				sent = append(sent, c)
			}
		}
		found, chains := Findings(sent, roots, name, time.Now())
		if (len(found) == 0) == (len(chains) == 0) {
			t.Fatalf("%d findings beside %d chains", len(found), len(chains))
		}
		for _, x := range found {
			if x.Verdict == "" || x.Verdict == connmodel.ChainOK || len(x.Text) > 8<<10 || strings.ContainsFunc(x.Text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q: %q", x.Verdict, x.Text)
			}
		}
		p := Peer{Side: connmodel.SideServer, Address: connmodel.Address{Host: "h.example", Port: 1}}
		for _, w := range Warnings(&p, Finding{}, sent, chains, time.Now(), 0) {
			if strings.ContainsFunc(w.Message, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q", w.Message)
			}
		}
	})
}

// TestFindingsOfOldLeaf: what else is wrong with a certificate whose time is over is looked for at a moment within that time; an authority
// that was renewed since is not said to be invalid for it.
func TestFindingsOfOldLeaf(t *testing.T) {
	ca := upstreamtest.MustCA(t) // three days old
	now := time.Now()
	day := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	for _, x := range []struct {
		name          string
		first, last   time.Time
		host, verdict string
	}{
		{"ended before the authority began", day(-300), day(-200), "a.example", "expired"},
		{"and has another name", day(-300), day(-200), "b.example", "expired name_mismatch"},
		{"began before the authority", day(-300), day(-1), "a.example", "expired"},
		{"begins when the authority has ended", day(200), day(300), "a.example", "not_yet_valid"},
	} {
		leaf := ca.MustIssue(t, upstreamtest.CertOptions{NotBefore: x.first, NotAfter: x.last}, "a.example").Leaf
		found, _ := Findings([]*x509.Certificate{leaf}, ca.Pool(), x.host, now)
		var got []string
		for _, f := range found {
			got = append(got, string(f.Verdict))
		}
		if strings.Join(got, " ") != x.verdict {
			t.Errorf("%s: found %v", x.name, found)
		}
	}
}
