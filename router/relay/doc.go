// Package relay carries the bytes of a tunnel: from a client's connection to a server's and back, until both directions have ended.
//
// It passes half-close on, tells a close from a reset and a reset from a timeout, keeps live byte counts, and ends a tunnel that has been quiet for
// too long. A direction that waits holds nothing but its goroutine: no buffer, no pipe. When bytes are there it takes a small buffer from a pool, and when
// there are many of them and both ends are plain sockets it lets the kernel move them (splice(2)) through a pipe from a pool of at most 32.
//
// It is not where a tunnel begins: who may connect where, the dialling and the reply to the client are done before [Tunnel.Run] is called, by the
// router; bytes that those steps read too far are handed over in [Side.Early]. It knows nothing of HTTP, SOCKS or policies. Its neighbours are router
// (which calls it) and router/forward (which relays plain HTTP, and upgraded connections through this package).
//
// # What one end of a tunnel must be able to do
//
// Any [net.Conn] will do. The kernel moves the bytes between *net.TCPConn and stream *net.UnixConn; everything else (*tls.Conn, wrappers) is read into
// a small buffer that grows while there is much to read and shrinks again two seconds after. A half-close is passed on to whatever has
// CloseWrite() error, which *net.TCPConn, *net.UnixConn and *tls.Conn (close_notify) have. An end without it cannot be told that the other one has
// finished; it goes on sending until it has ended too, or has been silent for [Options.HalfClosed], and is then closed.
//
// # How ends are passed on
//
// An orderly end of one side becomes an orderly end of the other. A reset, a lost connection or a TLS stream cut short becomes a reset of the other side
// (once the kernel has delivered what came before it), so that nobody takes half a message for a whole one. Unix sockets have no reset, and wrappers without
// NetConn() net.Conn hide theirs: they are just closed, unless they have SetLinger(int) error themselves.
package relay
