package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// What is measured of a hop that wants NTLM: it wants each connection to be logged in, so that a tunnel through it takes a handshake of three messages,
// on a connection that was made for the tunnel or kept ready.

// The account of the hop.
const (
	ntlmUser     = "svc"
	ntlmDomain   = "CORP"
	ntlmPassword = "correct horse"
)

// ntlmHop is a proxy that verifies NTLMv2 on each connection, in this process. It tells no time in its challenges: with one it would want a MIC, which
// cntlm does not make.
type ntlmHop struct {
	account upstreamtest.NTLM
	relay   bare
	fault   atomic.Pointer[string] // what was wrong with a login last
	logins  atomic.Int64
}

func newNTLMHop() *ntlmHop {
	return &ntlmHop{account: upstreamtest.NTLM{User: ntlmUser, Domain: ntlmDomain, Password: ntlmPassword, NoTime: true}}
}

func (h *ntlmHop) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // the run ends
		}
		go h.handle(c.(*net.TCPConn))
	}
}

// handle answers one connection: requests until it is logged in and asks for a tunnel.
func (h *ntlmHop) handle(c *net.TCPConn) {
	defer c.Close()
	var buf [8192]byte
	var negotiate, challenge []byte
	in := false
	for n := 0; ; {
		end := bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if end < 0 {
			m, err := c.Read(buf[n:])
			if err != nil || m == 0 {
				return
			}
			n += m
			continue
		}
		head := string(buf[:end+2])
		n = copy(buf[:], buf[end+4:n])
		method, rest, _ := strings.Cut(head, " ")
		if !in {
			ask := "NTLM"
			switch token := ntlmToken(head); {
			case len(token) > 8 && token[8] == 1:
				negotiate = token
				if challenge, _ = h.account.Challenge(token); challenge != nil {
					ask += " " + base64.StdEncoding.EncodeToString(challenge)
				}
			case len(token) > 8 && token[8] == 3 && challenge != nil:
				if err := h.account.Verify(negotiate, challenge, token); err != nil {
					text := err.Error()
					h.fault.Store(&text)
					break
				}
				h.logins.Add(1)
				in = true
			}
			if !in {
				if _, err := io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: "+ask+"\r\nContent-Length: 0\r\n\r\n"); err != nil {
					return
				}
				continue
			}
		}
		if method == "CONNECT" {
			target, _, _ := strings.Cut(rest, " ")
			h.tunnel(c, target, buf[:n])
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

// tunnel connects c, from which early came behind its request.
func (h *ntlmHop) tunnel(c *net.TCPConn, target string, early []byte) {
	server, err := dialer.Dial("tcp", target)
	if err != nil {
		io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer server.Close()
	if _, err := c.Write(connectYes); err != nil {
		return
	}
	if len(early) > 0 {
		server.Write(early)
	}
	done := make(chan struct{})
	go func() {
		h.relay.pass(server.(*net.TCPConn), c)
		close(done)
	}()
	h.relay.pass(c, server.(*net.TCPConn))
	<-done
}

// ntlmToken is what a request shows; nil = nothing.
func ntlmToken(head string) []byte {
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Proxy-Authorization") {
			text, ok := strings.CutPrefix(strings.TrimSpace(value), "NTLM ")
			if !ok {
				return nil
			}
			token, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
			return token
		}
	}
	return nil
}

// sampleNTLM measures what tunnels cost the proxy, and how fast they went. Each must have been logged in.
func sampleNTLM(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	n := p.contender.units(b.o.tunnels / 2)
	hop := b.env.ntlm
	before := hop.logins.Load()
	var took time.Duration
	cpu, err := b.work(p, func() error {
		begun := time.Now()
		err := d.tunnels(ctx, b.env.origin.echo, n, clients)
		took = time.Since(begun)
		return err
	})
	if why := hop.fault.Load(); err != nil && why != nil {
		err = fmt.Errorf("%w (a login was refused: %s)", err, *why)
	}
	if err != nil {
		return nil, err
	}
	// Connections that were logged in before are a few; a contender that gets by without would measure something else.
	if logins := hop.logins.Load() - before; logins < int64(n)*9/10 {
		return nil, fmt.Errorf("%d tunnels and %d logins", n, logins)
	}
	return []float64{micros(cpu) / float64(n), float64(n) / took.Seconds()}, nil
}

func startCntlm(ctx context.Context, e *env, r role, _ string) (*process, error) {
	p, err := peers.Cntlm(ctx, e.dir, peers.CntlmOptions{Parent: e.ntlmHop, Domain: ntlmDomain, User: ntlmUser, Password: ntlmPassword})
	return fromPeer(p, err, r, speakCONNECT)
}
