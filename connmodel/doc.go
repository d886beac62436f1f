// Package connmodel is what Viaduct knows of every connection, as plain data: who connected, what was asked for, what was
// decided and by which rule, every attempt hop by hop, and how it ended and whose fault that was.
//
// It holds no sockets, does no I/O but for RecordWriter, reads no configuration and decides nothing. It imports the standard
// library and idna. The router drives it along the journey of a connection; package upstream writes attempts and hops;
// package policies fills a Decision from Facts; the admin door, logs and programs that embed Viaduct read snapshots.
//
// # Values and verbs
//
// A Session is one accepted client connection; a Flow is one target asked for on it: one CONNECT, one SOCKS request, one plain
// HTTP request. Session and Recorder are the only writers. Their verbs (BeginDial, BeginAttempt, Connected, TLSEstablished,
// ReadClosed, WriteClosed, Fail, Close) check the transition, stamp the time and emit the event. Everybody else reads: a
// Client, Server or Flow value is a snapshot, and the Flow that Recorder.Close returns is the record. Changing one changes
// nothing but the copy.
//
//	s := connmodel.NewSession(connmodel.Accepted{Listener: "desk", Peer: peer, Local: local}, hooks)
//	s.Connected()
//	r := s.NewFlow(connmodel.ProtocolConnect, target, time.Now())
//	r.Decided(decision, nil)
//	r.BeginDial(target, decision.Route, false)
//	a := r.BeginAttempt("corp_a")
//	h := a.BeginHop("corp_a", "http", proxy) // then TCPConnected, TLSStarted, UsedCredential, Took, Done or Fail
//	a.Connected(local, peer)                 // or a.Fail(err), and another attempt
//	record := r.Close(connmodel.FlowEnd{Reason: connmodel.CloseClient, Up: 517, Down: 4096})
//	s.Close()
//
// # Invariants
//
//  1. Facts are written by verbs alone, and a verb that does not fit what happened before does nothing. State and times cannot
//     disagree: TLSEstablished is derived from the time of the handshake; CanRead and CanWrite imply Open; what has an end is
//     closed.
//  2. Every attempt ends in exactly one of connected and failed, also when its flow ends first. Every flow ends in exactly one
//     record, which never changes.
//  3. Start <= TCPSetup <= TLSSetup <= End wherever set, also as text and when the wall clock is set back. Bytes never decrease.
//  4. Readers get snapshots: never half written, and never in the way of the data path.
//  5. A record is bounded: MaxRecord octets of JSON whatever the peers sent. It says "truncated" when something was left out.
//  6. No secret is ever in it: credentials are named, not held.
//
// # Events
//
// Hooks.Observe gets one ordered stream for a session:
//
//	client_connected
//	  tls_start, tls_established or tls_failed        side=client
//	  for each flow:
//	    request                                       plain HTTP alone
//	    decision
//	    for each attempt:
//	      server_connect                              about to dial; the plan is frozen
//	      for each hop with TLS:
//	        tls_start, then tls_established or tls_failed   side=hop, or side=server for the last
//	      server_connected or server_connect_error    exactly one of them
//	    response                                      plain HTTP alone
//	    error                                         at most one; see ConnError
//	    server_disconnected                           once, if an attempt connected and the connection is not kept
//	client_disconnected
//
// A server connection that is kept for later requests announces its end with the flow that used it last (when it turns out to be
// dead, as a failed attempt of that flow: server_disconnected, server_connect, server_connect_error), or not at all when it
// ends between flows.
//
// # Hooks
//
// The connection API that Viaduct took over has hooks by name. This is where they are:
//
//	client_connect           Hooks.ClientConnected (may refuse); event client_connected
//	client_disconnect        event client_disconnected
//	server_connect           Hooks.ServerConnect (may edit ServerPlan, or refuse); event server_connect
//	server_connected         event server_connected
//	server_connect_error     Hooks.ServerConnectError (may ask for another dial); event server_connect_error
//	server_disconnected      event server_disconnected
//	tls_established_client   event tls_established with Side client
//	tls_established_server   event tls_established with Side server, or Side hop and the hop's index
//	tls_failed_client        event tls_failed with Side client
//	tls_failed_server        event tls_failed with Side server or hop
//	tls_clienthello          event tls_clienthello, from routers that look at it
//	(new)                    event certificate_warning, with Event.Certificate, where a peer's certificate wants attention
//	request                  Hooks.Request (may edit the plan, or refuse); event request
//	response                 event response
//	error                    event error
//
// And what it does by assignment:
//
//	flow.server_conn = Server((host, port))   ServerPlan.Address in Hooks.Request or Hooks.ServerConnect
//	server.tls_established = True             ServerPlan.TLS: TLS is made and verified, and only then established
//	client.state = CLOSED                     an error from Hooks.ClientConnected
//	flow.metadata[key] = value                Recorder.SetMetadata
//	retry after server.error                  Hooks.ServerConnectError, or retry in the policy
//
// Deciding hooks run under Hooks.Timeout, work on copies, and fail closed: an error, a panic or a missed deadline refuses.
//
// # JSON
//
// Flow, Client, Server and their parts have a JSON form with the names of that API (address, peername, sockname, state,
// certificate_list, alpn, timestamp_start, ...): times are RFC 3339 with nanoseconds or null, state is a number beside its text,
// error is null or an object with a message, alpn is null when not known and "" when there is none. Hops leave out what did
// not happen. Unknown keys are refused when reading. Text from the network cannot carry control characters to a terminal.
package connmodel
