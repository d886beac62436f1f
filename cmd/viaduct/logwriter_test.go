package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type gated struct {
	mu   sync.Mutex
	open chan struct{} // closed = writes go through
	got  bytes.Buffer
}

func (g *gated) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.Write(p)
}

func (g *gated) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.String()
}

func TestLogWriterKeepsOrderAndDropsRatherThanWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gated{open: make(chan struct{})}
		w := newLogWriter(g)
		defer func() {
			close(w.wake)
			time.Sleep(2 * logBatch) // of the bubble's clock, which stands still once the test has returned
		}()
		fmt.Fprintln(w, "first")
		synctest.Wait()
		line := strings.Repeat("x", 1023) + "\n"
		for range 3000 { // three times what the buffer holds, while nothing is taken: none of these may wait
			fmt.Fprint(w, line)
		}
		close(g.open)
		w.Flush()
		w.Flush()
		got := g.String()
		if !strings.HasPrefix(got, "first\n") {
			t.Errorf("begins with %.20q", got)
		}
		kept := strings.Count(got, line)
		var dropped int
		i := strings.Index(got, "lines=")
		if i < 0 {
			t.Fatal("nothing says that lines were dropped")
		}
		fmt.Sscanf(got[i:], "lines=%d", &dropped)
		if kept+dropped != 3000 || kept < 1000 {
			t.Errorf("%d lines kept and %d dropped of 3000", kept, dropped)
		}
	})
}
