package h2

import (
	"math/bits"
	"sync"
)

// queue holds data that came and was not read yet. Its size is bounded by the window of its stream; it has no buffer while it is
// empty.
type queue struct {
	b    []byte
	r, w int
}

// Buffers are powers of two, from 4 KiB, and kept for others up to 1 MiB.
const (
	smallest = 12
	largest  = 20
)

var queuePools [largest - smallest + 1]sync.Pool

// getQueue returns a buffer of at least n bytes.
func getQueue(n int) []byte {
	class := max(bits.Len(uint(n-1)), smallest)
	if class > largest {
		return make([]byte, n)
	}
	if p, _ := queuePools[class-smallest].Get().(*[]byte); p != nil {
		return *p
	}
	return make([]byte, 1<<class)
}

func putQueue(b []byte) {
	if n := len(b); n&(n-1) == 0 && n >= 1<<smallest && n <= 1<<largest {
		queuePools[bits.Len(uint(n))-1-smallest].Put(&b)
	}
}

func (q *queue) len() int { return q.w - q.r }

// put copies p in.
func (q *queue) put(p []byte) {
	if len(p) == 0 {
		return
	}
	if q.w+len(p) > len(q.b) {
		n := q.len()
		if n+len(p) <= len(q.b) && q.r >= n { // moved seldom enough
			copy(q.b, q.b[q.r:q.w])
		} else {
			next := getQueue(max(2*n, n+len(p)))
			copy(next, q.b[q.r:q.w])
			putQueue(q.b)
			q.b = next
		}
		q.r, q.w = 0, n
	}
	q.w += copy(q.b[q.w:], p)
}

// get copies out what fits into p.
func (q *queue) get(p []byte) int {
	n := copy(p, q.b[q.r:q.w])
	if q.r += n; q.r == q.w {
		q.free()
	}
	return n
}

func (q *queue) free() {
	putQueue(q.b)
	*q = queue{}
}
