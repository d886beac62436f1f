package upstream

import (
	"strconv"

	"viaduct/connmodel"
)

// HopError says where on the way something failed. Wire errors stay below it: *net.OpError, *net.DNSError, tls.AlertError,
// socks5.ReplyError, httpconnect.StatusError and the like are found with errors.As.
type HopError struct {
	Hop      int    // 1-based index of the hop that was being spoken to; Hops+1 = the server itself
	Upstream string // name of that hop; "" = the server
	Hops     int    // proxies on the way
	Next     string // name of the hop behind it; "" = the server
	Phase    connmodel.Phase
	Err      error

	shown  bool // our credentials had been shown to the hop
	hasty  bool // so little of the flow's deadline was left that its end says nothing about the hop
	scheme string
}

// Error names the place and says what the wire said.
func (e *HopError) Error() string {
	where := "server"
	if !e.server() {
		where = "hop " + strconv.Itoa(e.Hop) + " (" + e.Upstream + ")"
	}
	return where + ": " + string(e.Phase) + ": " + e.Err.Error()
}

// Unwrap returns what the wire said.
func (e *HopError) Unwrap() error { return e.Err }

func (e *HopError) server() bool { return e.Hop > e.Hops }
