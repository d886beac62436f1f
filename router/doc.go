// Package router is the journey of a connection through the gateway: it accepts clients, learns what they ask for, asks the
// policy, dials through the chain, answers, relays, and records.
//
//	station    what happens                                                     where
//	accept     a socket is handed over; its configuration is pinned             bind.go, accept.go, gate.go, session.go
//	handshake  TLS with the client; CONNECT, absolute-form HTTP, SOCKS, or      secure.go, streams.go, http.go, socks.go, targeted.go
//	           what the kernel says: target, user, protocol
//	decide     facts in, decision out; facts that a rule asks for are gathered  decide.go, sniff.go, ingress/
//	dial       hooks, the check of the address, the chain, retries              dial.go, guard.go
//	answer     yes or no in the client's own protocol, the guilty hop named     answer.go, late.go, reply.go
//	relay      bytes both ways; plain HTTP request by request, in opened        relay/, forward/, http.go, opened.go, inner.go
//	           tunnels too
//	record     one record for every flow, also after a panic                    record.go, logging.go
//
// serveConn in serve.go reads like this table. Apply in router.go changes the configuration without touching what is open;
// Shutdown drains. What others may do to a session meanwhile (end it, drain it, notice that its client has left) is in life.go and
// waiting.go.
//
// It is not the policy (package policies; router knows it as a connmodel.Decider), not the dialling (package upstream), and not
// the program (cmd/viaduct wires the three). A program may embed it:
//
//	table, err := upstream.NewTable(upstream.Config{}, nil)
//	r := router.New(router.Options{Hooks: hooks, Records: sink})
//	err = r.Apply(&router.Config{Routes: table, Listeners: []router.Listener{{
//		Name: "desk", Network: "tcp", Address: "127.0.0.1:3128", Protocols: router.AllProtocols, Decider: decider,
//	}}})
//	...
//	cut := r.Shutdown(ctx) // then table.Close()
//
// A Config, and all it points to, belongs to the router from Apply on. A table may be closed once a later Config without it has been
// applied: what was dialled by it lives on.
package router
