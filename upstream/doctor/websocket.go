package doctor

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"viaduct/connmodel"
	"viaduct/upstream"
	"viaduct/upstream/http1"
)

// held is a connection that is left open to see what idling does to it.
type held struct {
	name string
	conn net.Conn
	ws   bool
	tls  bool
	host string
}

// websockets asks for an Upgrade in each way that an application would, and returns the connections that took it.
func (x *exam) websockets() (open []*held) {
	u := x.WebSocket
	if u == nil {
		return nil
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	to, err := connmodel.ParseAddress(net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		x.step("websocket", func(s *Step) { s.fail("ws_url", "%s: %s", clean(u.String()), err) })
		return nil
	}
	keep := func(h *held) {
		if h != nil {
			open = append(open, h)
		}
	}
	x.step("websocket", func(s *Step) { keep(x.websocket(s, to, false)) })
	if u.Scheme == "ws" && x.Spec.HTTP() {
		x.step("websocket", func(s *Step) { keep(x.websocket(s, to, true)) })
	}
	return open
}

// websocket makes one, by CONNECT or by a request in absolute-form.
func (x *exam) websocket(s *Step, to connmodel.Address, absolute bool) *held {
	way := "by CONNECT"
	if absolute {
		way = "by a plain request"
	}
	s.fact("way", way)
	s.fact("url", clean(x.WebSocket.Redacted()))
	c, _, no := x.route(upstream.Request{Target: to, Plain: absolute, PlainConnect: !absolute, Switches: absolute})
	if no != nil {
		s.fail(connectCode(no), "%s: %s", way, no.Error())
		return nil
	}
	l := x.hold(upstream.WithEarly(c.Conn, c.Early, c))
	h := &held{name: "WebSocket " + way, conn: l, ws: true, host: to.Host}
	if x.WebSocket.Scheme == "wss" {
		want := &tls.Config{ServerName: to.Host, RootCAs: x.Roots, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: true}
		t := tls.Client(l, want)
		if err := t.Handshake(); err != nil {
			s.fail("ws_tls", "%s: TLS with %s: %s", way, to, plain(err))
			l.Close()
			return nil
		}
		want.InsecureSkipVerify = false
		cs := t.ConnectionState()
		if found := judge(s, &cs, want, to.Host); len(found) > 0 {
			s.detail("the certificate of %s %s", to, found[0].Text)
		}
		h.conn, h.tls = t, true
	}
	if !x.upgrade(s, c, h, to, way) {
		h.conn.Close()
		return nil
	}
	return h
}

// wsGUID is of RFC 6455, section 1.3.
const wsGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// upgrade asks for the switch, and pings.
func (x *exam) upgrade(s *Step, c *upstream.Conn, h *held, to connmodel.Address, way string) bool {
	u := x.WebSocket
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	target := u.RequestURI()
	if c.Absolute {
		target = "http://" + u.Host + target
	}
	head := http1.Header{{Name: "Host", Value: u.Host}, {Name: "Connection", Value: "Upgrade"}, {Name: "Upgrade", Value: "websocket"},
		{Name: "Sec-WebSocket-Version", Value: "13"}, {Name: "Sec-WebSocket-Key", Value: key}}
	var in http1.Reader
	var res http1.Response
	in.Reset(h.conn, http1.Limits{})
	if !x.asks(s, c, h, &in, &res, target, head, way) {
		return false
	}
	s.fact("status", res.Status)
	if res.Status != 101 {
		code := "ws_refused"
		switch {
		case res.Status == 407:
			code = "connect_407"
		case res.Status/100 == 2:
			code = "ws_not_switched"
		case res.Status/100 == 5:
			code = "ws_unreachable"
		}
		s.fail(code, "%s: HTTP %d %s in place of 101", way, res.Status, clean(res.Reason))
		return false
	}
	sum := sha1.Sum([]byte(key + wsGUID))
	if got := res.Header.Get("Sec-WebSocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
		s.fail("ws_accept", "%s: 101, and the answer is not that of a WebSocket server to this request", way)
		return false
	}
	if rest := in.Buffered(); len(rest) > 0 {
		h.conn = upstream.WithEarlyBytes(h.conn, append([]byte(nil), rest...))
	}
	start := time.Now()
	if err := ping(h.conn, time.Now().Add(x.Timeout)); err != nil {
		s.fail("ws_silent", "%s: it was opened, and a ping has no answer: %s", way, plain(err))
		return false
	}
	took := time.Since(start)
	s.fact("ping_ms", millis(took))
	s.ok("%s: %s is open, a ping is answered in %s", way, to, took.Round(100*time.Microsecond))
	h.conn.SetDeadline(time.Time{})
	return true
}

// maxAsked is how often the request is sent to a proxy that asks who we are: twice in a handshake that belongs to the connection, once more before it.
const maxAsked = 3

// asks sends the request and reads the answer. A proxy that fetches by itself is shown the credential as a flow would show it, and what it says to that
// counts: a rejection closes the credential, and is a failure of the proxy's.
func (x *exam) asks(s *Step, c *upstream.Conn, h *held, in *http1.Reader, res *http1.Response, target string, head http1.Header, way string) bool {
	for n := 1; ; n++ {
		all := append(http1.Header(nil), head...)
		if c.Absolute {
			name, value, err := c.Authorize("GET", target)
			if err != nil {
				s.fail(connectCode(err), "%s: %s", way, err.Error())
				return false
			}
			if name != "" {
				all.Add(name, value)
			}
		}
		out, err := http1.AppendHeader([]byte("GET "+target+" HTTP/1.1\r\n"), all)
		if err != nil {
			s.fail("ws_url", "%s: %s", clean(x.WebSocket.Redacted()), err)
			return false
		}
		if _, err := h.conn.Write(append(out, "\r\n"...)); err != nil {
			s.fail(netCode("ws", err), "%s: the request: %s", way, plain(err))
			return false
		}
		if err := in.ReadResponse("GET", res); err != nil {
			s.fail(netCode("ws", err), "%s: %s", way, plain(err))
			return false
		}
		if !c.Absolute || res.Status != 407 {
			if c.Absolute {
				c.Answered(res.Status, nil)
			}
			return true
		}
		var challenges []string
		for v := range res.Header.Values("Proxy-Authenticate") {
			challenges = append(challenges, v)
		}
		again, here, no := c.Challenged("GET", target, challenges)
		if no == nil && again && here && n < maxAsked && res.KeepAlive {
			if done, err := in.Body(res.Body).Drain(maxRefusal); err == nil && done && len(in.Buffered()) == 0 {
				continue
			}
		}
		if no == nil {
			no = &connmodel.ConnError{Phase: connmodel.PhaseAuth, Side: connmodel.SideHop, Hop: 1, HopName: x.Spec.Name, Kind: connmodel.KindAuth, Code: 407, CodeOf: "http", Blame: connmodel.BlameProxy,
				Message: "the proxy wants other credentials than it was given (407)"}
		}
		c.Answered(407, no)
		s.fact("status", 407)
		s.fail(connectCode(no), "%s: %s", way, no.Error())
		return false
	}
}

// maxRefusal bounds what is read of the page that comes with a 407.
const maxRefusal = 256 << 10

// maxFrames bounds what is read before the answer to a ping, and maxFrame each of it.
const (
	maxFrames = 64
	maxFrame  = 1 << 20
)

// ping sends one and waits for its answer (RFC 6455, section 5.5).
func ping(c net.Conn, by time.Time) error {
	c.SetDeadline(by)
	const body = "viaduct"
	mask := [4]byte{1, 2, 3, 4} // the body is no secret
	b := []byte{0x89, 0x80 | byte(len(body)), mask[0], mask[1], mask[2], mask[3]}
	for i := range len(body) {
		b = append(b, body[i]^mask[i%4])
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	for range maxFrames {
		op, data, err := frame(c)
		switch {
		case err != nil:
			return err
		case op == 0xa && string(data) == body:
			return nil
		case op == 8:
			return fmt.Errorf("the server closed it (%s)", closeReason(data))
		}
	}
	return fmt.Errorf("%d other frames came in place of it", maxFrames)
}

func closeReason(b []byte) string {
	if len(b) < 2 {
		return "without a reason"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", binary.BigEndian.Uint16(b), clean(string(b[2:]))))
}

// frame reads one of a server's.
func frame(c net.Conn) (op byte, data []byte, err error) {
	var h [10]byte
	if _, err = io.ReadFull(c, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		_, err = io.ReadFull(c, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(c, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	switch {
	case err != nil:
		return 0, nil, err
	case h[1]&0x80 != 0 || h[0]&0x70 != 0:
		return 0, nil, fmt.Errorf("what came is no frame of a WebSocket server")
	case n > maxFrame:
		return 0, nil, fmt.Errorf("a frame of %d bytes came", n)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(c, data)
	return h[0] & 0xf, data, err
}
