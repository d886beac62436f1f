package upstreamtest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// TLSEnd is a TLS server, most of them wrong in one way, and what a client that verifies has to make of it: badssl.com in a process.
type TLSEnd struct {
	Name string
	// Config is that of the server; nil where Raw plays it.
	Config *tls.Config
	// Raw is the server where it is no TLS server. It owns the connection until it returns.
	Raw func(c net.Conn)

	// OK says that a client goes on; the other fields are of those that do not.
	OK bool
	// Verdict is that of the chain, in the words of records; "" where certificates are not why.
	Verdict string
	// Kind is that of the error, in the words of records.
	Kind string
	// Alert is the one that the client is sent; 0 = none.
	Alert int
	// Says is a part of what a person is told.
	Says string
}

// TLSEnds makes the set for name, which may be an IP address, by certificates of ca. "good" is among them.
func TLSEnds(t TB, ca *CA, name string) []TLSEnd {
	t.Helper()
	one := func(o CertOptions, names ...string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.MustIssue(t, o, names...)}}
	}
	between, err := ca.Intermediate("upstreamtest intermediate", CertOptions{})
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	old, err := ca.Intermediate("upstreamtest expired intermediate", Expired())
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	chain := func(order ...string) *tls.Config { // of leaf, between and root
		leaf := between.MustIssue(t, CertOptions{}, name)
		c := tls.Certificate{PrivateKey: leaf.PrivateKey}
		for _, o := range order {
			c.Certificate = append(c.Certificate, map[string][]byte{"leaf": leaf.Certificate[0], "between": between.Cert.Raw, "root": ca.Cert.Raw, "other": old.Cert.Raw}[o])
		}
		return &tls.Config{Certificates: []tls.Certificate{c}}
	}
	hanging := old.MustIssue(t, CertOptions{}, name)
	hanging.Certificate = append(hanging.Certificate, old.Cert.Raw)
	versions := func(lo, hi uint16) *tls.Config {
		c := one(CertOptions{}, name)
		c.MinVersion, c.MaxVersion = lo, hi
		return c
	}
	auth := func(a tls.ClientAuthType, most uint16) *tls.Config {
		c := versions(tls.VersionTLS12, most)
		c.ClientAuth, c.ClientCAs = a, ca.Pool()
		return c
	}
	many := []string{name}
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("n%d.example", i))
	}
	stranger := MustCA(t)
	whole := stranger.ServerTLS(t, name)
	whole.Certificates[0].Certificate = append(whole.Certificates[0].Certificate, stranger.Cert.Raw)
	return []TLSEnd{
		{Name: "good", Config: one(CertOptions{}, name), OK: true},
		{Name: "many names", Config: one(CertOptions{}, many...), OK: true},
		{Name: "chain", Config: chain("leaf", "between"), OK: true},
		{Name: "chain with its root", Config: chain("leaf", "root", "between"), OK: true},
		{Name: "short key", Config: one(CertOptions{RSA: 1024}, name), OK: true},
		{Name: "client certificate asked for", Config: auth(tls.VerifyClientCertIfGiven, 0), OK: true},

		{Name: "expired", Config: one(Expired(), name), Kind: "tls", Verdict: "expired", Says: "not valid now"},
		{Name: "not yet valid", Config: one(NotYetValid(), name), Kind: "tls", Verdict: "not_yet_valid", Says: "not valid now"},
		{Name: "expired intermediate", Config: &tls.Config{Certificates: []tls.Certificate{hanging}}, Kind: "tls", Verdict: "expired", Says: "upstreamtest expired intermediate"},
		{Name: "self-signed", Config: one(CertOptions{SelfSigned: true}, name), Kind: "tls", Verdict: "self_signed", Says: "self-signed"},
		{Name: "unknown authority", Config: stranger.ServerTLS(t, name), Kind: "tls", Verdict: "unknown_authority", Says: "not sent"},
		{Name: "unknown authority with its chain", Config: whole, Kind: "tls", Verdict: "unknown_authority", Says: "add its CA"},
		{Name: "wrong name", Config: one(CertOptions{}, "other.example", "192.0.2.77"), Kind: "tls", Verdict: "name_mismatch", Says: `but for "other.example", "192.0.2.77"`},
		{Name: "common name alone", Config: one(CertOptions{CNOnly: true}, name), Kind: "tls", Verdict: "no_name", Says: "no name at all"},
		{Name: "client's certificate", Config: one(CertOptions{Client: true}, name), Kind: "tls", Verdict: "wrong_usage", Says: "not meant for TLS servers"},
		{Name: "wrong order", Config: chain("between", "leaf"), Kind: "tls", Verdict: "wrong_order", Says: "not the first that is sent"},
		{Name: "missing intermediate", Config: chain("leaf"), Kind: "tls", Verdict: "unknown_authority", Says: "intermediate certificate is missing"},
		{Name: "another's intermediate", Config: chain("leaf", "other"), Kind: "tls", Verdict: "unknown_authority", Says: "wrong or missing intermediate"},
		{Name: "SHA-1", Config: one(CertOptions{SHA1: true}, name), Kind: "tls", Verdict: "weak_signature", Says: "can be forged"},

		{Name: "TLS 1.0", Config: versions(tls.VersionTLS10, tls.VersionTLS10), Kind: "tls", Alert: 70, Says: "min_version"},
		{Name: "TLS 1.1", Config: versions(tls.VersionTLS10, tls.VersionTLS11), Kind: "tls", Alert: 70, Says: "min_version"},
		{Name: "client certificate wanted", Config: auth(tls.RequireAndVerifyClientCert, tls.VersionTLS12), Kind: "tls", Alert: 40, Says: "set certificate and key"},
		{Name: "alert", Raw: answers("\x15\x03\x03\x00\x02\x02\x50"), Kind: "tls", Alert: 80, Says: "internal error"},
		{Name: "unknown name", Raw: answers("\x15\x03\x03\x00\x02\x02\x70"), Kind: "tls", Alert: 112, Says: "check server_name"},
		{Name: "plain HTTP", Raw: answers("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), Kind: "tls", Says: "answered with plain HTTP"},
		{Name: "SSH", Raw: answers("SSH-2.0-OpenSSH_9.2p1\r\n"), Kind: "tls", Says: "does not speak TLS"},
		{Name: "garbage", Raw: answers(strings.Repeat("\xff\x00\x81", 7000)), Kind: "tls", Says: "does not speak TLS"},
		{Name: "garbage in a record", Raw: answers("\x16\x03\x03\x00\x08\x02\x00\x00\x04\x03\x03\x00\x00"), Kind: "tls", Says: "handshake"},
		{Name: "half a record", Raw: stalls("\x16\x03\x03\x00\x7a\x02\x00"), Kind: "timeout", Says: "during the TLS handshake"},
		{Name: "silence", Raw: stalls(""), Kind: "timeout", Says: "during the TLS handshake"},
		{Name: "closes", Raw: func(c net.Conn) { c.Read(make([]byte, 4096)) }, Kind: "eof", Says: "during the TLS handshake"},
		{Name: "closes within a record", Raw: func(c net.Conn) { c.Read(make([]byte, 4096)); io.WriteString(c, "\x16\x03\x03\x00\x7a\x02\x00") }, Kind: "eof", Says: "during the TLS handshake"},
		{Name: "resets", Raw: func(c net.Conn) {
			c.Read(make([]byte, 1))
			if tc, ok := c.(*net.TCPConn); ok {
				tc.SetLinger(0)
			}
		}, Kind: "reset", Says: "during the TLS handshake"},
	}
}

// answers says something to whoever speaks, and waits for the end.
func answers(s string) func(net.Conn) {
	return func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, s)
		io.Copy(io.Discard, c)
	}
}

