package connmodel

import "time"

// Stand-ins for tests and tools: plain values with an id, an address, and the state that a new connection of their kind has.

// DummyClient returns a client that is connected and has done nothing yet. The zero Address stands for client:0.
func DummyClient(addr Address) *Client {
	if addr.IsZero() {
		addr = Address{Host: "client"}
	}
	now := time.Now()
	id := NewID(now)
	return &Client{Connection: Connection{ID: id, Address: addr, State: Active, Start: now, TCPSetup: now}, Session: id}
}

// DummyServer returns a server that is planned and not dialled yet. The zero Address stands for server:0.
func DummyServer(addr Address) *Server {
	if addr.IsZero() {
		addr = Address{Host: "server"}
	}
	return &Server{Connection: Connection{ID: NewID(time.Now()), Address: addr, State: Closed}, Via: RouteDirect}
}

// DummyFlow returns a flow between a DummyClient and a DummyServer for target, decided to go direct. The zero Address stands
// for server:0.
func DummyFlow(target Address) *Flow {
	c, s := DummyClient(Address{}), DummyServer(target)
	return &Flow{
		ID: NewID(c.Start), Session: c.Session, Client: c, Server: s, Target: s.Address, Protocol: ProtocolConnect,
		Decision: &Decision{Policy: "default", Rule: "otherwise", Outcome: OutcomeVia, Route: RouteDirect},
		Start:    c.Start, Decided: c.Start,
	}
}
