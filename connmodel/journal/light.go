package journal

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"viaduct/connmodel"
)

// The light form of a block: everything that connmodel.FilterFields and Flow.Facts look at, and what a line of a list shows. What it leaves out are details
// of attempts and hops, of certificates other than the server's own, and the rule trace. It is read in well under a microsecond a record, because texts
// stand once in a block and are shared by the flows that come out.
//
// A block is: the version, the number of texts, the texts (length and octets), the number of records, the records. Numbers are varints, signed ones zigzag
// (as in encoding/binary); a text is 0 for "" or its place in the table counted from 1; times are nanoseconds since 1970, the first of a record whole and
// the others as the distance from it, 0 standing for the zero time.

// lightVersion is the first octet of a block.
const lightVersion = 1

// errLight says that octets are not a block in the light form.
var errLight = errors.New("journal: a block is damaged")

// lightWriter makes the light form of a block.
type lightWriter struct {
	records []byte
	texts   []byte
	index   map[string]uint64
	n       int
	base    int64
}

func (w *lightWriter) reset() {
	w.records, w.texts, w.n = w.records[:0], w.texts[:0], 0
	if w.index == nil || len(w.index) > 4*blockRecords {
		w.index = make(map[string]uint64)
	}
	clear(w.index)
}

// bytes appends the block to dst.
func (w *lightWriter) bytes(dst []byte) []byte {
	dst = append(dst, lightVersion)
	dst = binary.AppendUvarint(dst, uint64(len(w.index)))
	dst = append(dst, w.texts...)
	dst = binary.AppendUvarint(dst, uint64(w.n))
	return append(dst, w.records...)
}

func (w *lightWriter) uint(n uint64) { w.records = binary.AppendUvarint(w.records, n) }
func (w *lightWriter) int(n int64)   { w.records = binary.AppendVarint(w.records, n) }

func (w *lightWriter) text(s string) {
	if s == "" {
		w.records = append(w.records, 0)
		return
	}
	i, ok := w.index[s]
	if !ok {
		i = uint64(len(w.index)) + 1
		w.index[s] = i
		w.texts = append(binary.AppendUvarint(w.texts, uint64(len(s))), s...)
	}
	w.uint(i)
}

// time writes t as its distance from the base, never 0; the zero time is 0.
func (w *lightWriter) time(t time.Time) {
	if t.IsZero() {
		w.records = append(w.records, 0)
		return
	}
	d := t.UnixNano() - w.base
	if d >= 0 {
		d++
	}
	w.int(d)
}

func (w *lightWriter) list(l []string) {
	w.uint(uint64(len(l)))
	for _, s := range l {
		w.text(s)
	}
}

func (w *lightWriter) address(a connmodel.Address) {
	w.text(a.Host)
	w.uint(uint64(a.Port))
}

// ip writes the octets of a behind their number.
func (w *lightWriter) ip(a netip.Addr) {
	switch {
	case !a.IsValid():
		w.records = append(w.records, 0)
	case a.Is4():
		b := a.As4()
		w.records = append(append(w.records, 4), b[:]...)
	default:
		b := a.As16()
		w.records = append(append(w.records, 16), b[:]...)
	}
}

func (w *lightWriter) addrPort(a netip.AddrPort) {
	w.ip(a.Addr())
	w.uint(uint64(a.Port()))
}

func (w *lightWriter) id(id connmodel.ID) { w.records = append(w.records, id[:]...) }

// flags packs truths into a number, the first into its lowest bit.
func flags(list ...bool) (n uint64) {
	for i, v := range list {
		if v {
			n |= 1 << i
		}
	}
	return n
}

