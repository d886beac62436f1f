package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"syscall"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
	"viaduct/upstream/httpconnect"
	"viaduct/upstream/socks4"
	"viaduct/upstream/socks5"
)

// whose says whose end of the journey a failure belongs to.
type whose uint8

const (
	peers  whose = iota // the hop, or the server, that was being spoken to
	nexts               // what the hop was asked to connect to: the next hop or the server
	ours                // Viaduct itself, or the machine it runs on
	nobody              // the caller gave up, or a rule said no
)

// verdict is what a wire error means.
type verdict struct {
	whose  whose
	kind   connmodel.Kind
	code   int
	codeOf string
	retry  bool
	text   string // one sentence that says what to do, where something can be done
}

// row is one line of the table from wire errors to what they mean.
type row struct {
	name  string
	match func(e *HopError) (verdict, bool)
}

// rows is the table. The first row that matches counts.
var rows = []row{
	{"guard", guardRow},
	{"canceled", canceledRow},
	{"limit", limitRow},
	{"address family", familyRow},
	{"unsayable host", hostRow},
	{"http status", statusRow},
	{"socks5 reply", socks5Row},
	{"socks5 auth", socks5AuthRow},
	{"socks4 reply", socks4Row},
	{"wire format", formatRow},
	{"dns", dnsRow},
	{"certificate", certificateRow},
	{"tls alert", alertRow},
	{"not tls", recordRow},
	{"timeout", timeoutRow},
	{"errno", errnoRow},
	{"eof", eofRow},
	{"tls", tlsRow},
}

// classify says what a failure means.
func classify(e *HopError) *connmodel.ConnError {
	v := verdict{kind: connmodel.KindProtocol, retry: true, text: e.peer() + " failed: " + e.Err.Error()}
	for i := range rows {
		if m, ok := rows[i].match(e); ok {
			v = m
			break
		}
	}
	c := &connmodel.ConnError{Phase: e.Phase, Hop: e.Hop, HopName: e.Upstream, Kind: v.kind, Code: v.code, CodeOf: v.codeOf,
		Retryable: v.retry, Message: v.text, Cause: e}
	at, name := e.Hop, e.Upstream
	if v.whose == nexts {
		at, name = e.Hop+1, e.Next
	}
	switch {
	case v.whose == ours:
		c.Side, c.Blame = connmodel.SideViaduct, connmodel.BlameLocal
	case v.whose == nobody:
		c.Side, c.Blame = connmodel.SideViaduct, connmodel.BlameNobody
	case at > e.Hops: // Hop and HopName keep naming the proxy that said so
		c.Side, c.Blame = connmodel.SideServer, connmodel.BlameTarget
	default:
		c.Side, c.Blame, c.Hop, c.HopName = connmodel.SideHop, connmodel.BlameProxy, at, name
	}
	if c.HopName == "" {
		c.Hop = 0
	}
	if v.kind == connmodel.KindDenied && c.Side == connmodel.SideHop {
		if e.Next == "" {
			c.Blame = connmodel.BlameTarget // its rules are about this target: the proxy is well
		} else {
			c.Retryable = true // proxies that do not let each other in: another way may do
		}
	}
	if v.kind == connmodel.KindTimeout && e.hasty {
		c.Blame = connmodel.BlameNobody
	}
	return c
}

// peer names who was being spoken to, with the address.
func (e *HopError) peer() string {
	if e.server() {
		return "the server " + e.Address.String()
	}
	return "the proxy " + e.Address.String()
}

// beyond names what the proxy was asked to connect to.
func (e *HopError) beyond() string {
	if e.Next != "" {
		return "the next proxy " + e.Next + " (" + e.Beyond.String() + ")"
	}
	return e.Beyond.String()
}

// during says in words what was going on.
func (e *HopError) during() string {
	switch e.Phase {
	case connmodel.PhaseResolve:
		return "while its name was looked up"
	case connmodel.PhaseDial:
		return "while it was being connected to"
	case connmodel.PhaseTLS:
		return "during the TLS handshake"
	case connmodel.PhaseGreeting:
		return "during the SOCKS greeting"
	case connmodel.PhaseAuth:
		return "while it checked our credentials"
	}
	return "when it was asked to connect to " + e.beyond()
}

