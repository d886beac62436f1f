package ingress

import (
	"errors"
	"fmt"

	"viaduct/connmodel"
)

// MaxHelloBytes bounds what is looked at of a client that begins TLS: its records up to the end of the ClientHello, headers and all.
// Hellos with post-quantum key shares take 2 KiB. It is also more than any server of ours would take.
const MaxHelloBytes = 64 << 10

// Verdict is what can be said of the bytes so far.
type Verdict uint8

// The verdicts. More means that further bytes can change it; the others are final.
const (
	More Verdict = iota
	Found
	Other     // it is something else
	Malformed // it begins as what is looked for, and is broken: the error says how
)

// TLS as it stands in records (RFC 8446, sections 5.1 and 4).
const (
	recordHandshake = 22
	recordHeader    = 5
	maxFragment     = 1 << 14
	messageHello    = 1

	// wildMajor: RFC 8446, section 5.1 says that the version of a record is to be ignored, and servers do, in part (RFC 5246, appendix
	// E.1): crypto/tls ignores it below this major version. Whatever some server takes must not pass as something else here.
	wildMajor     = 0x10
	messageHeader = 4
)

// The reasons why what begins as TLS is no ClientHello.
var (
	errTooLong  = fmt.Errorf("the ClientHello is longer than %d bytes", MaxHelloBytes)
	errRecord   = errors.New("another TLS record comes before the ClientHello is complete")
	errFragment = errors.New("a TLS record is empty or longer than 16384 bytes")
	errMessage  = errors.New("the first TLS message is not a ClientHello")
)

// HelloScan follows the TLS records of one client until its ClientHello is complete. The zero value is at the beginning.
type HelloScan struct {
	next int     // offset of the next record's header
	have int     // bytes of the message in the records before it
	head [4]byte // the message's type and length, as far as they are there
	many bool    // the message is spread over several records
}

// Step looks at buf, which holds everything from the client's first byte on and has only grown since the last call. Found comes with
// the hello; Malformed with the error, and with what could be read when only the server name is wrong (a *NameError). No record is looked at twice, so
// that a client that sends byte by byte costs little more than another.
func (s *HelloScan) Step(buf []byte) (Verdict, *connmodel.ClientHello, error) {
	for {
		rest := buf[s.next:]
		switch {
		case len(rest) > 0 && rest[0] != recordHandshake, len(rest) > 1 && rest[1] >= wildMajor:
			if s.next == 0 {
				return Other, nil, nil
			}
			return Malformed, nil, errRecord
		case len(rest) < recordHeader:
			return s.more(len(buf))
		}
		n := int(rest[3])<<8 | int(rest[4])
		strange := s.next == 0 && rest[1] != 3 // it may be no TLS at all
		if n == 0 || n > maxFragment {
			if strange {
				return Other, nil, nil
			}
			return Malformed, nil, errFragment
		}
		body := rest[recordHeader:]
		whole := len(body) >= n
		if whole {
			body = body[:n]
		}
		size, err := s.size(body)
		switch {
		case err == errMessage && strange:
			return Other, nil, nil
		case err != nil:
			return Malformed, nil, err
		case !whole:
			return s.more(len(buf))
		}
		s.have += n
		s.next += recordHeader + n
		if size == 0 || s.have < size {
			s.many = true
			continue
		}
		h, err := parseHello(s.message(buf, size))
		if err != nil {
			return Malformed, h, err
		}
		return Found, h, nil
	}
}

// more says that the hello is not complete, unless it has become too long.
func (s *HelloScan) more(have int) (Verdict, *connmodel.ClientHello, error) {
	if have >= MaxHelloBytes {
		return Malformed, nil, errTooLong
	}
	return More, nil, nil
}

// size adds body to what is known of the message's head, and returns how long the message is with it; 0 = not known yet.
func (s *HelloScan) size(body []byte) (int, error) {
	if s.have < messageHeader {
		copy(s.head[s.have:], body)
	}
	if have := s.have + len(body); have > 0 && s.head[0] != messageHello {
		return 0, errMessage
	} else if have < messageHeader {
		return 0, nil
	}
	size := messageHeader + (int(s.head[1])<<16 | int(s.head[2])<<8 | int(s.head[3]))
	if size > MaxHelloBytes {
		return 0, errTooLong
	}
	return size, nil
}

// message is the body of the message, which is complete. One that lies in one record, as nearly all do, is not copied.
func (s *HelloScan) message(buf []byte, size int) []byte {
	if !s.many {
		return buf[recordHeader+messageHeader : recordHeader+size]
	}
	msg := make([]byte, 0, size)
	for at := 0; len(msg) < size; {
		n := int(buf[at+3])<<8 | int(buf[at+4])
		at += recordHeader
		msg = append(msg, buf[at:at+min(n, size-len(msg))]...)
		at += n
	}
	return msg[messageHeader:]
}
