// Package auth proves to an HTTP proxy who we are: it reads the challenges of a 407 (RFC 9110, section 11.7), chooses a
// scheme, writes the answers, and keeps accounts from being locked.
//
// An Authenticator belongs to one proxy and one credential; a Session to one connection to it. The caller sends what the
// Session gives it and tells it what came back. The Guard stands between: a credential that was not accepted yet is shown
// once at a time, what is shown is on the disk first, and one that was rejected is not shown again.
//
// It opens no connection to a proxy, reads no HTTP, and knows nothing of routes: package upstream does.
package auth
