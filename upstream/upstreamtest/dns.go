package upstreamtest

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a name server on loopback that answers from a table, by UDP and TCP on
// one port and, with a certificate, by TLS and HTTPS on two others.
type DNS struct {
	Addr      string // UDP and TCP
	TLSAddr   string // "" without a certificate
	HTTPSAddr string

	mu       sync.Mutex
	names    map[string]DNSName
	fault    DNSFault
	queries  []DNSQuery
	accepted int
	closed   bool

	udp   net.PacketConn
	lns   []net.Listener
	web   *httptest.Server
	wg    sync.WaitGroup
	conns map[net.Conn]struct{}
}

// DNSName is what the server says of a name. Names that it does not know are
// NXDOMAIN, with an SOA that lets that be remembered for NegativeTTL seconds.
type DNSName struct {
	Addrs []string
	CNAME string
	TTL   uint32
	RCode dnsmessage.RCode
	// NoSOA leaves the SOA out of answers without addresses.
	NoSOA bool
	// Referral answers with an NS record alone, without recursion.
	Referral bool
	// Bare sends an alias without the addresses of what it leads to.
	Bare bool
}

// NegativeTTL is that of answers without addresses.
const NegativeTTL = 7

// DNSQuery is a query that came.
type DNSQuery struct {
	Transport string // udp, tcp, tls, https
	Name      string // as sent
	Type      dnsmessage.Type
	EDNS      bool
	Size      int
}

// DNSFault changes what is done to a query.
type DNSFault struct {
	// Only names the transport that it is about; "" = all.
	Only string
	// Delay waits before the answer.
	Delay time.Duration
	// Drop sends nothing.
	Drop bool
	// Change changes an answer; it may return nil, which sends nothing.
	Change func(answer []byte) []byte
	// Cut closes a stream in the middle of the answer.
	Cut bool
	// Close closes a stream after the answer.
	Close bool
	// Status and Type replace those of HTTPS answers.
	Status int
	Type   string
	// GoAway ends the HTTP/2 connection with the answer.
	GoAway bool
	// Age is the field of that name.
	Age string
}

// NewDNS starts a server; config may be nil.
func NewDNS(t TB, names map[string]DNSName, config *tls.Config) *DNS {
	t.Helper()
	d, err := StartDNS(names, config)
	if err != nil {
		t.Fatalf("name server: %v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// StartDNS is NewDNS for programs that are no test.
func StartDNS(names map[string]DNSName, config *tls.Config) (*DNS, error) {
	d := &DNS{names: names, conns: make(map[net.Conn]struct{})}
	ln, err := d.ports()
	if err != nil {
		return nil, err
	}
	d.Addr = ln.Addr().String()
	d.lns = append(d.lns, ln)
	d.wg.Go(d.datagrams)
	d.wg.Go(func() { d.accept(ln, "tcp") })
	if config == nil {
		return d, nil
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		d.Close()
		return nil, err
	}
	d.TLSAddr = secure.Addr().String()
	d.lns = append(d.lns, secure)
	d.wg.Go(func() { d.accept(secure, "tls") })
	d.web = httptest.NewUnstartedServer(http.HandlerFunc(d.https))
	d.web.EnableHTTP2, d.web.TLS = true, config.Clone()
	d.web.StartTLS()
	d.HTTPSAddr = d.web.Listener.Addr().String()
	return d, nil
}

// ports finds a port that is free for both.
func (d *DNS) ports() (net.Listener, error) {
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		if d.udp, err = net.ListenPacket("udp", ln.Addr().String()); err == nil {
			return ln, nil
		}
		ln.Close()
	}
	return nil, fmt.Errorf("no port is free for UDP and TCP")
}

// Set changes a name.
func (d *DNS) Set(name string, n DNSName) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = n
}

// Fault says what goes wrong from now on.
func (d *DNS) Fault(f DNSFault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// Queries returns those that came.
func (d *DNS) Queries() []DNSQuery {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]DNSQuery(nil), d.queries...)
}

// Count returns how many queries came for a name, in any case.
func (d *DNS) Count(name string) (n int) {
	for _, q := range d.Queries() {
		if strings.EqualFold(q.Name, name) {
			n++
		}
	}
	return n
}

// Accepted is how many streams were opened.
func (d *DNS) Accepted() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.accepted
}

// HangUp closes all streams.
func (d *DNS) HangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.Close()
	}
}

// Close ends the server and waits for it. Calls after the first do nothing.
func (d *DNS) Close() {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return
	}
	d.udp.Close()
	for _, ln := range d.lns {
		ln.Close()
	}
	d.HangUp()
	if d.web != nil {
		d.web.CloseClientConnections()
		d.web.Close()
	}
	d.wg.Wait()
}

func (d *DNS) datagrams() {
	buf := make([]byte, 65535)
	for {
		n, from, err := d.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		msg := append([]byte(nil), buf[:n]...)
		d.wg.Go(func() {
			if a, _ := d.answer("udp", msg); a != nil {
				d.udp.WriteTo(a, from)
			}
		})
	}
}

