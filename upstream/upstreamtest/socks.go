package upstreamtest

import (
	"io"
	"net"
	"net/netip"
	"strconv"
)

// socks5Wire is RFC 1928 with RFC 1929, CONNECT only, byte by byte.
type socks5Wire struct{}

func (socks5Wire) serve(s *session) {
	r := s.request("SOCKS5")
	ver, methods, ok := s.sized(true) // VER NMETHODS METHODS
	if !ok || ver != 5 {
		return
	}
	if s.b.method != nil {
		s.c.Write(s.b.method)
		s.drain()
		return
	}
	if !s.authenticate(r, methods) {
		return
	}
	if !s.request5(r) {
		return
	}
	r.Accepted = true
	s.p.record(*r)
	if s.b.reply != nil {
		s.b.reply(s, r)
		return
	}
	s.connect(r)
}

// authenticate chooses a method: the password one if credentials are required,
// none otherwise, though a client that offers only the password may give it.
func (s *session) authenticate(r *Request, methods []byte) bool {
	var none, password bool
	for _, m := range methods {
		none = none || m == 0
		password = password || m == 2
	}
	required := s.p.opt.User != "" || s.p.opt.Password != ""
	switch {
	case !required && none && s.b.auth == nil:
		_, err := s.c.Write([]byte{5, 0})
		return err == nil
	case !password:
		s.p.record(*r)
		s.c.Write([]byte{5, 0xff})
		s.finish()
		return false
	}
	if _, err := s.c.Write([]byte{5, 2}); err != nil {
		return false
	}
	ver, user, ok := s.sized(true)
	if !ok || ver != 1 {
		return false
	}
	_, pass, ok := s.sized(false)
	if !ok {
		return false
	}
	r.User, r.Password, r.HasCredentials = string(user), string(pass), true
	if s.b.auth != nil {
		s.p.record(*r)
		s.c.Write(s.b.auth)
		s.drain()
		return false
	}
	if !s.allowed(r) {
		s.p.record(*r)
		s.c.Write([]byte{1, 1})
		s.finish()
		return false
	}
	_, err := s.c.Write([]byte{1, 0})
	return err == nil
}

// request5 reads VER CMD RSV ATYP DST.ADDR DST.PORT.
func (s *session) request5(r *Request) bool {
	head := make([]byte, 4, 262)
	if _, err := io.ReadFull(s.br, head); err != nil || head[0] != 5 || head[2] != 0 {
		return false
	}
	n := 0
	switch head[3] {
	case 1:
		n = 4
	case 4:
		n = 16
	case 3:
		l, err := s.br.ReadByte()
		if err != nil {
			return false
		}
		head, n = append(head, l), int(l)
	default:
		s.c.Write(s.p.proto.failure(8))
		s.finish()
		return false
	}
	rest := make([]byte, n+2)
	if _, err := io.ReadFull(s.br, rest); err != nil {
		return false
	}
	r.Head = append(head, rest...)
	host := string(rest[:n])
	if head[3] != 3 {
		a, _ := netip.AddrFromSlice(rest[:n])
		host = a.String()
	}
	r.Target = net.JoinHostPort(host, strconv.Itoa(int(rest[n])<<8|int(rest[n+1])))
	if head[1] != 1 {
		s.c.Write(s.p.proto.failure(7))
		s.finish()
		return false
	}
	return true
}

// sized reads [first byte] length bytes.
func (s *session) sized(first bool) (b byte, rest []byte, ok bool) {
	var err error
	if first {
		if b, err = s.br.ReadByte(); err != nil {
			return 0, nil, false
		}
	}
	n, err := s.br.ReadByte()
	if err != nil {
		return 0, nil, false
	}
	rest = make([]byte, n)
	_, err = io.ReadFull(s.br, rest)
	return b, rest, err == nil
}

func (socks5Wire) success(s *session, _ *Request) []byte {
	b := []byte{5, 0, 0}
	if s.b.bound == "" {
		return append(b, 1, 127, 0, 0, 1, 0x12, 0x34)
	}
	a, err := netip.ParseAddr(s.b.bound)
	switch {
	case err != nil:
		b = append(b, 3, byte(len(s.b.bound)))
		b = append(b, s.b.bound...)
	case a.Is4():
		b = append(append(b, 1), a.AsSlice()...)
	default:
		b = append(append(b, 4), a.AsSlice()...)
	}
	return append(b, 0x12, 0x34)
}

func (socks5Wire) failure(code byte) []byte { return []byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0} }

func (socks5Wire) wrong() []byte { return []byte{4, 0, 0, 1, 127, 0, 0, 1, 0x12, 0x34} }

// socks4Wire is SOCKS4 and 4a (a name behind the user when the address is 0.0.0.x).
type socks4Wire struct{}

func (socks4Wire) serve(s *session) {
	r := s.request("SOCKS4")
	head := make([]byte, 8, 64)
	if _, err := io.ReadFull(s.br, head); err != nil || head[0] != 4 {
		return
	}
	user, ok := s.untilNUL()
	if !ok {
		return
	}
	r.Head = append(append(head, user...), 0)
	r.User, r.HasCredentials = user, user != ""
	host := net.IP(head[4:8]).String()
	if head[4] == 0 && head[5] == 0 && head[6] == 0 && head[7] != 0 {
		if host, ok = s.untilNUL(); !ok {
			return
		}
		r.Method = "SOCKS4A"
		r.Head = append(append(r.Head, host...), 0)
	}
	r.Target = net.JoinHostPort(host, strconv.Itoa(int(head[2])<<8|int(head[3])))
	if s.p.opt.User != "" && r.User != s.p.opt.User {
		s.p.record(*r)
		s.c.Write(s.p.proto.failure(0x5d))
		s.finish()
		return
	}
	if head[1] != 1 {
		s.c.Write(s.p.proto.failure(0x5b))
		s.finish()
		return
	}
	r.Accepted = true
	s.p.record(*r)
	if s.b.reply != nil {
		s.b.reply(s, r)
		return
	}
	s.connect(r)
}

// untilNUL reads a string of at most 1,024 bytes and its closing NUL.
func (s *session) untilNUL() (string, bool) {
	var b []byte
	for len(b) <= 1024 {
		c, err := s.br.ReadByte()
		if err != nil {
			return "", false
		}
		if c == 0 {
			return string(b), true
		}
		b = append(b, c)
	}
	return "", false
}

func (socks4Wire) success(*session, *Request) []byte {
	return []byte{0, 0x5a, 0x12, 0x34, 127, 0, 0, 1}
}

func (socks4Wire) failure(code byte) []byte {
	if code < 0x5b {
		code = 0x5b
	}
	return []byte{0, code, 0, 0, 0, 0, 0, 0}
}

func (socks4Wire) wrong() []byte { return []byte{5, 0x5a, 0x12, 0x34, 127, 0, 0, 1} }
