package router

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"viaduct/connmodel"
)

// rejects remembers which clients have rejected our certificate for which target, where a rule passes such tunnels through from then on
// (on_client_reject). It is bounded, and forgets: programs that pin a certificate come in new versions, and people install authorities.
type rejects struct {
	mu     sync.Mutex
	known  map[rejectKey]*list.Element // of *reject
	recent list.List                   // newest first
}

// rejectKey is a client, as clientKey has it, and a target. On a Unix socket all clients are one.
type rejectKey struct {
	client netip.Addr
	target connmodel.Address
}

type reject struct {
	key rejectKey
	at  time.Time
}

const (
	maxRejects = 4096
	rejectTime = 24 * time.Hour
)

// learn notes a rejection at now.
func (r *rejects) learn(k rejectKey, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.known[k]; e != nil {
		r.drop(e)
	}
	if r.known == nil {
		r.known = make(map[rejectKey]*list.Element)
	}
	for r.recent.Len() >= maxRejects {
		r.drop(r.recent.Back())
	}
	r.known[k] = r.recent.PushFront(&reject{k, now})
}

func (r *rejects) drop(e *list.Element) {
	delete(r.known, e.Value.(*reject).key)
	r.recent.Remove(e)
}

// since returns when the client rejected our certificate for the target, if it did and that still counts at now. A clock that was set back
// makes nothing count for ever.
func (r *rejects) since(k rejectKey, now time.Time) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.known[k]
	if e == nil {
		return time.Time{}, false
	}
	at := e.Value.(*reject).at
	if age := now.Sub(at); age < 0 || age >= rejectTime {
		r.drop(e)
		return time.Time{}, false
	}
	return at, true
}

func (r *rejects) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recent.Len()
}

// passes reports whether a tunnel that its rule would open is passed through, because the client has rejected our certificate before. It is
// said in the record and in the log.
func (s *session) passes(p *pin, rec *connmodel.Recorder, f *connmodel.Facts, pl *plan) bool {
	if !pl.to.TLS.LearnRejects {
		return false
	}
	at, ok := s.r.rejects.since(rejectKey{clientKey(s.client.Addr().WithZone("")), f.Target}, time.Now())
	if !ok {
		return false
	}
	pl.to.TLS = nil
	s.r.stats.passed.Add(1)
	rec.SetMetadata("tls", "passed through: the client rejected our certificate at "+at.UTC().Format(time.RFC3339))
	s.r.opt.Log.Event(LevelInfo, "passed through unopened", "flow", rec.ID().String(), "listener", p.l.Name, "client", s.client.String(),
		"target", f.Target.String(), "rejected_at", at.UTC().Format(time.RFC3339))
	return true
}
