package socks4

import (
	"bytes"
	"net/netip"
	"strconv"
)

const (
	version    = 0x04
	cmdConnect = 0x01

	maxUserID = 255 // the specification has no bound
	maxName   = 254 // 253 octets and a dot

	// MaxRequest is the longest request.
	MaxRequest = 8 + maxUserID + 1 + maxName + 1
)

// Request is what a client asks for.
type Request struct {
	IP     netip.Addr // SOCKS4: an IPv4 address; invalid with 4a
	Name   string     // SOCKS4a: a host name; "" otherwise
	Port   uint16
	UserID string // as claimed, not verified; no control characters
}

// Host is the address or the name as text.
func (r *Request) Host() string {
	if r.IP.IsValid() {
		return r.IP.String()
	}
	return r.Name
}

func (r Request) String() string { return r.Host() + ":" + strconv.Itoa(int(r.Port)) }

// Faults of clients.
var (
	errVersion = &ProtocolError{"version is not 4", "SOCKS4 CONNECT"}
	errCommand = &ProtocolError{"command other than CONNECT", "SOCKS4 CONNECT"}
	errUserID  = &ProtocolError{"malformed user id", "SOCKS4 CONNECT"}
	errPort    = &ProtocolError{"port 0", "SOCKS4 CONNECT"}
	errAddress = &ProtocolError{"address 0.0.0.0", "SOCKS4A"}
	errName    = &ProtocolError{"malformed host name", "SOCKS4A"}
)

// ParseRequest reads a request at the start of in and returns how many bytes it
// took: behind it is the beginning of the tunnel. It returns ErrIncomplete when
// more bytes are needed, a *ProtocolError when the request is to be answered
// with Rejected and the connection closed.
func ParseRequest(in []byte) (r Request, n int, err error) {
	switch { // VN CD DSTPORT DSTIP USERID NUL
	case len(in) > 0 && in[0] != version:
		return r, 0, errVersion
	case len(in) > 1 && in[1] != cmdConnect:
		return r, 0, errCommand
	case len(in) < 8:
		return r, 0, ErrIncomplete
	}
	r.Port = uint16(in[2])<<8 | uint16(in[3])
	ip := [4]byte(in[4:8])
	named := ip[0] == 0 && ip[1] == 0 && ip[2] == 0 && ip[3] != 0 // SOCKS4A: 0.0.0.x
	switch {
	case r.Port == 0:
		return r, 0, errPort
	case ip == [4]byte{}:
		return r, 0, errAddress
	}
	user, err := cutString(in[8:], maxUserID, errUserID)
	if err != nil {
		return Request{}, 0, err
	}
	if hasControls(user) {
		return Request{}, 0, errUserID
	}
	n = 8 + len(user) + 1
	if named {
		name, err := cutString(in[n:], maxName, errName)
		if err != nil {
			return Request{}, 0, err
		}
		if r.Name = string(name); !ValidName(r.Name) {
			return Request{}, 0, errName
		}
		n += len(name) + 1
	} else {
		r.IP = netip.AddrFrom4(ip)
	}
	r.UserID = string(user)
	return r, n, nil
}

// cutString takes what is before the NUL, at most max bytes.
func cutString(in []byte, max int, tooLong error) ([]byte, error) {
	i := bytes.IndexByte(in[:min(len(in), max+1)], 0)
	switch {
	case i >= 0:
		return in[:i], nil
	case len(in) > max:
		return nil, tooLong
	}
	return nil, ErrIncomplete
}

func hasControls[T string | []byte](b T) bool {
	for i := range len(b) {
		if b[i] < 0x20 || b[i] == 0x7f {
			return true
		}
	}
	return false
}

// AppendReply writes a reply. bound is the address the connection to the target
// goes out from; the protocol can carry IPv4 alone, others are written as
// 0.0.0.0 (clients are told to ignore it after CONNECT).
func AppendReply(dst []byte, code Code, bound netip.AddrPort) []byte {
	var ip [4]byte
	if a := bound.Addr().Unmap(); a.Is4() {
		ip = a.As4()
	}
	p := bound.Port()
	return append(dst, 0, byte(code), byte(p>>8), byte(p), ip[0], ip[1], ip[2], ip[3])
}

// ValidName reports whether s may stand as a host name: labels of 1 to 63
// letters, digits, hyphens and underscores, 253 octets in all, one dot at the
// end allowed.
func ValidName(s string) bool {
	if n := len(s); n > 0 && s[n-1] == '.' {
		s = s[:n-1]
	}
	if s == "" || len(s) > 253 { // RFC 1035 2.3.4
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
			if label++; label > 63 {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}
