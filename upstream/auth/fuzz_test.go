package auth

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzConversation has a proxy say what it likes, round by round: each part of the input up to a NUL byte is the fields of one 407, a line for each.
// Whatever it says, the credential is shown once where it is not accepted (Digest: once for each nonce that is said to be old), nothing is shown after
// an error, and nobody is left waiting.
func FuzzConversation(f *testing.F) {
	f.Add("NTLM\x00NTLM TlRMTVNTUAACAAAADAAMADgAAAAFgooC\x00Basic realm=x", uint8(0))
	f.Add("Digest realm=x, nonce=\"1\"\x00Digest realm=x, nonce=\"2\", stale=true\x00Digest realm=x, nonce=\"3\", stale=true\x00Digest realm=x, nonce=\"4\", stale=true", uint8(1))
	f.Add("Basic realm=x\x00Basic realm=x", uint8(2))
	f.Add("Basic realm=x\nDigest realm=x, nonce=n, qop=auth-int\x00", uint8(3))
	guard := NewGuard("", nil)
	orders := [][]string{{NTLM, Digest, Basic}, {Digest}, {Basic}, {Digest, NTLM, Basic}}
	f.Fuzz(func(t *testing.T, said string, order uint8) {
		c := userConfig(orders[int(order)%len(orders)]...)
		c.Guard = guard
		a := mustNew(t, c)
		if err := a.Pair().Reset(); err != nil {
			t.Fatal(err)
		}
		s := a.NewSession(nil)
		field, err := s.First(t.Context(), connect)
		spent := 0
		for _, round := range strings.Split(said, "\x00") {
			if err != nil {
				break
			}
			if s.attempt != nil {
				spent++
			}
			field, err = s.Next(t.Context(), connect, strings.Split(round, "\n"))
		}
		if most := map[bool]int{true: 1 + maxStale, false: 1}[strings.HasPrefix(s.scheme, Digest)]; spent > most {
			t.Errorf("shown %d times", spent)
		}
		if err != nil {
			if field != (Field{}) {
				t.Errorf("%q beside %v", field, err)
			}
			if state, _, _ := a.Pair().Status(); state == Proving {
				t.Errorf("it is still being proved after %v", err)
			}
			if kindOf(err) == Rejected != a.Shut() {
				t.Errorf("%v, and closed is %v", err, a.Shut())
			}
		}
		if bytes.Contains([]byte(field.Value), []byte("\n")) {
			t.Errorf("a line of its own: %q", field.Value)
		}
		s.Broken()
		if state, _, _ := a.Pair().Status(); state == Proving {
			t.Error("others wait for ever")
		}
	})
}
