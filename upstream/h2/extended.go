package h2

import "context"

// ExtendedConnect reports whether the server takes a WebSocket over HTTP/2 (RFC 8441). It waits for the server's SETTINGS, which say so,
// until ctx ends or the connection does.
func (cl *Client) ExtendedConnect(ctx context.Context) bool {
	select {
	case <-cl.Ready():
	case <-ctx.Done():
	}
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	return cl.c.extended
}
