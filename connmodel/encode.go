package connmodel

import (
	"crypto/tls"
	"slices"
	"time"
)

// MaxRecord bounds the JSON form of anything in this package, in octets. A record that would be longer is written with less
// detail, and says "truncated": true.
const MaxRecord = 64 << 10

// detail is how much of a record is written.
type detail struct {
	longest, attempts, hops, certificates, sans, offers, suites, trace, metadata, shadow, tags, samples int
}

// details go from everything to what always fits into MaxRecord.
var details = [...]detail{
	{longest: 4 << 10, attempts: maxAttempts, hops: maxHops, certificates: maxCertificates, sans: maxSANs, offers: maxALPNOffers, suites: 128, trace: 1000, metadata: maxMetadata, shadow: 50, tags: 50, samples: MaxSampledFields},
	{longest: 512, attempts: 8, hops: 8, certificates: 2, sans: 10, offers: maxALPNOffers, suites: 64, trace: 20, metadata: maxMetadata, shadow: 10, tags: 20, samples: 8},
	{longest: 128, attempts: 3, hops: 4, certificates: 1, sans: 2, offers: 4, suites: 8, trace: 0, metadata: 8, shadow: 2, tags: 4, samples: 2},
	{longest: 64, attempts: 2, hops: 3, certificates: 0, sans: 0, offers: 2, suites: 0, trace: 0, metadata: 4, shadow: 0, tags: 2, samples: 0},
}

type encoder struct {
	jsonWriter
	detail
	limit int // length of the text beyond which this detail will not do
}

func newEncoder(dst []byte, d detail) encoder {
	return encoder{jsonWriter: jsonWriter{b: dst, max: d.longest}, detail: d, limit: len(dst) + MaxRecord}
}

// over reports that the text is too long already: lists end early, because it will be written again with less detail.
func (e *encoder) over() bool { return len(e.b) > e.limit }

// encode appends what write makes, with as much detail as fits.
func encode(dst []byte, write func(*encoder)) []byte {
	start := len(dst)
	for i := range details {
		e := newEncoder(dst[:start], details[i])
		write(&e)
		dst = e.b
		if !e.over() {
			break
		}
	}
	return dst
}

// last bounds n elements to most; what is left out is at the beginning.
func (e *encoder) last(n, most int) (from int) {
	if n > most {
		e.cut = true
		return n - most
	}
	return 0
}

// AppendJSON appends the record as one line of JSON without a newline.
func (f *Flow) AppendJSON(dst []byte) []byte {
	start := len(dst)
	for i := range details { // as encode does, but without a function value: this is the hot one
		e := newEncoder(dst[:start], details[i])
		e.flow(f)
		dst = e.b
		if !e.over() {
			break
		}
	}
	return dst
}

func (e *encoder) flow(f *Flow) {
	e.raw(`{"id":`)
	e.id(f.ID)
	e.raw(`,"session":`)
	e.id(f.Session)
	e.raw(`,"generation":`)
	e.uint(f.Generation)
	e.raw(`,"protocol":`)
	e.str(string(f.Protocol))
	e.raw(`,"target":`)
	e.address(f.Target)
	e.raw(`,"client_conn":`)
	e.client(f.Client)
	e.raw(`,"server_conn":`)
	e.server(f.Server)
	e.raw(`,"decision":`)
	e.decision(f.Decision)
	if f.Gathered != nil {
		e.raw(`,"gathered":`)
		e.gathered(f.Gathered)
	}
	if f.Trace != nil {
		e.raw(`,"trace":`)
		e.trace(f.Trace)
	}
	e.raw(`,"request":`)
	e.request(f.Request)
	e.raw(`,"response":`)
	e.response(f.Response)
	e.raw(`,"reply":`)
	e.reply(f.Reply)
	e.raw(`,"error":`)
	e.error(f.Error)
	e.raw(`,"metadata":`)
	e.metadata(f.Metadata)
	e.raw(`,"timestamp_start":`)
	e.time(f.Start)
	e.raw(`,"timestamp_decided":`)
	e.time(f.Decided)
	e.raw(`,"timestamp_end":`)
	e.time(f.End)
	e.raw(`,"duration_ms":`)
	e.ms(between(f.Start, f.End))
	e.raw(`,"bytes_up":`)
	e.int(f.Up)
	e.raw(`,"bytes_down":`)
	e.int(f.Down)
	e.raw(`,"closed_first":`)
	e.strOrNull(string(f.First))
	e.raw(`,"close_reason":`)
	e.strOrNull(string(f.Reason))
	e.span(f.Span)
	e.raw(`,"panicked":`)
	e.bool(f.Panicked)
	e.raw(`,"truncated":`)
	e.bool(e.cut || f.Truncated)
	e.raw(`}`)
}

