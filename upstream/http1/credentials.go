package http1

import (
	"encoding/base64"
	"errors"
	"strings"
)

// maxCredentials bounds a field that is looked at before anybody is known.
const maxCredentials = 4 << 10

// ErrCredentials are credentials that cannot be written as Basic: a control
// character, or a colon in the user name (RFC 7617 2). It does not say which.
var ErrCredentials = errors.New("http1: credentials that Basic cannot carry")

// ParseBasic takes the value of an Authorization or Proxy-Authorization field
// of the Basic scheme apart (RFC 7617). ok is false for another scheme, bad
// base64, no colon, control characters, more than 4 KiB. The strings are
// secrets.
func ParseBasic(value string) (user, password string, ok bool) {
	scheme, rest, found := strings.Cut(value, " ")
	if !found || !equalFold(scheme, "Basic") || len(rest) > maxCredentials {
		return "", "", false
	}
	var buf [512]byte
	plain, err := base64.StdEncoding.Strict().AppendDecode(buf[:0], []byte(strings.TrimLeft(rest, " ")))
	if err != nil {
		return "", "", false
	}
	user, password, ok = strings.Cut(string(plain), ":")
	if !ok || !noControls(user) || !noControls(password) {
		return "", "", false
	}
	return user, password, true
}

// AppendBasic writes the value of an Authorization or Proxy-Authorization field
// of the Basic scheme. It refuses with ErrCredentials what the other end could
// not read back.
func AppendBasic(dst []byte, user, password string) ([]byte, error) {
	if strings.IndexByte(user, ':') >= 0 || !noControls(user) || !noControls(password) ||
		len(user)+len(password) > maxCredentials/2 {
		return dst, ErrCredentials
	}
	dst = append(dst, "Basic "...)
	return base64.StdEncoding.AppendEncode(dst, []byte(user+":"+password)), nil
}

// noControls is RFC 7617 2: neither part may hold control characters.
func noControls(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// ProxyCredentials returns the Basic credentials of the Proxy-Authorization
// field. present is true when there is any such field; ok when there is exactly
// one (RFC 9110 11.7.2) and it is sound.
func (h Header) ProxyCredentials() (user, password string, present, ok bool) {
	switch h.Count("Proxy-Authorization") {
	case 0:
		return "", "", false, false
	case 1:
		user, password, ok = ParseBasic(h.Get("Proxy-Authorization"))
	}
	return user, password, true, ok
}
