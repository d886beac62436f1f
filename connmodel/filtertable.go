package connmodel

import (
	"net/netip"
	"slices"
	"time"
)

// filterFields is the table behind the manual, the messages, completion and the stores, in the order of the manual.
var filterFields = slices.Concat([]*FilterField{
	textField("id", "the flow; a UUID in lower case", func(f *Flow) string { return f.ID.String() }),
	textField("session", "the client connection it came on; a UUID", func(f *Flow) string { return f.Session.String() }),
	numberField("generation", "of the configuration that decided", 1<<53, func(f *Flow) float64 { return float64(f.Generation) }),
	timeField("started", "when it began", func(f *Flow) time.Time { return f.Start }).alias("time", "start"),
	timeField("ended", "when it ended; null while it is open", func(f *Flow) time.Time { return f.End }).alias("end"),
	boolField("open", "it has not ended yet", func(f *Flow) bool { return f.End.IsZero() }),
}, askedFields, decidedFields, wayFields, endFields)

// askedFields are who asked, and for what.
var askedFields = []*FilterField{
	textField("listener", "label of the listener that took the connection", func(f *Flow) string { return clientOf(f).Listener }).policy(),
	textField("protocol", "how the client asked", func(f *Flow) string { return string(f.Protocol) }).policy().oneOf(string(ProtocolHTTP), string(ProtocolConnect),
		string(ProtocolSOCKS4), string(ProtocolSOCKS4a), string(ProtocolSOCKS5), string(ProtocolUDP), string(ProtocolForward), string(ProtocolRedirect), string(ProtocolTProxy)),
	addressField("client.address", "address of the client; null when it came by a Unix socket", func(f *Flow) netip.Addr { return clientOf(f).From().Addr().Unmap().WithZone("") }).policy(),
	numberField("client.port", "port of the client; 0 when it came by a Unix socket", 65535, func(f *Flow) float64 { return float64(clientOf(f).From().Port()) }).policy(),
	textField("client.user", `name the client has proved to the listener; "" when nobody logged in`, func(f *Flow) string { return clientOf(f).User }).policy().alias("user"),
	textField("target.host", "name or address asked for; of what a firewall sent here the name found inside, if one was", targetHost).policy(),
	numberField("target.port", "port asked for", 65535, func(f *Flow) float64 { return float64(f.Target.Port) }).policy(),
	addressField("target.ip", "the address, when a literal one was asked for; null for names", func(f *Flow) netip.Addr { x := filterFacts(f); return x.TargetIP }).policy(),
	textField("target.scheme", `"http" for plain requests, "https" for those in opened tunnels, "" for tunnels`, targetScheme).policy().alias("scheme").oneOf("http", "https"),
	boolField("target.sni_mismatch", "a TLS client asked the server for another name than it asked the gateway for", sniMismatch).policy(),
	boolField("tls.hello", "the tunnel was looked into, and begins with the ClientHello of a TLS client", func(f *Flow) bool { x := filterFacts(f); return x.Hello != nil }).policy(),
	textField("tls.sni", `server name that the TLS client asked for, where the tunnel was looked into; "" without one`, func(f *Flow) string { x := filterFacts(f); return x.hello().SNI }).policy(),
	textsField("tls.alpn", "protocols that the TLS client offered", func(f *Flow) []string { x := filterFacts(f); return x.hello().ALPN }).policy(),
	textField("tls.ja4", "JA4 fingerprint of the TLS client", func(f *Flow) string { x := filterFacts(f); return x.hello().JA4 }).policy(),
	boolField("tls.ech", "the ClientHello holds an encrypted one", func(f *Flow) bool { x := filterFacts(f); return x.hello().ECH }).policy(),
	textField("request.method", `method of the request; "" for tunnels`, func(f *Flow) string { x := filterFacts(f); return x.request().Method }).policy(),
	textField("request.path", "path of the request, without the query, in one spelling", func(f *Flow) string { x := filterFacts(f); return x.request().RulePath() }).policy(),
	textField("request.query", "query of the request, as sent, without the question mark", requestQuery).policy(),
	mapField("request.header", `request.header["name"]: a header field of the request, as far as the record has it`, requestHeader).policy(),
	maybeNumber("response.status", "status of the response; null without one", 999, func(f *Flow) (float64, bool) {
		if f.Response == nil || f.Response.Status == 0 {
			return 0, false
		}
		return float64(f.Response.Status), true
	}),
	textField("tunnel", "of a request in an opened tunnel the id of that tunnel's flow", func(f *Flow) string {
		if f.Request == nil {
			return ""
		}
		return f.Request.Tunnel.String()
	}),
}

