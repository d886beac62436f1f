package resolve

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Bounds of what is taken from one message.
const (
	maxMessage = 65535 // RFC 1035, section 4.2.2
	maxAddrs   = 64    // addresses of one name
	maxChain   = 16    // aliases one after the other
	udpSize    = 1232  // of datagrams that we take (EDNS0): no fragments on any usual way
	padding    = 128   // queries that nobody may read are a multiple of it (RFC 8467, section 4.1)
)

// question is what one server is asked.
type question struct {
	name  string          // lower case, without trailing dot
	wire  dnsmessage.Name // as sent: perhaps in mixed case
	qtype dnsmessage.Type
	id    uint16
	plain bool // without EDNS0, for servers that do not know it
}

// newQuestion makes a question with a random id. mixed writes the name in random case, which the answer has to repeat: whoever forges
// one without having seen the question must guess that, too ("0x20").
func newQuestion(name string, qtype dnsmessage.Type, mixed bool) (*question, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	b := []byte(name + ".")
	if mixed {
		bits, n := rand.Uint64(), 64
		for i, c := range b {
			if c < 'a' || c > 'z' {
				continue
			}
			if n == 0 {
				bits, n = rand.Uint64(), 64
			}
			if bits&1 != 0 {
				b[i] = c - 'a' + 'A'
			}
			bits, n = bits>>1, n-1
		}
	}
	wire, err := dnsmessage.NewName(string(b))
	if err != nil {
		return nil, err
	}
	return &question{name: name, wire: wire, qtype: qtype, id: uint16(rand.Uint32())}, nil
}

// checkName holds a name against the bounds of RFC 1035, section 2.3.4.
func checkName(name string) error {
	if name == "" || len(name) > 253 {
		return errors.New("the name does not fit into a query")
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return errors.New("a label of the name is empty, or longer than 63 octets")
		}
	}
	return nil
}

// append writes the query. padded makes its length tell less.
func (q *question) append(buf []byte, padded bool) ([]byte, error) {
	at := len(buf)
	b := dnsmessage.NewBuilder(buf, dnsmessage.Header{ID: q.id, RecursionDesired: true})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(dnsmessage.Question{Name: q.wire, Type: q.qtype, Class: dnsmessage.ClassINET}); err != nil {
		return nil, err
	}
	if !q.plain {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		var opt dnsmessage.OPTResource
		if padded {
			const fixed = 12 + 5 + 11 + 4 // header, end of the question, OPT, and the head of the option
			n := fixed + len(q.name) + 1
			opt.Options = []dnsmessage.Option{{Code: 12, Data: make([]byte, (padding-n%padding)%padding)}}
		}
		if err := b.OPTResource(h, opt); err != nil {
			return nil, err
		}
	}
	msg, err := b.Finish()
	if err == nil && len(msg)-at > maxMessage {
		err = errors.New("the query is too long")
	}
	return msg, err
}

// Why an answer is none. Datagrams of the first kind are passed over, since anybody can send them.
var (
	errForeign  = errors.New("an answer to something else")
	errCase     = errors.New("an answer that repeats the question in another case")
	errGarbage  = errors.New("an answer that cannot be read")
	errLoop     = errors.New("an alias that leads back to itself")
	errReferral = errors.New("a referral to other servers: it does not recurse for us")
)

// rcodeError is a server that says it cannot or does not want to answer.
type rcodeError dnsmessage.RCode

// Error implements error.
func (e rcodeError) Error() string { return rcodeName(dnsmessage.RCode(e)) }

func rcodeName(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return fmt.Sprintf("RCODE %d", uint16(c))
}

// reply is what a server says of one name and one type.
type reply struct {
	truncated bool
	missing   bool // NXDOMAIN: there is no such name
	addrs     []netip.Addr
	alias     string // the name has this other name, of which the message has no address; "" = it has not
	ttl       uint32 // seconds; of a name without addresses that for which it may be remembered, if known
	ttlKnown  bool
}

// parseReply reads the answer to q. Its error is one of those above.
func parseReply(msg []byte, q *question) (r reply, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != q.id || !h.Response || h.OpCode != 0 {
		return r, errForeign
	}
	if err := q.repeated(&p, &h); err != nil {
		return r, err
	}
	switch {
	case h.Truncated:
		r.truncated = true
		return r, nil
	case h.RCode == dnsmessage.RCodeNameError:
		r.missing = true
	case h.RCode != dnsmessage.RCodeSuccess:
		return r, rcodeError(h.RCode)
	}
	var s section
	if err := s.read(&p); err != nil {
		return r, err
	}
	if err := s.follow(q, &r); err != nil {
		return r, err
	}
	switch {
	case r.missing:
		r.addrs = nil // a contradiction
	case len(r.addrs) > 0:
		return r, nil
	}
	if r.alias != "" && !r.missing {
		return r, nil
	}
	soa, referral, err := authority(&p)
	switch {
	case err != nil:
		return r, err
	case soa.known: // RFC 2308, section 5: the lesser of its own time and what it says
		if r.ttl, r.ttlKnown = min(soa.ttl, s.negative(r.ttl)), true; r.ttl > 1<<31-1 {
			r.ttl = 0
		}
	case referral && !r.missing && !h.RecursionAvailable && !h.Authoritative:
		return r, errReferral
	default:
		r.ttl = 0
	}
	return r, nil
}

