package socks5

// MaxDatagramHeader is the longest header that is written in front of a
// datagram: reserved, fragment, and a name of 255 bytes with its port.
const MaxDatagramHeader = 3 + 1 + 1 + 255 + 2

// Faults of datagrams.
var (
	errShort        = &ProtocolError{"datagram shorter than its header", "RFC 1928 7"}
	errDatagramRSV  = &ProtocolError{"reserved bytes of the datagram are not 0", "RFC 1928 7"}
	errDatagramType = &ProtocolError{"unknown address type in the datagram", "RFC 1928 7"}
	errDatagramName = &ProtocolError{"malformed host name in the datagram", "RFC 1928 7"}
	errDatagramPort = &ProtocolError{"port 0 in the datagram", "RFC 1928 7"}
)

// ErrFragment is a datagram that is a part of another. Whoever does not put
// fragments together has to drop them (RFC 1928 7), and nobody does.
var ErrFragment = &ProtocolError{"fragment of a datagram", "RFC 1928 7"}

// AppendDatagramHeader writes what stands in front of the payload of a datagram
// between a client and its SOCKS server (RFC 1928 7): a is where it goes to, or
// where it came from.
func AppendDatagramHeader(dst []byte, a Addr) []byte {
	return appendAddr(append(dst, 0, 0, 0), a)
}

// DatagramHeader reads the length of the header of b and returns the part of it
// that says the address, which is equal for equal addresses: enough to find out
// whether that address is known already. Errors are *ProtocolError.
func DatagramHeader(b []byte) (n int, address []byte, err error) {
	switch {
	case len(b) < 4:
		return 0, nil, errShort
	case b[0] != 0 || b[1] != 0:
		return 0, nil, errDatagramRSV
	case b[2] != 0:
		return 0, nil, ErrFragment
	}
	size := addrLen(b[3:])
	switch {
	case size == 0:
		return 0, nil, errDatagramType
	case len(b) < 3+size:
		return 0, nil, errShort
	}
	return 3 + size, b[3 : 3+size], nil
}

// ParseDatagram splits a datagram into the address in its header and its
// payload, which is a part of b and may be empty. A name is valid and a port not
// 0. Errors are *ProtocolError.
func ParseDatagram(b []byte) (a Addr, payload []byte, err error) {
	n, address, err := DatagramHeader(b)
	if err != nil {
		return Addr{}, nil, err
	}
	a = parseAddr(address)
	switch {
	case !a.IP.IsValid() && !ValidName(a.Name):
		return Addr{}, nil, errDatagramName
	case a.Port == 0:
		return Addr{}, nil, errDatagramPort
	}
	return a, b[n:], nil
}
