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

// setReset makes the closing of c a reset.
func setReset(c net.Conn) {
	if t := socket(c); t != nil {
		t.SetLinger(0)
	}
}

// reset closes c with RST. The socket is closed below TLS: its close_notify would make a broken message look whole.
func reset(c net.Conn) {
	if t := socket(c); t != nil {
		t.SetLinger(0)
		t.Close()
	}
	c.Close()
}
