package router

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"

	"viaduct/connmodel"
)

// secured is what a session has of TLS with its client. The sessions of HTTP/2 streams share that of their connection.
type secured struct {
	conn    *tls.Conn // nil before the handshake is done
	http2   bool      // agreed by ALPN
	streams places

	mu   sync.Mutex
	by   *doorTLS // whose authorities have verified user
	user string   // that the client's certificate proves; "" = it has none
}

// secure makes the TLS handshake with the client, where its listener wants one, and reports whether there is a client to go on with. It
// has the time that everything up to a complete request has: TLS buys a slow client nothing.
func (s *session) secure() bool {
	t := s.tls
	if t == nil {
		return true
	}
	p := s.door.pin.Load()
	s.handshakeDeadline(p.l, s.started)
	if s.closing() {
		s.drain()
	}
	if len(s.in.Buffered()) == 0 { // else it came right behind what a balancer said
		if err := s.in.Fill(); err != nil {
			s.silent(err)
			return false
		}
	}
	s.life.enter(stateHead)
	s.conn.SetDeadline(s.handshakeEnd(p.l, s.started)) // what we write may be a chain of certificates, which a client can leave unread
	s.live.TLSStarted()
	if first := s.in.Buffered()[0]; first != recordHandshake {
		s.notTLS(p, first)
		return false
	}
	under := &firstFlight{Conn: s.conn, early: append([]byte(nil), s.in.Buffered()...), left: maxFlight}
	s.in.Release()
	c := tls.Server(under, t.by.config)
	if err := c.HandshakeContext(context.Background()); err != nil {
		s.tlsFailed(p, under, err)
		return false
	}
	under.done()
	cs := c.ConnectionState()
	info := connmodel.NewTLSInfo(&cs, under.alpn, false)
	s.clientCertificate(p, &cs, info)
	s.live.TLSEstablished(info)
	s.r.opt.Meter.ClientTLS(s.name, time.Since(s.started))
	under.alpn, under.versions = nil, nil // the connection may live for long
	t.user, _ = t.by.user(&cs)            // it has been asked in the handshake already
	t.conn, t.http2 = c, cs.NegotiatedProtocol == "h2"
	s.conn.SetWriteDeadline(time.Time{})
	s.life.mu.Lock()
	s.conn = c
	s.life.state = stateIdle // nothing is asked for yet
	s.life.mu.Unlock()
	s.in.Reset(c, s.headLimits(p.l))
	return true
}

// recordHandshake is the type of the TLS record that a ClientHello comes in (RFC 8446, section 5.1).
const recordHandshake = 22

// notTLS tells a client that does not speak TLS what is expected here. HTTP clients are told in HTTP, since a browser or curl that was given
// http:// for https:// shows nothing else; SOCKS has no words for it.
func (s *session) notTLS(p *pin, first byte) {
	e := &connmodel.ConnError{
		Phase: connmodel.PhaseTLS, Side: connmodel.SideClient, Kind: connmodel.KindProtocol, Blame: connmodel.BlameClient,
		Message: "the client does not speak TLS, which this listener wants",
	}
	proto, tell := connmodel.Protocol(""), false
	switch {
	case first >= 'A' && first <= 'Z':
		proto, tell = connmodel.ProtocolHTTP, true
		e.Code, e.CodeOf = 400, "http"
		e.Message = "the client speaks plain HTTP, and this listener wants TLS: use https:// in the URL of the proxy"
	case first == 5:
		proto, e.Message = connmodel.ProtocolSOCKS5, "the client speaks plain SOCKS5, and this listener wants TLS first"
	case first == 4:
		proto, e.Message = connmodel.ProtocolSOCKS4, "the client speaks plain SOCKS4, and this listener wants TLS first"
	default:
		s.conn.Write(alertUnexpected)
	}
	s.live.TLSFailed(e, nil)
	s.reject(p, proto, tell, e)
}

// Alerts that end a connection before TLS was spoken on it: a record of type 21, with a level, 2 for fatal, and the description.
var (
	alertUnexpected = []byte{21, 3, 1, 0, 2, 2, 10} // unexpected_message
	alertHandshake  = []byte{21, 3, 1, 0, 2, 2, 40} // handshake_failure
)

