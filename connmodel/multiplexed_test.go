package connmodel

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestMultiplexed: flows that share a connection have users of their own, and what happens to one is nothing of the others.
func TestMultiplexed(t *testing.T) {
	s := NewSession(Accepted{Listener: "desk", Peer: peer, TLS: true, Time: time.Now()}, nil)
	s.TLSEstablished(&TLSInfo{Version: "TLS 1.3"})
	s.Multiplexed()
	anna, bert, nobody := s.NewFlow(ProtocolHTTP, hostA, time.Time{}), s.NewFlow(ProtocolConnect, hostA, time.Time{}), s.NewFlow(ProtocolConnect, hostA, time.Time{})
	anna.Identified(ProtocolHTTP, "anna")
	bert.Identified(ProtocolConnect, "bert")
	for rec, user := range map[*Recorder]string{anna: "anna", bert: "bert", nobody: ""} {
		if f := rec.Snapshot(); f.Client.User != user {
			t.Errorf("a snapshot of %q says %q", user, f.Client.User)
		}
	}
	bert.ReadClosed(SideClient)
	bert.Fail(&ConnError{Phase: PhaseRelay, Side: SideClient, Kind: KindReset, Message: "gone", Cause: errors.New("x")})
	f := bert.Close(FlowEnd{Reason: CloseClientReset})
	if f.Client.User != "bert" || f.First != SideClient || f.Error == nil || f.Client.Error != nil || f.Client.State != Active || !f.Client.End.IsZero() {
		t.Errorf("a stream that was reset: %+v first %s", f.Client, f.First)
	}
	if f := anna.Close(FlowEnd{Reason: CloseDone}); f.Client.User != "anna" || f.Client.State != Active || f.Client.Error != nil {
		t.Errorf("another: %+v", f.Client)
	}
	if f := nobody.Close(FlowEnd{Reason: CloseDone}); f.Client.User != "" {
		t.Errorf("nobody: %q", f.Client.User)
	}
	for _, f := range []*Flow{f} {
		if err := consistent(f); err != nil {
			t.Error(err)
		}
	}
	s.Close()
	if c := s.Client(); c.State != Closed || c.End.IsZero() {
		t.Errorf("after the end: %+v", c)
	}
}

func TestMultiplexedAtOnce(t *testing.T) {
	s := NewSession(Accepted{Listener: "desk", Peer: peer}, nil)
	s.Multiplexed()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			user := fmt.Sprint("user", i)
			r := s.NewFlow(ProtocolConnect, hostA, time.Time{})
			r.Identified(ProtocolConnect, user)
			r.Snapshot()
			if f := r.Close(FlowEnd{}); f.Client.User != user {
				t.Errorf("%s became %s", user, f.Client.User)
			}
		}()
	}
	wg.Wait()
}

// TestClientTLSFails: a handshake that fails is told once, with what is known of it.
func TestClientTLSFails(t *testing.T) {
	var kinds []EventKind
	s := NewSession(Accepted{Listener: "desk", Peer: peer, TLS: true}, &Hooks{Observe: func(e Event, _ func() *Flow, _ *Client) { kinds = append(kinds, e.Kind) }})
	s.Connected()
	s.TLSStarted()
	e := &ConnError{Phase: PhaseTLS, Side: SideClient, Kind: KindTLS, Message: "no"}
	s.TLSFailed(e, &TLSInfo{SNI: "gate.example"})
	f := s.NewFlow("", Address{}, time.Time{}).Close(FlowEnd{Reason: CloseFailed})
	s.Close()
	if c := f.Client; c.Error != e || c.TLSEstablished() || c.TLSInfo == nil || c.TLSInfo.SNI != "gate.example" {
		t.Errorf("%+v", c)
	}
	want := []EventKind{EventClientConnected, EventTLSStart, EventTLSFailed, EventError, EventClientDisconnected}
	if fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
}