// between returns how long it took from a to b, or 0 when one of them never was.
func between(a, b time.Time) time.Duration {
	if a.IsZero() || b.IsZero() {
		return 0
	}
	return b.Sub(a)
}

func (e *encoder) connection(c *Connection) {
	e.raw(`{"id":`)
	e.id(c.ID)
	e.raw(`,"address":`)
	e.address(c.Address)
	e.raw(`,"peername":`)
	e.addrPort(c.Peer)
	e.raw(`,"sockname":`)
	e.addrPort(c.Local)
	e.raw(`,"state":`)
	e.uint(uint64(c.State))
	e.raw(`,"state_text":"`)
	e.raw(c.State.String())
	e.raw(`","error":`)
	e.error(c.Error)
	e.raw(`,"tls":`)
	e.bool(c.TLS)
	e.raw(`,"tls_established":`)
	e.bool(c.TLSEstablished())
	e.raw(`,`)
	e.tlsFacts(c.TLSInfo)
	e.raw(`,"timestamp_start":`)
	e.time(c.Start)
	e.raw(`,"timestamp_tcp_setup":`)
	e.time(c.TCPSetup)
	e.raw(`,"timestamp_tls_setup":`)
	e.time(c.TLSSetup)
	e.raw(`,"timestamp_end":`)
	e.time(c.End)
}

func (e *encoder) client(c *Client) {
	if c == nil {
		e.raw("null")
		return
	}
	e.connection(&c.Connection)
	e.raw(`,"listener":`)
	e.str(c.Listener)
	e.raw(`,"protocol":`)
	e.strOrNull(string(c.Protocol))
	e.raw(`,"user":`)
	e.strOrNull(c.User)
	if c.Hello != nil {
		e.raw(`,"tls_clienthello":`)
		e.hello(c.Hello)
	}
	if h := c.Proxied; h != nil {
		e.raw(`,"proxy_protocol":{"version":`)
		e.int(int64(h.Version))
		e.raw(`,"source":`)
		e.addrPort(h.Source)
		e.raw(`,"destination":`)
		e.addrPort(h.Destination)
		e.raw(`,"own":`)
		e.bool(h.Own)
		e.raw(`}`)
	}
	e.raw(`}`)
}

func (e *encoder) server(s *Server) {
	if s == nil {
		e.raw("null")
		return
	}
	e.connection(&s.Connection)
	e.raw(`,"via":`)
	e.str(s.Via)
	e.raw(`,"route":`)
	e.strOrNull(s.Route)
	e.raw(`,"resolved_by":`)
	e.strOrNull(s.ResolvedBy)
	e.raw(`,"reused":`)
	e.bool(s.Reused)
	e.raw(`,"attempts":[`)
	cut := e.last(len(s.Attempts), e.attempts)
	for i := range s.Attempts[cut:] {
		if e.over() {
			break
		}
		e.comma(i)
		e.attempt(&s.Attempts[cut+i])
	}
	e.raw(`],"attempts_truncated":`)
	e.bool(s.Truncated)
	e.raw(`}`)
}

// choices writes as many as there may be hops, and as many ways of each.
func (e *encoder) choices(all []Choice) {
	e.raw(`,"choices":[`)
	if len(all) > e.hops {
		all, e.cut = all[:e.hops], true
	}
	for i := range all {
		c := &all[i]
		e.comma(i)
		e.raw(`{"route":`)
		e.str(c.Route)
		if !c.To.IsZero() {
			e.raw(`,"to":`)
			e.address(c.To)
		}
		e.raw(`,"ways":[`)
		ways := c.Ways
		if len(ways) > e.hops {
			ways, e.cut = ways[:e.hops], true
		}
		for k, w := range ways {
			e.comma(k)
			e.str(w)
		}
		e.raw(`],"error":`)
		e.strOrNull(c.Error)
		e.raw(`,"on_error":`)
		e.strOrNull(c.OnError)
		e.raw(`}`)
	}
	e.raw(`]`)
}

