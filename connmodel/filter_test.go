package connmodel

import (
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// filterFlow is a flow of which most is known: it failed at its second proxy.
func filterFlow() *Flow {
	start := time.Date(2026, 11, 28, 9, 30, 0, 123456789, time.UTC)
	id, _ := ParseID("019abcde-0000-7000-8000-0123456789ab")
	f := &Flow{
		ID: id, Session: id, Generation: 3, Protocol: ProtocolConnect, Target: Address{"api.partner.example", 443},
		Client:   &Client{Connection: Connection{Peer: netip.MustParseAddrPort("10.1.2.3:4000")}, Listener: "desk", User: "anna"},
		Decision: &Decision{Policy: "default", Rule: "partner", File: "viaduct.hcl", Line: 12, Outcome: OutcomeVia, Route: "chain.partner", Tags: []string{"partner", "audit"}},
		Server: &Server{Attempts: []Attempt{
			{Number: 1, Hops: []HopResult{{Upstream: "corp_a"}, {Upstream: "jump"}}, End: start, Error: &ConnError{Kind: KindRefused}},
			{Number: 2, Hops: []HopResult{{Upstream: "corp_b"}, {Upstream: "jump"}}, End: start, Error: &ConnError{Kind: KindRefused}},
		}},
		Error:    &ConnError{Phase: PhaseConnect, Side: SideHop, Hop: 2, HopName: "jump", Kind: KindRefused, Message: "connection refused", Blame: BlameTarget},
		Reply:    &Reply{Code: 502},
		Start:    start,
		Decided:  start.Add(time.Millisecond),
		End:      start.Add(2500 * time.Millisecond),
		Up:       517,
		Reason:   CloseFailed,
		Metadata: map[string]string{"tls": "passed"},
	}
	return f
}

func text(s string) FilterValue    { return FilterValue{Type: FilterText, Text: s} }
func number(n float64) FilterValue { return FilterValue{Type: FilterNumber, Number: n} }

func TestFilterMatch(t *testing.T) {
	flow := filterFlow()
	at := func(s string) FilterValue {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return FilterValue{Type: FilterTime, Time: v}
	}
	in := func(list ...FilterValue) FilterValue { return FilterValue{List: list} }
	nets := func(list ...string) (v FilterValue) {
		for _, s := range list {
			v.Prefixes = append(v.Prefixes, netip.MustParsePrefix(s))
		}
		return v
	}
	for _, c := range []struct {
		field string
		cmp   FilterCmp
		value FilterValue
		want  bool
	}{
		{"target.host", FilterEqual, text("api.partner.example"), true},
		{"target.host", FilterEqual, text("API.partner.example"), false},
		{"target.host", FilterNotEqual, text("api.partner.example"), false},
		{"target.host", FilterUnder, text("partner.example"), true},
		{"target.host", FilterUnder, text("artner.example"), false},
		{"target.host", FilterUnder, text("api.partner.example"), true},
		{"target.host", FilterSuffix, text("artner.example"), true},
		{"target.host", FilterPrefix, text("api."), true},
		{"target.host", FilterContains, text(".partner."), true},
		{"target.host", FilterMatches, FilterValue{Pattern: regexp.MustCompile(`^api\..*e$`)}, true},
		{"target.host", FilterIn, in(text("a"), text("api.partner.example")), true},
		{"target.host", FilterIn, in(), false},
		{"target.host", FilterLess, text("b"), false}, // texts have no order
		{"target.host", FilterEqual, number(1), false},
		{"target.port", FilterGreaterEqual, number(443), true},
		{"target.port", FilterGreater, number(443), false},
		{"target.port", FilterLess, number(443), false},
		{"target.port", FilterLessEqual, number(443), true},
		{"target.ip", FilterIsNull, FilterValue{}, true},
		{"target.ip", FilterEqual, FilterValue{Type: FilterAddress, Address: netip.MustParseAddr("10.0.0.1")}, false},
		{"target.ip", FilterNotEqual, FilterValue{Type: FilterAddress, Address: netip.MustParseAddr("10.0.0.1")}, true},
		{"target.ip", FilterWithin, nets("0.0.0.0/0", "::/0"), false},
		{"client.address", FilterWithin, nets("192.168.0.0/16", "10.1.0.0/16"), true},
		{"client.address", FilterIsNull, FilterValue{}, false},
		{"user", FilterEqual, text("anna"), true},
		{"upstreams", FilterHas, text("corp_b"), true},
		{"upstreams", FilterHas, text("corp"), false},
		{"upstreams", FilterEqual, FilterValue{Type: FilterTexts, Texts: []string{"corp_a", "jump", "corp_b"}}, true},
		{"attempts", FilterEqual, number(2), true},
		{"error", FilterEqual, FilterValue{Type: FilterBool, Bool: true}, true},
		{"error.hop", FilterEqual, number(2), true},
		{"hop", FilterEqual, text("jump"), true},
		{"reply", FilterGreater, number(499), true},
		{"response.status", FilterLess, number(1000), false}, // there is none
		{"duration", FilterEqual, number(2.5), true},
		{"duration_ms", FilterEqual, number(2500), true},
		{"started", FilterEqual, at("2026-11-28T09:30:00.123456Z"), true}, // microseconds count
		{"started", FilterLess, at("2026-11-28T09:30:00.123457Z"), true},
		{"started", FilterGreater, at("2026-11-28T10:30:00.123456+01:00"), false},
		{"bytes", FilterEqual, number(517), true},
		{"connect", FilterIsNull, FilterValue{}, true},
		{"cert.expires", FilterLess, at("2036-01-01T00:00:00Z"), false},
	} {
		f := &Filter{Field: FilterFieldNamed(c.field), Cmp: c.cmp, Value: c.value}
		if got := f.Match(flow); got != c.want {
			t.Errorf("%s %d %+v: %v", c.field, c.cmp, c.value, got)
		}
		if got := (&Filter{Op: FilterNot, Args: []*Filter{f}}).Match(flow); got == c.want {
			t.Errorf("not %s %d %+v: %v", c.field, c.cmp, c.value, got)
		}
	}
	meta := FilterFieldNamed("metadata").At("tls")
	if !(&Filter{Field: meta, Value: text("passed")}).Match(flow) || (&Filter{Field: meta, Value: text("")}).Match(flow) {
		t.Error("metadata.tls")
	}
}

func TestFilterTrees(t *testing.T) {
	yes, no := &Filter{Op: FilterFunc, Func: func(*Flow) bool { return true }}, &Filter{Op: FilterFunc, Func: func(*Flow) bool { return false }}
	for i, c := range []struct {
		f    *Filter
		want bool
	}{
		{nil, true},
		{&Filter{Op: FilterAnd}, true},
		{&Filter{Op: FilterOr}, false},
		{&Filter{Op: FilterAnd, Args: []*Filter{yes, no}}, false},
		{&Filter{Op: FilterOr, Args: []*Filter{no, yes}}, true},
		{&Filter{Op: FilterNot, Args: []*Filter{no}}, true},
		{FilterAll(), true},
		{FilterAll(nil, no, nil), false},
		{FilterAll(yes, nil, no), false},
		{FilterAll(yes, yes), true},
	} {
		if got := c.f.Match(filterFlow()); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// TestFilterFields asks every field of flows of which little is known, and of one of which much is: none may fail, and what is given is
// of the type that the table says and within its bounds.
func TestFilterFields(t *testing.T) {
	full := new(Flow)
	for _, flow := range []*Flow{full, {Client: &Client{}}, {Server: &Server{}, Decision: &Decision{}, Error: &ConnError{}, Request: &Request{}, Response: &Response{}, Reply: &Reply{}}, filterFlow()} {
		for _, f := range FilterFields() {
			if f.Type == FilterMap {
				f = f.At("x")
			}
			v := f.Get(flow)
			switch {
			case v.Type == FilterNull && !f.Nullable:
				t.Errorf("%s is null", f.Name)
			case v.Type != FilterNull && v.Type != f.Type:
				t.Errorf("%s is %v, not %v", f.Name, v.Type, f.Type)
			case v.Type == FilterNumber && (v.Number < f.Low || v.Number > f.High):
				t.Errorf("%s is %v", f.Name, v.Number)
			}
		}
	}
	for _, f := range FilterFields() {
		if f.Meaning == "" || strings.HasSuffix(f.Meaning, ".") || f.Type == FilterNull {
			t.Errorf("%s: %q, %v", f.Name, f.Meaning, f.Type)
		}
		if FilterFieldNamed(f.Name) != f {
			t.Errorf("%s is not found", f.Name)
		}
		if f.Type != FilterMap && f.At("x") != nil {
			t.Errorf("%s has keys", f.Name)
		}
	}
	if FilterFieldNamed("nobody") != nil {
		t.Error("a field that is none")
	}
}

// TestFilterChangesNothing holds that to ask is only to read.
func TestFilterChangesNothing(t *testing.T) {
	flow, same := filterFlow(), filterFlow()
	for _, f := range FilterFields() {
		if f.Type == FilterMap {
			f = f.At("x")
		}
		(&Filter{Field: f, Cmp: FilterEqual}).Match(flow)
	}
	if !reflect.DeepEqual(flow, same) {
		t.Error("the flow was changed")
	}
}