func (d *DNS) accept(ln net.Listener, transport string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.accepted++
		d.conns[c] = struct{}{}
		d.mu.Unlock()
		d.wg.Go(func() {
			d.stream(c, transport)
			c.Close()
			d.mu.Lock()
			delete(d.conns, c)
			d.mu.Unlock()
		})
	}
}

func (d *DNS) stream(c net.Conn, transport string) {
	var writing sync.Mutex
	var under sync.WaitGroup
	defer under.Wait()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, msg); err != nil {
			return
		}
		under.Go(func() {
			a, f := d.answer(transport, msg)
			if a == nil {
				return
			}
			out := append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)
			writing.Lock()
			defer writing.Unlock()
			if f.Cut {
				c.Write(out[:len(out)/2])
				c.Close()
				return
			}
			c.Write(out)
			if f.Close {
				c.Close()
			}
		})
	}
}

func (d *DNS) https(w http.ResponseWriter, r *http.Request) {
	var msg []byte
	if r.Method == http.MethodGet {
		msg, _ = base64.RawURLEncoding.DecodeString(r.URL.Query().Get("dns"))
	} else {
		msg, _ = io.ReadAll(io.LimitReader(r.Body, 65535))
	}
	a, f := d.answer("https", msg)
	if f.Only != "" && f.Only != "https" {
		f = DNSFault{}
	}
	if a == nil {
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
		return
	}
	w.Header().Set("Content-Type", "application/dns-message")
	if f.Type != "" {
		w.Header().Set("Content-Type", f.Type)
	}
	if f.Age != "" {
		w.Header().Set("Age", f.Age)
	}
	if f.GoAway {
		w.Header().Set("Connection", "close") // Go's server makes a GOAWAY of it
	}
	if f.Status != 0 {
		w.WriteHeader(f.Status)
	}
	w.Write(a)
}

// answer returns what is to be sent; nil = nothing.
func (d *DNS) answer(transport string, query []byte) ([]byte, DNSFault) {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil, DNSFault{}
	}
	q := m.Questions[0]
	d.mu.Lock()
	f := d.fault
	if f.Only != "" && f.Only != transport {
		f = DNSFault{}
	}
	d.queries = append(d.queries, DNSQuery{transport, strings.TrimSuffix(q.Name.String(), "."), q.Type, len(m.Additionals) > 0, len(query)})
	out := d.message(&m, q)
	d.mu.Unlock()
	if f.Delay > 0 {
		time.Sleep(f.Delay)
	}
	if f.Drop {
		return nil, f
	}
	a, err := out.Pack()
	if err != nil {
		panic(err)
	}
	if transport == "udp" && len(a) > 1232 {
		out.Truncated, out.Answers, out.Authorities = true, nil, nil
		a, _ = out.Pack()
	}
	if f.Change != nil {
		a = f.Change(a)
	}
	return a, f
}

// message makes the answer. The lock is held.
func (d *DNS) message(m *dnsmessage.Message, q dnsmessage.Question) dnsmessage.Message {
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true}, Questions: m.Questions}
	at, name := q.Name, strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	for range 40 {
		n, known := d.names[name]
		if !known {
			out.RCode = dnsmessage.RCodeNameError
			out.Authorities = soaOf(name)
			return out
		}
		if n.RCode != 0 {
			out.RCode = n.RCode
			return out
		}
		if n.Referral {
			out.RecursionAvailable = false
			out.Authorities = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: at, Class: dnsmessage.ClassINET, TTL: 60}, Body: &dnsmessage.NSResource{NS: dnsmessage.MustNewName("ns.example.")}}}
			return out
		}
		h := dnsmessage.ResourceHeader{Name: at, Class: dnsmessage.ClassINET, TTL: n.TTL}
		if n.CNAME != "" {
			to := dnsmessage.MustNewName(n.CNAME + ".")
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.CNAMEResource{CNAME: to}})
			if n.Bare {
				return out
			}
			at, name = to, n.CNAME
			continue
		}
		found := false
		for _, a := range n.Addrs {
			switch ip := netip.MustParseAddr(a); {
			case ip.Is4() && q.Type == dnsmessage.TypeA:
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
				found = true
			case ip.Is6() && q.Type == dnsmessage.TypeAAAA:
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
				found = true
			}
		}
		if !found && !n.NoSOA {
			out.Authorities = soaOf(name)
		}
		return out
	}
	return out // a circle of aliases
}

func soaOf(name string) []dnsmessage.Resource {
	zone := name[strings.LastIndexByte(name, '.')+1:]
	return []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(zone + "."), Class: dnsmessage.ClassINET, TTL: 3600},
		Body:   &dnsmessage.SOAResource{NS: dnsmessage.MustNewName("ns." + zone + "."), MBox: dnsmessage.MustNewName("admin." + zone + "."), MinTTL: NegativeTTL},
	}}
}