func (e *encoder) attempt(a *Attempt) {
	e.raw(`{"number":`)
	e.int(int64(a.Number))
	e.raw(`,"route":`)
	e.str(a.Route)
	e.raw(`,"connected":`)
	e.bool(a.Connected())
	e.raw(`,"timestamp_start":`)
	e.time(a.Start)
	e.raw(`,"timestamp_end":`)
	e.time(a.End)
	e.raw(`,"hops":[`)
	cut := e.last(len(a.Hops), e.hops)
	for i := range a.Hops[cut:] {
		if e.over() {
			break
		}
		e.comma(i)
		e.hop(&a.Hops[cut+i])
	}
	e.raw(`],"error":`)
	e.error(a.Error)
	e.raw(`}`)
}

// hop writes what there is: most hops do a few of the things that hops can do, and a record has several of them.
func (e *encoder) hop(h *HopResult) {
	e.raw(`{"index":`)
	e.int(int64(h.Index))
	e.raw(`,"upstream":`)
	e.strOrNull(h.Upstream)
	e.raw(`,"protocol":`)
	e.str(h.Protocol)
	e.raw(`,"address":`)
	e.address(h.Address)
	if h.Peer.IsValid() {
		e.raw(`,"peername":`)
		e.addrPort(h.Peer)
	}
	if h.Local.IsValid() {
		e.raw(`,"sockname":`)
		e.addrPort(h.Local)
	}
	e.raw(`,"timestamp_start":`)
	e.time(h.Start)
	e.part(`,"dns_ms":`, h.DNS)
	e.part(`,"tcp_ms":`, h.TCP)
	e.part(`,"tls_ms":`, h.TLS)
	e.part(`,"greeting_ms":`, h.Greeting)
	e.part(`,"auth_ms":`, h.Auth)
	e.part(`,"connect_ms":`, h.Connect)
	e.raw(`,"total_ms":`)
	e.ms(h.Total)
	if h.AuthRounds != 0 {
		e.raw(`,"auth_rounds":`)
		e.int(int64(h.AuthRounds))
	}
	if h.ProxyProto != 0 {
		e.raw(`,"proxy_protocol":`)
		e.int(int64(h.ProxyProto))
	}
	if h.Reused {
		e.raw(`,"reused":true`)
	}
	if h.Credential != "" {
		e.raw(`,"credential":`)
		e.str(h.Credential)
	}
	if r := h.Resolved; r != nil {
		e.raw(`,"resolved":{"resolver":`)
		e.str(r.Resolver)
		e.raw(`,"from":`)
		e.str(r.From)
		e.raw(`,"server":`)
		e.strOrNull(r.Server)
		e.raw(`,"took_ms":`)
		e.ms(r.Took)
		e.raw(`}`)
	}
	if h.BoundAddr != "" {
		e.raw(`,"bound":`)
		e.str(h.BoundAddr)
	}
	if h.TLSInfo != nil {
		e.raw(`,"tls":`)
		e.tlsInfo(h.TLSInfo)
	}
	e.raw(`,"error":`)
	e.error(h.Error)
	e.raw(`}`)
}

func (e *encoder) part(key string, d time.Duration) {
	if d > 0 {
		e.raw(key)
		e.ms(d)
	}
}

// noTLS is what tlsFacts writes of a connection without TLS.
const noTLS = `"certificate_list":[],"alpn":null,"alpn_offers":[],"cipher":null,"tls_version":null,"sni":null,"verified_name":null,"tls_resumed":false,"tls_verdict":null,"tls_problem":null,"tls_unverified":false,"tls_client_certificate":null,"tls_truncated":false`

