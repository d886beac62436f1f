package upstream

import (
	"crypto/tls"
	"errors"
	"strconv"
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream/certcheck"
)

func certificateRow(e *HopError) (verdict, bool) {
	sent := e.sent
	if sent == nil {
		sent = certcheck.Sent(e.Err)
	}
	f, ok := certcheck.Judge(e.Err, sent)
	if !ok {
		return verdict{}, false
	}
	// Another way leads to the same server, but another proxy may have a certificate that is right.
	return verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), chain: f.Verdict, text: "the certificate of " + e.peer() + " " + f.Text}, true
}

func alertRow(e *HopError) (verdict, bool) {
	a, ok := connmodel.PeerAlert(e.Err)
	if !ok {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), code: int(a), codeOf: "tls"}
	v.text = e.peer() + " ended the TLS handshake: " + a.Error()
	v.text += alertMeans(uint8(a), e.clientAuth)
	return v, true
}

// alertMeans says what an alert of RFC 8446, section 6.2, is about in practice, and what to do.
func alertMeans(a uint8, auth connmodel.ClientAuth) string {
	switch a {
	case 40, 42, 43, 44, 45, 46, 48, 49, 116: // what a server says of a client certificate differs from one to the next
		switch {
		case auth == connmodel.ClientAuthNone:
			return "; it asked for a client certificate, and there is none that it would take: set certificate and key"
		case auth == connmodel.ClientAuthSent:
			return "; it does not accept our client certificate"
		case a == 40:
			return "; it has no version or cipher in common with us, or wants a client certificate"
		}
		return "; it does not accept our client certificate, or wants one"
	case 70:
		return "; it speaks no TLS version that we allow, check min_version and max_version"
	case 71:
		return "; what we offer is not safe enough for it, check ciphers"
	case 80:
		return "; something is wrong at the other end"
	case 112:
		return "; it does not know the name we asked for, check server_name"
	case 120:
		return "; it speaks none of the protocols that we offer, check alpn"
	}
	return ""
}

func recordRow(e *HopError) (verdict, bool) {
	var r tls.RecordHeaderError
	if !errors.As(e.Err, &r) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), text: e.peer() + " does not speak TLS"}
	if h := string(r.RecordHeader[:]); h == "HTTP/" {
		v.text += ", it answered with plain HTTP"
	}
	if e.server() {
		v.text += "; check the port, and whether the rule should have tls at all"
	} else {
		v.text += "; should the url of upstream " + e.Upstream + " be http://?"
	}
	return v, true
}

// tlsRow is what is left of a TLS handshake: crypto/tls has no types for it.
func tlsRow(e *HopError) (verdict, bool) {
	if e.Phase != connmodel.PhaseTLS {
		return verdict{}, false
	}
	text := e.Err.Error()
	if v, ok := strings.CutPrefix(text, "tls: server selected unsupported protocol version "); ok { // crypto/tls has no type for it
		n, _ := strconv.ParseUint(v, 16, 16)
		return verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(),
			text: e.peer() + " answered with " + tls.VersionName(uint16(n)) + ", which we do not allow; check min_version and max_version"}, true
	}
	if len(text) > 200 {
		text = text[:200]
	}
	return verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), text: "the TLS handshake with " + e.peer() + " failed: " + strconv.QuoteToASCII(text)}, true
}
