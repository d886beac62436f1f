package otel

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Settings are what a policy says; nil and zero = nothing, and then the environment is asked, as OpenTelemetry has it: OTEL_SDK_DISABLED,
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and _ARG, OTEL_BSP_*, and of OTEL_EXPORTER_OTLP_ and OTEL_EXPORTER_OTLP_TRACES_
// ENDPOINT, HEADERS, TIMEOUT, CERTIFICATE, CLIENT_CERTIFICATE and CLIENT_KEY. Without a policy that asks for traces the environment alone
// turns nothing on.
type Settings struct {
	Endpoint string
	Headers  map[string]string
	Service  string
	Sample   *float64
	Start    *bool
	Timeout  time.Duration
	TLS      *tls.Config
}

// DefaultEndpoint is where a collector on this machine listens.
const DefaultEndpoint = "http://localhost:4318"

// Resolve adds to s what the environment says. off says that the environment turns tracing off.
func Resolve(s Settings, getenv func(string) string) (o Options, off bool, err error) {
	if b, err := strconv.ParseBool(getenv("OTEL_SDK_DISABLED")); err == nil && b {
		return o, true, nil
	}
	env := func(name string) string {
		if v := strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_TRACES_" + name)); v != "" {
			return v
		}
		return strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_" + name))
	}
	o = Options{Endpoint: s.Endpoint, Headers: s.Headers, Service: s.Service, Start: true, Timeout: s.Timeout}
	if o.Endpoint == "" {
		if o.Endpoint = env("ENDPOINT"); o.Endpoint == "" {
			o.Endpoint = DefaultEndpoint
		}
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			return o, false, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT is no URL of http or https without a user")
		}
	}
	if o.Service == "" {
		o.Service = getenv("OTEL_SERVICE_NAME")
		for part := range strings.SplitSeq(getenv("OTEL_RESOURCE_ATTRIBUTES"), ",") {
			if k, v, ok := strings.Cut(part, "="); ok && strings.TrimSpace(k) == "service.name" && o.Service == "" {
				o.Service, _ = url.PathUnescape(strings.TrimSpace(v))
			}
		}
	}
	if s.Headers == nil {
		if o.Headers, err = readHeaders(env("HEADERS")); err != nil {
			return o, false, err
		}
	}
	if o.Timeout == 0 {
		if ms, err := strconv.Atoi(env("TIMEOUT")); err == nil && ms > 0 {
			o.Timeout = min(time.Duration(ms)*time.Millisecond, time.Minute)
		}
	}
	if s.Start != nil {
		o.Start = *s.Start
	}
	if s.Sample != nil {
		o.Sample = *s.Sample
	} else if o.Sample, err = sampler(getenv("OTEL_TRACES_SAMPLER"), getenv("OTEL_TRACES_SAMPLER_ARG")); err != nil {
		return o, false, err
	}
	c := s.TLS
	if c == nil {
		if c, err = tlsOf(env("CERTIFICATE"), env("CLIENT_CERTIFICATE"), env("CLIENT_KEY")); err != nil {
			return o, false, err
		}
	}
	o.Transport = Transport(c)
	return o, false, nil
}

// sampler reads the samplers that OpenTelemetry knows by name. All of ours are based on the parent where there is one.
func sampler(name, arg string) (float64, error) {
	switch name {
	case "", "always_on", "parentbased_always_on":
		return 1, nil
	case "always_off", "parentbased_always_off":
		return 0, nil
	case "traceidratio", "parentbased_traceidratio":
		if arg == "" {
			return 1, nil
		}
		x, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(x >= 0 && x <= 1) {
			return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1")
		}
		return x, nil
	}
	return 0, fmt.Errorf("OTEL_TRACES_SAMPLER is none that is known here: always_on, always_off, traceidratio, each also as parentbased_")
}

// readHeaders reads "key=value,key=value" with values as in URLs. Its text is never in an error.
func readHeaders(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	all := map[string]string{}
	for part := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(part, "=")
		k = strings.TrimSpace(k)
		v, err := url.PathUnescape(strings.TrimSpace(v))
		if !ok || k == "" || err != nil || strings.ContainsAny(k+v, "\r\n\x00") {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS is not of the form key=value,key=value")
		}
		all[k] = v
	}
	return all, nil
}

func tlsOf(ca, cert, key string) (*tls.Config, error) {
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %s holds no certificate", ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
