package relay

import "time"

// Peer names one of the two ends of a tunnel.
type Peer uint8

const (
	None   Peer = iota // neither, or not known yet
	Client             // who asked for the tunnel
	Server             // the far end, reached directly or through hops
)

// String returns "none", "client" or "server".
func (p Peer) String() string {
	switch p {
	case Client:
		return "client"
	case Server:
		return "server"
	}
	return "none"
}

// End says why a tunnel ended.
type End uint8

const (
	Open              End = iota // not ended
	ClientClosed                 // both directions ended in good order, the client's first
	ServerClosed                 // both directions ended in good order, the server's first
	ClientReset                  // the client reset its connection (RST), or had closed it when bytes for it arrived
	ServerReset                  // the same of the server
	ClientFailed                 // the connection to the client broke otherwise: keepalive timeout, no route, TLS error or truncation
	ServerFailed                 // the same of the server
	IdleTimeout                  // no byte in either direction for Options.Idle
	HalfClosedTimeout            // one side had ended, the other sent no byte for Options.HalfClosed
	Drained                      // ended by us: the gateway is going down; given to Abort
	Canceled                     // ended by us: an operator's or a program's wish; given to Abort
)

var endNames = [...]string{
	Open: "open", ClientClosed: "client_closed", ServerClosed: "server_closed", ClientReset: "client_reset", ServerReset: "server_reset",
	ClientFailed: "client_failed", ServerFailed: "server_failed", IdleTimeout: "idle", HalfClosedTimeout: "half_closed_idle",
	Drained: "drained", Canceled: "canceled",
}

// String returns the reason as records spell it: "client_closed", "server_reset", "idle" and so on.
func (e End) String() string {
	if int(e) < len(endNames) {
		return endNames[e]
	}
	return "unknown"
}

// Orderly reports whether both sides ended as they wished.
func (e End) Orderly() bool { return e == ClientClosed || e == ServerClosed }

// Peer returns whom the end goes back to, or None when it was a timeout or our own doing.
func (e End) Peer() Peer {
	switch e {
	case ClientClosed, ClientReset, ClientFailed:
		return Client
	case ServerClosed, ServerReset, ServerFailed:
		return Server
	}
	return None
}

// Result is what is known of a tunnel after its end.
type Result struct {
	Up   int64 // bytes delivered from client to server, early ones included
	Down int64 // bytes delivered from server to client, early ones included

	End        End
	First      Peer  // whose end was seen first; None if neither had ended when the tunnel was cut
	HalfClosed bool  // one direction went on after the other had ended in good order
	Err        error // the error behind ClientReset to ServerFailed; nil for the others

	UpEnd   time.Time // when client to server stopped: its end was read, or it was cut
	DownEnd time.Time // the same of server to client
}
