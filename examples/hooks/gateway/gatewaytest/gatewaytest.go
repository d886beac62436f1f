// Package gatewaytest runs a gateway for the tests of the examples.
package gatewaytest

import (
	"bytes"
	"context"
	"log"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/examples/hooks/gateway"
)

// Start runs a gateway on a free port until the test ends, and returns a client that goes through it.
func Start(t *testing.T, o gateway.Options) (*gateway.Gateway, *http.Client) {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	g, err := gateway.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: g.Addr()})}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		g.Close(ctx)
	})
	return g, &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// Log is a logger whose lines a test can wait for.
type Log struct {
	*log.Logger
	mu sync.Mutex
	b  bytes.Buffer
}

// NewLog returns an empty Log.
func NewLog() *Log {
	l := new(Log)
	l.Logger = log.New(writer{l}, "", 0)
	return l
}

type writer struct{ l *Log }

func (w writer) Write(p []byte) (int, error) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	return w.l.b.Write(p)
}

// Text returns what was logged so far.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Wants waits until every one of parts was logged, in this order.
func (l *Log) Wants(t *testing.T, parts ...string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		missing := inOrder(l.Text(), parts)
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never logged, or not in this order: %q in\n%s", missing, l.Text())
		}
	}
}

func inOrder(text string, parts []string) (missing string) {
	for _, p := range parts {
		i := strings.Index(text, p)
		if i < 0 {
			return p
		}
		text = text[i+len(p):]
	}
	return ""
}
