package resolve

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// past ends what waits for a socket.
var past = time.Unix(1, 0)

var datagrams = sync.Pool{New: func() any { return new([4096]byte) }}

// datagram asks by one datagram, from a socket of its own: its port is chosen by the kernel, and as it is connected nothing comes in but
// from the server. What does not answer the question is passed over: anybody can forge it.
func (s *server) datagram(ctx context.Context, q *question) (reply, error) {
	ip, err := netip.ParseAddr(s.spec.Host)
	if err != nil {
		return reply{}, err
	}
	buf := datagrams.Get().(*[4096]byte)
	defer datagrams.Put(buf)
	msg, err := q.append(buf[:0], false)
	if err != nil {
		return reply{}, err
	}
	conn, err := s.c.ways().Datagrams(ctx, netip.AddrPortFrom(ip, s.spec.Port))
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		conn.SetDeadline(at)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	defer stop()
	if _, err := conn.Write(msg); err != nil {
		return reply{}, because(ctx, err)
	}
	for {
		n, err := conn.Read(buf[:])
		if err != nil {
			return reply{}, because(ctx, err)
		}
		r, err := parseReply(buf[:n], q)
		if err == errForeign {
			continue
		}
		return r, err
	}
}

// because returns why ctx has ended in place of what that did to a socket.
func because(ctx context.Context, err error) error {
	if e := ctx.Err(); e != nil {
		return e
	}
	return err
}
