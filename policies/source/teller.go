package source

import (
	"fmt"
	"strings"
	"sync"
)

// Teller tells somebody what happens to a source, a trouble that goes on once. It may be used from any goroutine.
type Teller struct {
	to func(problem bool, text string)

	mu   sync.Mutex
	last string // problem that was told last
}

// NewTeller makes one; to must not block, and nil = nobody is told.
func NewTeller(to func(problem bool, text string)) *Teller { return &Teller{to: to} }

// Say tells what happened. A problem that was told last is not told again.
func (t *Teller) Say(problem bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	same := ""
	if problem {
		same = words(text)
	}
	t.mu.Lock()
	again := problem && same == t.last
	t.last = same
	t.mu.Unlock()
	if t.to != nil && !again {
		t.to(problem, text)
	}
}

// Over says that the trouble is over: when it comes back, that is told.
func (t *Teller) Over() {
	t.mu.Lock()
	t.last = ""
	t.mu.Unlock()
}

// words leaves out the numbers: ports, bytes and the names of temporary files are others each time, and the trouble is the same.
func words(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text)
}
