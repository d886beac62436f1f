package doctor

import (
	"crypto/tls"
	"errors"
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// Advice is what the failure of a connection means, and what to try next: the sentences of a check for those who tried a whole way.
type Advice struct {
	Code  string `json:"code,omitempty"` // names the failure, as that of a Step
	Means string `json:"means,omitempty"`
	Try   string `json:"try,omitempty"`
}

// Scene is what there was at the place of a failure.
type Scene struct {
	Upstream string // that is to blame, or that said what was wrong; "" = none
	Scheme   string
	Address  string // of it
	Login    bool   // the policy has a credential for it
	Target   string // what the last proxy was asked for, or what was connected to
	Through  bool   // proxies lead to the server
	Timeout  string // how long it may take
}

// Advise finds the sentences for a failure. One that is orderly, such as a denial by the gateway's own policy, has none.
func Advise(err *connmodel.ConnError, at Scene) Advice {
	if err == nil {
		return Advice{}
	}
	code := adviceCode(err, &at)
	if code == "" {
		return Advice{}
	}
	about := map[string]string{"upstream": at.Upstream, "scheme": at.Scheme, "address": at.Address, "target": at.Target, "timeout": at.Timeout, "host": at.Address}
	if a, e := connmodel.ParseAddress(at.Address); e == nil {
		about["host"] = a.Host
	}
	return adviceOf(code, about)
}

// adviceCode names a failure by who is to blame, where it was, and what the wire said.
func adviceCode(err *connmodel.ConnError, at *Scene) string {
	var where *upstream.HopError
	behind := errors.As(err, &where) && err.Side == connmodel.SideHop && where.Hop < err.Hop // the hop before speaks of this one
	switch {
	case err.Kind == connmodel.KindCanceled:
		return ""
	case err.Side == connmodel.SideViaduct:
		return ownCode(err)
	case behind && err.Kind != connmodel.KindAuth && err.Phase == connmodel.PhaseConnect:
		return "next_" + string(err.Kind)
	case err.Side == connmodel.SideHop:
		return hopCode(err, at)
	case err.Side == connmodel.SideServer && err.Hop > 0: // a proxy says so
		return connectCode(err)
	case err.Side == connmodel.SideServer:
		return serverCode(err, at)
	}
	return ""
}

// ownCode is for what the gateway itself did not do.
func ownCode(err *connmodel.ConnError) string {
	switch {
	case err.Kind == connmodel.KindDenied && err.Phase == connmodel.PhaseDial && err.CodeOf == "" && strings.Contains(err.Message, "gives no way"):
		return "own_no_way"
	case err.Kind == connmodel.KindDenied:
		return "own_refused"
	case err.Kind == connmodel.KindAuth:
		return connectCode(err)
	case err.Kind == connmodel.KindLimit:
		return "connect_limit"
	case err.Kind == connmodel.KindInternal:
		return "connect_internal"
	}
	return "own_" + string(err.Kind)
}

// hopCode is for a proxy.
func hopCode(err *connmodel.ConnError, at *Scene) string {
	switch err.Phase {
	case connmodel.PhaseResolve:
		return dnsKind("dns", err.Kind)
	case connmodel.PhaseDial:
		return "tcp_" + netKind(err.Kind)
	case connmodel.PhaseTLS:
		return tlsKind("", err)
	}
	code := connectCode(err)
	switch {
	case err.Blame == connmodel.BlameClient && err.Kind == connmodel.KindAuth:
		return "client_login"
	case code == "connect_auth" && strings.HasPrefix(at.Scheme, "socks") && !at.Login, code == "socks5_255":
		return "socks_wants_auth"
	case code == "connect_auth" && strings.HasPrefix(at.Scheme, "socks"):
		return "socks_rejected"
	case code == "connect_407" && !at.Login:
		return "offers_no_auth"
	}
	return code
}

// serverCode is for the server, as we ourselves have met it.
func serverCode(err *connmodel.ConnError, at *Scene) string {
	switch err.Phase {
	case connmodel.PhaseResolve:
		return dnsKind("server_dns", err.Kind)
	case connmodel.PhaseTLS:
		switch code := tlsKind("server_", err); {
		case !at.Through || err.Verdict != "":
			return code
		default:
			return strings.Replace(code, "server_tls_", "target_", 1)
		}
	case connmodel.PhaseRequest, connmodel.PhaseRelay:
		return "answer_" + netKind(err.Kind)
	}
	return "server_" + netKind(err.Kind)
}

func dnsKind(step string, k connmodel.Kind) string {
	switch k {
	case connmodel.KindDNS:
		return step + "_not_found"
	case connmodel.KindTimeout:
		return step + "_timeout"
	}
	return step + "_failed"
}

// netKind is what a socket said, in the words of codes.
func netKind(k connmodel.Kind) string {
	switch k {
	case connmodel.KindRefused, connmodel.KindTimeout, connmodel.KindUnreachable, connmodel.KindReset, connmodel.KindProtocol, connmodel.KindAuth:
		return string(k)
	case connmodel.KindEOF:
		return "closed"
	case connmodel.KindDenied:
		return "forbidden"
	case connmodel.KindLimit:
		return "source"
	}
	return "failed"
}

// tlsKind is what became of a handshake. of stands before the code.
func tlsKind(of string, err *connmodel.ConnError) string {
	var record tls.RecordHeaderError
	switch {
	case err.Verdict != "" && err.Verdict != connmodel.ChainOK:
		return of + certCode(err.Verdict)
	case errors.As(err, &record):
		return of + "tls_not_spoken"
	case err.CodeOf == "tls" && err.Code == 70:
		return of + "tls_version"
	case err.CodeOf == "tls" && err.Code == 112:
		return of + "tls_name"
	case strings.Contains(err.Message, "client certificate"):
		return of + "client_certificate"
	case err.CodeOf == "tls":
		return of + "tls_alert"
	case err.Kind == connmodel.KindTimeout, err.Kind == connmodel.KindReset, err.Kind == connmodel.KindEOF:
		return of + "tls_" + netKind(err.Kind)
	case strings.Contains(err.Message, "version"):
		return of + "tls_version"
	}
	return of + "tls_failed"
}

// CertificateAdvice is what a certificate of the server means that nobody on the way looks at, and a client would not accept.
func CertificateAdvice(v connmodel.ChainVerdict, through bool, server string) Advice {
	code := "end_certificate"
	switch {
	case through && (v == connmodel.ChainAuthority || v == connmodel.ChainSelfSigned):
		code = "target_intercepted"
	case through:
		code = "target_certificate"
	}
	return adviceOf(code, map[string]string{"target": server})
}

// MutedAdvice is for a login that failed because nothing was shown.
func MutedAdvice(why string) Advice {
	return adviceOf("credential_muted", map[string]string{"why": why})
}

func adviceOf(code string, about map[string]string) Advice {
	s := Step{about: defaults()}
	for k, v := range about {
		s.about[k] = v
	}
	x := lookup(code)
	return Advice{Code: code, Means: s.fill(x.means), Try: s.fill(x.try)}
}
