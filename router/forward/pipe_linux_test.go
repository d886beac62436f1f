package forward

import (
	"strings"
	"testing"
	"time"
)

// TestPipes: bodies that stand still hold no pipe, and there are never more of them than allowed.
func TestPipes(t *testing.T) {
	var held []*pipe
	for {
		p := pipes.get()
		if p == nil {
			break
		}
		held = append(held, p)
	}
	if len(held) > maxPipes {
		t.Errorf("%d pipes", len(held))
	}
	// Without any, bodies are copied.
	const n = 1 << 20
	r := newRig(t, func(o *peer, _ int) {
		o.head()
		o.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
		o.Conn.Write(pattern(n))
		o.rest()
	})
	r.client.say(get("/"))
	r.client.head()
	samePattern(t, []byte(r.client.take(n)), n)
	if res := r.result(); res.Err != nil || !res.KeepServer {
		t.Errorf("result %+v", res)
	}
	for _, p := range held {
		pipes.put(p)
	}

	for range 3 {
		r := newRig(t, func(o *peer, _ int) {
			o.head()
			o.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", 200_000))
			o.rest()
		})
		r.client.say(get("/"))
		r.client.head()
		r.client.take(200_000)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		pipes.mu.Lock()
		free, made := len(pipes.free), pipes.made
		pipes.mu.Unlock()
		if free == made {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d pipes are held", made-free, made)
		}
	}
}

// TestPipesAreClosed when nobody needs them.
func TestPipesAreClosed(t *testing.T) {
	var p pipePool
	a, b := p.get(), p.get()
	if a == nil || b == nil {
		t.Skip("no pipes to be had")
	}
	p.put(a)
	p.put(b)
	p.tidy() // they were in use since the last time
	if p.made != 2 {
		t.Errorf("%d pipes, want 2", p.made)
	}
	p.discard(p.get())
	p.mu.Lock()
	p.spare = len(p.free)
	p.mu.Unlock()
	p.tidy()
	if p.made != 0 || len(p.free) != 0 || p.sweep != nil {
		t.Errorf("%d pipes made, %d free", p.made, len(p.free))
	}
}
