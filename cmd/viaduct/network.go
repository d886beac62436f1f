package main

import (
	"context"
	"sync"
	"time"

	"viaduct/router/admin"
	"viaduct/upstream/netwatch"
)

// networkWatch is what is noticed of changes of the addresses and routes of this machine.
type networkWatch struct {
	stop func() // nil = nothing is watched

	mu   sync.Mutex
	said admin.NetworkStatus
}

// watchNetwork begins to notice changes. Where the kernel does not tell, nothing is lost but time: what is asked again and again finds out by itself.
func (s *service) watchNetwork() {
	ctx, cancel := context.WithCancel(context.Background())
	wait, err := netwatch.Watch(ctx, s.networkChanged)
	n := &s.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		cancel()
		n.said.Error = err.Error()
		s.log.WithError(err).Debug("network: changes of addresses and routes are not noticed at once")
		return
	}
	n.said.Watched = true
	n.stop = func() { cancel(); wait() }
}

// close ends the watch.
func (n *networkWatch) close() {
	n.mu.Lock()
	stop := n.stop
	n.stop = nil
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (n *networkWatch) status() admin.NetworkStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.said
}

// networkChanged looks anew at all that was found out in the network before.
func (s *service) networkChanged(c netwatch.Change) {
	now := time.Now()
	n := &s.network
	n.mu.Lock()
	n.said.Changes++
	n.said.Last, n.said.What = &now, c.String()
	n.mu.Unlock()
	s.log.WithField("change", c.String()).Info("network: addresses or routes have changed, and what depends on them is looked at anew")
	cur := s.now.Load()
	if cur == nil {
		return
	}
	s.router.NetworkChanged()
	cur.routes.NetworkChanged()
	cur.reach.NetworkChanged()
	for _, p := range cur.pacs {
		p.NetworkChanged()
	}
	for _, l := range cur.lists {
		l.NetworkChanged()
	}
}