// decidedFields are what the policy made of it.
var decidedFields = []*FilterField{
	textField("policy", `policy that decided; "" when no decision could be made`, func(f *Flow) string { return decisionOf(f).Policy }),
	textField("rule", "rule that took the flow", func(f *Flow) string { return decisionOf(f).Rule }),
	textField("file", "file in which the rule stands", func(f *Flow) string { return decisionOf(f).File }),
	numberField("line", "line in which the rule stands", 1<<31, func(f *Flow) float64 { return float64(decisionOf(f).Line) }),
	textField("outcome", "what the rule did", func(f *Flow) string { return string(decisionOf(f).Outcome) }).oneOf(string(OutcomeVia), string(OutcomeDeny)),
	boolField("denied", "a rule refused it, or no rule took it", func(f *Flow) bool { return decisionOf(f).Outcome == OutcomeDeny }),
	textField("denial.reason", "the reason that the rule gave", func(f *Flow) string {
		if d := decisionOf(f).Denial; d != nil {
			return d.Reason
		}
		return ""
	}),
	textField("route", `the way as decided: "direct", "upstream.corp_a", "pool.corp", a chain`, func(f *Flow) string { return decisionOf(f).Route }),
	textsField("tags", "tags of the rule", func(f *Flow) []string { return decisionOf(f).Tags }),
	boolField("shadow.differs", "a shadow rule or the shadow policy would have done something else", func(f *Flow) bool { return f.Decision.ShadowDiffers() }),
	textField("shadow.rule", "the rule that would have taken it: of the shadow policy, where there is one, else the first shadow rule", func(f *Flow) string { return shadowOf(f).Rule }),
	textField("shadow.route", "the way that it would have gone then", func(f *Flow) string { return shadowOf(f).Route }),
	textField("shadow.outcome", "what would have been done then", func(f *Flow) string { return string(shadowOf(f).Outcome) }).oneOf(string(OutcomeVia), string(OutcomeDeny)),
}

// wayFields are what was tried, and what was found on the way.
var wayFields = []*FilterField{
	textField("route_used", `the way as used, members and hops by name: "corp_a > jump"; "" when nothing was reached`, func(f *Flow) string { return serverOf(f).Route }),
	textField("server.address", "what was dialled, HOST:PORT: the target, or what the rule has in its place", func(f *Flow) string { return serverOf(f).Address.String() }),
	addressField("server.peer", "address that was connected to: the server's, or the first proxy's", func(f *Flow) netip.Addr { return serverOf(f).Peer.Addr().Unmap().WithZone("") }),
	textsField("upstreams", "every proxy that was tried, by name", upstreamsTried),
	numberField("attempts", "how many were made", 1<<31, func(f *Flow) float64 { return float64(len(serverOf(f).Attempts)) }),
	boolField("reused", "a kept connection served it", func(f *Flow) bool { return serverOf(f).Reused }),
	secondsField("connect", "seconds from the decision until the server was reached; null when it was not, or was kept from before", func(f *Flow) (time.Duration, bool) {
		s := serverOf(f)
		return between(f.Decided, s.TCPSetup), !s.Reused && !s.TCPSetup.IsZero() && !f.Decided.IsZero()
	}),
	textField("server.tls", `TLS that we made with the server: "TLS 1.3"; "" without`, func(f *Flow) string { return serverTLS(f).Version }),
	textField("cert.verdict", `what was found of the server's certificates: "ok", "expired", "name_mismatch", …; "" when none were seen`, func(f *Flow) string { return string(serverTLS(f).Verdict) }),
	textField("cert.subject", "subject of the server's certificate", func(f *Flow) string { return leafOf(f).Subject }),
	textField("cert.issuer", "who signed it", func(f *Flow) string { return leafOf(f).Issuer }),
	timeField("cert.expires", "when it ends; null when none was seen", func(f *Flow) time.Time { return leafOf(f).NotAfter }),
}