func guardRow(e *HopError) (verdict, bool) {
	var g *guardError
	if !errors.As(e.Err, &g) {
		return verdict{}, false
	}
	v := verdict{whose: nobody, kind: connmodel.KindDenied, text: "refused: " + g.Error()}
	var c *connmodel.ConnError
	if errors.As(g.err, &c) { // the guard has found the words itself
		v.kind, v.code, v.codeOf, v.text = c.Kind, c.Code, c.CodeOf, c.Message
	}
	return v, true
}

func canceledRow(e *HopError) (verdict, bool) {
	if !errors.Is(e.Err, context.Canceled) {
		return verdict{}, false
	}
	return verdict{whose: nobody, kind: connmodel.KindCanceled, text: "given up before the connection was made"}, true
}

func limitRow(e *HopError) (verdict, bool) {
	var l *limitError
	if !errors.As(e.Err, &l) {
		return verdict{}, false
	}
	return verdict{whose: ours, kind: connmodel.KindLimit, retry: true, text: "upstream " + e.Upstream + " has as many connections as its max_connections allows (" +
		strconv.Itoa(l.most) + ")"}, true
}

func familyRow(e *HopError) (verdict, bool) {
	switch {
	case errors.Is(e.Err, errNoIPv4):
		return verdict{whose: ours, kind: connmodel.KindUnreachable, retry: true,
			text: e.Address.String() + " has no IPv4 address, and SOCKS4 carries no other; use socks5 or socks5h"}, true
	case errors.Is(e.Err, errNoFamily):
		return verdict{whose: ours, kind: connmodel.KindUnreachable, retry: true,
			text: e.Address.String() + " has no address of the family of source_address"}, true
	}
	return verdict{}, false
}

// hostRow is a target that the hop's protocol has no way to say.
func hostRow(e *HopError) (verdict, bool) {
	if !errors.Is(e.Err, socks5.ErrName) && !errors.Is(e.Err, socks4.ErrHost) {
		return verdict{}, false
	}
	return verdict{whose: ours, kind: connmodel.KindProtocol, retry: true, text: e.Scheme + " has no way to say " + e.Beyond.Host}, true
}

