package forward

import "net"

// socket returns the TCP socket below any layers of c, or nil.
func socket(c net.Conn) *net.TCPConn {
	for c != nil {
		switch t := c.(type) {
		case *net.TCPConn:
			return t
		case interface{ NetConn() net.Conn }: // *tls.Conn
			c = t.NetConn()
		default:
			return nil
		}
	}
	return nil
}

// abrupt is what can be closed by a reset: a TCP socket, a stream of HTTP/2.
type abrupt interface{ SetLinger(sec int) error }

// setReset makes the closing of c a reset.
func setReset(c net.Conn) {
	if t := socket(c); t != nil {
		t.SetLinger(0)
	} else if a, ok := c.(abrupt); ok {
		a.SetLinger(0)
	}
}

// reset closes c with RST. The socket is closed below TLS: its close_notify would make a broken message look whole.
func reset(c net.Conn) {
	setReset(c)
	if t := socket(c); t != nil {
		t.Close()
	}
	c.Close()
}
