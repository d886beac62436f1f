package main

import (
	"fmt"
	"time"
)

// topHistory is what the gateway remembers of its throughput (GET /v1/history): a value for each second. Where nothing was measured there is
// a zero here.
type topHistory struct {
	Times  []int64 `json:"times"`
	Series struct {
		Flows  []float64 `json:"flows"`
		Errors []float64 `json:"errors"`
		Up     []float64 `json:"bytes_up"`
		Down   []float64 `json:"bytes_down"`
		Open   []float64 `json:"open"`
		P50    []float64 `json:"connect_p50"`
		P99    []float64 `json:"connect_p99"`
	} `json:"series"`
}

func (h *topHistory) len() int { return len(h.Times) }

// historyLines are the lines of the head that it makes.
func (m *topModel) historyLines(h *topHistory) []string {
	s := &h.Series
	const wide = 12
	first := []string{
		fmt.Sprintf("flows %s/s %s", shortFloat(latest(s.Flows)), m.spark(s.Flows, wide)),
		m.alarm(latest(s.Errors), fmt.Sprintf("errors %s/s %s", shortFloat(latest(s.Errors)), m.spark(s.Errors, wide))),
		fmt.Sprintf("open %d %s", m.look.opens, m.spark(s.Open, wide)),
		fmt.Sprintf("clients %d", m.look.status.Sessions.Open),
	}
	second := []string{
		fmt.Sprintf("down %s/s %s", shortBytes(int64(latest(s.Down))), m.spark(s.Down, wide)),
		fmt.Sprintf("up %s/s %s", shortBytes(int64(latest(s.Up))), m.spark(s.Up, wide)),
		fmt.Sprintf("connect p50 %s p99 %s", connectTime(s.P50), connectTime(s.P99)),
	}
	return []string{m.spread(first, ""), m.spread(second, "")}
}

// alarm paints a text when there is something to see.
func (m *topModel) alarm(v float64, s string) string {
	if v > 0 {
		return paints.bad(s)
	}
	return s
}

func latest(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return values[len(values)-1]
}

// connectTime is the last time that is known, of the last minute: without a new connection there is none.
func connectTime(values []float64) string {
	for i := len(values) - 1; i >= max(0, len(values)-60); i-- {
		if values[i] > 0 {
			d := time.Duration(values[i] * float64(time.Second))
			if d < 10*time.Millisecond {
				return fmt.Sprintf("%.1fms", float64(d.Microseconds())/1000)
			}
			return shortTime(d)
		}
	}
	return "-"
}
