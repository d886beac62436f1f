// Package upstream is how a flow gets to its server: directly, through a declared proxy, through chains of them, through
// pools of routes that stand in for each other. A Table is built once per configuration from plain specifications; Dial
// walks a route by name, with retries, fail-over and health, and writes every attempt and hop to the flow's recorder.
//
// A hop is a proxy that takes a way to connect and gives one back: Hop.Dialer turns a golang.org/x/net/proxy
// ContextDialer into the one that goes through it, so chains are hops applied in order. Table.Dial walks them without the
// closures, with the same meaning.
//
// It is not where routes are chosen (that is package policies), it speaks no wire protocol itself (the packages below it
// do: httpconnect, socks4, socks5), and it moves no payload (router/relay does).
//
// Errors come in two layers here: HopError says where on the way something failed, and classify turns that and what the
// wire said into a connmodel.ConnError, which says what it means.
package upstream
