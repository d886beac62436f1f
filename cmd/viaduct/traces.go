package main

import (
	"context"
	"maps"
	"os"
	"reflect"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router"
	"viaduct/router/admin"
	"viaduct/router/otel"
)

// tracesGrace bounds how long the end of a configuration, or of the process, waits for spans to get out.
const tracesGrace = 5 * time.Second

// traces are what a configuration makes of distributed traces; nil = nothing.
type traces struct {
	of     *policies.Traces
	tracer *otel.Tracer
}

// openTraces returns the traces that p wants: those there are if it wants the same, which must then not be closed by who has it from.
func openTraces(p *policies.Traces, prev *traces, log *logrus.Logger) (*traces, error) {
	if p == nil {
		return nil, nil
	}
	if prev != nil && sameTraces(p, prev.of) {
		return prev, nil
	}
	s := otel.Settings{Endpoint: p.Endpoint, Headers: p.Headers, Service: p.Service, Sample: p.Sample, Start: p.Start, Timeout: p.Timeout, TLS: p.TLS}
	o, off, err := otel.Resolve(s, os.Getenv)
	if err != nil {
		return nil, err
	}
	if off {
		log.Warn("traces: OTEL_SDK_DISABLED is set, so none are made, whatever the policy says")
		return nil, nil
	}
	o.Version, o.Instance = buildVersion().Version, instanceID
	o.OnError = func(err error) {
		if err != nil {
			log.WithError(err).WithField("endpoint", o.Endpoint).Warn("traces cannot be exported: flows go on, and their spans are lost")
		} else {
			log.WithField("endpoint", o.Endpoint).Info("traces are exported again")
		}
	}
	t, err := otel.New(o)
	if err != nil {
		return nil, err
	}
	return &traces{of: p, tracer: t}, nil
}

// instanceID tells this process from others of the same service.
var instanceID = connmodel.NewID(time.Now()).String()

func sameTraces(a, b *policies.Traces) bool {
	if a.TLS != nil || b.TLS != nil { // certificates may be others by now
		return false
	}
	return a.Endpoint == b.Endpoint && a.Service == b.Service && a.Timeout == b.Timeout && maps.Equal(a.Headers, b.Headers) && (a.Headers == nil) == (b.Headers == nil) &&
		reflect.DeepEqual(a.Sample, b.Sample) && reflect.DeepEqual(a.Start, b.Start)
}

// tracing is what the router asks; nil = nobody.
func (t *traces) tracing() router.Tracing {
	if t == nil {
		return nil
	}
	return t.tracer
}

// close sends what is there, within the grace. It may take that long.
func (t *traces) close(log *logrus.Logger) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), tracesGrace)
	defer cancel()
	if err := t.tracer.Shutdown(ctx); err != nil {
		log.WithError(err).Warn("traces: not all spans could be sent")
	}
}

func (t *traces) status() *admin.TraceStatus {
	if t == nil {
		return nil
	}
	s := t.tracer.Status()
	return &admin.TraceStatus{Endpoint: s.Endpoint, Flows: s.Flows, Dropped: s.Dropped, Exported: s.Exported, Failed: s.Failed, Error: s.Error}
}
