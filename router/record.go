package router

import (
	"sync/atomic"
	"time"

	"viaduct/connmodel"
)

// stats are the router's own counters, exact and always on.
type stats struct {
	sessions atomic.Uint64
	flows    atomic.Uint64
	panics   atomic.Uint64
	opened   atomic.Uint64
	rejected atomic.Uint64
	passed   atomic.Uint64
}

// Stats is a snapshot of the counters.
type Stats struct {
	Sessions     uint64 // accepted since start
	SessionsOpen int
	StreamsOpen  int    // of HTTP/2, on those
	Flows        uint64 // recorded since start
	Panics       uint64 // must stay 0
	Opened       OpenedStats
}

// OpenedStats are about tunnels that rules open.
type OpenedStats struct {
	Tunnels  uint64 // opened since start: both handshakes were made
	Rejected uint64 // clients that did not accept our certificate
	Passed   uint64 // tunnels passed through because of that (on_client_reject)
	Learnt   int    // clients and targets that are passed through now
	Minted   uint64 // certificates made since start
	Kept     int    // certificates kept
}

// Stats returns the counters.
func (r *Router) Stats() Stats {
	connections, streams := r.sessions.count()
	return Stats{
		Sessions:     r.stats.sessions.Load(),
		SessionsOpen: connections,
		StreamsOpen:  streams,
		Flows:        r.stats.flows.Load(),
		Panics:       r.stats.panics.Load(),
		Opened:       r.openedStats(),
	}
}

func (r *Router) openedStats() OpenedStats {
	made, kept := r.minter.Stats()
	return OpenedStats{
		Tunnels: r.stats.opened.Load(), Rejected: r.stats.rejected.Load(), Passed: r.stats.passed.Load(), Learnt: r.rejects.len(), Minted: made, Kept: kept,
	}
}

// finish makes the one record of a flow and hands it on. Further calls for the same flow do nothing.
func (s *session) finish(rec *connmodel.Recorder, e connmodel.FlowEnd) {
	s.flow.CompareAndSwap(rec, nil)
	if o := s.inner; o != nil && rec != o.rec {
		o.carried(&e)
	}
	f := rec.Close(e)
	if f == nil {
		return
	}
	s.r.stats.flows.Add(1)
	if s.r.opt.Records != nil {
		s.r.opt.Records.Record(f) // first: a log or meter that panics does not lose the record
	}
	s.r.traced(f)
	s.r.opt.Meter.FlowClosed(f)
	if s.first(f, rec) {
		s.r.opt.Meter.FirstFlow(f)
	}
	s.r.opt.Log.Close(f)
}

// first reports whether f is what a client connection was made for: no further request on it, nor one inside, and not one that never came.
func (s *session) first(f *connmodel.Flow, rec *connmodel.Recorder) bool {
	if e := f.Error; f.Protocol == connmodel.ProtocolUDP || e != nil && f.Decided.IsZero() && (e.Phase == connmodel.PhaseHandshake || e.Phase == connmodel.PhaseTLS) {
		return false
	}
	if o := s.inner; o != nil {
		return o.first && o.by == s && o.rec == rec
	}
	return !s.kept
}

type noLog struct{}

func (noLog) Decision(FlowLine)           {}
func (noLog) Close(*connmodel.Flow)       {}
func (noLog) Event(Level, string, ...any) {}

type noMeter struct{}

func (noMeter) SessionOpened(string)                                             {}
func (noMeter) SessionClosed(string)                                             {}
func (noMeter) SessionRefused(string, string)                                    {}
func (noMeter) CertificateWarned(connmodel.Side, string, connmodel.ChainVerdict) {}
func (noMeter) FlowClosed(*connmodel.Flow)                                       {}
func (noMeter) FirstFlow(*connmodel.Flow)                                        {}
func (noMeter) ClientTLS(string, time.Duration)                                  {}
func (noMeter) Panicked()                                                        {}
