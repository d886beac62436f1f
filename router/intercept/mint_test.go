package intercept

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"crypto/ecdsa"
	"crypto/elliptic"
)

// server is a certificate as a server shows it.
func server(t testing.TB, end time.Time, names ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: end}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tpl.IPAddresses = append(tpl.IPAddresses, ip)
		} else {
			tpl.DNSNames = append(tpl.DNSNames, n)
		}
	}
	c, err := sign(tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLeaf(t *testing.T) {
	ca := newTestCA(t, CreateOptions{})
	var m Minter
	end := time.Now().Add(365 * 24 * time.Hour)
	cert, err := m.Mint(ca, Wanted{Name: "www.example.com", Server: server(t, end, "example.com", "*.example.com", "192.0.2.1", "2001:db8::1")})
	if err != nil {
		t.Fatal(err)
	}
	l := cert.Leaf
	if want := []string{"www.example.com", "example.com", "*.example.com"}; !slices.Equal(l.DNSNames, want) {
		t.Errorf("names %v", l.DNSNames)
	}
	if len(l.IPAddresses) != 2 {
		t.Errorf("addresses %v", l.IPAddresses)
	}
	if l.Subject.CommonName != "" {
		t.Error("a name stands in the subject")
	}
	if life := l.NotAfter.Sub(l.NotBefore); life > maxLife || life < maxLife-time.Hour {
		t.Errorf("life %v", life)
	}
	if age := time.Since(l.NotBefore); age < 59*time.Minute || age > 61*time.Minute {
		t.Errorf("it began %v ago", age)
	}
	if l.SerialNumber.BitLen() < 100 || len(l.AuthorityKeyId) != 20 || len(l.SubjectKeyId) != 20 || l.IsCA || !l.BasicConstraintsValid {
		t.Errorf("leaf %+v", l)
	}
	if !slices.Equal(l.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || l.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("usage %v %v", l.ExtKeyUsage, l.KeyUsage)
	}
	if ca.key.Public().(*ecdsa.PublicKey).Equal(l.PublicKey) {
		t.Error("the leaf has the authority's key")
	}
	for _, name := range []string{"www.example.com", "a.example.com", "192.0.2.1", "2001:db8::1"} {
		if err := verify(cert, ca.Cert, name, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	end := time.Now().Add(365 * 24 * time.Hour)
	open := newTestCA(t, CreateOptions{})
	domain := newTestCA(t, CreateOptions{Permit: []string{"corp.example"}})
	network := newTestCA(t, CreateOptions{Permit: []string{"10.0.0.0/8"}})
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.example", i)
	}
	for _, c := range []struct {
		what string
		ca   *CA
		w    Wanted
		want []string // nil = it cannot be made
	}{
		{"no server", open, Wanted{Name: "a.example"}, []string{"a.example"}},
		{"no server, an address", open, Wanted{Name: "192.0.2.1"}, []string{"192.0.2.1"}},
		{"no server, an IPv6 address", open, Wanted{Name: "2001:db8::1"}, []string{"2001:db8::1"}},
		{"a server of another name", open, Wanted{Name: "a.example", Server: server(t, end, "b.example")}, []string{"b.example"}},
		{"verified by another name", open, Wanted{Name: "a.example", Asked: true, Server: server(t, end, "b.example")}, []string{"a.example", "b.example"}},
		{"a server without names", open, Wanted{Name: "a.example", Server: server(t, end)}, []string{"a.example"}},
		{"nothing at all", open, Wanted{Server: server(t, end)}, nil},
		{"nothing asked for", open, Wanted{Server: server(t, end, "B.example")}, []string{"b.example"}},
		{"no names", open, Wanted{Name: "a b"}, nil},
		{"names nobody can have", open, Wanted{Name: "a.example", Server: server(t, end, "a.example", "x y", "a..b", "*.*.c", "n.example\x00")}, []string{"a.example"}},
		{"10,000 names", open, Wanted{Name: "h9999.example", Server: server(t, end, many...)}, append([]string{"h9999.example"}, many[:maxNames-1]...)},
		{"permitted", domain, Wanted{Name: "a.corp.example", Server: server(t, end, "a.corp.example", "other.example", "10.0.0.1")}, []string{"a.corp.example"}},
		{"not permitted", domain, Wanted{Name: "a.example"}, nil},
		{"an address where only a domain is permitted", domain, Wanted{Name: "10.0.0.1"}, nil},
		{"a name where only a network is permitted", network, Wanted{Name: "corp.example"}, nil},
		{"a permitted address", network, Wanted{Name: "10.1.2.3"}, []string{"10.1.2.3"}},
		{"an address that is not permitted", network, Wanted{Name: "192.0.2.1"}, nil},
	} {
		var m Minter
		cert, err := m.Mint(c.ca, c.w)
		if err != nil {
			if c.want != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			if _, kept := m.Stats(); kept != 0 {
				t.Errorf("%s: what failed is kept", c.what)
			}
			continue
		}
		got := cert.Leaf.DNSNames
		for _, ip := range cert.Leaf.IPAddresses {
			got = append(got, ip.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v", c.what, got)
			continue
		}
		if err := verify(cert, c.ca.Cert, got[0], time.Now()); err != nil {
			t.Errorf("%s: a client says: %v", c.what, err)
		}
	}
}

func TestLife(t *testing.T) {
	now := time.Now()
	short := newTestCA(t, CreateOptions{Days: 3})
	long := newTestCA(t, CreateOptions{})
	var m Minter
	for _, c := range []struct {
		what string
		ca   *CA
		end  time.Time // of the server's certificate
		want time.Time
	}{
		{"the authority ends first", short, now.Add(1000 * time.Hour), short.Cert.NotAfter},
		{"the server ends first", long, now.Add(1000 * time.Hour), now.Add(1000 * time.Hour)},
		{"neither", long, now.Add(10_000 * time.Hour), now.Add(maxLife - backdate)},
		{"the server has ended", long, now.Add(-time.Hour), now.Add(shortLife)},
	} {
		cert, err := m.Mint(c.ca, Wanted{Name: "a.example", Server: server(t, c.end, "a.example")})
		if err != nil {
			t.Fatal(err)
		}
		if d := cert.Leaf.NotAfter.Sub(c.want); d > 5*time.Second || d < -5*time.Second {
			t.Errorf("%s: until %v, want %v", c.what, cert.Leaf.NotAfter, c.want)
		}
	}
	m.Now = func() time.Time { return now.Add(4 * 24 * time.Hour) }
	if _, err := m.Mint(short, Wanted{Name: "b.example"}); err == nil {
		t.Error("an expired authority signs")
	}
}

// TestCache: made once, made anew when the clock has moved or the authority is another one, and never more than is allowed.
func TestCache(t *testing.T) {
	ca, other := newTestCA(t, CreateOptions{}), newTestCA(t, CreateOptions{})
	var mu sync.Mutex
	now := time.Now()
	m := Minter{Most: 8, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }}
	jump := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	mint := func(ca *CA, name string) *tls.Certificate {
		c, err := m.Mint(ca, Wanted{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := mint(ca, "a.example")
	if mint(ca, "a.example") != first {
		t.Error("it is made twice")
	}
	if mint(other, "a.example") == first {
		t.Error("another authority gives the same")
	}
	jump(46 * 24 * time.Hour)
	second := mint(ca, "a.example")
	if second == first {
		t.Error("one that is close to its end is given out")
	}
	jump(-100 * 24 * time.Hour)
	if _, err := m.Mint(ca, Wanted{Name: "a.example"}); err == nil {
		t.Error("an authority that is not valid yet signs")
	}
	jump(54 * 24 * time.Hour)
	for i := range 100 {
		mint(ca, fmt.Sprintf("h%d.example", i))
	}
	if _, kept := m.Stats(); kept != 8 {
		t.Errorf("%d are kept", kept)
	}
}

// TestSingleFlight: a crowd that wants the same certificate gets one.
func TestSingleFlight(t *testing.T) {
	ca := newTestCA(t, CreateOptions{})
	var m Minter
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := m.Mint(ca, Wanted{Name: fmt.Sprintf("h%d.example", i%2)}); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if made, kept := m.Stats(); made != 2 || kept != 2 {
		t.Errorf("made %d, kept %d", made, kept)
	}
}

func BenchmarkMintKept(b *testing.B) {
	ca := newTestCA(b, CreateOptions{})
	srv := server(b, time.Now().Add(1000*time.Hour), "a.example")
	var m Minter
	for b.Loop() {
		if _, err := m.Mint(ca, Wanted{Name: "a.example", Server: srv}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMint(b *testing.B) {
	ca := newTestCA(b, CreateOptions{})
	m := Minter{Most: 1}
	i := 0
	for b.Loop() {
		i++
		if _, err := m.Mint(ca, Wanted{Name: fmt.Sprintf("h%d.example", i)}); err != nil {
			b.Fatal(err)
		}
	}
}
