package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/http2"

	"viaduct/connmodel"
	"viaduct/upstream/auth"
	"viaduct/upstream/h2"
	"viaduct/upstream/http1"
	"viaduct/upstream/httpconnect"
	"viaduct/upstream/socks4"
	"viaduct/upstream/socks5"
)

// Places on the way for errors to happen at.
var (
	proxyAddr  = connmodel.Address{Host: "10.0.0.1", Port: 3128}
	serverAddr = connmodel.Address{Host: "www.example.com", Port: 443}
	onlyHop    = HopError{Hop: 1, Hops: 1, Upstream: "corp", Scheme: "http", Address: proxyAddr, Beyond: serverAddr, Phase: connmodel.PhaseConnect}
	firstOfTwo = HopError{Hop: 1, Hops: 2, Upstream: "corp", Scheme: "http", Address: proxyAddr, Next: "jump", Beyond: connmodel.Address{Host: "10.0.0.2", Port: 1080}, Phase: connmodel.PhaseConnect}
	toServer   = HopError{Hop: 2, Hops: 1, Address: serverAddr, Phase: connmodel.PhaseTLS}
	dialHop    = with(onlyHop, connmodel.PhaseDial)
	dialServer = HopError{Hop: 1, Address: serverAddr, Phase: connmodel.PhaseDial}
)

func with(e HopError, p connmodel.Phase) HopError { e.Phase = p; return e }

func associating(e HopError) HopError { e.associate = true; return e }

func errno(n syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", n)}
}

func alert(n uint8) error { return &net.OpError{Op: "remote error", Err: tls.AlertError(n)} }

type classRow struct {
	row   string // of the table, which must be the one that matched
	at    HopError
	err   error
	side  connmodel.Side
	hop   int
	kind  connmodel.Kind
	code  int
	blame connmodel.Blame
	retry bool
	says  string
}

const (
	hopSide, serverSide, ourSide                  = connmodel.SideHop, connmodel.SideServer, connmodel.SideViaduct
	byProxy, byTarget, byNobody, byUs             = connmodel.BlameProxy, connmodel.BlameTarget, connmodel.BlameNobody, connmodel.BlameLocal
	refused, unreachable, timeout, authNo, denied = connmodel.KindRefused, connmodel.KindUnreachable, connmodel.KindTimeout, connmodel.KindAuth, connmodel.KindDenied
	protocol, reset, eof, limit, canceled, tlsNo  = connmodel.KindProtocol, connmodel.KindReset, connmodel.KindEOF, connmodel.KindLimit, connmodel.KindCanceled, connmodel.KindTLS
)