// socks5Replies are the replies of RFC 1928, section 6.
var socks5Replies = map[socks5.Code]verdict{
	socks5.GeneralFailure:          {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	socks5.NotAllowed:              {whose: peers, kind: connmodel.KindDenied},
	socks5.NetworkUnreachable:      {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	socks5.HostUnreachable:         {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	socks5.ConnectionRefused:       {whose: nexts, kind: connmodel.KindRefused, retry: true},
	socks5.TTLExpired:              {whose: nexts, kind: connmodel.KindTimeout, retry: true},
	socks5.CommandNotSupported:     {whose: peers, kind: connmodel.KindProtocol, retry: true},
	socks5.AddressTypeNotSupported: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
}

func socks5Row(e *HopError) (verdict, bool) {
	var r *socks5.ReplyError
	if !errors.As(e.Err, &r) {
		return verdict{}, false
	}
	v, known := socks5Replies[r.Code]
	if !known {
		v = verdict{whose: peers, kind: connmodel.KindProtocol, retry: true}
	}
	v.code, v.codeOf = int(r.Code), "socks5"
	v.text = refusalText(e, &v, "socks5: "+r.Code.String())
	return v, true
}

// refusalText is the sentence for a proxy that answered no.
func refusalText(e *HopError, v *verdict, said string) string {
	proxy := "hop " + strconv.Itoa(e.Hop) + " (" + e.Upstream + ")"
	switch {
	case v.kind == connmodel.KindDenied:
		return said + "; the proxy's rules do not allow " + e.beyond() + ", ask whoever runs it"
	case v.whose == nexts:
		return proxy + " could not reach " + e.beyond() + ": " + said
	}
	return said + ", when asked to connect to " + e.beyond()
}

func socks5AuthRow(e *HopError) (verdict, bool) {
	var a *socks5.AuthError
	switch {
	case !errors.As(e.Err, &a):
		return verdict{}, false
	case !a.NoMethod:
		return authVerdict("the proxy rejected the user name or password; check the credentials of upstream " + e.Upstream), true
	case a.Offered:
		return authVerdict("the proxy takes none of the ways to prove who we are that upstream " + e.Upstream + " can use (none, user and password)"), true
	}
	return authVerdict("the proxy wants a user name and password; add auth to upstream " + e.Upstream), true
}

func socks4Row(e *HopError) (verdict, bool) {
	var r *socks4.ReplyError
	if !errors.As(e.Err, &r) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindProtocol, retry: true}
	switch r.Code {
	case socks4.Rejected: // the protocol has no other word, for rules as well as for targets that are down
		v = verdict{whose: nexts, kind: connmodel.KindUnreachable, retry: true}
	case socks4.NoIdent, socks4.IdentMismatch:
		v = authVerdict("the proxy does not accept the user name (" + r.Code.String() + "); check auth of upstream " + e.Upstream)
	}
	v.code, v.codeOf = int(r.Code), "socks4"
	if v.text == "" {
		v.text = refusalText(e, &v, "socks4: "+r.Code.String())
	}
	return v, true
}

// authVerdict is a proxy that did not let us in. Retryable, because another proxy may; dialing.spare sees to it that
// the same credentials are not shown again.
func authVerdict(text string) verdict {
	return verdict{whose: peers, kind: connmodel.KindAuth, retry: true, text: text}
}

// statuses are the answers of HTTP proxies to CONNECT that have a meaning of their own.
var statuses = map[int]verdict{
	400: {whose: peers, kind: connmodel.KindProtocol, retry: true, text: "it did not understand the request"},
	401: {whose: peers, kind: connmodel.KindDenied, text: "it wants a login of its own kind: is this a proxy, or a web server?"},
	403: {whose: peers, kind: connmodel.KindDenied},
	404: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	405: {whose: peers, kind: connmodel.KindDenied, text: "it does not allow CONNECT: is this a proxy, or a web server?"},
	407: {whose: peers, kind: connmodel.KindAuth, retry: true},
	408: {whose: peers, kind: connmodel.KindTimeout, retry: true},
	421: {whose: peers, kind: connmodel.KindDenied},
	429: {whose: peers, kind: connmodel.KindLimit, retry: true, text: "it has too many requests from us"},
	451: {whose: peers, kind: connmodel.KindDenied},
	500: {whose: peers, kind: connmodel.KindProtocol, retry: true, text: "something is wrong inside the proxy"},
	501: {whose: peers, kind: connmodel.KindProtocol, retry: true, text: "it does not know CONNECT"},
	502: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	503: {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	504: {whose: nexts, kind: connmodel.KindTimeout, retry: true},
	508: {whose: peers, kind: connmodel.KindProtocol, text: "it sees a loop of proxies"},
}

func statusRow(e *HopError) (verdict, bool) {
	var s *httpconnect.StatusError
	if !errors.As(e.Err, &s) {
		return verdict{}, false
	}
	v, known := statuses[s.Status]
	if !known {
		v = verdict{whose: peers, kind: connmodel.KindProtocol, retry: true, text: "that is no answer to CONNECT"}
		if s.Status/100 == 3 {
			v.text = "that is a redirect: is there a login page in the way?"
		}
	}
	if h, ok := hints[e.hint]; ok && s.Status >= 400 && v.kind != connmodel.KindAuth {
		v = verdict{whose: h.whose, kind: h.kind, retry: h.retry}
	}
	v.code, v.codeOf = s.Status, "http"
	said := "HTTP " + strconv.Itoa(s.Status)
	if t := http.StatusText(s.Status); t != "" {
		said += " " + t
	}
	if e.hint != "" {
		said += " (" + e.hint + ")"
	}
	switch {
	case v.kind == connmodel.KindAuth && e.shown:
		v.text = said + ": the proxy rejected our credentials; check those of upstream " + e.Upstream
	case v.kind == connmodel.KindAuth:
		v.text = said + ": the proxy wants credentials; add auth to upstream " + e.Upstream
	case v.text != "":
		v.text = refusalText(e, &verdict{}, said) + ": " + v.text
	default:
		v.text = refusalText(e, &v, said)
	}
	return v, true
}

// tooMuch are the bounds of the HTTP codec.
var tooMuch = []error{
	&http1.Error{Reason: "header section too large"},
	&http1.Error{Reason: "too many header fields"},
	&http1.Error{Reason: "too many informational responses"},
}

// formatRow is a peer that does not speak its protocol. The codecs' texts hold nothing of the peer's.
func formatRow(e *HopError) (verdict, bool) {
	var (
		connect *httpconnect.ProtocolError
		four    *socks4.ProtocolError
		five    *socks5.ProtocolError
		fault   *http1.Error
	)
	for _, bound := range tooMuch {
		if errors.Is(e.Err, bound) {
			return verdict{whose: peers, kind: connmodel.KindLimit, retry: true, text: "the answer of " + e.peer() + " was longer than we read: " + e.Err.Error()}, true
		}
	}
	switch {
	case errors.As(e.Err, &connect), errors.As(e.Err, &four), errors.As(e.Err, &five):
		return verdict{whose: peers, kind: connmodel.KindProtocol, retry: true,
			text: e.peer() + " does not speak " + e.Scheme + " as it should: " + e.Err.Error() + "; check the scheme and port of upstream " + e.Upstream}, true
	case errors.As(e.Err, &fault): // of the request: nothing was sent
		return verdict{whose: ours, kind: connmodel.KindInternal, text: "the request to " + e.peer() + " cannot be written: " + e.Err.Error()}, true
	}
	return verdict{}, false
}

func dnsRow(e *HopError) (verdict, bool) {
	var d *net.DNSError
	if !errors.As(e.Err, &d) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindDNS, retry: true}
	switch {
	case d.IsNotFound:
		v.retry = !e.server()
		v.text = "there is no host named " + e.Address.Host + ", or it has no address"
		if !e.server() {
			v.text += "; check the url of upstream " + e.Upstream
		}
	case d.IsTimeout:
		v.kind = connmodel.KindTimeout
		v.text = "the name servers did not answer for " + e.Address.Host + " in time; check the resolver of this machine"
	default:
		v.text = "the name servers could not look up " + e.Address.Host + " (" + d.Err + ")"
	}
	return v, true
}

func timeoutRow(e *HopError) (verdict, bool) {
	var ne net.Error
	if !errors.Is(e.Err, os.ErrDeadlineExceeded) && !errors.Is(e.Err, context.DeadlineExceeded) && !(errors.As(e.Err, &ne) && ne.Timeout()) {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindTimeout, retry: true, text: e.peer() + " did not answer in time " + e.during()}
	if e.Phase == connmodel.PhaseDial {
		v.text = "no answer from " + e.Address.String() + " in time; is it up, or does a firewall drop the packets?"
	}
	return v, true
}

// errnoRow is what the kernel says of sockets.
func errnoRow(e *HopError) (verdict, bool) {
	var n syscall.Errno
	if !errors.As(e.Err, &n) {
		return verdict{}, false
	}
	v := verdict{whose: peers, retry: true}
	switch n {
	case syscall.ECONNREFUSED:
		v.kind, v.text = connmodel.KindRefused, "connection refused: nothing listens at "+e.Address.String()
		if !e.server() {
			v.text += "; is the proxy running there?"
		}
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN:
		v.kind, v.text = connmodel.KindUnreachable, "there is no way from this machine to "+e.Address.String()+" ("+n.Error()+")"
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		v.kind, v.text = connmodel.KindReset, e.peer()+" reset the connection "+e.during()
	case syscall.EMFILE, syscall.ENFILE:
		v.whose, v.kind, v.retry = ours, connmodel.KindLimit, false
		v.text = "the gateway has no file descriptors left; raise its limit (LimitNOFILE)"
	case syscall.EADDRNOTAVAIL:
		v.whose, v.kind = ours, connmodel.KindLimit
		v.text = "there is no local address or port to reach " + e.Address.String() + " from; check source_address, and net.ipv4.ip_local_port_range"
	case syscall.EACCES, syscall.EPERM:
		v.whose, v.kind, v.retry = ours, connmodel.KindDenied, false
		v.text = "this machine does not let the gateway connect to " + e.Address.String() + " (firewall, or rights)"
	case syscall.ENODEV:
		v.whose, v.kind, v.retry = ours, connmodel.KindInternal, false
		v.text = "the interface to send from does not exist; check interface"
	case syscall.ENOBUFS, syscall.ENOMEM:
		v.whose, v.kind, v.retry = ours, connmodel.KindLimit, false
		v.text = "the machine has no memory left for sockets"
	default:
		v.whose, v.kind = ours, connmodel.KindInternal
		v.text = "connecting to " + e.Address.String() + " failed: " + n.Error()
	}
	return v, true
}

func eofRow(e *HopError) (verdict, bool) {
	v := verdict{whose: peers, kind: connmodel.KindEOF, retry: true}
	switch {
	case errors.Is(e.Err, io.ErrUnexpectedEOF):
		v.text = e.peer() + " closed the connection in the middle of its answer, " + e.during()
	case errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrClosedPipe), errors.Is(e.Err, net.ErrClosed):
		v.text = e.peer() + " closed the connection instead of answering, " + e.during()
	default:
		return verdict{}, false
	}
	return v, true
}

func certificateRow(e *HopError) (verdict, bool) {
	text, ok := certificateText(e)
	if !ok {
		return verdict{}, false
	}
	// Another way leads to the same server, but another proxy may have a certificate that is right.
	return verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), text: text}, true
}

