package upstream

import (
	"io"
	"net"
	"testing"
	"time"

	"viaduct/connmodel"
)

// listen serves each connection with f until the test ends.
func listen(t testing.TB, f func(net.Conn)) connmodel.Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	a, err := connmodel.ParseAddress(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func echo(c net.Conn) { io.Copy(c, c) }

func table(t testing.TB, c Config) *Table {
	t.Helper()
	tab, err := NewTable(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tab.Close)
	return tab
}

func recorder(target connmodel.Address) *connmodel.Recorder {
	s := connmodel.NewSession(connmodel.Accepted{Listener: "test", Time: time.Now()}, nil)
	return s.NewFlow(connmodel.ProtocolConnect, target, time.Now())
}

// say sends text through c and reads it back.
func say(t testing.TB, c net.Conn, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q back", got, err, text)
	}
}

func TestDialDirect(t *testing.T) {
	to := listen(t, echo)
	r := recorder(to)
	c, err := table(t, Config{}).Dial(t.Context(), &Request{Route: "direct", Target: to}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "hello")
	if _, ok := c.Conn.(*net.TCPConn); !ok {
		t.Errorf("the connection is a %T: it cannot be spliced", c.Conn)
	}
	s := r.Snapshot().Server
	if len(s.Attempts) != 1 || !s.Attempts[0].Connected() || s.Route != "direct" || s.ResolvedBy != "literal" {
		t.Errorf("record: %+v", s)
	}
	if s.Peer.Port() != to.Port || !s.Local.IsValid() || s.State != connmodel.Active {
		t.Errorf("record: peer %v local %v state %v", s.Peer, s.Local, s.State)
	}
}
