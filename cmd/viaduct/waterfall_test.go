package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal/flowtest"
)

// fallOf is a flow through two proxies: the first attempt fails at its second, the other one works.
func fallOf() *connmodel.Flow {
	start := flowtest.Epoch
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	refused := &connmodel.ConnError{Phase: connmodel.PhaseConnect, Side: connmodel.SideHop, Hop: 2, HopName: "jump", Kind: connmodel.KindDenied, Message: "socks5: connection not allowed by ruleset"}
	return &connmodel.Flow{
		Start: start, Decided: at(10), End: at(400), Up: 517, Down: 4096, Protocol: connmodel.ProtocolConnect,
		Server: &connmodel.Server{
			Connection: connmodel.Connection{Start: at(10), TCPSetup: at(320)}, Route: "corp_b > jump",
			Attempts: []connmodel.Attempt{
				{Number: 1, Route: "corp_a > jump", Start: at(10), End: at(150), Error: refused, Hops: []connmodel.HopResult{
					{Index: 1, Upstream: "corp_a", Start: at(10), DNS: ms(20), TCP: ms(20), TLS: ms(40), Connect: ms(20), Total: ms(100)},
					{Index: 2, Upstream: "jump", Start: at(110), Greeting: ms(10), Auth: ms(10), Connect: ms(20), Total: ms(40), Error: refused},
				}},
				{Number: 2, Route: "corp_b > jump", Start: at(200), End: at(320), Hops: []connmodel.HopResult{
					{Index: 1, Upstream: "corp_b", Start: at(200), TCP: ms(40), Connect: ms(40), Total: ms(80)},
					{Index: 2, Upstream: "jump", Start: at(280), Greeting: ms(10), Connect: ms(30), Total: ms(40)},
				}},
			},
		},
	}
}

func TestWaterfall(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	f := fallOf()
	var b bytes.Buffer
	if err := (drawing{width: 80}).waterfall(&b, bars(f, f.End)); err != nil {
		t.Fatal(err)
	}
	want := `
  decision           |#                               |    10ms
  1: corp_a dns      |##                              |    20ms
  1: corp_a tcp      |  ##                            |    20ms
  1: corp_a tls      |    ###                         |    40ms
  1: corp_a connect  |       ##                       |    20ms
  1: jump   greeting |        ##                      |    10ms
  1: jump   auth     |         #                      |    10ms
  1: jump   connect  |          ##                    |    20ms denied
  2: corp_b tcp      |                ###             |    40ms
  2: corp_b connect  |                   ###          |    40ms
  2: jump   greeting |                      #         |    10ms
  2: jump   connect  |                       ###      |    30ms
  relay              |                         #######|    80ms up 517, down 4.~
                     0 to 400ms
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}

	// An hour of talk: the way there is still to be seen, and the drawing says that the rest is off the scale.
	f.End = f.Start.Add(time.Hour)
	b.Reset()
	if err := (drawing{width: 80, unicode: true}).waterfall(&b, bars(f, f.End)); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); !strings.Contains(s, "»»»»") || !strings.Contains(s, "0 to 427ms; » is off the scale") || !strings.Contains(s, "60m") {
		t.Error(s)
	}
}

func TestWaterfallOfRequests(t *testing.T) {
	start := flowtest.Epoch
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	f := &connmodel.Flow{Start: start, Decided: at(1), End: at(100), Protocol: connmodel.ProtocolHTTP,
		Server:   &connmodel.Server{Connection: connmodel.Connection{Start: at(1), TCPSetup: at(1)}, Reused: true},
		Request:  &connmodel.Request{Method: "GET", Start: start, End: at(5)},
		Response: &connmodel.Response{Status: 200, Start: at(80), End: at(100)}}
	var got []string
	for _, b := range bars(f, f.End) {
		got = append(got, strings.TrimSpace(b.label+" "+b.part)+" "+b.from.String()+"-"+b.to.String())
	}
	if s := strings.Join(got, ", "); s != "decision 0s-1ms, connection kept 1ms-1ms, request 0s-5ms, wait 5ms-80ms, response 80ms-100ms" {
		t.Error(s)
	}
}

// FuzzWaterfall draws any record: no line is wider than the terminal, every bar is as long as the others, and bars stand in the order of their beginnings.
func FuzzWaterfall(f *testing.F) {
	add := func(x *connmodel.Flow, width int, utf8 bool) { f.Add(x.AppendJSON(nil), width, utf8) }
	add(fallOf(), 80, true)
	add(&connmodel.Flow{}, 40, false)
	r := rand.New(rand.NewPCG(3, 5))
	for range 20 {
		add(flowtest.Flow(r), 40+r.IntN(160), r.IntN(2) == 0)
	}
	f.Fuzz(func(t *testing.T, record []byte, width int, utf8 bool) {
		flow := new(connmodel.Flow)
		if json.Unmarshal(record, flow) != nil {
			return
		}
		width = 40 + (width%200+200)%200
		list := bars(flow, flow.Start.Add(time.Second))
		for _, b := range list {
			if b.from < 0 || b.to < b.from {
				t.Fatalf("%+v", b)
			}
		}
		var out bytes.Buffer
		if err := (drawing{width: width, unicode: utf8}).waterfall(&out, list); err != nil {
			t.Fatal(err)
		}
		edge := "|"
		if utf8 {
			edge = "│"
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(list) > 0 && len(lines) != len(list)+1 {
			t.Fatalf("%d lines of %d bars", len(lines), len(list))
		}
		for _, l := range lines {
			if cells(l) > width {
				t.Fatalf("%d cells in %d columns: %q", cells(l), width, l)
			}
			if printable(l) != l {
				t.Fatalf("%q", l)
			}
		}
		for _, l := range lines[:len(lines)-1] {
			if strings.Count(l, edge) < 2 {
				t.Fatalf("no bar in %q", l)
			}
		}
		var page bytes.Buffer
		if err := printFlow(&page, flow, time.UTC, flow.Start, nil); err != nil {
			t.Fatal(err)
		}
		for l := range strings.SplitSeq(page.String(), "\n") {
			if printable(l) != l {
				t.Fatalf("page: %q", l)
			}
		}
	})
}