func (e *encoder) tlsFacts(t *TLSInfo) {
	if t == nil {
		e.raw(noTLS)
		return
	}
	e.raw(`"certificate_list":[`)
	list := t.Certificates
	if len(list) > e.certificates { // the leaf comes first, and tells most
		list, e.cut = list[:e.certificates], true
	}
	for i := range list {
		if e.over() {
			break
		}
		e.comma(i)
		e.certificate(&list[i])
	}
	e.raw(`],"alpn":`)
	if t.ALPN == nil {
		e.raw("null")
	} else {
		e.str(*t.ALPN)
	}
	e.raw(`,"alpn_offers":`)
	e.list(t.ALPNOffers, e.offers)
	e.raw(`,"cipher":`)
	e.strOrNull(t.Cipher)
	e.raw(`,"tls_version":`)
	e.strOrNull(t.Version)
	e.raw(`,"sni":`)
	e.strOrNull(t.SNI)
	e.raw(`,"verified_name":`)
	e.strOrNull(t.VerifiedName)
	e.raw(`,"tls_resumed":`)
	e.bool(t.Resumed)
	e.raw(`,"tls_verdict":`)
	e.strOrNull(string(t.Verdict))
	e.raw(`,"tls_problem":`)
	e.strOrNull(t.Problem)
	e.raw(`,"tls_unverified":`)
	e.bool(t.Unverified)
	e.raw(`,"tls_client_certificate":`)
	e.strOrNull(string(t.ClientAuth))
	e.raw(`,"tls_truncated":`)
	e.bool(t.Truncated)
}

func (e *encoder) tlsInfo(t *TLSInfo) {
	if t == nil {
		e.raw("null")
		return
	}
	e.raw(`{`)
	e.tlsFacts(t)
	e.raw(`}`)
}

func (e *encoder) certificate(c *Certificate) {
	e.raw(`{"subject":`)
	e.str(c.Subject)
	e.raw(`,"issuer":`)
	e.str(c.Issuer)
	e.raw(`,"sans":{"dns":`)
	e.list(c.SANs.DNS, e.sans)
	e.raw(`,"ip":`)
	e.list(c.SANs.IP, e.sans)
	e.raw(`,"uri":`)
	e.list(c.SANs.URI, e.sans)
	e.raw(`},"not_before":`)
	e.time(c.NotBefore)
	e.raw(`,"not_after":`)
	e.time(c.NotAfter)
	e.raw(`,"serial":`)
	e.str(c.Serial)
	e.raw(`,"key_type":`)
	e.str(c.KeyType)
	e.raw(`,"sha256":`)
	e.str(c.SHA256)
	e.raw(`,"pin":`)
	e.strOrNull(c.Pin)
	e.raw(`,"signature":`)
	e.strOrNull(c.Signature)
	e.raw(`,"verdict":`)
	e.strOrNull(string(c.Verdict))
	e.raw(`,"is_ca":`)
	e.bool(c.IsCA)
	e.raw(`}`)
}

func (e *encoder) error(x *ConnError) {
	if x == nil {
		e.raw("null")
		return
	}
	e.raw(`{"message":`)
	e.str(x.Message)
	e.raw(`,"phase":`)
	e.str(string(x.Phase))
	e.raw(`,"side":`)
	e.str(string(x.Side))
	e.raw(`,"hop":`)
	e.int(int64(x.Hop))
	e.raw(`,"hop_name":`)
	e.strOrNull(x.HopName)
	e.raw(`,"kind":`)
	e.str(string(x.Kind))
	e.raw(`,"code":`)
	e.int(int64(x.Code))
	e.raw(`,"code_of":`)
	e.strOrNull(x.CodeOf)
	e.raw(`,"blame":`)
	e.strOrNull(string(x.Blame))
	e.raw(`,"retryable":`)
	e.bool(x.Retryable)
	if x.Verdict != "" {
		e.raw(`,"verdict":`)
		e.str(string(x.Verdict))
	}
	e.raw(`}`)
}

