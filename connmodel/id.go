package connmodel

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"time"
)

// ID names one connection or flow for its whole life and beyond: a UUID of version 7 (RFC 9562, section 5.7), so that
// ids sort by the time they were made. Equality of connections is equality of ids. The zero ID means "none".
//
// An ID is a name and no secret. Within one millisecond, and when the clock goes backwards, 74 random bits keep ids apart.
type ID [16]byte

// NewID returns a new id that sorts by the millisecond t belongs to. The random bits come from the runtime's ChaCha8
// generators, one per thread and seeded by the kernel, so that connections do not queue for them.
func NewID(t time.Time) ID {
	var id ID
	ms := max(t.UnixMilli(), 0) // 48 bits; before 1970 there is no order to keep
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16|rand.Uint64()&0x0fff|0x7000)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()>>2|1<<63)
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

// Short returns the last 8 characters: enough to tell the lines of one screen apart.
func (id ID) Short() string {
	if id.IsZero() {
		return ""
	}
	return hex.EncodeToString(id[12:])
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
