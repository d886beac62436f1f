package connmodel

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"time"
)

// Outcome is what a rule does with a flow.
type Outcome string

// The outcomes.
const (
	OutcomeVia  Outcome = "via"
	OutcomeDeny Outcome = "deny"
)

// RouteDirect is the name of the route without a proxy; it exists in every configuration.
const RouteDirect = "direct"

// Decision is the outcome for one flow. Deciders make it once, at load, and hand the same one to every flow a rule takes:
// nobody changes it after that.
type Decision struct {
	Generation uint64 // of the configuration it comes from
	Policy     string
	Rule       string // label of the rule; "otherwise"; "" when no rule took the flow (then it is denied)
	File       string // where the rule stands
	Line       int
	Outcome    Outcome

	// Route names the way, for OutcomeVia: "direct", "upstream.corp_a", "pool.corp", "chain.partner", or a generated name
	// for a chain written in place.
	Route string
	// Server is dialled instead of the target; zero = the target.
	Server Address
	// TLS says what is done about TLS; nil = passthrough.
	TLS *TLSPlan
	// Denial is set for OutcomeDeny.
	Denial *Denial
	// AllowAddresses are the prefixes that the taking rule lists in match { address } and that lie wholly inside a refused range:
	// they open that range for this rule (see RefusedRange).
	AllowAddresses []netip.Prefix
	// NamesHost says that the taking rule is about hosts that it names, and not just all of them: that is what a request in an opened tunnel
	// needs that is for another host than the tunnel.
	NamesHost bool
	// AllowLocalhost opens loopback for the name "localhost" and below, where the taking rule names it in match { host } and lists
	// a loopback prefix.
	AllowLocalhost bool
	// LocalResolve is true when the rule wants the target's name resolved here even if the next hop takes names.
	LocalResolve bool
	// Retry overrides the route's own; nil = the route's.
	Retry *Retry
	// Timeouts override the defaults; zero fields = default.
	Timeouts Timeouts
	// SetHeaders and RemoveHeaders edit plain requests.
	SetHeaders    []HeaderEdit
	RemoveHeaders []string
	// VerifyName and SendName are about names that were found inside connections which the kernel sent here, to an address: VerifyName
	// wants the name to have that address, SendName has the name dialled, or told to the next hop, in place of it.
	VerifyName, SendName bool
	// ProxyProtocol is the version of the PROXY protocol header that is written to the server before anything else, with the client's
	// address; 0 = none.
	ProxyProtocol int
	// PlainConnect asks for CONNECT toward an http upstream even for a plain request.
	PlainConnect bool
	Tags         []string

	// Choices is what others than the policy chose in Route for the flow; nil = nobody was asked. It is in the copy that the flow's record has: see
	// Recorder.Chose.
	Choices []Choice

	// Shadow holds what shadow rules would have said, in written order. Only deciders with shadow rules fill it, in a copy.
	Shadow []ShadowVerdict
	// ShadowPolicy is what another policy would have decided for the flow; nil when none was asked. It, too, is filled in a copy.
	ShadowPolicy *ShadowDecision
}

// Denied reports whether d refuses the flow.
func (d *Decision) Denied() bool { return d.Outcome == OutcomeDeny }

// Where returns "file:line", or "" when the decision stands in no file.
func (d *Decision) Where() string {
	if d == nil || d.File == "" {
		return ""
	}
	return d.File + ":" + strconv.Itoa(d.Line)
}

// Denial is the refusal a client is told.
type Denial struct {
	Status int    // HTTP status, 403 unless the policy says otherwise
	Reason string // one sentence; may be empty
}

// Choice is what somebody outside of the policy, such as a PAC script, said of the way of one flow. Which of its ways was gone the attempts say.
type Choice struct {
	Route   string   // in whose place the ways stand: "pac.corp"
	To      Address  // it was asked the way there, the next hop of a chain; zero = the target
	Ways    []string // that it named, the first is wanted most: "upstream.corp_a", "http://10.1.0.7:8080", "direct"
	Error   string   // why it named none; "" = it did
	OnError string   // what took its place then: a route; "deny"; "next": the other members of its pool
}

// ShadowVerdict is what a rule marked shadow would have decided.
type ShadowVerdict struct {
	Rule    string
	File    string
	Line    int
	Outcome Outcome
	Route   string
}