// stalls says something, and nothing more.
func stalls(s string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, s)
		io.Copy(io.Discard, c)
	}
}

// Serve is the end on a connection. Behind the handshake it is a proxy that connects nobody anywhere, or an origin: CONNECT is answered with 200
// and an echo, any other request with "hello".
func (e *TLSEnd) Serve(c net.Conn) {
	if e.Raw != nil {
		e.Raw(c)
		return
	}
	s := tls.Server(c, e.Config)
	if s.Handshake() != nil {
		io.Copy(io.Discard, c) // closing with bytes unread would be a reset, and take the alert away
		return
	}
	br := bufio.NewReader(s)
	for {
		first, err := br.ReadString('\n')
		if err != nil {
			return
		}
		for line := first; strings.TrimSpace(line) != ""; {
			if line, err = br.ReadString('\n'); err != nil {
				return
			}
		}
		if strings.HasPrefix(first, "CONNECT ") {
			io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
			io.Copy(s, br)
			return
		}
		io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	}
}

// ListenTLSEnd serves e until the test ends, and returns its address.
func ListenTLSEnd(t TB, e *TLSEnd) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("upstreamtest: %v", err)
	}
	var (
		mu   sync.Mutex
		open = map[net.Conn]bool{}
		wg   sync.WaitGroup
	)
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				e.Serve(c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}
