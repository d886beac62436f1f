// Package forward carries plain HTTP through the gateway, request by request: the request of a client to a server or to the proxy
// that is the last hop, the response back, with everything that RFC 9110 and 9112 ask of an intermediary between.
//
// It decides nothing and dials nothing: router reads the client's request head, asks the policy, and hands over a function
// that gives a connection. Heads and bodies are read and written by upstream/http1, so that nothing is passed on the way it
// was framed. Tunnels are router/relay's.
//
// An exchange runs on the goroutine of its session. Only a request body that is not here yet is sent by a second one, because a
// response may come before its end; it has ended when Carry returns. Time limits are one timer per exchange, see watch.
package forward
