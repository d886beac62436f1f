// Package certcheck says what is wrong with the certificates of a peer, in words that name what to do, and which of them want attention
// soon. It decides nothing: crypto/tls and crypto/x509 verify, this package explains. Pins are the exception: they are checked here.
package certcheck