// add writes one flow.
func (w *lightWriter) add(f *connmodel.Flow) {
	w.n++
	c, s, d, g, q := f.Client, f.Server, f.Decision, f.Gathered, f.Request
	w.uint(flags(c != nil, s != nil, d != nil, g != nil, q != nil, f.Response != nil, f.Reply != nil, f.Error != nil, f.Panicked, f.Truncated, len(f.Metadata) > 0))
	w.id(f.ID)
	w.id(f.Session)
	w.base = 0
	w.int(startOf(f))
	w.base = startOf(f)
	w.time(f.Start)
	w.time(f.Decided)
	w.time(f.End)
	w.uint(f.Generation)
	w.text(string(f.Protocol))
	w.address(f.Target)
	w.int(f.Up)
	w.int(f.Down)
	w.text(string(f.First))
	w.text(string(f.Reason))
	if c != nil {
		w.client(c)
	}
	if s != nil {
		w.server(s)
	}
	if d != nil {
		w.decision(d)
	}
	if g != nil {
		w.gathered(g)
	}
	if q != nil {
		w.request(q)
	}
	if f.Response != nil {
		w.int(int64(f.Response.Status))
	}
	if f.Reply != nil {
		w.int(int64(f.Reply.Code))
		w.uint(flags(f.Reply.Early))
	}
	if f.Error != nil {
		w.error(f.Error)
	}
	if len(f.Metadata) > 0 {
		w.uint(uint64(len(f.Metadata)))
		for k, v := range f.Metadata {
			w.text(k)
			w.text(v)
		}
	}
}

// startOf is the time that the others of a record are told from; 0 when the flow has none.
func startOf(f *connmodel.Flow) int64 {
	if f.Start.IsZero() {
		return 0
	}
	return f.Start.UnixNano()
}

func (w *lightWriter) client(c *connmodel.Client) {
	w.uint(flags(c.Proxied != nil, c.Hello != nil, c.TLS, !c.TLSSetup.IsZero(), c.Error != nil))
	w.text(c.Listener)
	w.text(string(c.Protocol))
	w.text(c.User)
	w.addrPort(c.Peer)
	if p := c.Proxied; p != nil {
		w.int(int64(p.Version))
		w.addrPort(p.Source)
	}
	if h := c.Hello; h != nil {
		w.uint(flags(h.ALPN != nil, h.ECH, h.Truncated))
		w.text(h.SNI)
		w.text(h.SNIError)
		w.list(h.ALPN)
		w.text(h.JA4)
	}
}

func (w *lightWriter) server(s *connmodel.Server) {
	w.uint(flags(s.Reused, s.Truncated, s.TLS, s.TLSInfo != nil))
	w.address(s.Address)
	w.addrPort(s.Peer)
	w.text(s.Via)
	w.text(s.Route)
	w.text(s.ResolvedBy)
	w.time(s.Start)
	w.time(s.TCPSetup)
	w.time(s.TLSSetup)
	w.uint(uint64(len(s.Attempts)))
	for i := range s.Attempts {
		a := &s.Attempts[i]
		w.text(a.Route)
		w.time(a.Start)
		w.time(a.End)
		w.uint(flags(a.Error != nil))
		if a.Error != nil {
			w.error(a.Error)
		}
		w.uint(uint64(len(a.Hops)))
		for j := range a.Hops {
			w.text(a.Hops[j].Upstream)
			w.text(a.Hops[j].Protocol)
		}
	}
	if t := s.TLSInfo; t != nil {
		w.text(t.Version)
		w.text(string(t.Verdict))
		w.uint(flags(len(t.Certificates) > 0))
		if len(t.Certificates) > 0 {
			leaf := &t.Certificates[0]
			w.text(leaf.Subject)
			w.text(leaf.Issuer)
			w.time(leaf.NotAfter)
		}
	}
}

func (w *lightWriter) decision(d *connmodel.Decision) {
	w.uint(flags(d.Denial != nil, d.ShadowPolicy != nil, d.TLS != nil))
	w.uint(d.Generation)
	w.text(d.Policy)
	w.text(d.Rule)
	w.text(d.File)
	w.int(int64(d.Line))
	w.text(string(d.Outcome))
	w.text(d.Route)
	w.address(d.Server)
	w.list(d.Tags)
	if d.TLS != nil {
		w.text(string(d.TLS.Mode))
		w.text(d.TLS.ServerName)
	}
	if d.Denial != nil {
		w.int(int64(d.Denial.Status))
		w.text(d.Denial.Reason)
	}
	w.uint(uint64(len(d.Shadow)))
	for i := range d.Shadow {
		v := &d.Shadow[i]
		w.text(v.Rule)
		w.text(v.File)
		w.int(int64(v.Line))
		w.text(string(v.Outcome))
		w.text(v.Route)
	}
	if p := d.ShadowPolicy; p != nil {
		w.text(p.Policy)
		w.text(p.Rule)
		w.text(p.File)
		w.int(int64(p.Line))
		w.text(string(p.Outcome))
		w.text(p.Route)
		w.address(p.Server)
		w.text(string(p.TLS))
		w.text(p.Undecided)
	}
}

