package connmodel

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Reading records back. The wire types below have exactly the keys that encode.go writes; a key they do not know is an
// error. What is derived (state_text, tls_established, duration_ms, connected) is checked where it can contradict, and
// otherwise passed over. Causes of errors and what a Decision holds beyond its summary are not in a record.

// strict decodes one JSON value, refusing keys that v does not have.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("connmodel: %w", err)
	}
	return nil
}

// wireAddress is an Address as it stands in a record, where port 0 occurs: a stand-in, a socket without one.
type wireAddress Address

func (a *wireAddress) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not host:port", bound(s, maxQuoted))
	}
	if port == "0" {
		h, err := CanonicalHost(host)
		*a = wireAddress{Host: h}
		return err
	}
	v, err := ParseAddress(s)
	*a = wireAddress(v)
	return err
}

// wireMS is a duration in milliseconds, to the microsecond.
type wireMS float64

func (m *wireMS) duration() (time.Duration, error) {
	if m == nil {
		return 0, nil
	}
	us := math.Round(float64(*m) * 1000)
	if us < 0 || us > math.MaxInt64/1e3 {
		return 0, errors.New("connmodel: a duration is out of range")
	}
	return time.Duration(us) * time.Microsecond, nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

type wireConnection struct {
	ID             ID             `json:"id"`
	Address        wireAddress    `json:"address"`
	Peer           netip.AddrPort `json:"peername"`
	Local          netip.AddrPort `json:"sockname"`
	State          State          `json:"state"`
	StateText      *string        `json:"state_text"`
	Error          *wireError     `json:"error"`
	TLS            bool           `json:"tls"`
	TLSEstablished *bool          `json:"tls_established"`
	wireTLSFacts
	Start    *time.Time `json:"timestamp_start"`
	TCPSetup *time.Time `json:"timestamp_tcp_setup"`
	TLSSetup *time.Time `json:"timestamp_tls_setup"`
	End      *time.Time `json:"timestamp_end"`
}

func (w *wireConnection) connection() (Connection, error) {
	c := Connection{
		ID: w.ID, Address: Address(w.Address), Peer: w.Peer, Local: w.Local, State: w.State, Error: w.Error.value(),
		TLS: w.TLS, TLSInfo: w.wireTLSFacts.value(),
		Start: orZero(w.Start), TCPSetup: orZero(w.TCPSetup), TLSSetup: orZero(w.TLSSetup), End: orZero(w.End),
	}
	switch {
	case !c.State.Valid():
		return c, fmt.Errorf("connmodel: %d is not a connection state", c.State)
	case w.StateText != nil && *w.StateText != c.State.String():
		return c, fmt.Errorf("connmodel: state %d is %s, not %q", c.State, c.State, bound(*w.StateText, maxQuoted))
	case w.TLSEstablished != nil && *w.TLSEstablished != c.TLSEstablished():
		return c, errors.New("connmodel: tls_established and timestamp_tls_setup contradict each other")
	}
	return c, nil
}

type wireTLSFacts struct {
	Certificates []wireCertificate `json:"certificate_list"`
	ALPN         *string           `json:"alpn"`
	ALPNOffers   []string          `json:"alpn_offers"`
	Cipher       string            `json:"cipher"`
	Version      string            `json:"tls_version"`
	SNI          string            `json:"sni"`
	VerifiedName string            `json:"verified_name"`
	Resumed      bool              `json:"tls_resumed"`
	Verdict      ChainVerdict      `json:"tls_verdict"`
	Problem      string            `json:"tls_problem"`
	Unverified   bool              `json:"tls_unverified"`
	ClientAuth   ClientAuth        `json:"tls_client_certificate"`
	Truncated    bool              `json:"tls_truncated"`
}

// value returns nil when nothing is known.
func (w *wireTLSFacts) value() *TLSInfo {
	if w == nil || len(w.Certificates) == 0 && w.ALPN == nil && len(w.ALPNOffers) == 0 && w.Cipher == "" && w.Version == "" &&
		w.SNI == "" && w.VerifiedName == "" && !w.Resumed && !w.Truncated && w.Verdict == "" && w.Problem == "" && !w.Unverified && w.ClientAuth == "" {
		return nil
	}
	return w.info()
}

func (w *wireTLSFacts) info() *TLSInfo {
	t := &TLSInfo{
		Version: w.Version, Cipher: w.Cipher, SNI: w.SNI, VerifiedName: w.VerifiedName, ALPN: w.ALPN, ALPNOffers: some(w.ALPNOffers),
		Truncated: w.Truncated, Resumed: w.Resumed, Verdict: w.Verdict, Problem: w.Problem, Unverified: w.Unverified, ClientAuth: w.ClientAuth,
	}
	for i := range w.Certificates {
		t.Certificates = append(t.Certificates, w.Certificates[i].value())
	}
	return t
}

// some returns nil for an empty list, as the verbs leave it.
func some(l []string) []string {
	if len(l) == 0 {
		return nil
	}
	return l
}

type wireCertificate struct {
	Subject   string     `json:"subject"`
	Issuer    string     `json:"issuer"`
	SANs      SANs       `json:"sans"`
	NotBefore *time.Time `json:"not_before"`
	NotAfter  *time.Time `json:"not_after"`
	Serial    string     `json:"serial"`
	KeyType   string     `json:"key_type"`
	SHA256    string     `json:"sha256"`
	Pin       string     `json:"pin"`
	Signature string     `json:"signature"`
	Verdict   Verdict    `json:"verdict"`
	IsCA      bool       `json:"is_ca"`
}

func (w *wireCertificate) value() Certificate {
	return Certificate{
		Subject: w.Subject, Issuer: w.Issuer, SANs: SANs{DNS: some(w.SANs.DNS), IP: some(w.SANs.IP), URI: some(w.SANs.URI)},
		NotBefore: orZero(w.NotBefore), NotAfter: orZero(w.NotAfter), Serial: w.Serial, KeyType: w.KeyType, SHA256: w.SHA256,
		Pin: w.Pin, Signature: w.Signature, Verdict: w.Verdict, IsCA: w.IsCA,
	}
}

type wireClient struct {
	wireConnection
	Listener string     `json:"listener"`
	Protocol Protocol   `json:"protocol"`
	User     string     `json:"user"`
	Hello    *wireHello `json:"tls_clienthello"`
	Proxied  *struct {
		Version     int            `json:"version"`
		Source      netip.AddrPort `json:"source"`
		Destination netip.AddrPort `json:"destination"`
		Own         bool           `json:"own"`
	} `json:"proxy_protocol"`
}

func (w *wireClient) value() (*Client, error) {
	if w == nil {
		return nil, nil
	}
	c, err := w.connection()
	if err != nil {
		return nil, err
	}
	h, err := w.Hello.value()
	return &Client{Connection: c, Listener: w.Listener, Protocol: w.Protocol, User: w.User, Session: c.ID, Hello: h, Proxied: (*ProxyHeader)(w.Proxied)}, err
}

type wireServer struct {
	wireConnection
	Via        string        `json:"via"`
	Route      string        `json:"route"`
	ResolvedBy string        `json:"resolved_by"`
	Reused     bool          `json:"reused"`
	Attempts   []wireAttempt `json:"attempts"`
	Truncated  bool          `json:"attempts_truncated"`
}

func (w *wireServer) value() (*Server, error) {
	if w == nil {
		return nil, nil
	}
	c, err := w.connection()
	if err != nil {
		return nil, err
	}
	s := &Server{Connection: c, Via: w.Via, Route: w.Route, ResolvedBy: w.ResolvedBy, Reused: w.Reused, Truncated: w.Truncated}
	for i := range w.Attempts {
		a, err := w.Attempts[i].value()
		if err != nil {
			return nil, err
		}
		s.Attempts = append(s.Attempts, *a)
	}
	return s, nil
}

type wireChoice struct {
	Route   string      `json:"route"`
	To      wireAddress `json:"to"`
	Ways    []string    `json:"ways"`
	Error   string      `json:"error"`
	OnError string      `json:"on_error"`
}

type wireAttempt struct {
	Number    int        `json:"number"`
	Route     string     `json:"route"`
	Connected *bool      `json:"connected"`
	Start     *time.Time `json:"timestamp_start"`
	End       *time.Time `json:"timestamp_end"`
	Hops      []wireHop  `json:"hops"`
	Error     *wireError `json:"error"`
}

func (w *wireAttempt) value() (*Attempt, error) {
	a := &Attempt{Number: w.Number, Route: w.Route, Start: orZero(w.Start), End: orZero(w.End), Error: w.Error.value()}
	if w.Connected != nil && *w.Connected != a.Connected() {
		return nil, errors.New("connmodel: an attempt's connected, timestamp_end and error contradict each other")
	}
	for i := range w.Hops {
		h, err := w.Hops[i].value()
		if err != nil {
			return nil, err
		}
		a.Hops = append(a.Hops, *h)
	}
	return a, nil
}

type wireHop struct {
	Index      int16          `json:"index"`
	Upstream   string         `json:"upstream"`
	Protocol   string         `json:"protocol"`
	Address    wireAddress    `json:"address"`
	Peer       netip.AddrPort `json:"peername"`
	Local      netip.AddrPort `json:"sockname"`
	Start      *time.Time     `json:"timestamp_start"`
	DNS        *wireMS        `json:"dns_ms"`
	TCP        *wireMS        `json:"tcp_ms"`
	TLS        *wireMS        `json:"tls_ms"`
	Greeting   *wireMS        `json:"greeting_ms"`
	Auth       *wireMS        `json:"auth_ms"`
	Connect    *wireMS        `json:"connect_ms"`
	Total      *wireMS        `json:"total_ms"`
	AuthRounds int16          `json:"auth_rounds"`
	ProxyProto int16          `json:"proxy_protocol"`
	Reused     bool           `json:"reused"`
	Credential string         `json:"credential"`
	Bound      string         `json:"bound"`
	Resolved   *wireResolved  `json:"resolved"`
	TLSInfo    *wireTLSFacts  `json:"tls"`
	Error      *wireError     `json:"error"`
}

type wireResolved struct {
	Resolver string  `json:"resolver"`
	From     string  `json:"from"`
	Server   string  `json:"server"`
	Took     *wireMS `json:"took_ms"`
}

func (w *wireHop) value() (*HopResult, error) {
	h := &HopResult{
		Index: w.Index, Upstream: w.Upstream, Protocol: w.Protocol, Address: Address(w.Address), Peer: w.Peer, Local: w.Local,
		Start: orZero(w.Start), AuthRounds: w.AuthRounds, ProxyProto: w.ProxyProto, Reused: w.Reused, Credential: w.Credential, BoundAddr: w.Bound, Error: w.Error.value(),
	}
	if w.TLSInfo != nil {
		h.TLSInfo = w.TLSInfo.info()
	}
	for _, p := range []struct {
		to   *time.Duration
		from *wireMS
	}{{&h.DNS, w.DNS}, {&h.TCP, w.TCP}, {&h.TLS, w.TLS}, {&h.Greeting, w.Greeting}, {&h.Auth, w.Auth}, {&h.Connect, w.Connect}, {&h.Total, w.Total}} {
		d, err := p.from.duration()
		if err != nil {
			return nil, err
		}
		*p.to = d
	}
	if w.Resolved != nil {
		took, err := w.Resolved.Took.duration()
		if err != nil {
			return nil, err
		}
		h.Resolved = &Resolution{w.Resolved.Resolver, w.Resolved.From, w.Resolved.Server, took}
	}
	return h, nil
}

type wireError struct {
	Message   string       `json:"message"`
	Phase     Phase        `json:"phase"`
	Side      Side         `json:"side"`
	Hop       int          `json:"hop"`
	HopName   string       `json:"hop_name"`
	Kind      Kind         `json:"kind"`
	Code      int          `json:"code"`
	CodeOf    string       `json:"code_of"`
	Blame     Blame        `json:"blame"`
	Retryable bool         `json:"retryable"`
	Verdict   ChainVerdict `json:"verdict"`
}

func (w *wireError) value() *ConnError {
	if w == nil {
		return nil
	}
	return &ConnError{
		Phase: w.Phase, Side: w.Side, Hop: w.Hop, HopName: w.HopName, Kind: w.Kind, Message: w.Message,
		Code: w.Code, CodeOf: w.CodeOf, Blame: w.Blame, Retryable: w.Retryable, Verdict: w.Verdict,
	}
}

type wireDecision struct {
	Generation uint64      `json:"generation"`
	Policy     string      `json:"policy"`
	Rule       string      `json:"rule"`
	File       string      `json:"file"`
	Line       int         `json:"line"`
	Outcome    Outcome     `json:"outcome"`
	Route      string      `json:"route"`
	Server     wireAddress `json:"server"`
	Denial     *struct {
		Status int    `json:"status"`
		Reason string `json:"reason"`
	} `json:"denial"`
	Tags   []string `json:"tags"`
	Shadow []struct {
		Rule    string  `json:"rule"`
		File    string  `json:"file"`
		Line    int     `json:"line"`
		Outcome Outcome `json:"outcome"`
		Route   string  `json:"route"`
	} `json:"shadow"`
	TLS          TLSMode           `json:"tls"`
	ShadowPolicy *wireShadowPolicy `json:"shadow_policy"`
	Choices      []wireChoice      `json:"choices"`
}

type wireShadowPolicy struct {
	Policy    string      `json:"policy"`
	Rule      string      `json:"rule"`
	File      string      `json:"file"`
	Line      int         `json:"line"`
	Outcome   Outcome     `json:"outcome"`
	Route     string      `json:"route"`
	Server    wireAddress `json:"server"`
	TLS       TLSMode     `json:"tls"`
	Undecided string      `json:"undecided"`
}

func (w *wireShadowPolicy) value() *ShadowDecision {
	if w == nil {
		return nil
	}
	s := &ShadowDecision{
		Policy: w.Policy, Rule: w.Rule, File: w.File, Line: w.Line, Outcome: w.Outcome, Route: w.Route, Server: Address(w.Server),
		TLS: w.TLS, Undecided: w.Undecided,
	}
	if s.TLS == TLSPassthrough {
		s.TLS = ""
	}
	return s
}

func (w *wireDecision) value() *Decision {
	if w == nil {
		return nil
	}
	d := &Decision{
		Generation: w.Generation, Policy: w.Policy, Rule: w.Rule, File: w.File, Line: w.Line,
		Outcome: w.Outcome, Route: w.Route, Server: Address(w.Server), Tags: some(w.Tags),
	}
	if w.Denial != nil {
		d.Denial = &Denial{Status: w.Denial.Status, Reason: w.Denial.Reason}
	}
	for _, v := range w.Shadow {
		d.Shadow = append(d.Shadow, ShadowVerdict(v))
	}
	if plainMode(w.TLS) != TLSPassthrough {
		d.TLS = &TLSPlan{Mode: w.TLS}
	}
	d.ShadowPolicy = w.ShadowPolicy.value()
	for _, c := range w.Choices {
		d.Choices = append(d.Choices, Choice{Route: c.Route, To: Address(c.To), Ways: some(c.Ways), Error: c.Error, OnError: c.OnError})
	}
	return d
}

type wireHello struct {
	SNI       string   `json:"sni"`
	SNIError  string   `json:"sni_error"`
	ALPN      []string `json:"alpn_offers"`
	Versions  []string `json:"tls_versions"`
	Suites    []string `json:"cipher_suites"`
	ECH       bool     `json:"ech"`
	JA4       string   `json:"ja4"`
	Truncated bool     `json:"hello_truncated"`
}

func (w *wireHello) value() (*ClientHello, error) {
	if w == nil {
		return nil, nil
	}
	h := &ClientHello{SNI: w.SNI, SNIError: w.SNIError, ALPN: w.ALPN, ECH: w.ECH, JA4: w.JA4, Truncated: w.Truncated}
	for _, name := range w.Versions {
		v, ok := tlsVersionByName[name]
		if !ok {
			n, err := strconv.ParseUint(strings.TrimPrefix(name, "0x"), 16, 16)
			if err != nil {
				return nil, fmt.Errorf("connmodel: %q is not a TLS version", bound(name, maxQuoted))
			}
			v = uint16(n)
		}
		h.Versions = append(h.Versions, v)
	}
	for _, s := range w.Suites {
		n, err := strconv.ParseUint(s, 16, 16)
		if err != nil {
			return nil, fmt.Errorf("connmodel: %q is not a cipher suite of four hexadecimal digits", bound(s, maxQuoted))
		}
		h.CipherSuites = append(h.CipherSuites, uint16(n))
	}
	return h, nil
}

// tlsVersionByName undoes tls.VersionName.
var tlsVersionByName = func() map[string]uint16 {
	m := make(map[string]uint16)
	for v := uint16(0x0300); v <= tls.VersionTLS13; v++ {
		m[tls.VersionName(v)] = v
	}
	return m
}()

type wireRequest struct {
	Method string      `json:"method"`
	Scheme string      `json:"scheme"`
	Host   string      `json:"host"`
	Path   string      `json:"path"`
	Tunnel ID          `json:"tunnel"`
	Within wireAddress `json:"tunnel_target"`
	Start  *time.Time  `json:"timestamp_start"`
	End    *time.Time  `json:"timestamp_end"`
}

func (w *wireRequest) value() *Request {
	if w == nil {
		return nil
	}
	return &Request{Method: w.Method, Scheme: w.Scheme, Host: w.Host, Path: w.Path, Tunnel: w.Tunnel, Within: Address(w.Within), Start: orZero(w.Start), End: orZero(w.End)}
}

type wireResponse struct {
	Status int        `json:"status"`
	Start  *time.Time `json:"timestamp_start"`
	End    *time.Time `json:"timestamp_end"`
}

func (w *wireResponse) value() *Response {
	if w == nil {
		return nil
	}
	return &Response{Status: w.Status, Start: orZero(w.Start), End: orZero(w.End)}
}

type wireReply struct {
	Code  int32      `json:"code"`
	Early bool       `json:"early"`
	Time  *time.Time `json:"timestamp"`
}

func (w *wireReply) value() *Reply {
	if w == nil {
		return nil
	}
	return &Reply{Code: w.Code, Early: w.Early, Time: orZero(w.Time)}
}

type wireEvent struct {
	Kind        EventKind    `json:"event"`
	Time        *time.Time   `json:"timestamp"`
	Session     ID           `json:"session"`
	Flow        ID           `json:"flow"`
	Side        Side         `json:"side"`
	Hop         int          `json:"hop"`
	Attempt     int          `json:"attempt"`
	Error       *wireError   `json:"error"`
	Certificate *wireWarning `json:"certificate_warning"`
}

type wireWarning struct {
	Reason      ChainVerdict    `json:"reason"`
	Message     string          `json:"message"`
	Side        Side            `json:"side"`
	Upstream    string          `json:"upstream"`
	Address     wireAddress     `json:"address"`
	Certificate wireCertificate `json:"certificate"`
}

func (w *wireWarning) value() *CertificateWarning {
	if w == nil {
		return nil
	}
	return &CertificateWarning{Reason: w.Reason, Message: w.Message, Side: w.Side, Upstream: w.Upstream, Address: Address(w.Address), Certificate: w.Certificate.value()}
}

type wireStep struct {
	Rule    string `json:"rule"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Matched bool   `json:"matched"`
	Shadow  bool   `json:"shadow"`
	Reason  string `json:"reason"`
}

type wireFlow struct {
	ID         ID                `json:"id"`
	Session    ID                `json:"session"`
	Generation uint64            `json:"generation"`
	Protocol   Protocol          `json:"protocol"`
	Target     wireAddress       `json:"target"`
	Client     *wireClient       `json:"client_conn"`
	Server     *wireServer       `json:"server_conn"`
	Decision   *wireDecision     `json:"decision"`
	Gathered   *wireGathered     `json:"gathered"`
	Trace      *[]wireStep       `json:"trace"`
	Request    *wireRequest      `json:"request"`
	Response   *wireResponse     `json:"response"`
	Reply      *wireReply        `json:"reply"`
	Error      *wireError        `json:"error"`
	Metadata   map[string]string `json:"metadata"`
	Start      *time.Time        `json:"timestamp_start"`
	Decided    *time.Time        `json:"timestamp_decided"`
	End        *time.Time        `json:"timestamp_end"`
	Duration   *wireMS           `json:"duration_ms"`
	Up         int64             `json:"bytes_up"`
	Down       int64             `json:"bytes_down"`
	First      Side              `json:"closed_first"`
	Reason     CloseReason       `json:"close_reason"`
	Panicked   bool              `json:"panicked"`
	TraceID    string            `json:"trace_id"`
	SpanID     string            `json:"span_id"`
	ParentSpan string            `json:"parent_span_id"`

	TraceSampled bool `json:"trace_sampled"`
	Truncated    bool `json:"truncated"`
}

func (w *wireFlow) value() (*Flow, error) {
	f := &Flow{
		ID: w.ID, Session: w.Session, Generation: w.Generation, Protocol: w.Protocol, Target: Address(w.Target),
		Decision: w.Decision.value(), Request: w.Request.value(), Response: w.Response.value(), Reply: w.Reply.value(), Error: w.Error.value(),
		Start: orZero(w.Start), Decided: orZero(w.Decided), End: orZero(w.End), Up: w.Up, Down: w.Down,
		Span: w.span(), First: w.First, Reason: w.Reason, Panicked: w.Panicked, Truncated: w.Truncated,
	}
	if len(w.Metadata) > 0 {
		f.Metadata = w.Metadata
	}
	if w.Trace != nil {
		f.Trace = new(Trace)
		for _, s := range *w.Trace {
			f.Trace.Steps = append(f.Trace.Steps, TraceStep(s))
		}
	}
	var err error
	if f.Gathered, err = w.Gathered.value(); err != nil {
		return nil, err
	}
	if f.Client, err = w.Client.value(); err != nil {
		return nil, err
	}
	if f.Server, err = w.Server.value(); err != nil {
		return nil, err
	}
	return f, nil
}