func classRows() []classRow {
	rows := []classRow{
		{"check", onlyHop, errNotShown, ourSide, 1, authNo, 0, byNobody, false, "corp is there"},
		{"check", onlyHop, &turnError{context.DeadlineExceeded}, ourSide, 1, limit, 0, byUs, false, "same credential"},
		{"client's login", onlyHop, &loginError{errNoLogin}, hopSide, 1, connmodel.KindAuth, 0, connmodel.BlameClient, true, "this client has proved none"},
		{"client's login", onlyHop, errUnread, ourSide, 1, authNo, 0, byUs, true, "nothing is shown to it"},
		{"client's login", firstOfTwo, &loginError{errors.New("a colon")}, hopSide, 1, connmodel.KindAuth, 0, connmodel.BlameClient, true, "a colon"},
		{"guard", dialServer, &guardError{errors.New("127.0.0.1 is loopback")}, ourSide, 0, denied, 0, byNobody, false, "127.0.0.1 is loopback"},
		{"canceled", dialHop, context.Canceled, ourSide, 1, canceled, 0, byNobody, false, "given up"},
		{"canceled", onlyHop, &canceledError{context.Canceled, os.ErrDeadlineExceeded}, ourSide, 1, canceled, 0, byNobody, false, "given up"},
		{"limit", dialHop, &limitError{7}, ourSide, 1, limit, 0, byUs, true, "max_connections allows (7)"},
		{"drained", dialHop, errDrained, ourSide, 1, unreachable, 0, byUs, true, "an operator took it out of service"},
		{"address family", dialServer, errNoFamily, ourSide, 0, unreachable, 0, byUs, true, "source_address"},
		{"address family", with(toServer, connmodel.PhaseResolve), errNoIPv4, ourSide, 0, unreachable, 0, byUs, true, "use socks5"},
		{"unsayable host", onlyHop, socks5.ErrName, ourSide, 1, protocol, 0, byUs, true, "no way to say www.example.com"},
		{"unsayable host", onlyHop, socks4.ErrHost, ourSide, 1, protocol, 0, byUs, true, "no way to say"},

		{"datagrams", onlyHop, errNoDatagrams, ourSide, 1, protocol, 0, byUs, true, "exactly one socks5"},
		{"datagrams", onlyHop, &relayError{"it says that it takes datagrams at 127.0.0.1"}, hopSide, 1, protocol, 0, byProxy, true, "takes datagrams at"},
		{"datagrams", associating(onlyHop), &socks5.ReplyError{Code: socks5.CommandNotSupported}, ourSide, 1, protocol, 7, byNobody, true, "upstream corp relays no datagrams for us (socks5: command not supported)"},

		{"socks5 auth", with(onlyHop, connmodel.PhaseAuth), &socks5.AuthError{Offered: true}, hopSide, 1, authNo, 0, byProxy, true, "check the credentials of upstream corp"},
		{"socks5 auth", with(onlyHop, connmodel.PhaseGreeting), &socks5.AuthError{NoMethod: true}, hopSide, 1, authNo, 0, byProxy, true, "add auth to upstream corp"},
		{"socks5 auth", with(onlyHop, connmodel.PhaseGreeting), &socks5.AuthError{NoMethod: true, Offered: true}, hopSide, 1, authNo, 0, byProxy, true, "none of the ways"},
		{"socks4 reply", onlyHop, &socks4.ReplyError{Code: 91}, serverSide, 1, unreachable, 91, byTarget, true, "could not reach www.example.com:443"},
		{"socks4 reply", firstOfTwo, &socks4.ReplyError{Code: 91}, hopSide, 2, unreachable, 91, byProxy, true, "could not reach the next proxy jump"},
		{"socks4 reply", onlyHop, &socks4.ReplyError{Code: 92}, hopSide, 1, authNo, 92, byProxy, true, "does not accept the user name"},
		{"socks4 reply", onlyHop, &socks4.ReplyError{Code: 93}, hopSide, 1, authNo, 93, byProxy, true, "check auth of upstream corp"},
		{"socks4 reply", onlyHop, &socks4.ReplyError{Code: 17}, hopSide, 1, protocol, 17, byProxy, true, "0x11"},

		{"wire format", onlyHop, &httpconnect.ProtocolError{Saw: "SOCKS5"}, hopSide, 1, protocol, 0, byProxy, true, "check the scheme and port of upstream corp"},
		{"wire format", onlyHop, &socks5.ProtocolError{Saw: "odd", Section: "s"}, hopSide, 1, protocol, 0, byProxy, true, "does not speak"},
		{"wire format", onlyHop, &socks4.ProtocolError{Saw: "odd", Section: "s"}, hopSide, 1, protocol, 0, byProxy, true, "does not speak"},
		{"wire format", onlyHop, &httpconnect.ProtocolError{Err: &http1.Error{Status: 502, Reason: "header section too large"}}, hopSide, 1, limit, 0, byProxy, true, "longer than we read"},
		{"wire format", onlyHop, &http1.Error{Status: 500, Reason: "port 0"}, ourSide, 1, connmodel.KindInternal, 0, byUs, false, "cannot be written"},

		{"http/2", onlyHop, &h2.StreamError{Code: http2.ErrCodeRefusedStream, Remote: true, Unprocessed: true}, hopSide, 1, limit, 0, byProxy, true, "took no further stream"},
		{"http/2", onlyHop, &h2.StreamError{Code: http2.ErrCodeConnect, Remote: true}, serverSide, 1, reset, 0, byTarget, true, "connection to www.example.com:443"},
		{"http/2", firstOfTwo, &h2.StreamError{Code: http2.ErrCodeConnect, Remote: true}, hopSide, 2, reset, 0, byProxy, true, "the next proxy jump"},
		{"http/2", onlyHop, &h2.StreamError{Code: http2.ErrCodeCancel, Remote: true}, hopSide, 1, reset, 0, byProxy, true, "reset the connection when"},
		{"http/2", onlyHop, &h2.StreamError{Code: http2.ErrCodeInternal, Remote: true}, hopSide, 1, protocol, 0, byProxy, true, "INTERNAL_ERROR"},
		{"http/2", onlyHop, &h2.StreamError{Code: http2.ErrCodeHTTP11Required, Remote: true}, hopSide, 1, protocol, 0, byProxy, true, "http2 = false of upstream corp"},
		{"http/2", onlyHop, &h2.StreamError{Code: http2.ErrCodeProtocol, Reason: "no :status"}, hopSide, 1, protocol, 0, byProxy, true, "as it should: h2: PROTOCOL_ERROR: no :status"},
		{"http/2", onlyHop, &h2.ConnError{Code: http2.ErrCodeEnhanceYourCalm, Remote: true}, hopSide, 1, limit, 0, byProxy, true, "ask for too much"},
		{"http/2", onlyHop, &h2.ConnError{Code: http2.ErrCodeInadequateSecurity, Remote: true}, hopSide, 1, tlsNo, 0, byProxy, true, "min_version"},
		{"http/2", onlyHop, &h2.ConnError{Remote: true, Err: os.ErrDeadlineExceeded}, hopSide, 1, timeout, 0, byProxy, true, "is dead"},
		{"http/2", onlyHop, &h2.ConnError{Remote: true, Err: io.EOF}, hopSide, 1, reset, 0, byProxy, true, "reset the connection when"},
		{"http/2", onlyHop, h2.ErrNoExtendedConnect, hopSide, 1, protocol, 0, byProxy, true, "no WebSocket over HTTP/2"},

		{"dns", with(dialServer, connmodel.PhaseResolve), &net.DNSError{IsNotFound: true}, serverSide, 0, connmodel.KindDNS, 0, byTarget, true, "no host named www.example.com"},
		{"dns", with(dialHop, connmodel.PhaseResolve), &net.DNSError{IsNotFound: true}, hopSide, 1, connmodel.KindDNS, 0, byProxy, true, "check the url of upstream corp"},
		{"dns", with(dialServer, connmodel.PhaseResolve), &net.DNSError{IsTimeout: true}, serverSide, 0, timeout, 0, byTarget, true, "name servers did not answer"},
		{"dns", with(dialServer, connmodel.PhaseResolve), &net.DNSError{Err: "server misbehaving", IsTemporary: true}, serverSide, 0, connmodel.KindDNS, 0, byTarget, true, "server misbehaving"},

		{"certificate", with(onlyHop, connmodel.PhaseTLS), &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, hopSide, 1, tlsNo, 0, byProxy, true, "add its CA"},
		{"certificate", toServer, &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a", "b", "c", "d", "e", "f", "g"}}, Host: "h"}}, serverSide, 0, tlsNo, 0, byTarget, false, `for "h" but for "a", "b", "c", "d", "e" and 2 more`},
		{"certificate", toServer, x509.CertificateInvalidError{Reason: x509.Expired, Cert: &x509.Certificate{}}, serverSide, 0, tlsNo, 0, byTarget, false, "not valid now"},
		{"certificate", toServer, x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, serverSide, 0, tlsNo, 0, byTarget, false, "cannot be used"},
		{"certificate", toServer, &tls.CertificateVerificationError{Err: errors.New("odd\n")}, serverSide, 0, tlsNo, 0, byTarget, false, `was not accepted: "odd\n"`},
		{"tls alert", toServer, alert(70), serverSide, 0, tlsNo, 70, byTarget, false, "min_version"},
		{"tls alert", with(onlyHop, connmodel.PhaseTLS), alert(116), hopSide, 1, tlsNo, 116, byProxy, true, "client certificate"},
		{"tls alert", toServer, alert(112), serverSide, 0, tlsNo, 112, byTarget, false, "server_name"},
		{"not tls", toServer, tls.RecordHeaderError{RecordHeader: [5]byte{'H', 'T', 'T', 'P', '/'}}, serverSide, 0, tlsNo, 0, byTarget, false, "plain HTTP; check the port"},
		{"not tls", with(onlyHop, connmodel.PhaseTLS), tls.RecordHeaderError{}, hopSide, 1, tlsNo, 0, byProxy, true, "be http://"},
		{"tls", toServer, errors.New("tls: server selected unsupported protocol version 301"), serverSide, 0, tlsNo, 0, byTarget, false, "answered with TLS 1.0"},

		{"timeout", dialHop, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, hopSide, 1, timeout, 0, byProxy, true, "firewall"},
		{"timeout", dialServer, os.ErrDeadlineExceeded, serverSide, 0, timeout, 0, byTarget, true, "no answer from www.example.com:443"},
		{"timeout", onlyHop, fmt.Errorf("read: %w", os.ErrDeadlineExceeded), hopSide, 1, timeout, 0, byProxy, true, "asked to connect to www.example.com:443"},
		{"timeout", dialHop, &canceledError{context.DeadlineExceeded, os.ErrDeadlineExceeded}, hopSide, 1, timeout, 0, byProxy, true, "in time"},
		{"timeout", dialHop, errno(syscall.ETIMEDOUT), hopSide, 1, timeout, 0, byProxy, true, "in time"},
		{"errno", dialHop, errno(syscall.ECONNREFUSED), hopSide, 1, refused, 0, byProxy, true, "nothing listens at 10.0.0.1:3128; is the proxy running"},
		{"errno", dialServer, errno(syscall.ECONNREFUSED), serverSide, 0, refused, 0, byTarget, true, "nothing listens at www.example.com:443"},
		{"errno", dialServer, errno(syscall.ENETUNREACH), serverSide, 0, unreachable, 0, byTarget, true, "no way from this machine"},
		{"errno", dialHop, errno(syscall.EHOSTUNREACH), hopSide, 1, unreachable, 0, byProxy, true, "no way from this machine"},
		{"errno", onlyHop, errno(syscall.ECONNRESET), hopSide, 1, reset, 0, byProxy, true, "reset the connection"},
		{"errno", onlyHop, errno(syscall.EPIPE), hopSide, 1, reset, 0, byProxy, true, "reset the connection"},
		{"errno", dialHop, errno(syscall.EMFILE), ourSide, 1, limit, 0, byUs, false, "LimitNOFILE"},
		{"errno", dialServer, errno(syscall.EADDRNOTAVAIL), ourSide, 0, limit, 0, byUs, true, "source_address"},
		{"errno", dialServer, errno(syscall.EACCES), ourSide, 0, denied, 0, byUs, false, "does not let the gateway"},
		{"errno", dialServer, errno(syscall.ENODEV), ourSide, 0, connmodel.KindInternal, 0, byUs, false, "interface"},
		{"errno", dialServer, errno(syscall.ENOBUFS), ourSide, 0, limit, 0, byUs, false, "memory"},
		{"errno", dialServer, errno(syscall.EAFNOSUPPORT), ourSide, 0, connmodel.KindInternal, 0, byUs, true, "failed"},
		{"eof", onlyHop, fmt.Errorf("x: %w", io.ErrUnexpectedEOF), hopSide, 1, eof, 0, byProxy, true, "in the middle"},
		{"eof", onlyHop, fmt.Errorf("x: %w", io.EOF), hopSide, 1, eof, 0, byProxy, true, "instead of answering"},
		{"eof", toServer, io.EOF, serverSide, 0, eof, 0, byTarget, true, "during the TLS handshake"},
		{"", onlyHop, errors.New("something"), hopSide, 1, protocol, 0, byProxy, true, "something"},
	}
	shown := onlyHop
	shown.shown = true
	for _, x := range []struct {
		kind auth.Kind
		want classRow
	}{
		{auth.Closed, classRow{side: hopSide, kind: authNo, blame: byProxy, retry: true, says: "upstream corp: why"}},
		{auth.Waiting, classRow{side: ourSide, kind: authNo, blame: byUs, retry: true, says: "why"}},
		{auth.NotStored, classRow{side: ourSide, kind: authNo, blame: byUs, retry: true, says: "why"}},
		{auth.NoOffer, classRow{side: hopSide, kind: authNo, code: 407, blame: byProxy, retry: true, says: "why; check auth of upstream corp"}},
		{auth.Impossible, classRow{side: hopSide, kind: authNo, code: 407, blame: byProxy, retry: true, says: "why; check auth"}},
		{auth.Loop, classRow{side: hopSide, kind: authNo, code: 407, blame: byProxy, retry: true, says: "why; check auth"}},
		{auth.Malformed, classRow{side: hopSide, kind: protocol, code: 407, blame: byProxy, retry: true, says: "why"}},
	} {
		x.want.row, x.want.at, x.want.err, x.want.hop = "credentials", onlyHop, &auth.Error{Kind: x.kind, Text: "why"}, 1
		rows = append(rows, x.want)
	}
	rows = append(rows, classRow{"http status", shown, &httpconnect.StatusError{Status: 407}, hopSide, 1, authNo, 407, byProxy, true, "check those of upstream corp"})
	for code, want := range map[int]classRow{
		300: {kind: protocol, side: hopSide, blame: byProxy, retry: true, says: "redirect"}, 400: {kind: protocol, side: hopSide, blame: byProxy, retry: true, says: "did not understand"},
		401: {kind: denied, side: hopSide, blame: byTarget, says: "web server?"}, 403: {kind: denied, side: hopSide, blame: byTarget, says: "rules do not allow"},
		404: {kind: unreachable, side: serverSide, blame: byTarget, retry: true, says: "could not reach"}, 405: {kind: denied, side: hopSide, blame: byTarget, says: "CONNECT"},
		407: {kind: authNo, side: hopSide, blame: byProxy, retry: true, says: "add auth"}, 408: {kind: timeout, side: hopSide, blame: byProxy, retry: true, says: "408"},
		418: {kind: protocol, side: hopSide, blame: byProxy, retry: true, says: "no answer to CONNECT"}, 421: {kind: denied, side: hopSide, blame: byTarget, says: "421"},
		429: {kind: limit, side: hopSide, blame: byProxy, retry: true, says: "too many requests"}, 451: {kind: denied, side: hopSide, blame: byTarget, says: "451"},
		500: {kind: unreachable, side: serverSide, blame: byTarget, retry: true, says: "could not reach"}, 501: {kind: protocol, side: hopSide, blame: byProxy, retry: true, says: "does not know CONNECT"},
		502: {kind: unreachable, side: serverSide, blame: byTarget, retry: true, says: "could not reach"}, 503: {kind: unreachable, side: serverSide, blame: byTarget, retry: true, says: "could not reach"},
		504: {kind: timeout, side: serverSide, blame: byTarget, retry: true, says: "could not reach"}, 508: {kind: protocol, side: hopSide, blame: byProxy, says: "loop"},
	} {
		want.row, want.at, want.err, want.hop, want.code = "http status", onlyHop, &httpconnect.StatusError{Status: code}, 1, code
		rows = append(rows, want)
		if want.side == serverSide || want.kind == denied { // from the first of two it is the proxies' own affair
			want.at = firstOfTwo
			if want.side == serverSide {
				want.hop = 2
			}
			want.side, want.blame, want.retry = hopSide, byProxy, true
			rows = append(rows, want)
		}
	}
	for code, want := range map[socks5.Code]classRow{
		1: {kind: unreachable, side: serverSide, blame: byTarget, retry: true}, 2: {kind: denied, side: hopSide, blame: byTarget},
		3: {kind: unreachable, side: serverSide, blame: byTarget, retry: true}, 4: {kind: unreachable, side: serverSide, blame: byTarget, retry: true},
		5: {kind: refused, side: serverSide, blame: byTarget, retry: true}, 6: {kind: timeout, side: serverSide, blame: byTarget, retry: true},
		7: {kind: protocol, side: hopSide, blame: byProxy, retry: true}, 8: {kind: unreachable, side: serverSide, blame: byTarget, retry: true},
		9: {kind: protocol, side: hopSide, blame: byProxy, retry: true},
	} {
		want.row, want.at, want.err, want.hop, want.code, want.says = "socks5 reply", onlyHop, &socks5.ReplyError{Code: code}, 1, int(code), code.String()
		rows = append(rows, want)
	}
	return rows
}

func TestClassify(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range classRows() {
		e := c.at
		e.Err = c.err
		got := classify(&e)
		row := ""
		for i := range rows {
			if _, ok := rows[i].match(&e); ok {
				row = rows[i].name
				break
			}
		}
		seen[row] = true
		name := fmt.Sprintf("%s: %v at hop %d of %d, %s", c.row, c.err, e.Hop, e.Hops, e.Phase)
		if row != c.row {
			t.Errorf("%s: matched by %q", name, row)
		}
		if got.Phase != e.Phase || got.Side != c.side || got.Hop != c.hop || got.Kind != c.kind || got.Code != c.code || got.Blame != c.blame || got.Retryable != c.retry {
			t.Errorf("%s: phase %s side %s hop %d kind %s code %d blame %q retryable %v\n want side %s hop %d kind %s code %d blame %q retryable %v", name,
				got.Phase, got.Side, got.Hop, got.Kind, got.Code, got.Blame, got.Retryable, c.side, c.hop, c.kind, c.code, c.blame, c.retry)
		}
		if !strings.Contains(got.Message, c.says) {
			t.Errorf("%s: message %q does not say %q", name, got.Message, c.says)
		}
		if (got.CodeOf != "") != (got.Code != 0) || !errors.Is(got, c.err) {
			t.Errorf("%s: code of %q, cause %v", name, got.CodeOf, got.Cause)
		}
		var he *HopError
		if !errors.As(got, &he) || he.Hop != e.Hop {
			t.Errorf("%s: no HopError below", name)
		}
		if got.Side == hopSide && (got.HopName == "") || (got.Hop == 0) != (got.HopName == "") {
			t.Errorf("%s: hop %d is named %q", name, got.Hop, got.HopName)
		}
		for _, r := range got.Message {
			if r < ' ' {
				t.Errorf("%s: control character in %q", name, got.Message)
			}
		}
	}
	for _, r := range rows {
		if !seen[r.name] {
			t.Errorf("no test meets row %q", r.name)
		}
	}
	for code := range statuses {
		if http.StatusText(code) == "" {
			t.Errorf("status %d does not exist", code)
		}
	}
}

func TestHastyTimeoutBlamesNobody(t *testing.T) {
	e := onlyHop
	e.Err, e.hasty = os.ErrDeadlineExceeded, true
	if c := classify(&e); c.Kind != timeout || c.Blame != byNobody || c.Side != hopSide {
		t.Errorf("%+v", c)
	}
}
