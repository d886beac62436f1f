package connmodel

import (
	"crypto/tls"
	"errors"
	"net"
	"reflect"
)

// PeerAlert returns the TLS alert that the peer sent, if that is what err is about. A server that wants a client certificate may send one
// long after its handshake: TLS 1.3 brings it with the first read. Below net.OpError crypto/tls keeps alerts in a type of its own, a uint8.
func PeerAlert(err error) (tls.AlertError, bool) {
	var a tls.AlertError
	if errors.As(err, &a) {
		return a, true
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return tls.AlertError(v.Uint()), true
	}
	return 0, false
}
