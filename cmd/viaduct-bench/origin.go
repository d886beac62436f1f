package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// origin is the servers that tunnels lead to, in this process: one that echoes, one that sends as many bytes as it is asked for,
// and one that answers HTTP requests.
type origin struct {
	listeners        []net.Listener
	echo, bulk, http string       // "host:port"
	https            string       // the same as http, behind TLS
	open             atomic.Int64 // connections of tunnels

	mu   sync.Mutex
	held map[*net.TCPConn]bool // echo connections
}

// bodyBytes is the body of each response to a plain request.
const bodyBytes = 1024

func newOrigin() (*origin, error) {
	o := &origin{held: map[*net.TCPConn]bool{}}
	for _, s := range []struct {
		addr  *string
		serve func(*net.TCPConn)
	}{{&o.echo, o.counted(o.serveEcho)}, {&o.bulk, o.counted(o.serveBulk)}, {&o.http, o.serveHTTP}} {
		ln, err := listen()
		if err != nil {
			o.close()
			return nil, err
		}
		*s.addr = ln.Addr().String()
		o.listeners = append(o.listeners, ln)
		go o.accept(ln, s.serve)
	}
	return o, nil
}

func (o *origin) accept(ln net.Listener, serve func(*net.TCPConn)) {
	for {
		c, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		go func() {
			defer c.Close()
			serve(c.(*net.TCPConn))
		}()
	}
}

// counted counts the connections that are served, until they are closed. Those of plain requests are not counted: proxies keep
// them for later.
func (o *origin) counted(serve func(*net.TCPConn)) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		o.open.Add(1)
		defer o.open.Add(-1)
		serve(c)
		c.Close()
	}
}

func (o *origin) close() {
	for _, ln := range o.listeners {
		ln.Close()
	}
	o.reset()
}

func (o *origin) serveEcho(c *net.TCPConn) {
	o.mu.Lock()
	o.held[c] = true
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.held, c)
		o.mu.Unlock()
	}()
	var buf [64]byte
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// reset ends the open echo connections by RST, which leaves nothing in TIME_WAIT.
func (o *origin) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.held {
		c.SetLinger(0)
		c.Close()
	}
}

var zeros [256 << 10]byte

// serveBulk reads a count of eight bytes and sends as many.
func (o *origin) serveBulk(c *net.TCPConn) {
	var count [8]byte
	if _, err := io.ReadFull(c, count[:]); err != nil {
		return
	}
	for left := int64(binary.BigEndian.Uint64(count[:])); left > 0; {
		n, err := c.Write(zeros[:min(left, int64(len(zeros)))])
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

// serveHTTP answers every head that comes, and keeps the connection.
func (o *origin) serveHTTP(c *net.TCPConn) { answerHeads(c) }

func answerHeads(c net.Conn) {
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: %s\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), bodyBytes, bytes.Repeat([]byte("x"), bodyBytes))
	var buf [4096]byte
	for n := 0; n < len(buf); {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		for {
			i := bytes.Index(buf[:n], []byte("\r\n\r\n"))
			if i < 0 {
				break
			}
			n = copy(buf[:], buf[i+4:n])
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

// settled waits until the connection of every tunnel is closed, so that all of a sample's work is done.
func (o *origin) settled() error {
	for end := time.Now().Add(10 * time.Second); o.open.Load() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d connections to the origin are still open 10 s after all clients have left", o.open.Load())
		}
	}
	return nil
}