func alertRow(e *HopError) (verdict, bool) {
	a, ok := alertOf(e.Err)
	if !ok {
		return verdict{}, false
	}
	v := verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), code: int(a), codeOf: "tls"}
	v.text = e.peer() + " ended the TLS handshake: " + a.Error()
	switch a {
	case 40:
		v.text += "; it has no version or cipher in common with us, or wants a client certificate"
	case 70:
		v.text += "; it speaks no TLS version that we allow, check min_version"
	case 42, 43, 44, 45, 46, 48, 116:
		v.text += "; it does not accept our client certificate, or wants one"
	case 112:
		v.text += "; it does not know the name we asked for, check server_name"
	}
	return v, true
}

// alertOf returns the alert that the peer sent. Below net.OpError crypto/tls keeps alerts in a type of its own, a uint8.
func alertOf(err error) (tls.AlertError, bool) {
	var a tls.AlertError
	if errors.As(err, &a) {
		return a, true
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return tls.AlertError(v.Uint()), true
	}
	return 0, false
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
	if len(text) > 200 {
		text = text[:200]
	}
	return verdict{whose: peers, kind: connmodel.KindTLS, retry: !e.server(), text: "the TLS handshake with " + e.peer() + " failed: " + strconv.QuoteToASCII(text)}, true
}