func (e *encoder) decision(d *Decision) {
	if d == nil {
		e.raw("null")
		return
	}
	e.raw(`{"generation":`)
	e.uint(d.Generation)
	e.raw(`,"policy":`)
	e.str(d.Policy)
	e.raw(`,"rule":`)
	e.str(d.Rule)
	e.raw(`,"file":`)
	e.str(d.File)
	e.raw(`,"line":`)
	e.int(int64(d.Line))
	e.raw(`,"outcome":`)
	e.str(string(d.Outcome))
	e.raw(`,"route":`)
	e.strOrNull(d.Route)
	e.raw(`,"server":`)
	e.address(d.Server)
	e.raw(`,"denial":`)
	if d.Denial == nil {
		e.raw("null")
	} else {
		e.raw(`{"status":`)
		e.int(int64(d.Denial.Status))
		e.raw(`,"reason":`)
		e.str(d.Denial.Reason)
		e.raw(`}`)
	}
	e.raw(`,"tags":`)
	e.list(d.Tags, e.tags)
	e.raw(`,"shadow":[`)
	list := d.Shadow
	if len(list) > e.shadow {
		list, e.cut = list[:e.shadow], true
	}
	for i := range list {
		e.comma(i)
		e.shadowVerdict(&list[i])
	}
	e.raw(`]`)
	if len(d.Choices) > 0 {
		e.choices(d.Choices)
	}
	if m := d.TLS.ModeOf(); m != TLSPassthrough {
		e.raw(`,"tls":`)
		e.str(string(m))
	}
	if d.ShadowPolicy != nil {
		e.raw(`,"shadow_policy":`)
		e.shadowPolicy(d.ShadowPolicy)
	}
	e.raw(`}`)
}

func (e *encoder) shadowPolicy(s *ShadowDecision) {
	e.raw(`{"policy":`)
	e.str(s.Policy)
	e.raw(`,"rule":`)
	e.strOrNull(s.Rule)
	e.raw(`,"file":`)
	e.str(s.File)
	e.raw(`,"line":`)
	e.int(int64(s.Line))
	e.raw(`,"outcome":`)
	e.strOrNull(string(s.Outcome))
	e.raw(`,"route":`)
	e.strOrNull(s.Route)
	e.raw(`,"server":`)
	e.address(s.Server)
	if m := plainMode(s.TLS); m != TLSPassthrough {
		e.raw(`,"tls":`)
		e.str(string(m))
	}
	if s.Undecided != "" {
		e.raw(`,"undecided":`)
		e.str(s.Undecided)
	}
	e.raw(`}`)
}

func (e *encoder) shadowVerdict(v *ShadowVerdict) {
	e.raw(`{"rule":`)
	e.str(v.Rule)
	e.raw(`,"file":`)
	e.str(v.File)
	e.raw(`,"line":`)
	e.int(int64(v.Line))
	e.raw(`,"outcome":`)
	e.str(string(v.Outcome))
	e.raw(`,"route":`)
	e.strOrNull(v.Route)
	e.raw(`}`)
}

func (e *encoder) trace(t *Trace) {
	e.raw(`[`)
	cut := e.last(len(t.Steps), e.detail.trace) // the step that took the flow is the last
	for i, s := range t.Steps[cut:] {
		if e.over() {
			break
		}
		e.comma(i)
		e.raw(`{"rule":`)
		e.str(s.Rule)
		e.raw(`,"file":`)
		e.str(s.File)
		e.raw(`,"line":`)
		e.int(int64(s.Line))
		e.raw(`,"matched":`)
		e.bool(s.Matched)
		e.raw(`,"shadow":`)
		e.bool(s.Shadow)
		e.raw(`,"reason":`)
		e.str(s.Reason)
		e.raw(`}`)
	}
	e.raw(`]`)
}

func (e *encoder) hello(h *ClientHello) {
	e.raw(`{"sni":`)
	e.strOrNull(h.SNI)
	if h.SNIError != "" {
		e.raw(`,"sni_error":`)
		e.str(h.SNIError)
	}
	e.raw(`,"alpn_offers":`)
	if h.ALPN == nil {
		e.raw("null")
	} else {
		e.list(h.ALPN, e.offers)
	}
	e.raw(`,"tls_versions":[`)
	for i, v := range e.numbers(h.Versions) {
		e.comma(i)
		e.str(tls.VersionName(v))
	}
	e.raw(`],"cipher_suites":[`)
	for i, v := range e.numbers(h.CipherSuites) {
		e.comma(i)
		const hex = "0123456789abcdef"
		e.b = append(e.b, '"', hex[v>>12], hex[v>>8&15], hex[v>>4&15], hex[v&15], '"')
	}
	e.raw(`],"ech":`)
	e.bool(h.ECH)
	e.raw(`,"ja4":`)
	e.str(h.JA4)
	e.raw(`,"hello_truncated":`)
	e.bool(h.Truncated)
	e.raw(`}`)
}

