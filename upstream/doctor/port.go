package doctor

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"time"
)

// identify finds out what listens where the proxy should, after it did not speak its protocol. Each question has a connection of its own.
func (x *exam) identify(s *Step) {
	asked := []struct {
		send []byte
		read func([]byte) string
	}{
		{nil, greeting}, // who speaks first is asked nothing
		{hello(), serverHello},
		{[]byte{5, 1, 0}, socksAnswer},
		{[]byte("OPTIONS * HTTP/1.0\r\n\r\n"), httpAnswer},
	}
	type reply struct {
		b   []byte
		err error
	}
	replies := make([]reply, len(asked))
	var wg sync.WaitGroup
	for i := range asked {
		wg.Go(func() { replies[i].b, replies[i].err = x.question(asked[i].send) })
	}
	wg.Wait()
	silent, last := 0, error(nil)
	for i, q := range asked {
		b, err := replies[i].b, replies[i].err
		if len(b) == 0 {
			silent++
			last = err
			continue
		}
		what := q.read(b)
		if what == "" {
			what = guess(b)
		}
		if what == "" {
			s.fact("bytes", clean(string(b)))
			continue
		}
		s.fact("speaks", what)
		x.speaks(s, what, b)
		return
	}
	switch {
	case silent < len(asked):
		s.fail("port_unknown", "what listens at {address} answers, in no protocol that is known here")
	case last != nil && !timedOut(last):
		s.fail(netCode("port", last), "every question ends the connection: %s", plain(last))
	default:
		s.fail("port_silent", "it takes connections and says nothing to any protocol")
	}
	s.Says = s.fill(s.Says)
}

// speaks says what it is, where that is not what the policy thinks.
func (x *exam) speaks(s *Step, what string, b []byte) {
	scheme := x.Spec.Scheme
	same := what == "tls" && scheme == "https" || what == "http" && scheme == "http" || what == "socks5" && strings.HasPrefix(scheme, "socks5")
	names := map[string]string{"tls": "TLS", "http": "plain HTTP", "socks5": "SOCKS5", "ssh": "SSH", "mail or ftp": "a mail or FTP server", "database": "a MySQL server"}
	if same {
		s.warn("port_right", "it is %s, as the policy says, and yet the step before failed", names[what])
		return
	}
	first, _, _ := strings.Cut(string(b), "\n")
	says := "it is " + names[what]
	if what == "ssh" || what == "mail or ftp" {
		says += ": " + clean(strings.TrimSpace(first))
	}
	s.fail("port_"+strings.ReplaceAll(what, " ", "_"), "%s, and the policy says %s", says, scheme)
}

// question sends something, and reads what comes back soon.
func (x *exam) question(send []byte) ([]byte, error) {
	c, err := x.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	wait := silence
	if send == nil {
		wait /= 2
	}
	c.SetDeadline(time.Now().Add(min(wait, x.Timeout)))
	if x.ctx.Err() != nil {
		return nil, x.ctx.Err()
	}
	if _, err := c.Write(send); err != nil {
		return nil, err
	}
	b := make([]byte, 512)
	n, err := c.Read(b)
	return b[:n], err
}

func greeting(b []byte) string { return guess(b) }

func guess(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte("SSH-")):
		return "ssh"
	case bytes.HasPrefix(b, []byte("220")):
		return "mail or ftp"
	case bytes.HasPrefix(b, []byte("HTTP/")):
		return "http"
	case len(b) > 5 && b[0] == 21 && b[1] == 3, len(b) > 5 && b[0] == 22 && b[1] == 3:
		return "tls"
	case len(b) > 5 && b[3] == 0 && b[4] == 10 && b[2] == 0:
		return "database"
	}
	return ""
}

func serverHello(b []byte) string {
	if len(b) > 2 && (b[0] == 22 || b[0] == 21) && b[1] == 3 {
		return "tls"
	}
	return ""
}

func socksAnswer(b []byte) string {
	if len(b) == 2 && b[0] == 5 {
		return "socks5"
	}
	return ""
}

func httpAnswer(b []byte) string {
	if bytes.HasPrefix(b, []byte("HTTP/")) || bytes.HasPrefix(bytes.ToLower(b), []byte("<html")) {
		return "http"
	}
	return ""
}

// hello is a ClientHello.
func hello() []byte {
	c := &recorder{}
	tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake()
	return c.sent.Bytes()
}

// recorder keeps what is written, and ends after the first message.
type recorder struct {
	net.Conn
	sent bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error)      { return r.sent.Write(b) }
func (r *recorder) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }
func (r *recorder) Close() error                     { return nil }
