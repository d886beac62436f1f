// Package ingress reads what a client says first, without taking it: the ClientHello of TLS, or the head of a plain HTTP request.
//
//	scan.go     TLS records: is it TLS, and is the ClientHello complete?
//	hello.go    the ClientHello itself (RFC 8446, section 4.1.2)
//	ja4.go      its fingerprint
//	request.go  is it an HTTP/1.x request, and is its head complete?
//
// It is pure: bytes in, facts out. It reads no socket, knows no deadline and consumes nothing; package router waits for the bytes,
// decides what is done about them, and passes them on. A client that sends its ClientHello in any number of segments and TLS records
// is scanned as it comes, each byte once. It opens no TLS: that is package router/intercept.
package ingress
