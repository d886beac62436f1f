package connmodel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (e *encoder) gathered(g *Gathered) {
	e.raw(`{`)
	start := len(e.b)
	key := func(k string) {
		if len(e.b) > start {
			e.raw(`,`)
		}
		e.raw(`"`)
		e.raw(k)
		e.raw(`":`)
	}
	if len(g.Addresses) > 0 || g.MoreAddresses {
		key("addresses")
		e.raw(`[`)
		list := g.Addresses[:min(len(g.Addresses), maxGathered)]
		for i, a := range list {
			e.comma(i)
			e.str(a.String())
		}
		e.raw(`]`)
		if g.MoreAddresses || len(list) < len(g.Addresses) {
			key("addresses_truncated")
			e.raw(`true`)
		}
	}
	if g.Name != "" {
		key("name")
		e.str(g.Name)
	}
	if g.TargetIP.IsValid() {
		key("target_ip")
		e.str(g.TargetIP.String())
	}
	if g.Looked != 0 {
		key("looked")
		e.firstBytes(g.Looked)
	}
	if g.Unread != 0 {
		key("unread")
		e.firstBytes(g.Unread)
	}
	if q := g.First; q != nil {
		key("first_request")
		e.raw(`{"method":`)
		e.str(q.Method)
		e.raw(`,"path":`)
		e.str(q.Path)
		e.raw(`}`)
	}
	if list := g.Headers; len(list) > 0 {
		key("headers")
		if len(list) > e.samples {
			list, e.cut = list[:e.samples], true
		}
		e.raw(`{`)
		for i := range list {
			e.comma(i)
			e.str(list[i].Name)
			e.raw(`:`)
			e.list(list[i].Values, maxSampledLines)
		}
		e.raw(`}`)
	}
	e.raw(`}`)
}

// firstBytes writes which of the client's first bytes n holds.
func (e *encoder) firstBytes(n Need) {
	switch n & (NeedHello | NeedRequest) {
	case NeedHello:
		e.raw(`["client_hello"]`)
	case NeedRequest:
		e.raw(`["request"]`)
	case NeedHello | NeedRequest:
		e.raw(`["client_hello","request"]`)
	default:
		e.raw(`[]`)
	}
}

type wireGathered struct {
	Addresses     []netip.Addr   `json:"addresses"`
	MoreAddresses bool           `json:"addresses_truncated"`
	Name          string         `json:"name"`
	TargetIP      netip.Addr     `json:"target_ip"`
	Looked        wireFirstBytes `json:"looked"`
	Unread        wireFirstBytes `json:"unread"`
	First         *struct {
		Method string `json:"method"`
		Path   string `json:"path"`
	} `json:"first_request"`
	Headers map[string][]string `json:"headers"`
}

type wireFirstBytes []string

func (w wireFirstBytes) value() (n Need, err error) {
	for _, s := range w {
		switch s {
		case "client_hello":
			n |= NeedHello
		case "request":
			n |= NeedRequest
		default:
			return 0, fmt.Errorf("connmodel: %q is none of a client's first bytes", bound(s, maxQuoted))
		}
	}
	return n, nil
}

// value returns nil when nothing was gathered.
func (w *wireGathered) value() (*Gathered, error) {
	if w == nil {
		return nil, nil
	}
	g := &Gathered{MoreAddresses: w.MoreAddresses, Name: w.Name, TargetIP: w.TargetIP}
	for _, a := range w.Addresses {
		if a.IsValid() {
			g.Addresses = append(g.Addresses, a)
		}
	}
	var err error
	if g.Looked, err = w.Looked.value(); err != nil {
		return nil, err
	}
	if g.Unread, err = w.Unread.value(); err != nil {
		return nil, err
	}
	if w.First != nil {
		g.First = &Request{Method: w.First.Method, Path: w.First.Path}
	}
	for name, values := range w.Headers {
		g.Headers = append(g.Headers, HeaderSample{name, some(values)})
	}
	slices.SortFunc(g.Headers, func(a, b HeaderSample) int { return strings.Compare(a.Name, b.Name) })
	return g, nil
}
