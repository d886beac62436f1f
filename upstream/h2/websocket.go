package h2

import (
	"crypto/sha1"
	"encoding/base64"
)

// acceptOf is the answer to a Sec-WebSocket-Key (RFC 6455 4.2.2): it proves that the server knows the protocol, nothing
// else, and does not exist over HTTP/2.
func acceptOf(key string) string {
	h := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(h[:])
}
