// Package socks5 is the wire protocol of SOCKS version 5 (RFC 1928) with user
// and password (RFC 1929), both ends of it, for the commands CONNECT and UDP
// ASSOCIATE.
//
// Server is a state machine that is fed bytes and tells what to write and what
// it understood; Connect is the client's handshake on a connection that
// somebody else opened. Neither reads a byte beyond its own: what follows
// belongs to the tunnel and is handed back. Associate is the client's handshake
// for datagrams, AppendDatagramHeader and ParseDatagram what stands in front of
// each.
//
// It opens nothing, starts no goroutine and sets no deadline, knows no policy
// and verifies no password. GSSAPI (RFC 1961) and BIND are not offered and
// refused, and so are fragments of datagrams. Its neighbours are upstream (the
// client's side of a hop) and router (the server's side).
package socks5
