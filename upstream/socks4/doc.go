// Package socks4 is the wire protocol of SOCKS version 4 and its extension 4a,
// both ends of it, for the CONNECT command. Its specification is "SOCKS: A
// protocol for TCP proxy across firewalls" (Ying-Da Lee) with the memo "SOCKS
// 4A: A Simple Extension to SOCKS 4 Protocol".
//
// ParseRequest and AppendReply are the server's side, Connect the client's
// handshake on a connection that somebody else opened. Bytes beyond the
// handshake are the tunnel's and are handed back.
//
// The protocol has no password: the user id is a claim. A listener that demands
// authentication must not serve it. BIND and ident are not offered. It opens
// nothing, starts no goroutine, sets no deadline. Its neighbours are upstream and
// router/ingress.
package socks4
