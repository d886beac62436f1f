package h2

import "sync"

// queue holds data that came and was not read yet. Its size is bounded by the window of its stream.
type queue struct {
	b    []byte
	r, w int
}

const pooled = 16 << 10

var queuePool = sync.Pool{New: func() any { return new([pooled]byte) }}

func (q *queue) len() int { return q.w - q.r }

// put copies p in.
func (q *queue) put(p []byte) {
	if len(p) == 0 {
		return
	}
	if q.b == nil {
		if len(p) <= pooled {
			q.b = queuePool.Get().(*[pooled]byte)[:]
		} else {
			q.b = make([]byte, len(p))
		}
	}
	if q.w+len(p) > len(q.b) {
		n := q.len()
		if n+len(p) <= len(q.b) && q.r >= n {
			copy(q.b, q.b[q.r:q.w])
		} else {
			next := make([]byte, max(2*len(q.b), n+len(p)))
			copy(next, q.b[q.r:q.w])
			q.recycle()
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
	q.recycle()
	*q = queue{}
}

func (q *queue) recycle() {
	if len(q.b) == pooled {
		queuePool.Put((*[pooled]byte)(q.b))
	}
}
