package upstreamtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	//lint:ignore SA1019 the protocol is made of it
	"golang.org/x/crypto/md4"
)

// NTLM is the server's side of NTLMv2 ([MS-NLMP]) for one account. It was
// written from the specification, without a look at the client's side, and
// verifies all that a server may: the response, the MIC and the bindings to the
// channel.
type NTLM struct {
	User, Domain, Password string
	// NoTime leaves the time out of challenges: then there is no MIC.
	NoTime bool
	// Certificate is what clients are to be bound to; nil = nothing.
	Certificate *x509.Certificate
}

// Challenge makes the second message for a first one.
func (n *NTLM) Challenge(negotiate []byte) ([]byte, error) {
	if len(negotiate) < 32 || string(negotiate[:8]) != "NTLMSSP\x00" || negotiate[8] != 1 {
		return nil, errors.New("the first message is none")
	}
	var info []byte
	pair := func(id uint16, v []byte) {
		info = binary.LittleEndian.AppendUint16(info, id)
		info = binary.LittleEndian.AppendUint16(info, uint16(len(v)))
		info = append(info, v...)
	}
	pair(2, wide(n.Domain))
	pair(1, wide("PROXY"))
	pair(4, wide("corp.example"))
	if !n.NoTime {
		ticks := uint64(time.Now().UnixNano())/100 + 116444736000000000
		pair(7, binary.LittleEndian.AppendUint64(nil, ticks))
	}
	pair(0, nil)
	target := wide(n.Domain)
	b := append([]byte("NTLMSSP\x00"), 2, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(target)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(target)))
	b = binary.LittleEndian.AppendUint32(b, 56)
	b = binary.LittleEndian.AppendUint32(b, binary.LittleEndian.Uint32(negotiate[12:])|1<<23)
	nonce := make([]byte, 8)
	rand.Read(nonce)
	b = append(b, nonce...)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(info)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(info)))
	b = binary.LittleEndian.AppendUint32(b, uint32(56+len(target)))
	b = append(b, 6, 1, 0, 0, 0, 0, 0, 15)
	return append(append(b, target...), info...), nil
}

// Verify checks a third message against the two before it.
func (n *NTLM) Verify(negotiate, challenge, m []byte) error {
	if len(m) < 88 || string(m[:8]) != "NTLMSSP\x00" || m[8] != 3 {
		return errors.New("the third message is none")
	}
	field := func(at int) []byte {
		size, from := int(binary.LittleEndian.Uint16(m[at:])), int(binary.LittleEndian.Uint32(m[at+4:]))
		if from+size > len(m) {
			return nil
		}
		return m[from : from+size]
	}
	response, domain, user := field(20), narrow(field(28)), narrow(field(36))
	if !strings.EqualFold(user, n.User) || domain != n.Domain {
		return fmt.Errorf("user %q of domain %q", user, domain)
	}
	if len(response) < 48 {
		return errors.New("no response of NTLMv2")
	}
	h := md4.New()
	h.Write(wide(n.Password))
	key := sum(h.Sum(nil), wide(strings.ToUpper(user)+domain))
	proof, blob := response[:16], response[16:]
	if !bytes.Equal(proof, sum(key, challenge[24:32], blob)) {
		return errors.New("wrong password")
	}
	pairs := map[uint16][]byte{}
	for rest := blob[28:]; len(rest) >= 4; {
		id, size := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if id == 0 {
			break
		}
		if 4+size > len(rest) {
			return errors.New("malformed pairs")
		}
		pairs[id], rest = rest[4:4+size], rest[4+size:]
	}
	if !n.NoTime {
		if f := pairs[6]; len(f) != 4 || f[0]&2 == 0 {
			return errors.New("no MIC is announced")
		}
		zeroed := bytes.Clone(m)
		clear(zeroed[72:88])
		if !bytes.Equal(m[72:88], sum(sum(key, proof), negotiate, challenge, zeroed)) {
			return errors.New("wrong MIC")
		}
		if len(bytes.Trim(field(12), "\x00")) > 0 {
			return errors.New("an LM response beside the time")
		}
	}
	want := make([]byte, 16)
	if n.Certificate != nil {
		digest := sha256.Sum256(n.Certificate.Raw)
		data := append([]byte("tls-server-end-point:"), digest[:]...)
		s := md5.Sum(append(binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(data))), data...))
		want = s[:]
	}
	if got := pairs[10]; !bytes.Equal(got, want) && !(n.NoTime && n.Certificate == nil) {
		return fmt.Errorf("bound to %x in place of %x", got, want)
	}
	return nil
}

func sum(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func wide(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}

func narrow(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, uint16(b[0])|uint16(b[1])<<8)
	}
	return string(utf16.Decode(u))
}
