package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
)

// bareCommand makes this program a bare relay instead of the bench: the floor.
const bareCommand = "bare-relay"

// bare is the least that can be called a proxy, in plain Go with package net: accept, read what is asked, dial, copy. It has no
// policy, no log, no timeout, no limit, and not even TCP keepalive, which would be eight system calls for each tunnel. As the floor it runs in a process of its own; as the next hop of other
// proxies it runs beside the load.
type bare struct {
	hop      string      // "host:port" of a proxy to go through; "" = direct
	hopSOCKS bool        // that proxy speaks SOCKS5, else HTTP
	copying  bool        // bytes are copied through a buffer, never spliced by the kernel
	opened   *bareOpened // tunnels are opened: TLS on both sides; nil = not
}

// bareMain is the process: it prints its address, and ends when stdin does.
func bareMain(args []string) int {
	f := flag.NewFlagSet(bareCommand, flag.ContinueOnError)
	var b bare
	f.StringVar(&b.hop, "hop", "", "")
	f.BoolVar(&b.hopSOCKS, "hop-socks", false, "")
	f.BoolVar(&b.copying, "copying", false, "")
	opened := f.String("opened", "", "")
	if f.Parse(args) != nil {
		return 2
	}
	ln, err := listen()
	if err == nil && *opened != "" {
		b.opened, err = loadBareOpened(*opened)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go b.serve(ln)
	fmt.Println(ln.Addr())
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// listen listens on loopback, without keepalive on what is accepted.
func listen() (net.Listener, error) {
	c := net.ListenConfig{KeepAlive: -1}
	return c.Listen(context.Background(), "tcp", "127.0.0.1:0")
}

func (b *bare) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		go b.handle(c.(*net.TCPConn))
	}
}

func (b *bare) handle(client *net.TCPConn) {
	defer client.Close()
	var buf [4096]byte
	target, yes, err := accept(client, buf[:])
	if err != nil {
		return
	}
	server, rest, err := b.dial(target, buf[:])
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := client.Write(yes); err != nil {
		return
	}
	if len(rest) > 0 {
		client.Write(rest)
	}
	if b.opened != nil {
		b.opened.pass(client, server)
		return
	}
	done := make(chan struct{})
	go func() {
		b.pass(server, client)
		close(done)
	}()
	b.pass(client, server)
	<-done
}

// pass copies one direction, and its end.
func (b *bare) pass(to, from *net.TCPConn) {
	if b.copying {
		var buf [32 << 10]byte
		io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf[:])
	} else {
		io.Copy(to, from)
	}
	to.CloseWrite()
}

var (
	errAsk     = errors.New("not understood")
	connectYes = []byte("HTTP/1.1 200 OK\r\n\r\n")
	socksYes   = []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
)

// accept reads what the client asks for: SOCKS5 or CONNECT.
func accept(c net.Conn, buf []byte) (target string, yes []byte, err error) {
	n, err := c.Read(buf)
	if err != nil {
		return "", nil, err
	}
	if buf[0] == 5 {
		target, err = acceptSOCKS(c, buf, n)
		return target, socksYes, err
	}
	for !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
		if n == len(buf) {
			return "", nil, errAsk
		}
		m, err := c.Read(buf[n:])
		if err != nil {
			return "", nil, err
		}
		n += m
	}
	line, _, _ := bytes.Cut(buf[:n], []byte("\r\n"))
	method, rest, _ := strings.Cut(string(line), " ")
	target, _, ok := strings.Cut(rest, " ")
	if method != "CONNECT" || !ok {
		return "", nil, errAsk
	}
	return target, connectYes, nil
}

// acceptSOCKS reads the rest of a greeting and a request by IPv4 address or name (RFC 1928).
func acceptSOCKS(c net.Conn, buf []byte, n int) (string, error) {
	if n < 3 {
		return "", errAsk
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
		return "", err
	}
	n, err := c.Read(buf)
	switch {
	case err != nil:
		return "", err
	case n == 10 && buf[3] == 1:
		ap := netip.AddrPortFrom(netip.AddrFrom4([4]byte(buf[4:8])), binary.BigEndian.Uint16(buf[8:]))
		return ap.String(), nil
	case n > 7 && buf[3] == 3 && n == 7+int(buf[4]):
		return fmt.Sprintf("%s:%d", buf[5:n-2], binary.BigEndian.Uint16(buf[n-2:])), nil
	}
	return "", errAsk
}

// dial reaches the target, through the hop if there is one. rest is what came with the hop's answer.
func (b *bare) dial(target string, buf []byte) (*net.TCPConn, []byte, error) {
	to := target
	if b.hop != "" {
		to = b.hop
	}
	c, err := dialer.Dial("tcp", to)
	if err != nil {
		return nil, nil, err
	}
	server := c.(*net.TCPConn)
	if b.hop == "" {
		return server, nil, nil
	}
	var rest []byte
	if b.hopSOCKS {
		err = askSOCKS(server, target, buf)
	} else {
		rest, err = askCONNECT(server, target, buf)
	}
	if err != nil {
		server.Close()
		return nil, nil, err
	}
	return server, rest, nil
}

// askCONNECT asks a proxy for a tunnel by HTTP, and returns what followed its answer.
func askCONNECT(c net.Conn, target string, buf []byte) (rest []byte, err error) {
	head := append(buf[:0], "CONNECT "...)
	head = append(head, target...)
	head = append(head, " HTTP/1.1\r\nHost: "...)
	head = append(append(head, target...), "\r\n\r\n"...)
	if _, err := c.Write(head); err != nil {
		return nil, err
	}
	for n := 0; ; {
		m, err := c.Read(buf[n:])
		if err != nil {
			return nil, fmt.Errorf("answer to CONNECT: %w", err)
		}
		n += m
		if i := bytes.Index(buf[:n], []byte("\r\n\r\n")); i >= 0 {
			if !bytes.HasPrefix(buf[:n], []byte("HTTP/1.")) || !bytes.HasPrefix(buf[8:n], []byte(" 200")) {
				return nil, fmt.Errorf("answer to CONNECT: %.60q", buf[:n])
			}
			return buf[i+4 : n], nil
		}
		if n == len(buf) {
			return nil, errAsk
		}
	}
}

// askSOCKS asks a proxy for a tunnel by SOCKS5 without authentication. The target is an IPv4 address with a port.
func askSOCKS(c net.Conn, target string, buf []byte) error {
	ap, err := netip.ParseAddrPort(target)
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte{5, 1, 0}); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, buf[:2]); err != nil || buf[1] != 0 {
		return fmt.Errorf("SOCKS5 method %d: %w", buf[1], errors.Join(err, errAsk))
	}
	ip := ap.Addr().As4()
	req := append(append(buf[:0], 5, 1, 0, 1), ip[:]...)
	if _, err := c.Write(binary.BigEndian.AppendUint16(req, ap.Port())); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, buf[:10]); err != nil || buf[1] != 0 || buf[3] != 1 {
		return fmt.Errorf("SOCKS5 reply %d: %w", buf[1], errors.Join(err, errAsk))
	}
	return nil
}
