// Package httpconnect is the CONNECT handshake of HTTP/1.1 (RFC 9110 9.3.6), the
// client's side towards a proxy and the heads a proxy answers with.
//
// Connect asks once. A Handshake can ask again on the same connection after a
// 407, which the authentication schemes of several steps need. Both read the
// reply to the byte: what follows a 2xx is the beginning of the tunnel.
//
// It opens nothing, starts no goroutine, sets no deadline and chooses no
// credentials: it is given a connection and the value of a field. Its neighbours
// are upstream/http1, which parses and writes, upstream and upstream/auth.
package httpconnect
