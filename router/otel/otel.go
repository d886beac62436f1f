// Package otel makes OpenTelemetry traces of records, and sends them to a collector by OTLP over HTTP, with the official SDK.
//
// Nothing of it is on the path of a connection but the choice whether a flow is traced (Tracer.Begin) and a channel that takes its finished
// record (Tracer.Record): spans are made from the record by one goroutine. When the collector is slow, down or out of its mind, records are
// dropped and counted, and no flow waits.
//
// The package stands alone so that a build can leave it out: the router knows it through an interface, and policies do not know it at all.
package otel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"viaduct/connmodel"
)

// Options of a Tracer; see Resolve for what the environment adds.
type Options struct {
	Endpoint string            // URL of the collector, "http://127.0.0.1:4318"; /v1/traces is added unless it ends so
	Headers  map[string]string // of each export; may hold secrets
	Service  string            // service.name; "" = viaduct
	Version  string            // of the program
	Instance string            // service.instance.id
	Sample   float64           // share of the flows without a parent that are recorded
	Start    bool              // flows without a parent begin a trace of their own; else they are in none
	Timeout  time.Duration     // of one export, retries included; 0 = 10 s
	// Transport carries the exports; nil = a plain one that goes by no proxy.
	Transport http.RoundTripper
	// OnError is told when exporting begins to fail, and with nil when it works again; nil = nobody is.
	OnError func(error)
}

// Tracer traces flows until Shutdown.
type Tracer struct {
	o        Options
	bound    uint64 // of trace ids that are recorded, as TraceIdRatioBased of OpenTelemetry has it
	queue    chan *connmodel.Flow
	done     chan struct{}
	closing  sync.RWMutex // held for reading while a record is put into the queue
	closed   bool
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	export   *exporter
	flows    atomic.Uint64
	dropped  atomic.Uint64
}

// Bounds of a Tracer.
const (
	queueFlows     = 2048
	defaultTimeout = 10 * time.Second
	maxAnswer      = 64 << 10 // of a collector
)

// New returns a Tracer that exports. The collector need not be there.
func New(o Options) (*Tracer, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Service == "" {
		o.Service = "viaduct"
	}
	if o.Transport == nil {
		o.Transport = Transport(nil)
	}
	t := &Tracer{o: o, queue: make(chan *connmodel.Flow, queueFlows), done: make(chan struct{})}
	t.bound = ratioBound(o.Sample)
	exp, err := otlptrace.New(context.Background(), otlptracehttp.NewClient(
		otlptracehttp.WithEndpointURL(tracesURL(o.Endpoint)),
		otlptracehttp.WithHeaders(o.Headers),
		otlptracehttp.WithTimeout(o.Timeout),
		otlptracehttp.WithMaxResponseSize(maxAnswer),
		otlptracehttp.WithHTTPClient(&http.Client{Transport: o.Transport, Timeout: o.Timeout, CheckRedirect: noRedirect}),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: o.Timeout}),
	))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	t.export = newExporter(exp, o.Timeout, o.OnError)
	res, err := resource.New(context.Background(),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv(),
		resource.WithAttributes(semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(o.Instance)),
	)
	if err != nil && res == nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // that has been decided when the flow began
		sdktrace.WithIDGenerator(ids{}),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
			AttributeValueLengthLimit: 1 << 10, AttributeCountLimit: 96, EventCountLimit: 32, LinkCountLimit: 4, AttributePerEventCountLimit: 16, AttributePerLinkCountLimit: 4,
		}),
		// Blocking: what waits for a batch to go out is the goroutine that makes spans, and records are dropped before it, in one place.
		sdktrace.WithBatcher(t.export, sdktrace.WithBlocking(), sdktrace.WithExportTimeout(o.Timeout)),
	)
	t.tracer = t.provider.Tracer("viaduct/router", trace.WithInstrumentationVersion(o.Version), trace.WithSchemaURL(semconv.SchemaURL))
	go t.run()
	return t, nil
}

func noRedirect(*http.Request, []*http.Request) error {
	return errors.New("the collector sends to another place, which is not followed")
}

// ratioBound is the bound of TraceIdRatioBased, so that all programs that record a share record the same traces.
func ratioBound(share float64) uint64 {
	switch {
	case !(share > 0):
		return 0
	case share >= 1:
		return math.MaxUint64
	}
	return uint64(share * (1 << 63))
}

// Begin gives a flow its place in a trace: parent is what its client, or its tunnel, said; ok says that there is one. nil = it is in none.
func (t *Tracer) Begin(parent connmodel.Span, ok bool) *connmodel.Span {
	switch {
	case ok && parent.Sampled:
		s := parent
		s.ID = random8()
		return &s
	case ok: // the parent's span is the last one that somebody records
		s := parent
		s.ID = connmodel.SpanID{}
		return &s
	case !t.o.Start || t.bound == 0:
		return nil
	}
	id := random16()
	if x := binary.BigEndian.Uint64(id[8:]) >> 1; x >= t.bound {
		return nil
	}
	return &connmodel.Span{Trace: id, ID: random8(), Sampled: true}
}

// Identifiers are to be different, not secret. Zero would be none.
func random8() (b [8]byte) {
	binary.BigEndian.PutUint64(b[:], rand.Uint64()|1)
	return b
}

func random16() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:], rand.Uint64()|1)
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	return b
}

// Record takes the record of a flow that has ended. It implements connmodel.Sink and never waits.
func (t *Tracer) Record(f *connmodel.Flow) {
	if f.Span == nil || !f.Span.Sampled {
		return
	}
	t.closing.RLock()
	defer t.closing.RUnlock()
	if t.closed {
		t.dropped.Add(1)
		return
	}
	select {
	case t.queue <- f:
	default:
		t.dropped.Add(1)
	}
}

func (t *Tracer) run() {
	defer close(t.done)
	for f := range t.queue {
		t.make(f)
	}
}

// make makes the spans of one flow. A record that trips it is dropped: there are others.
func (t *Tracer) make(f *connmodel.Flow) {
	defer func() {
		if recover() != nil {
			t.dropped.Add(1)
		}
	}()
	t.spans(f)
	t.flows.Add(1)
}

// Shutdown sends what is there, until ctx is done, and ends everything. What could not be sent is counted.
func (t *Tracer) Shutdown(ctx context.Context) error {
	t.closing.Lock()
	if t.closed {
		t.closing.Unlock()
		return nil
	}
	t.closed = true
	close(t.queue)
	t.closing.Unlock()
	t.export.hurry()
	stop := context.AfterFunc(ctx, t.export.cut) // exports under way fail, and with them all that come
	defer stop()
	<-t.done
	err := t.provider.Shutdown(context.WithoutCancel(ctx))
	if err == nil {
		err = ctx.Err()
	}
	if c, ok := t.o.Transport.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	return err
}

// Status is how a Tracer is doing.
type Status struct {
	Endpoint string
	Flows    uint64 // of which spans were made
	Dropped  uint64 // flows of which none were made, since too many waited
	Exported uint64 // spans that the collector has taken
	Failed   uint64 // spans that it has not
	Error    string // why exporting fails now; "" = it does not
}

// Status returns how t is doing. t may be nil.
func (t *Tracer) Status() (s Status) {
	if t == nil {
		return s
	}
	s = Status{Endpoint: tracesURL(t.o.Endpoint), Flows: t.flows.Load(), Dropped: t.dropped.Load(), Exported: t.export.sent.Load(), Failed: t.export.failed.Load()}
	if err := t.export.broken.Load(); err != nil {
		s.Error = *err
	}
	return s
}
