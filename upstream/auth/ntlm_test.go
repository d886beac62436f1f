package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of [MS-NLMP], section 4.2.4.
func TestNTLMVectors(t *testing.T) {
	key := ntowfv2("User", "Domain", "Password")
	if want := unhex(t, "0c868a403bfd7a93a3001ef22ef02e3f"); !bytes.Equal(key, want) { // 4.2.4.1.1
		t.Errorf("key %x", key)
	}
	server := [8]byte(unhex(t, "0123456789abcdef"))
	client := [8]byte(unhex(t, "aaaaaaaaaaaaaaaa"))
	pairs := append([]byte{2, 0, 12, 0}, utf16le("Domain")...)
	pairs = append(append(pairs, 1, 0, 12, 0), utf16le("Server")...)
	pairs = append(pairs, 0, 0, 0, 0)
	response, session := ntlmv2(key, server, client, make([]byte, 8), pairs)
	if want := unhex(t, "68cd0ab851e51c96aabc927bebef6a1c"); !bytes.Equal(response[:16], want) { // 4.2.4.2.2
		t.Errorf("response %x", response[:16])
	}
	if want := unhex(t, "8de40ccadbc14a82f15cb0ad0de95ca3"); !bytes.Equal(session, want) { // 4.2.4.1.2
		t.Errorf("session key %x", session)
	}
	lm := append(hmacMD5(key, server[:], client[:]), client[:]...)
	if want := unhex(t, "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"); !bytes.Equal(lm, want) { // 4.2.4.2.1
		t.Errorf("LMv2 %x", lm)
	}
	temp := unhex(t, "01010000000000000000000000000000aaaaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e0001000c005300650072007600650072000000000000000000") // 4.2.4.1.3
	if !bytes.Equal(response[16:], temp) {
		t.Errorf("temp %x", response[16:])
	}
	if want := unhex(t, "00803ed5deb19d01"); !bytes.Equal(fileTime(time.Unix(0, 0)), want) {
		t.Errorf("1970 is %x", fileTime(time.Unix(0, 0)))
	}
}

// challengeOf makes a challenge with these pairs.
func challengeOf(flags uint32, pairs []byte) []byte {
	b := append([]byte(ntlmSignature), 2, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 56, 0, 0, 0) // no target name
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, "12345678"...)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(pairs)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(pairs)))
	b = binary.LittleEndian.AppendUint32(b, 56)
	b = append(b, make([]byte, 8)...)
	return append(b, pairs...)
}

