package http1

// StripHopByHop removes what is meant for this hop alone (RFC 9110 7.6.1): the
// fields that Connection names, Connection itself, Proxy-Connection, Keep-Alive,
// TE (but "trailers" stays, as a field of the next hop), Transfer-Encoding,
// Upgrade, HTTP2-Settings, Proxy-Authenticate, Proxy-Authentication-Info and
// Proxy-Authorization. Call it before adding fields of our own: what the peer
// names cannot then remove those. Look for loops (ViaContains) before.
//
// Upgrade and the framing are in Request and Response; the Append functions
// write them from there.
//
// Fields that are meant for all recipients and decide over routing, framing,
// caching or access stay even when Connection names them: such an option is
// against RFC 9110 7.6.1, and heeding it hides from the server what the policy
// decided on.
func (h *Header) StripHopByHop() {
	var listed [maxOptions]string
	options := listed[:0]
	trailers := false
	for i := range *h {
		f := &(*h)[i]
		if equalFold(f.Name, "TE") {
			trailers = trailers || hasElement(f.Value, "trailers")
		}
		if !equalFold(f.Name, "Connection") {
			continue
		}
		for rest := f.Value; rest != ""; {
			var t string
			t, rest = cutList(rest)
			if t != "" && !hopByHop(t) && !equalFold(t, "close") && !endToEnd(t) {
				options = append(options, t)
			}
		}
	}
	h.deleteFunc(func(f Field) bool {
		if hopByHop(f.Name) {
			return true
		}
		for _, o := range options {
			if equalFold(f.Name, o) {
				return true
			}
		}
		return false
	})
	if trailers {
		h.Add("TE", "trailers") // RFC 9110 10.1.4: we relay trailers
	}
}

// hasElement reports whether a list holds the element, in any case.
func hasElement(list, element string) bool {
	for list != "" {
		var t string
		if t, list = cutList(list); equalFold(t, element) {
			return true
		}
	}
	return false
}

// hopByHop names the fields that never go further. Trailer is not one of them
// (RFC 9110 6.6.2).
func hopByHop(name string) bool {
	switch len(name) {
	case 2:
		return equalFold(name, "TE")
	case 7:
		return equalFold(name, "Upgrade")
	case 10:
		return equalFold(name, "Connection") || equalFold(name, "Keep-Alive")
	case 14:
		return equalFold(name, "HTTP2-Settings") // RFC 7540 3.2.1
	case 16:
		return equalFold(name, "Proxy-Connection")
	case 17:
		return equalFold(name, "Transfer-Encoding")
	case 18:
		return equalFold(name, "Proxy-Authenticate") // RFC 9110 11.7.1: for the next client only
	case 19:
		return equalFold(name, "Proxy-Authorization") // RFC 9110 11.7.2: consumed here
	case 25:
		return equalFold(name, "Proxy-Authentication-Info")
	}
	return false
}

var essential = [...]string{
	"Authorization", "Cache-Control", "Content-Encoding", "Content-Length",
	"Content-Range", "Content-Type", "Cookie", "Date", "Forwarded", "Host",
	"Location", "Max-Forwards", "Range", "Set-Cookie", "Trailer", "Via",
	"WWW-Authenticate",
}

// endToEnd names the fields that Connection cannot take away.
func endToEnd(name string) bool {
	for _, f := range essential {
		if equalFold(f, name) {
			return true
		}
	}
	return false
}
