package socks4

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
)

const (
	replySize   = 8
	scratchSize = 576 // MaxRequest rounded up
)

var scratchPool = sync.Pool{New: func() any { return new([scratchSize]byte) }}

// Faults of servers.
var (
	errSawHTTP   = &ProtocolError{"answered with HTTP, not SOCKS4", "SOCKS4 CONNECT"}
	errSawTLS    = &ProtocolError{"answered with TLS, not SOCKS4", "SOCKS4 CONNECT"}
	errSawSOCKS5 = &ProtocolError{"answered with SOCKS5, not SOCKS4", "SOCKS4 CONNECT"}
)

// Connect asks the SOCKS4 server at the other end of rw for a connection to host
// and port. host is an IPv4 address, mapped ones included, or, with names true
// (SOCKS4a), a name which the server resolves. It returns the address in the
// reply, which means little, and the bytes that came behind it, which are the
// first of the tunnel.
//
// The deadline is the caller's. Errors: ErrHost, ErrNeeds4a and ErrUserID before
// anything is sent; *ReplyError, *ProtocolError; else the error of rw, wrapped:
// io.EOF when the server closed instead of answering, io.ErrUnexpectedEOF
// within the answer. After any of them rw is of no use.
func Connect(rw io.ReadWriter, host string, port uint16, userID string, names bool) (bound netip.AddrPort, leftover []byte, err error) {
	if len(userID) > maxUserID || hasControls(userID) {
		return bound, nil, ErrUserID
	}
	scratch := scratchPool.Get().(*[scratchSize]byte)
	defer func() {
		clear(scratch[:])
		scratchPool.Put(scratch)
	}()
	out, err := appendRequest(scratch[:0], host, port, userID, names)
	if err != nil {
		return bound, nil, err
	}
	if _, err := rw.Write(out); err != nil {
		return bound, nil, fmt.Errorf("socks4: request: %w", err)
	}
	return readReply(rw, scratch[:])
}

func appendRequest(dst []byte, host string, port uint16, userID string, names bool) ([]byte, error) {
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	switch {
	case port == 0, err == nil && !ip.Is4(), err == nil && ip == netip.IPv4Unspecified(), err != nil && !ValidName(host):
		return dst, ErrHost
	case err == nil && ip.As4()[0] == 0 && ip.As4()[1] == 0 && ip.As4()[2] == 0:
		return dst, ErrHost // 0.0.0.x would announce a name
	case err != nil && !names:
		return dst, ErrNeeds4a
	}
	dst = append(dst, version, cmdConnect, byte(port>>8), byte(port))
	if err == nil {
		a := ip.As4()
		dst = append(dst, a[:]...)
		dst = append(dst, userID...)
		return append(dst, 0), nil
	}
	dst = append(dst, 0, 0, 0, 1) // SOCKS4A
	dst = append(dst, userID...)
	dst = append(dst, 0)
	dst = append(dst, host...)
	return append(dst, 0), nil
}

// readReply reads VN CD DSTPORT DSTIP. A refusal is known from its second byte:
// nothing more is waited for.
func readReply(r io.Reader, buf []byte) (bound netip.AddrPort, leftover []byte, err error) {
	n, empty := 0, 0
	for n < replySize {
		m, err := r.Read(buf[n:])
		n += m
		if n > 0 && buf[0] != 0 {
			return bound, nil, wrongVersion(buf[0])
		}
		if n > 1 && Code(buf[1]) != Granted {
			return bound, nil, &ReplyError{Code(buf[1])}
		}
		if empty++; m > 0 {
			empty = 0
		}
		switch {
		case n >= replySize:
			err = nil
		case err == io.EOF && n > 0:
			err = io.ErrUnexpectedEOF
		case err == nil && empty > 64:
			err = io.ErrNoProgress
		}
		if err != nil {
			return bound, nil, fmt.Errorf("socks4: reply: %w", err)
		}
	}
	if n > replySize {
		leftover = append(leftover, buf[replySize:n]...)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(buf[4:8])), uint16(buf[2])<<8|uint16(buf[3])), leftover, nil
}

// wrongVersion says what the peer speaks, as far as one byte tells.
func wrongVersion(b byte) error {
	switch b {
	case 'H':
		return errSawHTTP
	case 0x15, 0x16:
		return errSawTLS
	case 0x05:
		return errSawSOCKS5
	}
	return &ProtocolError{fmt.Sprintf("answered with version byte 0x%02x, not SOCKS4", b), "SOCKS4 CONNECT"}
}
