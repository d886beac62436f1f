package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"viaduct/upstream/upstreamtest"
	"viaduct/upstream/upstreamtest/peers"
)

// What is measured of tunnels that are opened: a client's TLS ends at the proxy, which has a certificate for the server's name, and the
// proxy makes its own TLS to the server.

// serverName is what the certificate of the https origin is for, beside the loopback address that it is asked for by.
const serverName = "127.0.0.1"

// authorities are who signs what in a run. The files are for the contenders.
type authorities struct {
	servers   *upstreamtest.CA // of the origin
	proxies   *upstreamtest.CA // of the contenders that take one; others bring their own
	serversAt string
	leaf      []byte // the origin's certificate: a client that sees it was not opened
}

func newAuthorities(dir string) (a *authorities, origin *tls.Config, err error) {
	a = new(authorities)
	if a.servers, err = upstreamtest.NewCA(); err != nil {
		return nil, nil, err
	}
	if a.proxies, err = upstreamtest.NewCA(); err != nil {
		return nil, nil, err
	}
	if a.serversAt, err = a.servers.WriteFile(dir); err != nil {
		return nil, nil, err
	}
	leaf, err := a.servers.Issue([]string{serverName}, upstreamtest.CertOptions{})
	if err != nil {
		return nil, nil, err
	}
	a.leaf = leaf.Certificate[0]
	return a, &tls.Config{Certificates: []tls.Certificate{leaf}}, nil
}

// startTLS serves HTTP behind TLS.
func (o *origin) startTLS(config *tls.Config) error {
	ln, err := listen()
	if err != nil {
		return err
	}
	o.https = ln.Addr().String()
	o.listeners = append(o.listeners, ln)
	go o.accept(ln, func(c *net.TCPConn) {
		t := tls.Server(c, config)
		defer t.Close()
		answerHeads(t)
	})
	return nil
}

// opened is a client of tunnels that are opened. It accepts any certificate, as the cost of a client is not measured, but the origin's own.
func (a *authorities) opened(alpn ...string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, ServerName: serverName, NextProtos: alpn,
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
			if len(chain) > 0 && string(chain[0]) == string(a.leaf) {
				return errors.New("the tunnel was not opened: this is the server's own certificate")
			}
			return nil
		},
	}
}

// openTunnel asks for a tunnel and makes the client's handshake in it.
func (d *door) openTunnel(ctx context.Context, target string, config *tls.Config, buf []byte) (*tls.Conn, error) {
	c, err := d.tunnel(ctx, target, buf)
	if err != nil {
		return nil, err
	}
	t := tls.Client(c, config)
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, fmt.Errorf("handshake in the tunnel: %w", err)
	}
	return t, nil
}

func originRequest(target string) []byte {
	return []byte("GET /some/path?q=1 HTTP/1.1\r\nHost: " + target + "\r\nUser-Agent: viaduct-bench\r\nAccept: */*\r\n\r\n")
}

// openedRequests sends n requests in opened tunnels, each of which is kept while it can be.
func (d *door) openedRequests(ctx context.Context, target string, config *tls.Config, n int) error {
	head := originRequest(target)
	return share(ctx, n, clients, func(ctx context.Context, next func() bool) error {
		var buf [4096]byte
		var c *tls.Conn
		defer func() {
			if c != nil {
				c.Close()
			}
		}()
		in := bufio.NewReader(nil)
		for next() {
			used := c != nil
			keep, err := false, io.EOF
			if used {
				keep, err = ask(c, in, head)
			}
			if !used || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
				if used {
					c.Close()
				}
				if c, err = d.openTunnel(ctx, target, config, buf[:]); err != nil {
					return err
				}
				c.SetDeadline(time.Now().Add(5 * time.Minute))
				in.Reset(c)
				keep, err = ask(c, in, head)
			}
			if err != nil {
				return err
			}
			if !keep {
				c.Close()
				c = nil
			}
		}
		return nil
	})
}

// openedTunnels opens n tunnels, asks one request in each, and closes them.
func (d *door) openedTunnels(ctx context.Context, target string, config *tls.Config, n int) error {
	head := originRequest(target)
	return share(ctx, n, clients, func(ctx context.Context, next func() bool) error {
		var buf [4096]byte
		in := bufio.NewReader(nil)
		for next() {
			c, err := d.openTunnel(ctx, target, config, buf[:])
			if err != nil {
				return err
			}
			in.Reset(c)
			_, err = ask(c, in, head)
			c.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// sampleOpened measures what load costs the proxy, and how fast it went.
func (b *bench) sampleOpened(p *process, n int, load func(n int) error) ([]float64, error) {
	n = p.contender.units(n)
	before, begun := cpuTime(p.pids()), time.Now()
	err := load(n)
	took := time.Since(begun)
	time.Sleep(50 * time.Millisecond)
	return []float64{micros(cpuTime(p.pids())-before) / float64(n), float64(n) / took.Seconds()}, err
}

func sampleOpenedRequests(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	config := b.env.authorities.opened()
	return b.sampleOpened(p, b.o.requests/4, func(n int) error { return d.openedRequests(ctx, b.env.origin.https, config, n) })
}

func sampleOpenedTunnels(ctx context.Context, b *bench, p *process, d door) ([]float64, error) {
	config := b.env.authorities.opened()
	return b.sampleOpened(p, b.o.tunnels/2, func(n int) error { return d.openedTunnels(ctx, b.env.origin.https, config, n) })
}

func startMitmproxy(ctx context.Context, e *env, r role, _ string) (*process, error) {
	p, err := peers.Mitmproxy(ctx, e.dir, peers.MitmproxyOptions{Roots: e.authorities.serversAt})
	return fromPeer(p, err, r, speakCONNECT)
}

func startSquidBump(ctx context.Context, e *env, r role, _ string) (*process, error) {
	p, err := peers.Squid(ctx, e.dir, peers.SquidOptions{NoAccessLog: true, Bump: e.authorities.proxies, Roots: e.authorities.serversAt})
	return fromPeer(p, err, r, speakCONNECT)
}

// bareOpened is what the floor needs to open tunnels: one certificate, made beforehand, and the authority of the servers.
type bareOpened struct{ client, server *tls.Config }

func loadBareOpened(dir string) (*bareOpened, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "bare.crt"), filepath.Join(dir, "bare.key"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in ca.crt")
	}
	return &bareOpened{
		client: &tls.Config{Certificates: []tls.Certificate{pair}},
		server: &tls.Config{RootCAs: roots, ServerName: serverName},
	}, nil
}

// writeBareOpened writes what loadBareOpened reads.
func (a *authorities) writeBareOpened(dir string) error {
	leaf, err := a.proxies.Issue([]string{serverName}, upstreamtest.CertOptions{})
	if err != nil {
		return err
	}
	_, _, err = upstreamtest.WriteFiles(dir, "bare", leaf)
	return err
}

// pass makes both handshakes and copies between them: nothing is parsed, nothing minted, no session resumed.
func (o *bareOpened) pass(client, server *net.TCPConn) {
	s, c := tls.Client(server, o.server), tls.Server(client, o.client)
	if s.Handshake() != nil || c.Handshake() != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		io.Copy(s, c)
		s.CloseWrite()
		close(done)
	}()
	io.Copy(c, s)
	c.CloseWrite()
	<-done
}
