package auth

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf16"

	//lint:ignore SA1019 the protocol is made of it
	"golang.org/x/crypto/md4"
)

// ntlm is NTLMv2 ([MS-NLMP]) in the scheme NTLM: three messages on one connection. NTLMv1 is not spoken.
type ntlm struct {
	c  *Config
	at func() time.Time
	// nonce fills the client's challenge.
	nonce func([]byte)
}

func newNTLM(c *Config) *ntlm {
	return &ntlm{c: c, at: time.Now, nonce: func(b []byte) { rand.Read(b) }} // never fails
}

// ntlmState is how far a session is.
type ntlmState struct {
	negotiate []byte
	shown     bool // AUTHENTICATE was made
}

// Flags of messages ([MS-NLMP], section 2.2.2.5).
const (
	ntlmUnicode       = 1 << 0
	ntlmRequestTarget = 1 << 2
	ntlmNTLM          = 1 << 9
	ntlmAlwaysSign    = 1 << 15
	ntlmExtended      = 1 << 19
	ntlmTargetInfo    = 1 << 23
	ntlmVersion       = 1 << 25
	ntlm128           = 1 << 29
	ntlm56            = 1 << 31

	ntlmAsked = ntlmUnicode | ntlmRequestTarget | ntlmNTLM | ntlmAlwaysSign | ntlmExtended | ntlmVersion | ntlm128 | ntlm56
)

// AV pairs (section 2.2.2.1).
const (
	avEOL             = 0
	avFlags           = 6
	avTimestamp       = 7
	avTargetName      = 9
	avChannelBindings = 10

	avFlagMIC = 2 // the message holds a MIC
)

const ntlmSignature = "NTLMSSP\x00"

// ntlmVersionField is that of Windows 10, which no server looks at.
var ntlmVersionField = [8]byte{10, 0, 0x61, 0x4a, 0, 0, 0, 15}

func (*ntlm) bound() bool { return true }

func (n *ntlm) first(s *Session, _ *Request, _ *Challenge) (message, error) {
	st := &ntlmState{negotiate: ntlmNegotiate()}
	s.state = st
	return message{value: "NTLM " + base64.StdEncoding.EncodeToString(st.negotiate)}, nil
}

func (n *ntlm) next(s *Session, _ *Request, c *Challenge) (message, error) {
	st, _ := s.state.(*ntlmState)
	if st == nil || st.shown {
		return message{}, errRejected
	}
	if c == nil || c.Token68 == "" {
		return message{}, cannot("the proxy did not answer the first message of the handshake")
	}
	raw, err := base64.StdEncoding.DecodeString(c.Token68)
	if err != nil {
		return message{}, cannot("the proxy's challenge is not in base64")
	}
	ch, err := parseNTLMChallenge(raw)
	if err != nil {
		return message{}, &impossible{err}
	}
	var bindings []byte
	if s.tls != nil {
		bindings = channelBindings(s.tls)
	}
	user, domain := splitUser(n.c.Username, n.c.Domain)
	var own [8]byte
	n.nonce(own[:])
	answer := ntlmAnswer{
		user: user, domain: domain, password: n.c.Password(), workstation: n.c.Workstation, target: "HTTP/" + n.c.Host,
		clientChallenge: own, now: n.at(), bindings: bindings,
	}
	out := answer.message(st.negotiate, ch)
	st.shown = true
	return message{"NTLM " + base64.StdEncoding.EncodeToString(out), true}, nil
}

// ntlmNegotiate is the first message (section 2.2.1.1).
func ntlmNegotiate() []byte {
	b := append(make([]byte, 0, 40), ntlmSignature...)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, ntlmAsked)
	b = append(b, make([]byte, 16)...) // no domain, no workstation
	return append(b, ntlmVersionField[:]...)
}

// ntlmChallenge is what is used of the second message (section 2.2.1.2).
type ntlmChallenge struct {
	raw    []byte
	flags  uint32
	server [8]byte
	pairs  []avPair // without the end
}

type avPair struct {
	id    uint16
	value []byte
}

// Bounds of a challenge. Those of Windows have some 200 bytes.
const (
	maxNTLM    = 16 << 10
	maxAVPairs = 32
)

var (
	errNTLMShort     = errors.New("the proxy's challenge is cut short")
	errNTLMSignature = errors.New("the proxy's challenge is no message of NTLM")
	errNTLMType      = errors.New("the proxy's message is no challenge")
	errNTLMLong      = errors.New("the proxy's challenge is longer than is read")
	errNTLMv1        = errors.New("the proxy's challenge has no target information: it speaks NTLMv1, which is not spoken here")
	errNTLMUnicode   = errors.New("the proxy does not take Unicode")
	errNTLMPairs     = errors.New("the target information of the proxy's challenge is malformed")
)

func parseNTLMChallenge(b []byte) (*ntlmChallenge, error) {
	switch {
	case len(b) > maxNTLM:
		return nil, errNTLMLong
	case len(b) < 12:
		return nil, errNTLMShort
	case string(b[:8]) != ntlmSignature:
		return nil, errNTLMSignature
	case binary.LittleEndian.Uint32(b[8:]) != 2:
		return nil, errNTLMType
	case len(b) < 32:
		return nil, errNTLMShort
	}
	c := &ntlmChallenge{raw: b, flags: binary.LittleEndian.Uint32(b[20:])}
	copy(c.server[:], b[24:32])
	if c.flags&ntlmUnicode == 0 {
		return nil, errNTLMUnicode
	}
	if c.flags&ntlmTargetInfo == 0 || len(b) < 48 {
		return nil, errNTLMv1
	}
	n, at := int(binary.LittleEndian.Uint16(b[40:])), binary.LittleEndian.Uint32(b[44:])
	if uint64(at)+uint64(n) > uint64(len(b)) {
		return nil, errNTLMShort
	}
	var err error
	c.pairs, err = parseAVPairs(b[at : int(at)+n])
	return c, err
}

