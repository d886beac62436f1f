// Package doctor finds out what is wrong with one proxy, step by step in the order in which a connection depends on them: its name, its
// addresses, TLS, what really listens at the port, what it offers to be shown, clocks, Kerberos, a tunnel, and what becomes of a WebSocket and of
// an idle tunnel. Each step has a status, a time, facts, and, where it failed, a sentence of what that means and what to try next.
//
// It looks with the gateway's own code: the sockets and TLS configurations of package upstream, its handshakes, and for everything that shows a
// credential Table.Dial and the guard of package auth, so that an account is not locked by looking. What package upstream does in one go it asks for
// in parts; where it has to speak itself (a CONNECT without credentials, the first message of NTLM, the greeting of SOCKS, a WebSocket) it shows nothing
// of ours.
//
// It prints nothing, reads no policy and asks no gateway: cmd/viaduct does. All sentences are in sentences.go.
package doctor