// numbers bounds a list.
func (e *encoder) numbers(list []uint16) []uint16 {
	if len(list) > e.suites {
		list, e.cut = list[:e.suites], true
	}
	return list
}

func (e *encoder) request(q *Request) {
	if q == nil {
		e.raw("null")
		return
	}
	e.raw(`{"method":`)
	e.str(q.Method)
	e.raw(`,"scheme":`)
	e.str(q.Scheme)
	e.raw(`,"host":`)
	e.str(q.Host)
	e.raw(`,"path":`)
	e.str(q.Path)
	if q.Tunnel != (ID{}) {
		e.raw(`,"tunnel":`)
		e.id(q.Tunnel)
		e.raw(`,"tunnel_target":`)
		e.address(q.Within)
	}
	e.raw(`,"timestamp_start":`)
	e.time(q.Start)
	e.raw(`,"timestamp_end":`)
	e.time(q.End)
	e.raw(`}`)
}

func (e *encoder) response(p *Response) {
	if p == nil {
		e.raw("null")
		return
	}
	e.raw(`{"status":`)
	e.int(int64(p.Status))
	e.raw(`,"timestamp_start":`)
	e.time(p.Start)
	e.raw(`,"timestamp_end":`)
	e.time(p.End)
	e.raw(`}`)
}

func (e *encoder) reply(p *Reply) {
	if p == nil {
		e.raw("null")
		return
	}
	e.raw(`{"code":`)
	e.int(int64(p.Code))
	e.raw(`,"early":`)
	e.bool(p.Early)
	e.raw(`,"timestamp":`)
	e.time(p.Time)
	e.raw(`}`)
}

// metadata writes the pairs in the order of their keys, so that the same record is the same text.
func (e *encoder) metadata(m map[string]string) {
	e.raw(`{`)
	if len(m) > 0 {
		var room [maxMetadata]string
		keys := room[:0]
		for k := range m {
			keys = append(keys, k) // verbs let no more in than there is room for
		}
		slices.Sort(keys)
		if most := e.detail.metadata; len(keys) > most {
			keys, e.cut = keys[:most], true
		}
		for i, k := range keys {
			e.comma(i)
			e.str(k)
			e.raw(`:`)
			e.str(m[k])
		}
	}
	e.raw(`}`)
}

func (e *encoder) event(v *Event) {
	e.raw(`{"event":`)
	e.str(string(v.Kind))
	e.raw(`,"timestamp":`)
	e.time(v.Time)
	e.raw(`,"session":`)
	e.id(v.Session)
	e.raw(`,"flow":`)
	e.id(v.Flow)
	e.raw(`,"side":`)
	e.strOrNull(string(v.Side))
	e.raw(`,"hop":`)
	e.int(int64(v.Hop))
	e.raw(`,"attempt":`)
	e.int(int64(v.Attempt))
	e.raw(`,"error":`)
	e.error(v.Error)
	if v.Certificate != nil {
		e.raw(`,"certificate_warning":`)
		e.warning(v.Certificate)
	}
	e.raw(`}`)
}

func (e *encoder) warning(w *CertificateWarning) {
	e.raw(`{"reason":`)
	e.str(string(w.Reason))
	e.raw(`,"message":`)
	e.str(w.Message)
	e.raw(`,"side":`)
	e.str(string(w.Side))
	e.raw(`,"upstream":`)
	e.strOrNull(w.Upstream)
	e.raw(`,"address":`)
	e.address(w.Address)
	e.raw(`,"certificate":`)
	e.certificate(&w.Certificate)
	e.raw(`}`)
}
