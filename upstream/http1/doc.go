// Package http1 is a strict codec for HTTP/1.0 and 1.1 messages (RFC 9110, RFC
// 9112), both ends of it: what a proxy reads from clients, what it writes to
// servers and other proxies, and back.
//
// Heads are parsed from a byte slice (ParseRequest, ParseResponse) into one
// string that every field is a slice of. A Reader joins that to a connection
// and gives the body; Copy relays a body with framing of its own; the Append
// functions write heads and refuse what would inject a line. Nothing that was
// read is ever re-emitted as it was framed: Host, Content-Length,
// Transfer-Encoding, Connection and Upgrade are always written anew from what
// was understood.
//
// It is not a server and not a client: it opens nothing, starts no goroutine,
// sets no deadline and knows no policy. Its neighbours are upstream/httpconnect
// (CONNECT to a proxy), router/ingress (a client's first request) and
// router/forward (plain HTTP).
package http1
