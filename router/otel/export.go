package otel

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporter is what the SDK exports with: it counts, bounds and tells.
type exporter struct {
	next    sdktrace.SpanExporter
	timeout time.Duration
	onError func(error)
	ctx     context.Context // done when all exports are to end
	cut     context.CancelFunc
	last    atomic.Bool // after a failure nothing more is tried: the process is about to end
	sent    atomic.Uint64
	failed  atomic.Uint64
	broken  atomic.Pointer[string]
}

func newExporter(next sdktrace.SpanExporter, timeout time.Duration, onError func(error)) *exporter {
	e := &exporter{next: next, timeout: timeout, onError: onError}
	e.ctx, e.cut = context.WithCancel(context.Background())
	return e
}

// hurry says that the end has come: a batch that fails is the last one that is tried.
func (e *exporter) hurry() { e.last.Store(true) }

// ExportSpans implements sdktrace.SpanExporter. It never returns an error: the SDK would print it.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if e.ctx.Err() != nil || e.last.Load() && e.broken.Load() != nil {
		e.failed.Add(uint64(len(spans)))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	err := e.next.ExportSpans(ctx, spans)
	if err == nil {
		e.sent.Add(uint64(len(spans)))
		if e.broken.Swap(nil) != nil && e.onError != nil {
			e.onError(nil)
		}
		return nil
	}
	e.failed.Add(uint64(len(spans)))
	text := oneLine(err.Error())
	if e.broken.Swap(&text) == nil && e.onError != nil {
		e.onError(exportError(text))
	}
	return nil
}

type exportError string

func (e exportError) Error() string { return string(e) }

// Shutdown implements sdktrace.SpanExporter.
func (e *exporter) Shutdown(ctx context.Context) error {
	defer e.cut()
	return e.next.Shutdown(ctx)
}

const maxErrorText = 300

// oneLine makes what a collector said fit for a log.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)), " ")
	if len(s) > maxErrorText {
		i := maxErrorText
		for i > 0 && !utf8.RuneStart(s[i]) {
			i--
		}
		s = s[:i] + "..."
	}
	return s
}

// Transport returns one for exports. They go by no proxy: a gateway that sent its traces through itself would trace them.
func Transport(c *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:     (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig: c, TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 1, MaxConnsPerHost: 2, IdleConnTimeout: 90 * time.Second,
		ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
	}
}

// tracesURL returns where traces go, given the collector's endpoint.
func tracesURL(endpoint string) string {
	if strings.HasSuffix(endpoint, "/v1/traces") {
		return endpoint
	}
	return strings.TrimSuffix(endpoint, "/") + "/v1/traces"
}
