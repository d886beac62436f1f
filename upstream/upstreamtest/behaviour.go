package upstreamtest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// Behaviour is what a proxy does with one connection. The zero value behaves,
// like OK. Make one with the variables and functions of this file.
type Behaviour struct {
	// Name is for the names of subtests.
	Name string

	early  func(s *session)                // instead of reading anything
	method []byte                          // SOCKS5: sent in place of the method reply; then silence
	auth   []byte                          // SOCKS5: sent in place of the RFC 1929 status; then silence
	reply  func(s *session, r *Request)    // after the request was read and its credentials accepted
	bound  string                          // SOCKS5: BND.ADDR of the success reply
	head   string                          // HTTP: in place of the 200 head
	write  func(s *session, b []byte) bool // how the success reply is written; nil means in one piece
}

// OK dials the target and relays, passing on half-closes.
var OK = Behaviour{Name: "ok"}

// Reset accepts and answers with RST before reading anything; a dial that is
// not quick enough sees it as its own error. For a port that refuses (no accept
// at all) use Refused, or Down.
var Reset = Behaviour{Name: "reset", early: func(s *session) { reset(s.raw) }}

// CloseAtOnce sends FIN before reading anything, and reads on so that the
// kernel sends no RST.
var CloseAtOnce = Behaviour{Name: "close at once", early: func(s *session) {
	closeWrite(s.raw)
	io.Copy(io.Discard, s.raw)
}}

// Silence accepts, reads, and never answers. It ends when the client ends.
var Silence = Behaviour{Name: "silence", early: func(s *session) { io.Copy(io.Discard, s.raw) }}

// Greeting sends b at once, before the client said anything, then reads until
// the client ends.
func Greeting(name string, b []byte) Behaviour {
	return Behaviour{Name: name, early: func(s *session) {
		s.raw.Write(b)
		io.Copy(io.Discard, s.raw)
	}}
}

// SilenceAfterRequest reads the request with its credentials, then says nothing.
var SilenceAfterRequest = Behaviour{Name: "silence after request", reply: func(s *session, _ *Request) { s.drain() }}

// CloseAfterRequest reads the request, then closes without a reply.
var CloseAfterRequest = Behaviour{Name: "close after request", reply: func(s *session, _ *Request) { s.finish() }}

// ResetAfterRequest reads the request, then resets.
var ResetAfterRequest = Behaviour{Name: "reset after request", reply: func(s *session, _ *Request) { reset(s.raw) }}

// Answer sends b as the reply to the request, then closes.
func Answer(name string, b []byte) Behaviour {
	return Behaviour{Name: name, reply: func(s *session, _ *Request) {
		s.c.Write(b)
		s.finish()
	}}
}

// AnswerAndHold sends b as the reply to the request, then stays open and silent.
func AnswerAndHold(name string, b []byte) Behaviour {
	return Behaviour{Name: name, reply: func(s *session, _ *Request) {
		s.c.Write(b)
		s.drain()
	}}
}

// Junk answers with bytes that are a reply in no protocol, then closes.
var Junk = Answer("junk", []byte("\xfe\xed\x00\x07\x80 lorem\x00ipsum \r\r\n\xff\xff dolor\n\n"))

// Status answers an HTTP request with a status, further fields ("Name: value")
// and a body, framed by Content-Length, then closes. A 407 without a
// Proxy-Authenticate field gets one for Basic.
func Status(code int, body string, fields ...string) Behaviour {
	return Answer(fmt.Sprintf("status %d body %d", code, len(body)), statusBytes(code, body, fields))
}

func statusBytes(code int, body string, fields []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d Scripted\r\n", code)
	challenge := false
	for _, f := range fields {
		fmt.Fprintf(&b, "%s\r\n", f)
		challenge = challenge || strings.HasPrefix(strings.ToLower(f), "proxy-authenticate:")
	}
	if code == 407 && !challenge {
		b.WriteString("Proxy-Authenticate: Basic realm=\"upstreamtest\"\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes()
}

// HugeHead answers an HTTP request with 200 and a head of about n bytes in
// fields of a thousand, complete, then stays open.
func HugeHead(n int) Behaviour {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "X-Filler-%04d: %s\r\n", i, strings.Repeat("f", 983))
	}
	b.WriteString("\r\n")
	return AnswerAndHold(fmt.Sprintf("head of %d bytes", n), b.Bytes())
}

