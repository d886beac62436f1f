// Package netwatch tells when this machine gets or loses addresses and routes, as laptops do. It listens to the kernel (rtnetlink, of Linux), in a
// few hundred lines less than a library that would also change them; it does not say what changed: whoever is told looks anew.
//
// It is not needed by anything: where listening is not permitted, Watch says so, and nobody is told of changes.
package netwatch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long nothing may come before a change is told: one plug makes dozens of messages.
	quiet = time.Second
	// longest is how long a change may wait for quiet.
	longest = 5 * time.Second
)

// groups are what the kernel is asked to tell.
const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// Change is what became different, for people.
type Change struct {
	Added, Gone []netip.Prefix // addresses with their networks
	Routes      bool           // routes came or went
}

// String says it in words.
func (c Change) String() string {
	var parts []string
	add := func(what string, list []netip.Prefix) {
		if len(list) == 0 {
			return
		}
		var names []string
		for i, p := range list {
			if i == 8 {
				names = append(names, fmt.Sprintf("and %d more", len(list)-i))
				break
			}
			names = append(names, p.String())
		}
		parts = append(parts, what+" "+strings.Join(names, ", "))
	}
	add("new", c.Added)
	add("gone", c.Gone)
	if c.Routes {
		parts = append(parts, "other routes")
	}
	return strings.Join(parts, "; ")
}

// Watch listens until ctx ends, and calls told from one goroutine. The error says why it cannot.
func Watch(ctx context.Context, told func(Change)) (wait func(), err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	before, err := addresses()
	if err != nil {
		f.Close()
		return nil, err
	}
	events, over := make(chan event), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(over)
		read(f, events)
	}()
	go func() {
		defer close(done)
		defer func() {
			f.Close()
			for range events { // until read has ended
			}
		}()
		gather(ctx, events, before, told)
	}()
	return func() { <-done; <-over }, nil
}

// event is what one or more messages say.
type event uint8

const (
	eventAddress event = 1 << iota
	eventRoute
)

// read passes on what the kernel tells, until the socket is closed.
func read(f *os.File, events chan<- event) {
	defer close(events)
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		var e event
		switch {
		case errors.Is(err, unix.ENOBUFS): // there was more than the socket holds: anything may have changed
			e = eventAddress | eventRoute
		case err != nil:
			return
		default:
			e = parse(buf[:n])
		}
		if e != 0 {
			events <- e
		}
	}
}

// Sizes of what stands in front of a message, and offsets in it (struct nlmsghdr, struct rtmsg of linux/netlink.h and linux/rtnetlink.h).
const (
	headerLen     = 16
	rtmsgLen      = 12
	rtmsgProtocol = 5
	rtmsgFlags    = 8
)

// parse says what a datagram of messages is about. What is cut off or not known is passed over.
func parse(b []byte) (e event) {
	for len(b) >= headerLen {
		size := int(binary.NativeEndian.Uint32(b))
		if size < headerLen || size > len(b) {
			return e
		}
		switch kind, body := binary.NativeEndian.Uint16(b[4:]), b[headerLen:size]; kind {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWLINK, unix.RTM_DELLINK:
			e |= eventAddress
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			// What the kernel remembers of a destination is no route of anybody's, and those it makes itself come and go with addresses.
			if len(body) >= rtmsgLen && binary.NativeEndian.Uint32(body[rtmsgFlags:])&unix.RTM_F_CLONED == 0 && body[rtmsgProtocol] != unix.RTPROT_KERNEL {
				e |= eventRoute
			}
		}
		next := (size + 3) &^ 3
		if next > len(b) {
			return e
		}
		b = b[next:]
	}
	return e
}

// gather waits for quiet, and tells what is different then. Addresses are renewed all the time without being others.
func gather(ctx context.Context, events <-chan event, before []netip.Prefix, told func(Change)) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	var seen event
	var first time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			now := time.Now()
			if seen == 0 {
				first = now
			}
			seen |= e
			timer.Reset(max(min(quiet, first.Add(longest).Sub(now)), 0))
		case <-timer.C:
			c := Change{Routes: seen&eventRoute != 0}
			seen = 0
			if now, err := addresses(); err == nil {
				c.Added, c.Gone = without(now, before), without(before, now)
				before = now
			}
			if c.Routes || len(c.Added)+len(c.Gone) > 0 {
				told(c)
			}
		}
	}
}

// addresses are those of this machine that can be used: of links that are up and have a carrier, without loopback and link-local ones, which
// containers and virtual machines bring and take all the time.
func addresses() ([]netip.Prefix, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for i := range links {
		if links[i].Flags&(net.FlagUp|net.FlagRunning) != net.FlagUp|net.FlagRunning || links[i].Flags&net.FlagLoopback != 0 {
			continue
		}
		list, err := links[i].Addrs()
		if err != nil {
			continue // it is gone by now
		}
		for _, a := range list {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok && !ip.Unmap().IsLinkLocalUnicast() {
					ones, _ := n.Mask.Size()
					all = append(all, netip.PrefixFrom(ip.Unmap(), ones))
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all), nil
}

// without returns what a has and b has not.
func without(a, b []netip.Prefix) (out []netip.Prefix) {
	for _, p := range a {
		if !slices.Contains(b, p) {
			out = append(out, p)
		}
	}
	return out
}
