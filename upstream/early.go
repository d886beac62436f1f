package upstream

import "net"

// withEarly puts bytes that came too early in front of what is read next.
func (a *attempt) withEarly(conn net.Conn) net.Conn {
	if len(a.early) == 0 {
		return conn
	}
	c := &earlyConn{Conn: conn, early: a.early}
	a.early = nil
	return c
}

// earlyConn is a connection whose first bytes have been read already.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite passes a half-close on.
func (c *earlyConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Conn.Close()
}