func (w *lightWriter) gathered(g *connmodel.Gathered) {
	w.uint(flags(g.MoreAddresses, g.First != nil))
	w.uint(uint64(len(g.Addresses)))
	for _, a := range g.Addresses {
		w.ip(a)
	}
	w.text(g.Name)
	w.ip(g.TargetIP)
	w.uint(uint64(g.Looked))
	w.uint(uint64(g.Unread))
	if g.First != nil {
		w.request(g.First)
	}
	w.uint(uint64(len(g.Headers)))
	for _, h := range g.Headers {
		w.text(h.Name)
		w.list(h.Values)
	}
}

func (w *lightWriter) request(q *connmodel.Request) {
	w.text(q.Method)
	w.text(q.Scheme)
	w.text(q.Host)
	w.text(q.Path)
	w.uint(flags(!q.Tunnel.IsZero()))
	if !q.Tunnel.IsZero() {
		w.id(q.Tunnel)
	}
	w.address(q.Within)
}

func (w *lightWriter) error(e *connmodel.ConnError) {
	w.uint(flags(e.Retryable))
	w.text(string(e.Phase))
	w.text(string(e.Side))
	w.text(e.HopName)
	w.int(int64(e.Hop))
	w.text(string(e.Kind))
	w.text(e.Message)
	w.int(int64(e.Code))
	w.text(e.CodeOf)
	w.text(string(e.Blame))
	w.text(string(e.Verdict))
}

// lightReader reads a block. What is damaged makes bad true, and everything that is read afterwards zero.
type lightReader struct {
	b     []byte
	texts []string
	bad   bool
	base  int64
	left  int // records
}

// readLight begins to read a block; its texts are copied once.
func readLight(b []byte) (*lightReader, error) {
	if len(b) == 0 || b[0] != lightVersion {
		return nil, errLight
	}
	r := &lightReader{b: b[1:]}
	n := r.count(1)
	r.texts = make([]string, 1, n+1)
	// One string holds all of them: a block is small, and its flows are used together.
	type piece struct{ from, to int }
	pieces := make([]piece, 0, n)
	at := b[len(b)-len(r.b):]
	for range n {
		l := r.count(1)
		if r.bad || l > len(r.b) {
			return nil, errLight
		}
		from := len(at) - len(r.b)
		pieces = append(pieces, piece{from, from + l})
		r.b = r.b[l:]
	}
	all := string(at[:len(at)-len(r.b)])
	for _, p := range pieces {
		r.texts = append(r.texts, all[p.from:p.to])
	}
	r.left = r.count(1)
	if r.bad {
		return nil, errLight
	}
	return r, nil
}

func (r *lightReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *lightReader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *lightReader) fail() { r.bad, r.b = true, nil }

// count reads the number of things that follow, each of at least size octets: no more than there can be.
func (r *lightReader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *lightReader) text() string {
	i := r.uint()
	if i >= uint64(len(r.texts)) {
		r.fail()
		return ""
	}
	return r.texts[i]
}

