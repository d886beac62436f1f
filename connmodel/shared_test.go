package connmodel

import (
	"testing"
	"time"
)

// TestReuseFailedOnSharedConnection: an attempt by a connection that flows share turned out to be dead after it had worked.
func TestReuseFailedOnSharedConnection(t *testing.T) {
	s := NewSession(Accepted{Peer: client}, nil)
	r := s.NewFlow(ProtocolHTTP, hostA, time.Now())
	r.Decided(nil, nil)
	dead := &ConnError{Phase: PhaseRequest, Side: SideHop, Hop: 1, HopName: "corp", Kind: KindReset, Message: "dead"}
	dial := func(reused bool) {
		r.BeginDial(hostA, "upstream.corp", false)
		a := r.BeginAttempt("corp")
		h := a.BeginHop("corp", "https", proxyA)
		if reused {
			h.Reused(&TLSInfo{}, local, peer)
		} else {
			h.TCPConnected(local, peer, 0, 1)
		}
		h.Done()
		a.Connected(local, peer)
	}
	dial(true)
	r.ReuseFailed(dead)
	if s := r.Snapshot().Server; s.State != Closed || s.Error != dead || len(s.Attempts) != 1 || s.Attempts[0].Error != dead || !s.Attempts[0].Hops[0].Reused {
		t.Fatalf("%+v", s)
	}
	dial(false)
	r.ReuseFailed(dead) // this one was its own
	f := r.Close(FlowEnd{Reason: CloseDone})
	if err := consistent(f); err != nil {
		t.Error(err)
	}
	if a := f.Server.Attempts; len(a) != 2 || a[0].Error != dead || a[1].Error != nil || f.Server.Error != nil {
		t.Errorf("%+v", f.Server)
	}
	s.Close()
}
