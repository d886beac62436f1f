package admin

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"viaduct/connmodel"
)

// reading is what a Meter had counted at a moment.
type reading struct {
	flows              float64
	endedUp, endedDown float64 // bytes of flows that have ended
	up, down           float64 // and of those that have not
	errors             map[connmodel.Kind]float64
	attempts, failures float64
	rules              map[ruleKey]float64
	connects           buckets
}

// read returns what m has counted so far. It costs some hundred nanoseconds for each series.
func (m *Meter) read() reading {
	r := reading{errors: map[connmodel.Kind]float64{}, rules: map[ruleKey]float64{}}
	var scratch dto.Metric
	value := func(c prometheus.Metric) float64 {
		scratch.Reset()
		if c.Write(&scratch) != nil {
			return 0
		}
		return scratch.GetCounter().GetValue()
	}
	m.byFlow.each(func(_ flowKey, f *flowMetrics) { r.flows += value(f.flows) })
	m.byListener.each(func(_ string, l *listenerMetrics) {
		r.endedUp += value(l.up)
		r.endedDown += value(l.down)
	})
	m.byError.each(func(k errorKey, c prometheus.Counter) { r.errors[k.kind] += value(c) })
	m.byRule.each(func(k ruleKey, c *ruleMetrics) { r.rules[k] += value(c) })
	m.byAttempt.each(func(k attemptKey, a *attemptMetrics) {
		n := value(a.attempts)
		r.attempts += n
		if k.result != "" {
			r.failures += n
		}
		if a.seconds == nil {
			return
		}
		scratch.Reset()
		if h, ok := a.seconds.Observer.(prometheus.Metric); ok && h.Write(&scratch) == nil {
			r.connects.add(scratch.GetHistogram())
		}
	})
	return r
}

// buckets are how many connects took at most connectBuckets[i] seconds, each; the last one is for those that took longer.
type buckets [numConnectBuckets + 1]float64

func (b *buckets) add(h *dto.Histogram) {
	before := 0.
	for i, x := range h.GetBucket() {
		if i < numConnectBuckets {
			n := float64(x.GetCumulativeCount())
			b[i] += n - before
			before = n
		}
	}
	b[numConnectBuckets] += float64(h.GetSampleCount()) - before
}

// since returns what came after before. A histogram that was begun anew in between is taken as it is.
func (b *buckets) since(before *buckets) (d buckets) {
	for i := range b {
		if d[i] = b[i] - before[i]; d[i] < 0 {
			return *b
		}
	}
	return d
}

// quantile estimates the time that a share of all stayed below, in seconds, as Prometheus does: as if within a bucket they were spread
// evenly. It is NaN when there are none.
func (b *buckets) quantile(share float64) float64 {
	all := 0.
	for _, n := range b {
		all += n
	}
	if all == 0 {
		return math.NaN()
	}
	rank, below := share*all, 0.
	for i, n := range b {
		if below+n < rank || n == 0 {
			below += n
			continue
		}
		if i == numConnectBuckets {
			return connectBuckets[numConnectBuckets-1]
		}
		low := 0.
		if i > 0 {
			low = connectBuckets[i-1]
		}
		return low + (connectBuckets[i]-low)*(rank-below)/n
	}
	return connectBuckets[numConnectBuckets-1]
}
