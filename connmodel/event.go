package connmodel

import "time"

// EventKind names a moment in the life of a session.
type EventKind string

// The events, in the order in which they can occur. Each attempt ends in exactly one of server_connected and
// server_connect_error.
const (
	EventClientConnected    EventKind = "client_connected"
	EventClientDisconnected EventKind = "client_disconnected"
	EventTLSClientHello     EventKind = "tls_clienthello"
	EventTLSStart           EventKind = "tls_start"
	EventTLSEstablished     EventKind = "tls_established"
	EventTLSFailed          EventKind = "tls_failed"
	// EventCertificateWarning comes beside tls_established or tls_failed: see CertificateWarning.
	EventCertificateWarning EventKind = "certificate_warning"
	EventDecision           EventKind = "decision"
	EventServerConnect      EventKind = "server_connect"
	EventServerConnected    EventKind = "server_connected"
	EventServerConnectError EventKind = "server_connect_error"
	EventServerDisconnected EventKind = "server_disconnected"
	EventRequest            EventKind = "request"
	EventResponse           EventKind = "response"
	EventError              EventKind = "error"
)

// Event is one moment. Events of one session are ordered.
type Event struct {
	Kind    EventKind
	Time    time.Time
	Session ID
	Flow    ID // zero for events of the session itself
	Side    Side
	Hop     int // 1-based; 0 = none
	Attempt int // 1-based; 0 = none
	Error   *ConnError
	// Certificate is set for EventCertificateWarning.
	Certificate *CertificateWarning
}
