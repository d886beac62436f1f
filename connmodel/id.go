package connmodel

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
	"time"
)

// ID names one connection or flow for its whole life and beyond: a UUID of version 7 (RFC 9562, section 5.7), so that
// ids sort by the time they were made. Equality of connections is equality of ids. The zero ID means "none".
type ID [16]byte

// idSource hands out random bits in large draws, because one getrandom per connection is a system call too many.
var idSource struct {
	sync.Mutex
	buf  [1024]byte
	left int
}

// NewID returns a new id, unique and sortable by the millisecond t belongs to.
func NewID(t time.Time) ID {
	var id ID
	ms := uint64(t.UnixMilli())
	binary.BigEndian.PutUint64(id[:8], ms<<16)
	s := &idSource
	s.Lock()
	if s.left < 10 {
		rand.Read(s.buf[:]) // never fails since Go 1.24: it ends the program instead
		s.left = len(s.buf)
	}
	copy(id[6:], s.buf[s.left-10:s.left])
	s.left -= 10
	s.Unlock()
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the usual 36 characters, or "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	var b [36]byte
	return string(id.appendText(b[:0]))
}

func (id ID) appendText(dst []byte) []byte {
	dst = hex.AppendEncode(dst, id[0:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, id[10:16])
}

// ParseID reads what String writes; "" is the zero ID.
func ParseID(s string) (ID, error) {
	var id ID
	if s == "" {
		return id, nil
	}
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, errors.New("connmodel: an id has the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
	}
	packed := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(id[:], []byte(packed)); err != nil {
		return ID{}, errors.New("connmodel: an id is made of hexadecimal digits")
	}
	return id, nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}