func parseAVPairs(b []byte) (all []avPair, err error) {
	for len(b) >= 4 {
		id, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if id == avEOL {
			return all, nil
		}
		if b = b[4:]; n > len(b) || len(all) == maxAVPairs {
			return nil, errNTLMPairs
		}
		if id == avTimestamp && n != 8 || id == avFlags && n != 4 {
			return nil, errNTLMPairs
		}
		all = append(all, avPair{id, b[:n]})
		b = b[n:]
	}
	return nil, errNTLMPairs // no end
}

func (c *ntlmChallenge) get(id uint16) []byte {
	for _, p := range c.pairs {
		if p.id == id {
			return p.value
		}
	}
	return nil
}

// ntlmAnswer is what goes into the third message.
type ntlmAnswer struct {
	user, domain, password, workstation string
	target                              string // SPN
	clientChallenge                     [8]byte
	now                                 time.Time
	bindings                            []byte // MD5 of the channel bindings; nil = the connection is in the clear
}

// message is AUTHENTICATE (section 2.2.1.3), with a MIC where the server gave its time (section 3.1.5.1.2).
func (a *ntlmAnswer) message(negotiate []byte, c *ntlmChallenge) []byte {
	stamp := c.get(avTimestamp)
	mic := stamp != nil
	if stamp == nil {
		stamp = fileTime(a.now)
	}
	key := ntowfv2(a.user, a.domain, a.password)
	nt, session := ntlmv2(key, c.server, a.clientChallenge, stamp, a.pairs(c, mic))
	lm := make([]byte, 24) // with a time of the server's there is none
	if !mic {
		sum := hmacMD5(key, c.server[:], a.clientChallenge[:])
		lm = append(sum, a.clientChallenge[:]...)
	}
	const head = 88
	b := make([]byte, head, head+512)
	copy(b, ntlmSignature)
	binary.LittleEndian.PutUint32(b[8:], 3)
	field := func(at int, value []byte) {
		binary.LittleEndian.PutUint16(b[at:], uint16(len(value)))
		binary.LittleEndian.PutUint16(b[at+2:], uint16(len(value)))
		binary.LittleEndian.PutUint32(b[at+4:], uint32(len(b)))
		b = append(b, value...)
	}
	field(28, utf16le(a.domain))
	field(36, utf16le(a.user))
	field(44, utf16le(a.workstation))
	field(12, lm)
	field(20, nt)
	field(52, nil)
	binary.LittleEndian.PutUint32(b[60:], c.flags&ntlmAsked|ntlmTargetInfo)
	copy(b[64:72], ntlmVersionField[:])
	if mic {
		copy(b[72:88], hmacMD5(session, negotiate, c.raw, b))
	}
	return b
}

// pairs are the server's, with what we have to say (section 3.1.5.1.2).
func (a *ntlmAnswer) pairs(c *ntlmChallenge, mic bool) []byte {
	var b []byte
	add := func(id uint16, value []byte) {
		b = binary.LittleEndian.AppendUint16(b, id)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
		b = append(b, value...)
	}
	flags := uint32(0)
	for _, p := range c.pairs {
		switch p.id {
		case avFlags:
			flags = binary.LittleEndian.Uint32(p.value)
		case avChannelBindings, avTargetName: // ours to say
		default:
			add(p.id, p.value)
		}
	}
	if mic {
		flags |= avFlagMIC
	}
	if flags != 0 {
		add(avFlags, binary.LittleEndian.AppendUint32(nil, flags))
	}
	if mic || a.bindings != nil {
		bindings := a.bindings
		if bindings == nil {
			bindings = make([]byte, 16)
		}
		add(avChannelBindings, bindings)
		add(avTargetName, utf16le(a.target))
	}
	add(avEOL, nil)
	return b
}

// ntowfv2 is the key of a user (section 3.3.2).
func ntowfv2(user, domain, password string) []byte {
	h := md4.New()
	h.Write(utf16le(password))
	return hmacMD5(h.Sum(nil), utf16le(strings.ToUpper(user)+domain))
}

// ntlmv2 is the response to a challenge, and the key of the session (section 3.3.2).
func ntlmv2(key []byte, server, client [8]byte, stamp, pairs []byte) (response, session []byte) {
	temp := append([]byte{1, 1, 0, 0, 0, 0, 0, 0}, stamp...)
	temp = append(temp, client[:]...)
	temp = append(temp, 0, 0, 0, 0)
	temp = append(temp, pairs...)
	temp = append(temp, 0, 0, 0, 0)
	proof := hmacMD5(key, server[:], temp)
	return append(proof[:len(proof):len(proof)], temp...), hmacMD5(key, proof)
}

// fileTime is in steps of 100 ns since 1601 ([MS-DTYP], section 2.3.3).
func fileTime(t time.Time) []byte {
	const between = 11644473600 // seconds from 1601 to 1970
	return binary.LittleEndian.AppendUint64(nil, uint64(t.Unix()+between)*10_000_000+uint64(t.Nanosecond())/100)
}

func hmacMD5(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func utf16le(s string) []byte {
	units := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
