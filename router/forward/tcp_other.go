//go:build !linux

package forward

import (
	"net"
	"sync/atomic"

	"viaduct/upstream/http1"
)

// delivered is known on Linux alone.
func delivered(net.Conn) uint64 { return 0 }

// splicer moves bytes between two sockets in the kernel, on Linux alone.
type splicer struct{}

func newSplicer(*exchange, net.Conn, net.Conn) *splicer { return nil }

func (*splicer) move(*http1.Body, *atomic.Bool) (int64, bool, error) { return 0, true, nil }

// pollFIN is not known here: see tcp_linux.go.
const pollFIN = 0