// repeated reports whether the message repeats the question.
func (q *question) repeated(p *dnsmessage.Parser, h *dnsmessage.Header) error {
	got, err := p.Question()
	switch {
	case err == dnsmessage.ErrSectionDone && (h.RCode == dnsmessage.RCodeFormatError || h.RCode == dnsmessage.RCodeNotImplemented):
		return rcodeError(h.RCode) // of servers that could not read the question
	case err != nil, got.Type != q.qtype, got.Class != dnsmessage.ClassINET, !strings.EqualFold(got.Name.String(), q.wire.String()):
		return errForeign
	case got.Name != q.wire:
		return errCase
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return errForeign
	}
	return nil
}

// section is what an answer section says of addresses and aliases.
type section struct {
	aliases map[string]alias
	hosts   []host
	least   uint32 // TTL of the aliases that were followed
	walked  bool
}

type alias struct {
	to  string
	ttl uint32
}

type host struct {
	name string
	addr netip.Addr
	ttl  uint32
}

// maxRecords bounds the records that are looked at; a message of 64 KiB holds some 4,000.
const maxRecords = 4096

func (s *section) read(p *dnsmessage.Parser) error {
	for n := 0; ; n++ {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return nil
		}
		if err != nil || n == maxRecords {
			return errGarbage
		}
		if err := s.record(p, &h); err != nil {
			return err
		}
	}
}

func (s *section) record(p *dnsmessage.Parser, h *dnsmessage.ResourceHeader) error {
	ttl := h.TTL
	if ttl > 1<<31-1 { // RFC 2181, section 8
		ttl = 0
	}
	skip := h.Class != dnsmessage.ClassINET
	switch {
	case !skip && h.Type == dnsmessage.TypeA:
		a, err := p.AResource()
		if err != nil {
			return errGarbage
		}
		s.hosts = append(s.hosts, host{lower(h.Name), netip.AddrFrom4(a.A), ttl})
	case !skip && h.Type == dnsmessage.TypeAAAA:
		a, err := p.AAAAResource()
		if err != nil {
			return errGarbage
		}
		s.hosts = append(s.hosts, host{lower(h.Name), netip.AddrFrom16(a.AAAA).Unmap(), ttl})
	case !skip && h.Type == dnsmessage.TypeCNAME:
		c, err := p.CNAMEResource()
		if err != nil {
			return errGarbage
		}
		if s.aliases == nil {
			s.aliases = make(map[string]alias)
		}
		if name := lower(h.Name); s.aliases[name].to == "" {
			s.aliases[name] = alias{lower(c.CNAME), ttl}
		}
	default:
		if p.SkipAnswer() != nil {
			return errGarbage
		}
	}
	return nil
}

// lower is a name as we write it.
func lower(n dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(n.String(), "."))
}

// follow goes from the question along the aliases to the addresses. Records of other names are passed over.
func (s *section) follow(q *question, r *reply) error {
	name := q.name
	for step := 0; ; step++ {
		a, ok := s.aliases[name]
		if !ok {
			break
		}
		if step == maxChain || a.to == q.name {
			return errLoop
		}
		if !s.walked || a.ttl < s.least {
			s.least, s.walked = a.ttl, true
		}
		if checkName(a.to) != nil {
			return errGarbage
		}
		name = a.to
	}
	r.ttl, r.ttlKnown = s.least, s.walked
	for _, h := range s.hosts {
		if h.name != name || h.addr.Is4() != (q.qtype == dnsmessage.TypeA) || len(r.addrs) == maxAddrs {
			continue
		}
		if r.addrs = append(r.addrs, h.addr); !r.ttlKnown || h.ttl < r.ttl {
			r.ttl, r.ttlKnown = h.ttl, true
		}
	}
	if len(r.addrs) == 0 && name != q.name {
		r.alias = name
	}
	return nil
}

// negative bounds the time of "no such name" by that of the aliases that led to it.
func (s *section) negative(ttl uint32) uint32 {
	if s.walked {
		return ttl
	}
	return 1<<32 - 1
}

type soa struct {
	known bool
	ttl   uint32
}

// authority reads how long it may be remembered that there is nothing (RFC 2308), or that other servers are named.
func authority(p *dnsmessage.Parser) (s soa, referral bool, err error) {
	for n := 0; ; n++ {
		h, err := p.AuthorityHeader()
		if err == dnsmessage.ErrSectionDone {
			return s, referral && !s.known, nil
		}
		if err != nil || n == maxRecords {
			return s, false, errGarbage
		}
		switch {
		case h.Type == dnsmessage.TypeSOA && h.Class == dnsmessage.ClassINET && !s.known:
			x, err := p.SOAResource()
			if err != nil {
				return s, false, errGarbage
			}
			s = soa{true, min(h.TTL, x.MinTTL)}
			continue
		case h.Type == dnsmessage.TypeNS:
			referral = true
		}
		if p.SkipAuthority() != nil {
			return s, false, errGarbage
		}
	}
}