// tlsNotTaken refuses a client that speaks TLS to a listener that does not.
func (s *session) tlsNotTaken(p *pin) {
	s.conn.Write(alertHandshake)
	e := notTaken("the client speaks TLS, which this listener does not: use http:// (or socks5://) in the URL of the proxy, or give the listener a tls block")
	if s.tls != nil {
		e = notTaken("the client begins TLS within TLS: no server can be meant before it has asked for one")
	}
	e.Kind = connmodel.KindTLS
	s.reject(p, "", false, e)
}

// tlsFailed records a handshake that failed. crypto/tls has sent the alert, if one was due.
func (s *session) tlsFailed(p *pin, f *firstFlight, err error) {
	e := s.outside(handshakeFault(f, s.tls.by, err))
	info := connmodel.NewTLSInfo(&tls.ConnectionState{ServerName: f.sni, PeerCertificates: unverified(err)}, f.alpn, false)
	info.Version, info.Cipher, info.ALPN = "", "", nil
	s.live.TLSFailed(e, info)
	s.reject(p, "", false, e)
}

// unverified returns the certificates that were not accepted.
func unverified(err error) []*x509.Certificate {
	var v *tls.CertificateVerificationError
	if errors.As(err, &v) {
		return v.UnverifiedCertificates
	}
	return nil
}

// maxFlight bounds what is read of a client before its handshake is done, in bytes. crypto/tls takes messages of 64 KiB, chains of
// certificates of 256 KiB, in records as small as the client likes.
const maxFlight = 192 << 10

var errFlight = errors.New("the client's part of the TLS handshake is too long")

// firstFlight is a client's connection below TLS: it gives out what was read of it before, bounds what a handshake may read, and keeps
// what the ClientHello said for the record.
type firstFlight struct {
	net.Conn
	early []byte
	left  int     // bytes that may still be read; less than 0: no bound
	last  [7]byte // read in the handshake, the newest at the end

	hello    bool // there was a ClientHello
	sni      string
	alpn     []string
	versions []uint16
}

// note keeps the end of what is read.
func (f *firstFlight) note(b []byte) {
	if n, most := len(b), len(f.last); n >= most {
		copy(f.last[:], b[n-most:])
	} else {
		copy(f.last[:], f.last[n:])
		copy(f.last[most-n:], b)
	}
}

// NetConn returns the connection below, for those who look at its socket.
func (f *firstFlight) NetConn() net.Conn { return f.Conn }

func (f *firstFlight) Read(b []byte) (int, error) {
	if len(f.early) > 0 {
		n := copy(b, f.early)
		f.note(b[:n])
		if f.early = f.early[n:]; len(f.early) == 0 {
			f.early = nil
		}
		return n, nil
	}
	if f.left < 0 {
		return f.Conn.Read(b)
	}
	if f.left == 0 {
		return 0, errFlight
	}
	n, err := f.Conn.Read(b[:min(len(b), f.left)])
	f.left -= n
	f.note(b[:n])
	return n, err
}

// plainAlert returns the alert that was the last thing read, if it came in the clear. A client of TLS 1.3 that does not like our certificate
// can send it so, since its keys are not in use yet; crypto/tls, whose keys are, takes it for a broken record.
func (f *firstFlight) plainAlert() (tls.AlertError, bool) {
	l := f.last
	if l[0] == 21 && l[1] == 3 && l[3] == 0 && l[4] == 2 && (l[5] == 1 || l[5] == 2) {
		return tls.AlertError(l[6]), true
	}
	return 0, false
}

// done ends the handshake: what follows has other bounds.
func (f *firstFlight) done() { f.left = -1 }

// noteHello keeps what a ClientHello says. It is called for each handshake, by way of tls.Config.GetConfigForClient.
func noteHello(h *tls.ClientHelloInfo) (*tls.Config, error) {
	if f, ok := h.Conn.(*firstFlight); ok {
		f.hello, f.sni, f.alpn, f.versions = true, h.ServerName, h.SupportedProtos, h.SupportedVersions
	}
	return nil, nil
}

// transport returns the connection below all layers of c.
func transport(c net.Conn) net.Conn {
	for {
		l, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = l.NetConn()
	}
}

// hangUp closes the client's connection. A session that was ended from outside sends no close_notify before: it would have to wait for a
// client that does not read.
func (s *session) hangUp() {
	if (s.tls != nil || s.inner != nil) && s.life.ended() != "" {
		transport(s.conn).Close()
	}
	s.conn.Close()
}
