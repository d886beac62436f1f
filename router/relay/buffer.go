package relay

import "sync"

// Buffers by size. All are taken when bytes are there and given back before the next wait, except the small one.
type (
	smallBuffer [2 << 10]byte  // held while waiting for a connection that cannot be waited for without
	buffer      [16 << 10]byte // the first read; one TLS record
	largeBuffer [chunk]byte    // when there is much to copy, or a pipe to be emptied
)

// chunk is the most that one direction holds in memory for a peer that does not take it.
const chunk = 128 << 10

var (
	smallBuffers = sync.Pool{New: func() any { return new(smallBuffer) }}
	buffers      = sync.Pool{New: func() any { return new(buffer) }}
	largeBuffers = sync.Pool{New: func() any { return new(largeBuffer) }}
)
