package main

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/router/admin"
)

// drain is a drain that an operator asked for. Unlike that of SIGTERM it leaves the process answering at the control door, so that whoever
// restarts gateways one by one can see when this one is empty. The zero value is none.
type drain struct {
	mu       sync.Mutex
	begun    bool
	result   admin.DrainResult
	changed  chan struct{} // has a token when the deadline is another one
	finished bool
}

const defaultDrain = 30 * time.Second

// drainTimeout is how long a drain waits where nobody says.
func (s *service) drainTimeout() time.Duration {
	if cur := s.now.Load(); cur != nil && cur.cfg.Gateway.DrainTimeout > 0 {
		return cur.cfg.Gateway.DrainTimeout
	}
	return defaultDrain
}

// Drain implements admin.Gateway. Asked for again it takes up another deadline, and that the process is to end.
func (s *service) Drain(r admin.DrainRequest) admin.DrainResult {
	d := &s.drained
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !d.begun
	now := time.Now()
	if first {
		d.begun, d.changed = true, make(chan struct{}, 1)
		d.result = admin.DrainResult{State: admin.StateDraining, Began: now}
		s.draining.Store(true)
	}
	if !d.finished && (first || r.Timeout != 0) {
		if r.Timeout == 0 {
			r.Timeout = s.drainTimeout()
		}
		if d.result.Deadline = nil; r.Timeout > 0 {
			at := now.Add(r.Timeout)
			d.result.Deadline = &at
		}
		d.tell()
	}
	if r.Exit && !d.result.Exit {
		d.result.Exit = true
		if d.finished {
			s.quit()
		}
	}
	if first {
		s.log.WithFields(logrus.Fields{"sessions": s.router.Stats().SessionsOpen, "exit": r.Exit}).Info("draining at an operator's word")
		s.super.busy("draining")
		s.journal.draining()
		empty := s.router.Drain()
		go s.drainUntil(empty)
	}
	res := d.result
	res.Open = s.router.Stats().SessionsOpen
	s.events.Notify(admin.EventDrain, res)
	return res
}

func (d *drain) tell() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// drainUntil waits until nothing is left, or cuts what is left when the time is up.
func (s *service) drainUntil(empty <-chan struct{}) {
	d := &s.drained
	var up <-chan time.Time
	var t *time.Timer
	cut := 0
	for waiting := true; waiting; {
		select {
		case <-empty:
			waiting = false
		case <-up:
			now, cancel := context.WithCancel(context.Background())
			cancel()
			cut = s.router.Shutdown(now)
			waiting = false
		case <-d.changed:
			if t != nil {
				t.Stop()
			}
			t, up = nil, nil
			d.mu.Lock()
			at := d.result.Deadline
			d.mu.Unlock()
			if at != nil {
				t = time.NewTimer(time.Until(*at))
				up = t.C
			}
		}
	}
	if t != nil {
		t.Stop()
	}
	d.mu.Lock()
	d.finished = true
	d.result.State, d.result.Cut = admin.StateDrained, cut
	res := d.result
	d.mu.Unlock()
	s.log.WithField("cut", cut).Info("drained: nothing is left")
	s.super.busy("drained")
	s.events.Notify(admin.EventDrain, res)
	if res.Exit {
		s.quit()
	}
}

// quit ends the process as SIGTERM does. It may be called more than once.
func (s *service) quit() {
	select {
	case s.over <- struct{}{}:
	default:
	}
}

// status returns how far it is, or nil.
func (d *drain) status(open int) *admin.DrainResult {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.begun {
		return nil
	}
	res := d.result
	res.Open = open
	return &res
}
