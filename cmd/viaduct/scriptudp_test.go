package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"viaduct/upstream/socks5"
)

func init() {
	scriptCommands["packets"] = scriptPackets
	scriptCommands["datagram"] = scriptDatagram
}

// scriptPackets starts a server of datagrams that sends each back: packets NAME.
func scriptPackets(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 1, "packets NAME")
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	ts.Check(err)
	done := make(chan struct{})
	ts.Defer(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	setAddress(ts, args[0], c.LocalAddr().String())
}

// scriptDatagram sends a text through an association of its own and waits for it to come back: datagram PROXY TARGET TEXT. With ! no
// association is granted, or nothing comes back.
func scriptDatagram(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, args, 3, "datagram PROXY TARGET TEXT")
	err := datagram(args[0], args[1], args[2], neg)
	if (err != nil) != neg {
		ts.Fatalf("datagram to %s by %s: %v", args[1], args[0], err)
	}
}

func datagram(proxy, target, text string, neg bool) error {
	control, err := net.Dial("tcp", proxy)
	if err != nil {
		return err
	}
	defer control.Close()
	control.SetDeadline(time.Now().Add(patience))
	relay, err := socks5.Associate(control, nil)
	if err != nil {
		return err
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(relay.IP, relay.Port)))
	if err != nil {
		return err
	}
	defer c.Close()
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return err
	}
	if _, err := c.Write(append(socks5.AppendDatagramHeader(nil, socks5.Addr{IP: to.Addr(), Port: to.Port()}), text...)); err != nil {
		return err
	}
	wait := patience
	if neg {
		wait = 200 * time.Millisecond
	}
	c.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		return err
	}
	from, got, err := socks5.ParseDatagram(b[:n])
	switch {
	case err != nil:
		return err
	case string(got) != text || from.String() != target:
		return errors.New(string(got) + " came from " + from.String())
	}
	control.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := control.Read(b); err == io.EOF {
		return errors.New("the gateway has ended the association")
	}
	return nil
}