func TestNTLMChallenges(t *testing.T) {
	good := uint32(ntlmUnicode | ntlmTargetInfo)
	end := []byte{0, 0, 0, 0}
	for _, tt := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"good", challengeOf(good, append([]byte{2, 0, 2, 0, 'D', 0}, end...)), nil},
		{"empty", nil, errNTLMShort},
		{"signature", append([]byte("NTLMSSQ\x00"), make([]byte, 60)...), errNTLMSignature},
		{"type", append([]byte(ntlmSignature), 3, 0, 0, 0), errNTLMType},
		{"short", challengeOf(good, end)[:30], errNTLMShort},
		{"no unicode", challengeOf(ntlmTargetInfo, end), errNTLMUnicode},
		{"NTLMv1", challengeOf(ntlmUnicode, nil), errNTLMv1},
		{"Windows NT's", challengeOf(good, end)[:40], errNTLMv1},
		{"pairs beyond the end", challengeOf(good, append([]byte{2, 0, 20, 0}, end...)), errNTLMPairs},
		{"no end", challengeOf(good, []byte{2, 0, 0, 0}), errNTLMPairs},
		{"a time of 4 bytes", challengeOf(good, append([]byte{7, 0, 4, 0, 1, 2, 3, 4}, end...)), errNTLMPairs},
		{"too many pairs", challengeOf(good, append(bytes.Repeat([]byte{2, 0, 0, 0}, 40), end...)), errNTLMPairs},
		{"too long", append(challengeOf(good, end), make([]byte, maxNTLM)...), errNTLMLong},
		{"information outside", func() []byte {
			b := challengeOf(good, end)
			binary.LittleEndian.PutUint32(b[44:], 0xffffffff)
			return b
		}(), errNTLMShort},
	} {
		if _, err := parseNTLMChallenge(tt.b); !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

func FuzzNTLMChallenge(f *testing.F) {
	f.Add(challengeOf(ntlmUnicode|ntlmTargetInfo, []byte{7, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0}))
	f.Add(challengeOf(ntlmUnicode|ntlmTargetInfo, []byte{2, 0, 2, 0, 'D', 0, 6, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0}))
	f.Add([]byte(ntlmSignature))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseNTLMChallenge(b)
		if err != nil {
			return
		}
		a := ntlmAnswer{user: "u", domain: "d", password: "p", target: "HTTP/x", now: time.Unix(0, 0)}
		out := a.message(ntlmNegotiate(), c)
		if len(out) > maxNTLM+4096 || string(out[:8]) != ntlmSignature || out[8] != 3 {
			t.Fatalf("%x", out)
		}
		for _, at := range []int{12, 20, 28, 36, 44, 52} {
			n, from := int(binary.LittleEndian.Uint16(out[at:])), int(binary.LittleEndian.Uint32(out[at+4:]))
			if from+n > len(out) {
				t.Fatalf("field at %d leads outside: %x", at, out)
			}
		}
	})
}

func TestNTLMGivesWay(t *testing.T) {
	for name, second := range map[string]string{
		"no answer":     "NTLM",
		"not base64":    "NTLM !!!!",
		"garbage":       "NTLM " + base64.StdEncoding.EncodeToString([]byte("garbage")),
		"not any more":  "Basic realm=x",
		"NTLMv1":        "NTLM " + base64.StdEncoding.EncodeToString(challengeOf(ntlmUnicode, nil)),
		"cut in base64": "NTLM TlRMT",
	} {
		c := userConfig(NTLM, Basic)
		c.Guard = NewGuard(t.TempDir(), nil)
		s := mustNew(t, c).NewSession(nil)
		f, err := s.First(t.Context(), connect)
		if err != nil || f.Name != "" {
			t.Fatalf("%v %v", f, err)
		}
		f, err = s.Next(t.Context(), connect, []string{"NTLM", "Basic realm=x"})
		if err != nil || !strings.HasPrefix(f.Value, "NTLM TlRMTVNTUAAB") || s.Proving() || s.Portable() {
			t.Fatalf("%v %v", f, err)
		}
		// nothing was shown yet, so another scheme may be
		f, err = s.Next(t.Context(), connect, []string{second, "Basic realm=x"})
		if err != nil || !strings.HasPrefix(f.Value, "Basic ") || !s.Proving() {
			t.Errorf("%s: %v %v", name, f, err)
		}
	}
}

func TestNTLMRejection(t *testing.T) {
	c := userConfig(NTLM, Basic)
	c.Guard = NewGuard(t.TempDir(), nil)
	a := mustNew(t, c)
	s := a.NewSession(nil)
	s.First(t.Context(), connect)
	s.Next(t.Context(), connect, []string{"NTLM", "Basic realm=x"})
	challenge := "NTLM " + base64.StdEncoding.EncodeToString(challengeOf(ntlmUnicode|ntlmTargetInfo, []byte{0, 0, 0, 0}))
	f, err := s.Next(t.Context(), connect, []string{challenge})
	if err != nil || !strings.HasPrefix(f.Value, "NTLM TlRMTVNTUAAD") || !s.Proving() {
		t.Fatalf("%v %v", f, err)
	}
	if _, err = s.Next(t.Context(), connect, []string{"NTLM", "Basic realm=x"}); kindOf(err) != Rejected || !a.Shut() {
		t.Fatalf("%v", err)
	}
}
