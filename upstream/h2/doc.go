// Package h2 speaks HTTP/2 (RFC 9113) at either end of a connection, and shows each of its streams as a net.Conn that speaks
// HTTP/1.1: what can serve, forward, tunnel or relay HTTP/1.1 on a connection does so on a stream, unchanged.
//
// A server, here of a proxy:
//
//	srv := h2.NewServer(conn, h2.ServerOptions{Absolute: true, ExtendedConnect: true})
//	err := srv.Serve(func(s *h2.Stream) { // one goroutine per stream; s is closed when it returns
//		serveHTTP1(s) // reads "GET http://host/ HTTP/1.1" or "CONNECT host:443 HTTP/1.1", and writes a response
//	})
//
// Serve runs the connection on its goroutine until it ends. srv.Shutdown is for a drain: GOAWAY, and open streams come to
// their end. Bytes of the connection that were read already go into ServerOptions.Early.
//
// A client, on a connection whose ALPN chose h2:
//
//	cl, err := h2.NewClient(conn, h2.ClientOptions{})
//	s, err := cl.Open(ctx) // or TryOpen; waits while the server takes no more streams
//	res, err := httpconnect.Connect(s, httpconnect.Request{Host: "example.com", Port: 443})
//	// s is the tunnel now
//
// Streams can be given deadlines, CloseWrite is END_STREAM, Close ends the one stream. See Stream for the rules, Unprocessed
// for what may be sent again.
//
//   - CONNECT is that of RFC 9113 8.5, with raw bytes behind a 2xx.
//   - "Upgrade: websocket" is extended CONNECT (RFC 8441): a server must be told to announce it (ExtendedConnect), a client
//     gets ErrNoExtendedConnect from Write when its server does not. Other upgrades are left out, as a server may do.
//   - Interim responses, trailers and "Expect" pass. Requests without a known length are chunked.
//   - Nothing is pushed, and priorities are not looked at: streams with something to write take turns, frame by frame.
//
// Heads are written by package http1, which refuses what would make two messages of one; a message that RFC 9113 8 calls
// malformed ends its stream before anybody reads of it. What a peer can make this end hold, do or answer is bounded: see
// ServerOptions and flood.go. It is not a server of HTTP and no client either: it dials nothing, knows no TLS, no policy.
package h2