// endFields are how it went.
var endFields = []*FilterField{
	boolField("error", "it failed, or was refused", func(f *Flow) bool { return f.Error != nil }).alias("failed"),
	textField("error.kind", "what the failure means", func(f *Flow) string { return string(errorOf(f).Kind) }).oneOf(string(KindRefused), string(KindUnreachable), string(KindTimeout), string(KindDNS),
		string(KindAuth), string(KindDenied), string(KindTLS), string(KindProtocol), string(KindReset), string(KindEOF), string(KindLimit), string(KindCanceled), string(KindInternal)),
	textField("error.phase", "where on the journey", func(f *Flow) string { return string(errorOf(f).Phase) }).oneOf(string(PhaseAccept), string(PhaseHandshake), string(PhaseSniff), string(PhaseDecide),
		string(PhaseResolve), string(PhaseDial), string(PhaseTLS), string(PhaseGreeting), string(PhaseAuth), string(PhaseConnect), string(PhaseRequest), string(PhaseRelay)),
	textField("error.side", "whose end it was", func(f *Flow) string { return string(errorOf(f).Side) }).oneOf(string(SideClient), string(SideHop), string(SideServer), string(SideViaduct)),
	maybeNumber("error.hop", "which proxy of the way failed, or told us, from 1; null when none did", 1<<15, func(f *Flow) (float64, bool) { h := errorOf(f).Hop; return float64(h), h > 0 }),
	textField("error.hop_name", "its name", func(f *Flow) string { return errorOf(f).HopName }).alias("hop"),
	textField("error.message", "the failure in words", func(f *Flow) string { return errorOf(f).Message }),
	maybeNumber("error.code", "the wire's own code: HTTP status, SOCKS reply, TLS alert; null without one", 1<<31, func(f *Flow) (float64, bool) { c := errorOf(f).Code; return float64(c), c != 0 }),
	textField("error.blame", "whose fault it is", func(f *Flow) string { return string(errorOf(f).Blame) }).oneOf(string(BlameProxy), string(BlameTarget), string(BlameClient), string(BlameLocal)),
	maybeNumber("reply", "what the client was answered by us: HTTP status, SOCKS reply; null without an answer", 1<<31, func(f *Flow) (float64, bool) {
		if f.Reply == nil {
			return 0, false
		}
		return float64(f.Reply.Code), true
	}),
	numberField("bytes_up", "payload from the client", MaxFilterBytes, func(f *Flow) float64 { return float64(f.Up) }),
	numberField("bytes_down", "payload to the client", MaxFilterBytes, func(f *Flow) float64 { return float64(f.Down) }),
	numberField("bytes", "both together", MaxFilterBytes, func(f *Flow) float64 { return float64(f.Up) + float64(f.Down) }),
	secondsField("duration", "seconds from start to end; of an open one until now", func(f *Flow) (time.Duration, bool) { return lasted(f), true }),
	numberField("duration_ms", "the same in milliseconds", maxFilterTime*1000, func(f *Flow) float64 { return float64(lasted(f).Microseconds()) / 1e3 }),
	textField("close_reason", `why it ended; "" while it is open`, func(f *Flow) string { return string(f.Reason) }).oneOf(string(CloseClient), string(CloseServer), string(CloseClientReset), string(CloseServerReset),
		string(CloseIdle), string(CloseHalfIdle), string(CloseDrained), string(CloseAdmin), string(CloseDenied), string(CloseFailed), string(CloseDone), string(CloseLimit), string(CloseInternal)),
	textField("closed_first", `who closed first; "" when nobody did`, func(f *Flow) string { return string(f.First) }).oneOf(string(SideClient), string(SideServer), string(SideHop), string(SideViaduct)),
	mapField("metadata", "metadata.NAME: a value that hooks, or datagrams, attached", func(f *Flow, key string) string { return f.Metadata[key] }),
	boolField("truncated", "something was cut to keep the record bounded", func(f *Flow) bool { return f.Truncated }),
	boolField("panicked", "a fault of ours", func(f *Flow) bool { return f.Panicked }),
}

var (
	noClient   Client
	noServer   Server
	noDecision Decision
	noError    ConnError
	noTLSInfo  TLSInfo
	noHello    ClientHello
	noCert     Certificate
	noRequest  RequestFacts
	noVerdict  ShadowDecision
)

func clientOf(f *Flow) *Client {
	if f.Client == nil {
		return &noClient
	}
	return f.Client
}

func serverOf(f *Flow) *Server {
	if f.Server == nil {
		return &noServer
	}
	return f.Server
}

func decisionOf(f *Flow) *Decision {
	if f.Decision == nil {
		return &noDecision
	}
	return f.Decision
}

func errorOf(f *Flow) *ConnError {
	if f.Error == nil {
		return &noError
	}
	return f.Error
}

func serverTLS(f *Flow) *TLSInfo {
	if t := serverOf(f).TLSInfo; t != nil {
		return t
	}
	return &noTLSInfo
}

func leafOf(f *Flow) *Certificate {
	if list := serverTLS(f).Certificates; len(list) > 0 {
		return &list[0]
	}
	return &noCert
}

// lasted is how long the flow has been, or was, open.
func lasted(f *Flow) time.Duration {
	switch {
	case f.Start.IsZero():
		return 0
	case f.End.IsZero():
		return max(0, time.Since(f.Start))
	}
	return f.End.Sub(f.Start)
}

// upstreamsTried names the proxies of all attempts, each once.
func upstreamsTried(f *Flow) (names []string) {
	for _, a := range serverOf(f).Attempts {
		for _, h := range a.Hops {
			if h.Upstream != "" && !slices.Contains(names, h.Upstream) {
				names = append(names, h.Upstream)
			}
		}
	}
	return names
}
