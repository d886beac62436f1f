package connmodel

// CertificateWarning says that a certificate of a peer wants attention: it ends soon, or it is not what it should be. It is made for
// every handshake that shows such a certificate, also for one that is let pass (verify = false), and never changed once made.
type CertificateWarning struct {
	Reason      ChainVerdict
	Message     string // one sentence for people, with the name of the peer
	Side        Side   // SideHop, SideServer, SideClient
	Upstream    string // name of the upstream; "" for servers and clients
	Address     Address
	Certificate Certificate
}
