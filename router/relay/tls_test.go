//go:build unix

package relay

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// testCertificate is the one that net/http/httptest carries.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS.Certificates[0]
})

// tlsLink is a TLS connection whose server end the relay holds.
func tlsLink(t testing.TB) link {
	t.Helper()
	l := tcpLink(t)
	peer := tls.Client(l.peer, &tls.Config{InsecureSkipVerify: true}) // whose certificate it is does not matter here
	ours := tls.Server(l.ours, &tls.Config{Certificates: []tls.Certificate{testCertificate()}})
	errs := make(chan error, 2)
	go func() { errs <- peer.Handshake() }()
	go func() { errs <- ours.Handshake() }()
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	peer.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { peer.Close(); ours.Close() })
	return link{peer, ours}
}

// wrappedConn is a connection of which the relay knows nothing but that it can half-close.
type wrappedConn struct{ net.Conn }

func (w wrappedConn) CloseWrite() error { return w.Conn.(*net.TCPConn).CloseWrite() }

func wrappedLink(t testing.TB) link {
	t.Helper()
	l := tcpLink(t)
	return link{l.peer, wrappedConn{l.ours}}
}
