package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// clients are how many connections are busy at once.
const clients = 16

// patience bounds everything that one connection waits for.
const patience = 20 * time.Second

// speech is how a client asks a contender for a tunnel.
type speech int

const (
	speakCONNECT speech = iota
	speakSOCKS5
	speakNothing // the contender has one target
)

// door is where clients find a contender.
type door struct {
	addr   string
	speech speech
}

// dialer is without TCP keepalive, and looks up nothing.
var dialer = net.Dialer{Timeout: patience, KeepAlive: -1}

// tunnel opens one tunnel to target.
func (d *door) tunnel(ctx context.Context, target string, buf []byte) (*net.TCPConn, error) {
	c, err := dialer.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	switch d.speech {
	case speakCONNECT:
		var rest []byte
		if rest, err = askCONNECT(c, target, buf); err == nil && len(rest) > 0 {
			err = fmt.Errorf("%d bytes came with the answer to CONNECT, before anything was asked of the server", len(rest))
		}
	case speakSOCKS5:
		err = askSOCKS(c, target, buf)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// echo sends one byte and waits for it.
func echo(c net.Conn, buf []byte) error {
	buf[0] = '!'
	if _, err := c.Write(buf[:1]); err != nil {
		return err
	}
	if n, err := c.Read(buf[:2]); err != nil || n != 1 || buf[0] != '!' {
		return fmt.Errorf("echo: %d bytes: %w", n, err)
	}
	return nil
}

// share spreads n units over the clients. The first error ends all.
func share(ctx context.Context, n, width int, client func(ctx context.Context, next func() bool) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(n))
	next := func() bool { return ctx.Err() == nil && left.Add(-1) >= 0 }
	var wg sync.WaitGroup
	for range width {
		wg.Go(func() {
			if err := client(ctx, next); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// tunnels opens n tunnels, asks one byte of each, and closes them; width at once.
func (d *door) tunnels(ctx context.Context, target string, n, width int) error {
	return share(ctx, n, width, func(ctx context.Context, next func() bool) error {
		var buf [4096]byte
		for next() {
			c, err := d.tunnel(ctx, target, buf[:])
			if err != nil {
				return err
			}
			err = echo(c, buf[:])
			c.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// requests sends n plain requests over kept connections.
func (d *door) requests(ctx context.Context, target string, n int) error {
	head := []byte("GET http://" + target + "/some/path?q=1 HTTP/1.1\r\nHost: " + target + "\r\nUser-Agent: viaduct-bench\r\nAccept: */*\r\n\r\n")
	return share(ctx, n, clients, func(ctx context.Context, next func() bool) error {
		var c net.Conn
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
				// A proxy may close after each response, saying so or not: then that is what a request costs with it.
				if used {
					c.Close()
				}
				if c, err = dialer.DialContext(ctx, "tcp", d.addr); err != nil {
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

// ask sends one request and reads its response.
func ask(c net.Conn, in *bufio.Reader, head []byte) (keep bool, err error) {
	if _, err := c.Write(head); err != nil {
		return false, err
	}
	return response(in)
}

// response reads one, and says whether the connection can be used again.
func response(in *bufio.Reader) (keep bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	keep = strings.HasPrefix(string(line), "HTTP/1.1 ")
	if len(line) < 12 || string(line[9:12]) != "200" {
		return false, fmt.Errorf("response: %q", line)
	}
	size := int64(-1)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := strings.Cut(string(line), ":")
		switch value = strings.TrimSpace(value); {
		case strings.EqualFold(name, "Content-Length"):
			if size, err = strconv.ParseInt(value, 10, 64); err != nil {
				return false, err
			}
		case strings.EqualFold(name, "Connection") && strings.EqualFold(value, "close"):
			keep = false
		}
	}
	if size != bodyBytes {
		return false, fmt.Errorf("response with Content-Length %d, not %d", size, bodyBytes)
	}
	_, err = in.Discard(int(size))
	return keep, err
}

// download takes n bytes through one tunnel.
func (d *door) download(ctx context.Context, target string, n int64) (time.Duration, error) {
	buf := make([]byte, 256<<10)
	c, err := d.tunnel(ctx, target, buf[:4096])
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	begun := time.Now()
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
		return 0, err
	}
	for left := n; left > 0; {
		m, err := c.Read(buf)
		if left -= int64(m); err != nil && left > 0 {
			return 0, fmt.Errorf("download: %d bytes missing: %w", left, err)
		}
	}
	return time.Since(begun), nil
}

// pings measures n round trips of one byte in one open tunnel.
func (d *door) pings(ctx context.Context, target string, n int) (median, p99 time.Duration, err error) {
	var buf [4096]byte
	c, err := d.tunnel(ctx, target, buf[:])
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	took := make([]time.Duration, 0, n)
	for i := -n / 10; i < n; i++ { // the first tenth warms up
		begun := time.Now()
		if err := echo(c, buf[:]); err != nil {
			return 0, 0, err
		}
		if i >= 0 {
			took = append(took, time.Since(begun))
		}
		if i%1000 == 0 {
			c.SetDeadline(time.Now().Add(patience))
			if ctx.Err() != nil {
				return 0, 0, ctx.Err()
			}
		}
	}
	slices.Sort(took)
	return took[n/2], took[n*99/100], nil
}

// hold opens n tunnels, lets each echo once, and keeps them.
func (d *door) hold(ctx context.Context, target string, n int) (held []*net.TCPConn, err error) {
	var mu sync.Mutex
	err = share(ctx, n, clients, func(ctx context.Context, next func() bool) error {
		var buf [4096]byte
		for next() {
			c, err := d.tunnel(ctx, target, buf[:])
			if err != nil {
				return err
			}
			mu.Lock()
			held = append(held, c)
			mu.Unlock()
			if err := echo(c, buf[:]); err != nil {
				return err
			}
			c.SetDeadline(time.Time{})
		}
		return nil
	})
	return held, err
}

// drop ends connections by RST, which leaves nothing in TIME_WAIT.
func drop(held []*net.TCPConn) {
	for _, c := range held {
		c.SetLinger(0)
		c.Close()
	}
}