// EndlessHead answers an HTTP request with a head that goes on until the
// client ends the connection.
var EndlessHead = Behaviour{Name: "endless head", reply: func(s *session, _ *Request) {
	line := []byte("X-Filler: " + strings.Repeat("f", 1000) + "\r\n")
	if _, err := s.c.Write([]byte("HTTP/1.1 200 OK\r\n")); err != nil {
		return
	}
	for {
		if _, err := s.c.Write(line); err != nil {
			return
		}
	}
}}

// HalfReply sends the first half of a success reply, then closes.
var HalfReply = Behaviour{Name: "half reply", write: func(s *session, b []byte) bool {
	s.c.Write(b[:len(b)/2])
	return false
}}

// Slow sends the success reply one byte per interval, each in a segment of its
// own, then relays as OK does. An interval of 0 does not wait in between.
func Slow(interval time.Duration) Behaviour {
	return Behaviour{Name: "slow " + interval.String(), write: func(s *session, b []byte) bool {
		for i := range b {
			if i > 0 && interval > 0 {
				select {
				case <-time.After(interval):
				case <-s.p.ctx.Done():
					return false
				}
			}
			if _, err := s.c.Write(b[i : i+1]); err != nil {
				return false
			}
		}
		return true
	}}
}

// Early sends extra in the same segment as the success reply, then relays.
func Early(extra []byte) Behaviour {
	return Behaviour{Name: "early bytes", write: func(s *session, b []byte) bool {
		_, err := s.c.Write(append(bytes.Clone(b), extra...))
		return err == nil
	}}
}

// Coalesce waits for the target's first bytes and sends them in the same
// segment as the success reply, then relays. The target must speak first.
var Coalesce = Behaviour{Name: "coalesce", reply: func(s *session, r *Request) {
	target, err := s.dial(r)
	if err != nil {
		return
	}
	defer s.p.drop(target)
	first := make([]byte, 4096)
	n, err := target.Read(first)
	if err != nil {
		return
	}
	if _, err := s.c.Write(append(s.p.proto.success(s, r), first[:n]...)); err == nil {
		s.relay(target)
	}
}}

// ResetAfter relays, and resets both sides once n bytes went to the client.
func ResetAfter(n int64) Behaviour {
	return Behaviour{Name: fmt.Sprintf("reset after %d", n), reply: func(s *session, r *Request) {
		target, err := s.dial(r)
		if err != nil {
			return
		}
		defer s.p.drop(target)
		if _, err := s.c.Write(s.p.proto.success(s, r)); err != nil {
			return
		}
		s.p.wg.Go(func() { io.Copy(target, s.br) })
		io.CopyN(s.c, target, n)
		reset(target)
		reset(s.raw)
	}}
}

// SuccessHead answers CONNECT with head in place of "HTTP/1.1 200 Connection
// established\r\n\r\n", then relays: another version, fields that mean nothing
// in a 2xx to CONNECT (RFC 9110 9.3.6), 1xx in front.
func SuccessHead(name, head string) Behaviour { return Behaviour{Name: name, head: head} }

// SOCKSReply answers the request with a failure of the protocol: REP of SOCKS5
// (RFC 1928 6: 1 to 8, but any byte can be sent) or CD of SOCKS4 (0x5b to 0x5d).
func SOCKSReply(code byte) Behaviour {
	return Behaviour{Name: fmt.Sprintf("socks reply %#02x", code), reply: func(s *session, _ *Request) {
		s.c.Write(s.p.proto.failure(code))
		s.finish()
	}}
}

// Bound is OK with host, an IP of either family or a name of up to 255 bytes,
// as BND.ADDR of the SOCKS5 success reply.
func Bound(host string) Behaviour {
	if len(host) > 255 {
		panic("upstreamtest: BND.ADDR holds 255 bytes at most")
	}
	return Behaviour{Name: fmt.Sprintf("bound %d", len(host)), bound: host}
}

// MethodReply sends b in place of the SOCKS5 method reply, then reads on: {5, 0xff} refuses
// all methods, {5, 2} asks for a password nobody offered.
func MethodReply(b ...byte) Behaviour {
	return Behaviour{Name: fmt.Sprintf("method reply % x", b), method: b}
}

// AuthReply sends b in place of the RFC 1929 status, then reads on.
func AuthReply(b ...byte) Behaviour {
	return Behaviour{Name: fmt.Sprintf("auth reply % x", b), auth: b}
}

// WrongVersion answers with a version that is not the protocol's: SOCKS5 says
// 4 in its method reply, SOCKS4 says 5 in its reply, HTTP speaks ICY.
var WrongVersion = Behaviour{
	Name: "wrong version", method: []byte{4, 0},
	reply: func(s *session, _ *Request) {
		s.c.Write(s.p.proto.wrong())
		s.finish()
	},
}
