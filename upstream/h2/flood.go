package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// bucket bounds how often something may happen: so many at once, then so many per second.
type bucket struct {
	tokens, burst, rate float64
	at                  time.Time
}

func newBucket(burst, rate float64) bucket {
	return bucket{tokens: burst, burst: burst, rate: rate}
}

// take takes n, and reports whether there was enough.
func (b *bucket) take(n float64, now time.Time) bool {
	if !b.at.IsZero() {
		b.tokens = min(b.burst, b.tokens+now.Sub(b.at).Seconds()*b.rate)
	}
	b.at = now
	b.tokens -= n
	return b.tokens >= 0
}

// earn gives n back: the peer had a reason.
func (b *bucket) earn(n float64) { b.tokens = min(b.burst, b.tokens+n) }

// What a peer may do that costs us and brings nothing. A browser that leaves a page resets all the streams of that page at
// once; who goes on so is not a browser.
const (
	resetBurst, resetRate     = 500, 50   // streams reset before their time, by either side: CVE-2023-44487, CVE-2025-8671
	controlBurst, controlRate = 1000, 100 // frames without content: CVE-2019-9512 to 9518
	blockFrames               = 32        // HEADERS and CONTINUATION of one header block: CVE-2024-27316
)

// control counts a frame that brings nothing. The caller holds mu.
func (c *conn) control(cost float64) error {
	if !c.controls.take(cost, c.lastRead) {
		return &fault{http2.ErrCodeEnhanceYourCalm, "too many frames without content"}
	}
	return nil
}

// early counts a stream that ended before its time: the peer reset it, or made us do so. The caller holds mu.
func (c *conn) early() error {
	if c.client || c.resets.take(1, c.lastRead) {
		return nil
	}
	return &fault{http2.ErrCodeEnhanceYourCalm, "too many streams reset"}
}
