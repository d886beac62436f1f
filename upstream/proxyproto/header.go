// Package proxyproto reads and writes the header of HAProxy's PROXY protocol, versions 1 (a line of text) and 2 (binary): the bytes in
// front of a connection by which a load balancer says whose connection it is.
// See https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, called "the specification" below.
//
// It knows no sockets: whoever reads gathers bytes until Parse has enough, within MaxHeader and a deadline of its own. It does not say
// whom to believe, either: anybody can write such a header, so it must be looked for only where the peer is known to send it.
// The two forms themselves are taken apart by github.com/pires/go-proxyproto.
package proxyproto

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"

	pires "github.com/pires/go-proxyproto"
)

// Header is what a header says. The zero ends of one that says nothing (UNKNOWN in version 1, a family other than TCP over IP in
// version 2) mean: somebody's connection, but whose is not told.
type Header struct {
	Version     int // 1 or 2
	Source      netip.AddrPort
	Destination netip.AddrPort // where Source connected to
	// Own says that the sender speaks for itself, as in a health check (LOCAL of version 2). The ends are zero then.
	Own bool
}

// MaxHeader bounds a header in octets. The specification would allow 64 KiB of extensions (TLVs); a certificate among them takes two.
const MaxHeader = v2Fixed + maxV2

const (
	v2Fixed = 16   // signature, command, family, length
	maxV2   = 4096 // what the length may say; also the library's bound
	maxV1   = 107  // the longest line, with CRLF (section 2.1)
)

// ErrIncomplete says that Parse needs more bytes.
var ErrIncomplete = errors.New("proxyproto: the header is not complete")

// Error says why bytes are no header.
type Error struct{ Reason string }

// Error implements error.
func (e *Error) Error() string { return e.Reason }

var (
	errNone    = &Error{"the connection does not begin with a PROXY protocol header"}
	errLine    = &Error{"the PROXY protocol line is longer than 107 bytes"}
	errTooLong = &Error{"the PROXY protocol header is longer than 4112 bytes"}
)

var sigV1 = []byte("PROXY ")

// Parse reads the header that b begins with and returns how long it is. When b may be the beginning of one it returns ErrIncomplete;
// when it cannot be, an *Error. It never asks for more than MaxHeader bytes, and extensions (TLVs) are passed over.
func Parse(b []byte) (h Header, n int, err error) {
	n, err = length(b)
	if err != nil {
		return Header{}, 0, err
	}
	if b[0] == pires.SIGV2[0] && b[12] == byte(pires.PROXY) && b[13] == byte(pires.UNSPEC) {
		// The specification leaves it to the receiver, the library refuses it: a proxied connection of which nothing is told.
		return Header{Version: 2}, n, nil
	}
	p, err := pires.Read(bufio.NewReaderSize(bytes.NewReader(b[:n]), maxV1+1))
	if err != nil {
		return Header{}, 0, &Error{"bad PROXY protocol header: " + reason(err)}
	}
	h = Header{Version: int(p.Version), Own: p.Version == 2 && p.Command == pires.LOCAL}
	switch {
	case h.Own:
	case p.TransportProtocol.IsDatagram():
		return Header{}, 0, &Error{"bad PROXY protocol header: it tells of datagrams"}
	default:
		if src, dst, ok := p.TCPAddrs(); ok {
			h.Source, h.Destination = addrPort(src), addrPort(dst)
		}
	}
	return h, n, nil
}

// length finds where the header in b ends, without reading it.
func length(b []byte) (int, error) {
	switch {
	case len(b) == 0:
		return 0, ErrIncomplete
	case begins(b, sigV1):
		i := bytes.IndexByte(b[:min(len(b), maxV1)], '\n')
		switch {
		case i >= 0:
			return i + 1, nil
		case len(b) >= maxV1:
			return 0, errLine
		}
		return 0, ErrIncomplete
	case begins(b, pires.SIGV2):
		if len(b) < v2Fixed {
			return 0, ErrIncomplete
		}
		n := int(b[14])<<8 | int(b[15])
		switch {
		case n > maxV2:
			return 0, errTooLong
		case len(b) < v2Fixed+n:
			return 0, ErrIncomplete
		}
		return v2Fixed + n, nil
	}
	return 0, errNone
}

// begins reports whether b begins with sig, or is a beginning of it.
func begins(b, sig []byte) bool {
	n := min(len(b), len(sig))
	return bytes.Equal(b[:n], sig[:n])
}

// reason is the library's error without its own name.
func reason(err error) string { return strings.TrimPrefix(err.Error(), "proxyproto: ") }

func addrPort(a *net.TCPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// unknownV2 is a proxied connection of which nothing is told.
var unknownV2 = append(append([]byte(nil), pires.SIGV2...), byte(pires.PROXY), byte(pires.UNSPEC), 0, 0)

// Append appends h as it goes on the wire. Ends of two families are both written as IPv6; without a source, which a client on a Unix
// socket has not, the header says that nothing is known. Version is 2 unless it is 1.
func Append(dst []byte, h Header) []byte {
	if h.Source.IsValid() && h.Destination.IsValid() && !h.Own {
		version := byte(2)
		if h.Version == 1 {
			version = 1
		}
		p := pires.HeaderProxyFromAddrs(version, tcpAddr(h.Source), tcpAddr(h.Destination))
		if b, err := p.Format(); err == nil { // two valid addresses cannot fail
			return append(dst, b...)
		}
	}
	switch {
	case h.Version == 1:
		return append(dst, "PROXY UNKNOWN\r\n"...)
	case h.Own:
		return append(append(dst, pires.SIGV2...), byte(pires.LOCAL), byte(pires.UNSPEC), 0, 0)
	}
	return append(dst, unknownV2...)
}

func tcpAddr(a netip.AddrPort) *net.TCPAddr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()))
}