// ShadowDecision is what a shadow policy would have decided with the facts that were at hand for the real decision: none is gathered for it.
type ShadowDecision struct {
	Policy  string
	Rule    string // that would have taken the flow, or that asks for what was not known; "" = none would have
	File    string
	Line    int
	Outcome Outcome // "" when Undecided says why
	Route   string
	Server  Address // zero = the target
	TLS     TLSMode // "" = passthrough
	// Undecided says which facts the rule asks for that nobody had gathered, as "addresses" or "client_hello+request", or what else kept it
	// from a decision; "" = there is one.
	Undecided string
}

// ShadowDiffers reports whether a shadow rule that held, or the shadow policy, would have done something else than d does. What a shadow policy
// could not decide is no difference.
func (d *Decision) ShadowDiffers() bool {
	if d == nil {
		return false
	}
	for i := range d.Shadow {
		if v := &d.Shadow[i]; v.Outcome != d.Outcome || v.Route != d.Route {
			return true
		}
	}
	return d.ShadowPolicy.Differs(d)
}

// Differs reports whether s would have done something else than d does: another outcome, and for those that go on another route, server or TLS mode.
// s and d may be nil, which differs from nothing.
func (s *ShadowDecision) Differs(d *Decision) bool {
	switch {
	case s == nil || d == nil || s.Undecided != "":
		return false
	case s.Outcome != d.Outcome:
		return true
	}
	return s.Outcome == OutcomeVia && (s.Route != d.Route || s.Server != d.Server || plainMode(s.TLS) != d.TLS.ModeOf())
}

// Retry says how often and when a failed attempt is followed by another.
type Retry struct {
	Attempts   int           // counts the first try; 0 = default
	Backoff    time.Duration // before the second attempt; 0 = at once
	MaxBackoff time.Duration
	Deadline   time.Duration // across all attempts; 0 = none
	On         []Kind        // kinds that may be retried; nil = all that are Retryable
}

// Timeouts of one flow; zero = default.
type Timeouts struct {
	Idle       time.Duration // tunnel without a byte in either direction; default 1 h
	HalfClosed time.Duration // remaining direction without a byte after the other ended; default 60 s
	Connect    time.Duration // everything until the route is up, across attempts
	Response   time.Duration // plain HTTP: until the response head
}

// HeaderEdit sets one header field of a plain request.
type HeaderEdit struct{ Name, Value string }

// TLSMode is what a rule does about TLS.
type TLSMode string

// The modes. Passthrough leaves the bytes alone; Upgrade takes a plain client over TLS to the server; Terminate takes a TLS client to
// a plain server; Intercept opens TLS on both sides.
const (
	TLSPassthrough TLSMode = "passthrough"
	TLSUpgrade     TLSMode = "upgrade"
	TLSTerminate   TLSMode = "terminate"
	TLSIntercept   TLSMode = "intercept"
)

// ModeOf is what p does about TLS; TLSPassthrough for nil.
func (p *TLSPlan) ModeOf() TLSMode {
	if p == nil {
		return TLSPassthrough
	}
	return plainMode(p.Mode)
}

func plainMode(m TLSMode) TLSMode {
	if m == "" {
		return TLSPassthrough
	}
	return m
}

// Opens reports whether TLS of the client ends here. p may be nil.
func (p *TLSPlan) Opens() bool {
	return p != nil && (p.Mode == TLSTerminate || p.Mode == TLSIntercept)
}

// ToServer reports whether TLS toward the server is made here. p may be nil.
func (p *TLSPlan) ToServer() bool {
	return p != nil && (p.Mode == TLSUpgrade || p.Mode == TLSIntercept)
}

// TLSPlan is how TLS toward the server is made. Config is built at load and cloned by whoever dials.
type TLSPlan struct {
	Mode       TLSMode
	ServerName string      // name verified and sent; "" = the host dialled for
	Config     *tls.Config // toward the server: never nil for Upgrade and Intercept; ServerName in it is ignored
	// Certificate is shown to the client, for Terminate; nil = one is minted, as for Intercept.
	Certificate *tls.Certificate
	// LearnRejects passes the tunnels of a client through that has rejected our certificate for the same target before, for Intercept.
	LearnRejects bool
}