// certificateText says what is wrong with a certificate, and what to do.
func certificateText(e *HopError) (string, bool) {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var other *tls.CertificateVerificationError
	who := "the certificate of " + e.peer()
	switch {
	case errors.As(e.Err, &name):
		return who + " is not for " + strconv.QuoteToASCII(name.Host) + " but for " + certNames(name.Certificate) + "; check server_name", true
	case errors.As(e.Err, &unknown):
		return who + " is signed by an authority that is not trusted" + issuer(unknown.Cert) + "; add its CA with ca", true
	case errors.As(e.Err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return who + " is not valid now: it is so from " + invalid.Cert.NotBefore.UTC().Format("2006-01-02 15:04 MST") + " to " +
			invalid.Cert.NotAfter.UTC().Format("2006-01-02 15:04 MST") + "; it must be renewed, or a clock is wrong", true
	case errors.As(e.Err, &invalid):
		return who + " cannot be used: " + strconv.QuoteToASCII(invalid.Error()), true
	case errors.As(e.Err, &other):
		return who + " was not accepted: " + strconv.QuoteToASCII(other.Err.Error()), true
	}
	return "", false
}

// maxNames bounds how many names of a certificate a message lists.
const maxNames = 5

func certNames(c *x509.Certificate) string {
	if c == nil {
		return "other names"
	}
	var all []string
	all = append(all, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no name at all (it has no subject alternative name)"
	}
	out := ""
	for i, n := range all {
		switch {
		case i == maxNames:
			return out + " and " + strconv.Itoa(len(all)-maxNames) + " more"
		case i > 0:
			out += ", "
		}
		out += strconv.QuoteToASCII(n)
	}
	return out
}

func issuer(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	return " (" + strconv.QuoteToASCII(c.Issuer.String()) + ")"
}