func (r *lightReader) number() int {
	n := r.int()
	if n < math.MinInt32 || n > math.MaxInt32 {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *lightReader) time() time.Time {
	d := r.int()
	if d == 0 {
		return time.Time{}
	}
	if d > 0 {
		d--
	}
	return time.Unix(0, r.base+d).UTC()
}

func (r *lightReader) list() []string {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	l := make([]string, n)
	for i := range l {
		l[i] = r.text()
	}
	return l
}

func (r *lightReader) port() uint16 {
	n := r.uint()
	if n > math.MaxUint16 {
		r.fail()
		return 0
	}
	return uint16(n)
}

func (r *lightReader) address() connmodel.Address {
	return connmodel.Address{Host: r.text(), Port: r.port()}
}

func (r *lightReader) ip() netip.Addr {
	n := int(r.uint())
	if n == 0 {
		return netip.Addr{}
	}
	if n != 4 && n != 16 || len(r.b) < n {
		r.fail()
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(r.b[:n])
	r.b = r.b[n:]
	return a
}

func (r *lightReader) addrPort() netip.AddrPort {
	a := r.ip()
	p := r.port()
	if !a.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, p)
}

func (r *lightReader) id() (id connmodel.ID) {
	if len(r.b) < len(id) {
		r.fail()
		return id
	}
	copy(id[:], r.b)
	r.b = r.b[len(id):]
	return id
}

func bit(n uint64, i int) bool { return n&(1<<i) != 0 }

// lightFlow is a flow with what it points to, so that one allocation holds them.
type lightFlow struct {
	flow     connmodel.Flow
	client   connmodel.Client
	server   connmodel.Server
	decision connmodel.Decision
	attempt  [1]connmodel.Attempt
	hops     [2]connmodel.HopResult
}

// next reads the next flow; nil after the last, and where the block is damaged: then bad is true.
func (r *lightReader) next() *connmodel.Flow {
	if r.left == 0 || r.bad {
		return nil
	}
	r.left--
	x := new(lightFlow)
	f := &x.flow
	has := r.uint()
	f.ID, f.Session = r.id(), r.id()
	r.base = r.int()
	f.Start, f.Decided, f.End = r.time(), r.time(), r.time()
	f.Generation = r.uint()
	f.Protocol = connmodel.Protocol(r.text())
	f.Target = r.address()
	f.Up, f.Down = r.int(), r.int()
	f.First, f.Reason = connmodel.Side(r.text()), connmodel.CloseReason(r.text())
	f.Panicked, f.Truncated = bit(has, 8), bit(has, 9)
	if bit(has, 0) {
		f.Client = &x.client
		r.client(f.Client, f.Session)
	}
	if bit(has, 1) {
		f.Server = &x.server
		r.server(x)
	}
	if bit(has, 2) {
		f.Decision = &x.decision
		r.decision(f.Decision)
	}
	if bit(has, 3) {
		f.Gathered = r.gathered()
	}
	if bit(has, 4) {
		f.Request = r.request()
	}
	if bit(has, 5) {
		f.Response = &connmodel.Response{Status: r.number()}
	}
	if bit(has, 6) {
		f.Reply = &connmodel.Reply{Code: int32(r.number()), Early: bit(r.uint(), 0)}
	}
	if bit(has, 7) {
		f.Error = r.error()
	}
	if bit(has, 10) {
		n := r.count(2)
		f.Metadata = make(map[string]string, n)
		for range n {
			k := r.text()
			f.Metadata[k] = r.text()
		}
	}
	if r.bad {
		return nil
	}
	return f
}

func (r *lightReader) client(c *connmodel.Client, session connmodel.ID) {
	has := r.uint()
	c.ID, c.Session = session, session
	c.Listener, c.Protocol, c.User = r.text(), connmodel.Protocol(r.text()), r.text()
	c.Peer = r.addrPort()
	c.Address, c.TLS = connmodel.AddressFrom(c.Peer), bit(has, 2)
	if bit(has, 0) {
		c.Proxied = &connmodel.ProxyHeader{Version: r.number(), Source: r.addrPort()}
		if c.Proxied.Source.IsValid() {
			c.Address = connmodel.AddressFrom(c.Proxied.Source)
		}
	}
	if bit(has, 1) {
		h := new(connmodel.ClientHello)
		of := r.uint()
		h.ECH, h.Truncated = bit(of, 1), bit(of, 2)
		h.SNI, h.SNIError = r.text(), r.text()
		if h.ALPN = r.list(); h.ALPN == nil && bit(of, 0) {
			h.ALPN = []string{}
		}
		h.JA4 = r.text()
		c.Hello = h
	}
}

func (r *lightReader) server(x *lightFlow) {
	s := &x.server
	has := r.uint()
	s.Reused, s.Truncated, s.TLS = bit(has, 0), bit(has, 1), bit(has, 2)
	s.Address, s.Peer = r.address(), r.addrPort()
	s.Via, s.Route, s.ResolvedBy = r.text(), r.text(), r.text()
	s.Start, s.TCPSetup, s.TLSSetup = r.time(), r.time(), r.time()
	if n := r.count(5); n == 1 {
		s.Attempts = x.attempt[:]
	} else if n > 0 {
		s.Attempts = make([]connmodel.Attempt, n)
	}
	for i := range s.Attempts {
		a := &s.Attempts[i]
		a.Number, a.Route, a.Start, a.End = i+1, r.text(), r.time(), r.time()
		if bit(r.uint(), 0) {
			a.Error = r.error()
		}
		n := r.count(2)
		if i == 0 && n <= len(x.hops) {
			a.Hops = x.hops[:n:n]
		} else {
			a.Hops = make([]connmodel.HopResult, n)
		}
		for j := range a.Hops {
			a.Hops[j].Index = int16(min(j+1, math.MaxInt16))
			a.Hops[j].Upstream, a.Hops[j].Protocol = r.text(), r.text()
		}
	}
	if bit(has, 3) {
		t := &connmodel.TLSInfo{Version: r.text(), Verdict: connmodel.ChainVerdict(r.text())}
		if bit(r.uint(), 0) {
			t.Certificates = []connmodel.Certificate{{Subject: r.text(), Issuer: r.text(), NotAfter: r.time()}}
		}
		s.TLSInfo = t
	}
}

func (r *lightReader) decision(d *connmodel.Decision) {
	has := r.uint()
	d.Generation = r.uint()
	d.Policy, d.Rule, d.File, d.Line = r.text(), r.text(), r.text(), r.number()
	d.Outcome, d.Route = connmodel.Outcome(r.text()), r.text()
	d.Server, d.Tags = r.address(), r.list()
	if bit(has, 2) {
		d.TLS = &connmodel.TLSPlan{Mode: connmodel.TLSMode(r.text()), ServerName: r.text()}
	}
	if bit(has, 0) {
		d.Denial = &connmodel.Denial{Status: r.number(), Reason: r.text()}
	}
	if n := r.count(5); n > 0 {
		d.Shadow = make([]connmodel.ShadowVerdict, n)
	}
	for i := range d.Shadow {
		v := &d.Shadow[i]
		v.Rule, v.File, v.Line = r.text(), r.text(), r.number()
		v.Outcome, v.Route = connmodel.Outcome(r.text()), r.text()
	}
	if bit(has, 1) {
		p := &connmodel.ShadowDecision{Policy: r.text(), Rule: r.text(), File: r.text(), Line: r.number()}
		p.Outcome, p.Route = connmodel.Outcome(r.text()), r.text()
		p.Server, p.TLS, p.Undecided = r.address(), connmodel.TLSMode(r.text()), r.text()
		d.ShadowPolicy = p
	}
}

func (r *lightReader) gathered() *connmodel.Gathered {
	g := new(connmodel.Gathered)
	has := r.uint()
	g.MoreAddresses = bit(has, 0)
	if n := r.count(1); n > 0 {
		g.Addresses = make([]netip.Addr, n)
	}
	for i := range g.Addresses {
		g.Addresses[i] = r.ip()
	}
	g.Name, g.TargetIP = r.text(), r.ip()
	g.Looked, g.Unread = connmodel.Need(r.uint()), connmodel.Need(r.uint())
	if bit(has, 1) {
		g.First = r.request()
	}
	if n := r.count(2); n > 0 {
		g.Headers = make([]connmodel.HeaderSample, n)
	}
	for i := range g.Headers {
		g.Headers[i] = connmodel.HeaderSample{Name: r.text(), Values: r.list()}
	}
	return g
}

func (r *lightReader) request() *connmodel.Request {
	q := &connmodel.Request{Method: r.text(), Scheme: r.text(), Host: r.text(), Path: r.text()}
	if bit(r.uint(), 0) {
		q.Tunnel = r.id()
	}
	q.Within = r.address()
	return q
}

func (r *lightReader) error() *connmodel.ConnError {
	e := &connmodel.ConnError{Retryable: bit(r.uint(), 0)}
	e.Phase, e.Side, e.HopName = connmodel.Phase(r.text()), connmodel.Side(r.text()), r.text()
	e.Hop, e.Kind, e.Message = r.number(), connmodel.Kind(r.text()), r.text()
	e.Code, e.CodeOf = r.number(), r.text()
	e.Blame, e.Verdict = connmodel.Blame(r.text()), connmodel.ChainVerdict(r.text())
	return e
}

// all reads every flow that is left.
func (r *lightReader) all() ([]*connmodel.Flow, error) {
	list := make([]*connmodel.Flow, 0, r.left)
	for f := r.next(); f != nil; f = r.next() {
		list = append(list, f)
	}
	if r.bad {
		return nil, errLight
	}
	return slices.Clip(list), nil
}
