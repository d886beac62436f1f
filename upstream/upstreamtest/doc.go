// Package upstreamtest holds proxies and servers that misbehave on request, on
// loopback, inside the test's own process: HTTP, SOCKS4 and SOCKS5 proxies that
// are scripted connection by connection, origins that echo, speak first, half
// close or record HTTP requests, addresses that refuse or swallow every dial,
// and a small certificate authority.
//
// It is not a proxy to be used, and it shares no code with Viaduct: the wire
// bytes are written here a second time by hand (and by net/http where HTTP has
// to be forwarded), so that a bug in Viaduct's codecs is not mirrored in what
// tests them. Real programs (Squid, Dante, nginx) are started by its neighbour
// upstreamtest/peers.
//
// Everything is bounded: connections at once, bytes of a head, records kept,
// lifetime of a connection. Close ends every connection and waits for every
// goroutine, so a goroutine check after it is fair.
//
//	origin := upstreamtest.NewOrigin(t, upstreamtest.Echo, upstreamtest.Options{})
//	proxy := upstreamtest.NewSOCKS5(t, upstreamtest.Options{
//		User: "u", Password: "p",
//		Script: []upstreamtest.Behaviour{upstreamtest.SOCKSReply(5), upstreamtest.OK},
//	})
//	// dial origin.Addr() through proxy.Addr(): refused first, then carried
//	proxy.Requests() // what arrived, credentials included
package upstreamtest
