package connmodel

import (
	"net/netip"
	"slices"
	"strings"
)

// Gathered is what the decision of a flow looked at that stands nowhere else in its record. It is there so that the decision can be made again: see
// Flow.Facts. Plain data, changed by nobody once the flow has it.
type Gathered struct {
	// Addresses are those of the target's name, as they were resolved for the decision; MoreAddresses says that there were more.
	Addresses     []netip.Addr
	MoreAddresses bool
	// Name is the name that a client asked for inside, whose connection a firewall sent here: rules saw it as the target's host.
	Name string
	// TargetIP is where the flow went by its address, whatever its target is called (Facts.TargetIP); zero = the target says it.
	TargetIP netip.Addr
	// Looked says which of the client's first bytes were looked for (NeedHello, NeedRequest): where there is none, the client did not send it.
	// Unread says which of them were begun and could not be read.
	Looked, Unread Need
	// First is the HTTP request that a tunnel began with, where a rule asked for it; nil = none. Of it there are method and path alone.
	First *Request
	// Headers are fields of the request that were kept, each with the lines it had, in order; one that the request did not have has none.
	Headers []HeaderSample
}

// HeaderSample is a field of a request with the values of its lines.
type HeaderSample struct {
	Name   string // lower case
	Values []string
}

// MaxSampledFields bounds the header fields that a record keeps of a request.
const MaxSampledFields = 16

// Bounds of what is kept of a request. A value of maxSampledValue octets may have been longer, and a field of maxSampledLines lines may have had more.
const (
	maxSampledLines = 8
	maxSampledValue = 512
	maxGathered     = 16 // addresses
)

// SecretField reports whether the value of a header field (in lower case) is never to be kept or shown.
func SecretField(field string) bool {
	for _, part := range [...]string{"authorization", "cookie", "token", "secret", "password", "api-key", "apikey"} {
		if strings.Contains(field, part) {
			return true
		}
	}
	return false
}

// SampledFields makes of the names of header fields those that a record may keep: in lower case, sorted, each once, without those that hold
// secrets, and no more than a record has room for.
func SampledFields(names ...[]string) []string {
	var all []string
	for _, list := range names {
		for _, n := range list {
			if n = strings.ToLower(n); n != "" && !SecretField(n) && !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	all = all[:min(len(all), MaxSampledFields)]
	slices.Sort(all)
	return all
}

// Gather returns what a record has to keep of the facts that a decision was made from, beyond what it has anyway; nil = nothing. fields
// are those of the request that are kept (SampledFields). asked is the target that the client asked for, as the record has it.
func (f *Facts) Gather(asked Address, fields []string) *Gathered {
	sampled := len(fields) > 0 && f.Request != nil && f.Request.Header != nil
	looked := Need(0)
	if f.Tunnel.IsZero() && f.Protocol != ProtocolUDP {
		looked = f.Have & (NeedHello | NeedRequest)
	}
	moved := (!f.Tunnel.IsZero() || f.KernelSent()) && f.TargetIP != asked.IP()
	if f.Addresses == nil && looked == 0 && !f.HelloUnread && !f.RequestUnread && !moved && f.Target == asked && !sampled {
		return nil
	}
	g := &Gathered{Looked: looked}
	if n := len(f.Addresses); n > 0 {
		g.MoreAddresses = n > maxGathered
		g.Addresses = slices.Clone(f.Addresses[:min(n, maxGathered)])
	}
	if f.Target != asked {
		g.Name = f.Target.Host
	}
	if moved {
		g.TargetIP = f.TargetIP
	}
	if f.HelloUnread {
		g.Unread |= NeedHello
	}
	if f.RequestUnread {
		g.Unread |= NeedRequest
	}
	if q := f.Request; q != nil && f.Tunnel.IsZero() && f.Protocol != ProtocolHTTP {
		g.First = &Request{Method: bound(q.Method, maxText), Path: bound(q.Path, maxPath)}
	}
	if sampled {
		for _, name := range fields[:min(len(fields), MaxSampledFields)] {
			g.Headers = append(g.Headers, sampleField(f.Request.Header, name))
		}
	}
	return g
}

func sampleField(h HeaderLookup, name string) HeaderSample {
	s := HeaderSample{Name: name}
	for i := range maxSampledLines {
		v, ok := h.Lookup(name, i)
		if !ok {
			break
		}
		s.Values = append(s.Values, strings.Clone(v[:min(len(v), maxSampledValue)]))
	}
	return s
}

// sampled lets rules look at what a record has of the fields of a request.
type sampled struct {
	fields []HeaderSample
	whole  func(text string, most int) bool
}

// Lookup implements HeaderLookup.
func (h *sampled) Lookup(name string, i int) (string, bool) {
	if s := h.field(name); s != nil && i < len(s.Values) {
		return s.Values[i], true
	}
	return "", false
}

// Knows reports whether the record has all lines of the field, whole.
func (h *sampled) Knows(name string) bool {
	s := h.field(name)
	return s != nil && len(s.Values) < maxSampledLines && !slices.ContainsFunc(s.Values, func(v string) bool { return len(v) >= maxSampledValue || !h.whole(v, maxSampledValue) })
}

func (h *sampled) field(name string) *HeaderSample {
	for i := range h.fields {
		if strings.EqualFold(h.fields[i].Name, name) {
			return &h.fields[i]
		}
	}
	return nil
}
