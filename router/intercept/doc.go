// Package intercept is what looking inside TLS needs beside connections: the certificate authority of a gateway, as files and in
// memory, and the minting of certificates that it signs.
//
// It makes no handshake and dials nothing; router does, and shows a client what Mint returns. The key of the authority never leaves
// its file and this package, and signs nothing but certificates for servers.
//
//	ca, err := intercept.Load(intercept.In("/var/lib/viaduct/ca"))
//	var m intercept.Minter                            // one per process: its key, its cache
//	cert, err := m.Mint(ca, intercept.Wanted{Name: "www.example.com", Server: leafOfTheServer})
package intercept
