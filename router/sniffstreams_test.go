package router

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"viaduct/connmodel"
)

// streamConn makes a tunnel on a stream a connection.
type streamConn struct {
	*h2Tunnel
	net.Conn // nobody asks it for more than below
}

func (c streamConn) Read(b []byte) (int, error)       { return c.h2Tunnel.Read(b) }
func (c streamConn) Write(b []byte) (int, error)      { return c.h2Tunnel.Write(b) }
func (c streamConn) Close() error                     { c.end(); return nil }
func (c streamConn) SetDeadline(time.Time) error      { return nil }
func (c streamConn) SetReadDeadline(time.Time) error  { return nil }
func (c streamConn) SetWriteDeadline(time.Time) error { return nil }

// Tunnels on the streams of one connection are looked into like others, each for itself.
func TestClientHelloOnStreams(t *testing.T) {
	g := startH2(t, func(_ *Options, c *Config) { c.Listeners[0].Decider = connmodel.DeciderFunc(bySNI) })
	server := local(tlsServer(t))
	c := g.h2(t)
	good := tls.Client(streamConn{h2Tunnel: c.mustTunnel(server)}, insecure("localhost"))
	if err := good.Handshake(); err != nil {
		t.Fatal(err)
	}
	bad := tls.Client(streamConn{h2Tunnel: c.mustTunnel(server)}, insecure("bad.example"))
	err := bad.Handshake()
	if alert, ok := connmodel.PeerAlert(err); !ok || byte(alert) != alertAccessDenied {
		t.Errorf("%v, expected alert %d", err, alertAccessDenied)
	}
	f := g.records.next(t)
	if f.Error == nil || f.Error.Kind != connmodel.KindDenied || f.Client.Hello == nil || f.Client.Hello.SNI != "bad.example" || !f.Reply.Early {
		t.Errorf("%v, hello %+v, reply %+v", f.Error, f.Client.Hello, f.Reply)
	}
	if _, err := io.WriteString(good, "hello"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(good, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	good.NetConn().Close()
	if f := g.records.next(t); f.Client.Hello == nil || f.Client.Hello.SNI != "localhost" || f.Decision.Denied() {
		t.Errorf("hello %+v, %+v", f.Client.Hello, f.Decision)
	}
}
