// Package admin is the operator's door: HTTP over a Unix socket, or over loopback TCP with a token or a client certificate, through which a
// running gateway is asked how it is and told what to do, and through which its dashboard is served. README.md is its manual, openapi.json
// says the same to programs, and table.go lists the routes.
//
// It is not part of the data path and knows neither router, policies nor upstream: what it shows it gets through the Gateway interface and
// the Sources, which the program satisfies. What happens goes through Events, which costs a flow one atomic load while nobody listens.
// Metrics are counted by Meter, which the router calls; they carry names of the configuration and words of connmodel as labels, and never
// anything that a client says.
package admin
