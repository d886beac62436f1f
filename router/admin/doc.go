// Package admin is the operator's door: HTTP over a Unix socket, or over loopback TCP with a token, through which a running
// gateway is asked how it is, told to reload, and scraped for metrics.
//
//	POST /v1/reload        reads the policy again; says why it could not
//	GET  /v1/status        version, configuration, listeners, upstreams, counters
//	GET  /v1/connections   the open flows, bounded by ?limit=
//	GET  /v1/history       what went on in the last minutes, hour or day, as numbers to draw
//	GET  /metrics          for Prometheus
//
// It is not part of the data path and knows neither router, policies nor upstream: what it shows it gets through the Gateway
// interface, which the program satisfies. Metrics are counted by Meter, which the router calls; they carry names of the
// configuration and words of connmodel as labels, and never anything that a client says.
package admin
