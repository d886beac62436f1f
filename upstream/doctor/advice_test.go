package doctor

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"regexp"
	"syscall"
	"testing"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/auth"
)

// Each kind of failure at each place has a sentence of its own; none falls through to the one that says nothing.
func TestAdvise(t *testing.T) {
	hop := func(p connmodel.Phase, k connmodel.Kind) *connmodel.ConnError {
		return &connmodel.ConnError{Phase: p, Side: connmodel.SideHop, Hop: 1, HopName: "corp", Kind: k, Message: "m"}
	}
	server := func(p connmodel.Phase, k connmodel.Kind) *connmodel.ConnError {
		return &connmodel.ConnError{Phase: p, Side: connmodel.SideServer, Kind: k, Message: "m"}
	}
	with := func(e *connmodel.ConnError, edit func(*connmodel.ConnError)) *connmodel.ConnError {
		edit(e)
		return e
	}
	said := func(code int, of string) func(*connmodel.ConnError) {
		return func(e *connmodel.ConnError) { e.Code, e.CodeOf = code, of }
	}
	caused := func(err error) func(*connmodel.ConnError) { return func(e *connmodel.ConnError) { e.Cause = err } }
	proxy := Scene{Upstream: "corp", Scheme: "http", Address: "10.1.0.7:8080", Login: true, Target: "a.example:443"}
	socks := Scene{Upstream: "corp", Scheme: "socks5h", Address: "10.1.0.7:1080", Target: "a.example:443"}
	direct := Scene{Address: "a.example:443", Target: "a.example:443"}
	through := Scene{Address: "a.example:443", Target: "a.example:443", Through: true}
	for _, tt := range []struct {
		err  *connmodel.ConnError
		at   Scene
		want string
	}{
		{hop(connmodel.PhaseResolve, connmodel.KindDNS), proxy, "dns_not_found"},
		{hop(connmodel.PhaseResolve, connmodel.KindTimeout), proxy, "dns_timeout"},
		{hop(connmodel.PhaseDial, connmodel.KindRefused), proxy, "tcp_refused"},
		{hop(connmodel.PhaseDial, connmodel.KindEOF), proxy, "tcp_closed"},
		{with(hop(connmodel.PhaseTLS, connmodel.KindTLS), func(e *connmodel.ConnError) { e.Verdict = connmodel.ChainExpired }), proxy, "cert_expired"},
		{with(hop(connmodel.PhaseTLS, connmodel.KindProtocol), caused(tls.RecordHeaderError{})), proxy, "tls_not_spoken"},
		{with(hop(connmodel.PhaseTLS, connmodel.KindTLS), said(70, "tls")), proxy, "tls_version"},
		{hop(connmodel.PhaseTLS, connmodel.KindTimeout), proxy, "tls_timeout"},
		{with(hop(connmodel.PhaseConnect, connmodel.KindDenied), said(403, "http")), proxy, "connect_403"},
		{with(hop(connmodel.PhaseAuth, connmodel.KindAuth), caused(&auth.Error{Kind: auth.Rejected})), proxy, "connect_rejected"},
		{with(hop(connmodel.PhaseAuth, connmodel.KindAuth), caused(&auth.Error{Kind: auth.Closed})), proxy, "credential_closed"},
		{with(hop(connmodel.PhaseAuth, connmodel.KindAuth), said(407, "http")), Scene{Upstream: "corp", Scheme: "http"}, "offers_no_auth"},
		{hop(connmodel.PhaseConnect, connmodel.KindEOF), proxy, "connect_eof"},
		{with(hop(connmodel.PhaseConnect, connmodel.KindDenied), said(2, "socks5")), socks, "socks5_2"},
		{with(&connmodel.ConnError{Phase: connmodel.PhaseConnect, Side: connmodel.SideHop, Hop: 2, HopName: "next", Kind: connmodel.KindUnreachable, Message: "m"}, caused(&upstream.HopError{Hop: 1, Err: io.EOF})), proxy, "next_unreachable"},
		{with(server(connmodel.PhaseConnect, connmodel.KindUnreachable), func(e *connmodel.ConnError) { e.Hop, e.HopName, e.Code, e.CodeOf = 1, "corp", 502, "http" }), proxy, "connect_502"},
		{server(connmodel.PhaseResolve, connmodel.KindDNS), direct, "server_dns_not_found"},
		{server(connmodel.PhaseDial, connmodel.KindRefused), direct, "server_refused"},
		{server(connmodel.PhaseDial, connmodel.KindTimeout), direct, "server_timeout"},
		{server(connmodel.PhaseTLS, connmodel.KindEOF), direct, "server_tls_closed"},
		{server(connmodel.PhaseTLS, connmodel.KindEOF), through, "target_closed"},
		{with(server(connmodel.PhaseTLS, connmodel.KindTLS), func(e *connmodel.ConnError) { e.Verdict = connmodel.ChainPin }), through, "server_cert_pin_mismatch"},
		{with(server(connmodel.PhaseTLS, connmodel.KindTLS), func(e *connmodel.ConnError) { e.Verdict = connmodel.ChainWeak }), direct, "server_cert_weak_signature"},
		{server(connmodel.PhaseRequest, connmodel.KindProtocol), direct, "answer_protocol"},
		{server(connmodel.PhaseRequest, connmodel.KindEOF), direct, "answer_closed"},
		{&connmodel.ConnError{Side: connmodel.SideViaduct, Phase: connmodel.PhaseDecide, Kind: connmodel.KindDenied, Message: "refused: x"}, direct, "own_refused"},
		{&connmodel.ConnError{Side: connmodel.SideViaduct, Phase: connmodel.PhaseDial, Kind: connmodel.KindDenied, Message: "pac.x gives no way, and ..."}, direct, "own_no_way"},
		{&connmodel.ConnError{Side: connmodel.SideViaduct, Kind: connmodel.KindLimit, Message: "m"}, direct, "connect_limit"},
		{&connmodel.ConnError{Side: connmodel.SideViaduct, Kind: connmodel.KindCanceled, Message: "m", Cause: context.Canceled}, direct, ""},
		{nil, direct, ""},
	} {
		x := Advise(tt.err, tt.at)
		if x.Code != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, x.Code, tt.want)
		}
		if x.Code != "" && (x.Means == sentences["other"].means || x.Means == "") {
			t.Errorf("%s has no sentence", x.Code)
		}
		if m := regexp.MustCompile(`\{[a-z]+\}`).FindString(x.Means + x.Try); m != "" {
			t.Errorf("%s: %s %s", x.Code, x.Means, x.Try)
		}
	}
	// no combination that can be thought of is without one
	for _, p := range []connmodel.Phase{connmodel.PhaseDecide, connmodel.PhaseResolve, connmodel.PhaseDial, connmodel.PhaseTLS, connmodel.PhaseGreeting, connmodel.PhaseAuth, connmodel.PhaseConnect, connmodel.PhaseRequest} {
		for _, k := range []connmodel.Kind{connmodel.KindRefused, connmodel.KindUnreachable, connmodel.KindTimeout, connmodel.KindDNS, connmodel.KindAuth, connmodel.KindDenied, connmodel.KindTLS,
			connmodel.KindProtocol, connmodel.KindReset, connmodel.KindEOF, connmodel.KindLimit, connmodel.KindInternal} {
			for _, e := range []*connmodel.ConnError{hop(p, k), server(p, k), {Phase: p, Side: connmodel.SideViaduct, Kind: k, Message: "m"}} {
				for _, at := range []Scene{proxy, socks, direct, through} {
					for _, cause := range []error{nil, syscall.ECONNRESET, os.ErrDeadlineExceeded, &net.DNSError{}, &upstream.HopError{Err: io.EOF}} {
						e.Cause = cause
						if x := Advise(e, at); x.Code == "" || x.Means == "" || x.Means == sentences["other"].means {
							t.Fatalf("%s %s %s: %q %q", e.Side, p, k, x.Code, x.Means)
						}
					}
				}
			}
		}
	}
}
