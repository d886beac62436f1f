package pac

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"viaduct/connmodel"
)

// Query is what a script is asked: exactly the two texts that it is given.
type Query struct {
	URL  string
	Host string // no port, no brackets
}

// maxURL bounds the URL that is given to a script, in bytes; the path is cut there.
const maxURL = 8 << 10

// QueryFor makes the question for a flow, as browsers do. path is that of a plain HTTP request, "" for a tunnel. What leads to TLS shows
// the script no more than the host: the path of an https URL belongs to its two ends. A tunnel to port 80 is asked about as http, any
// other as https; ports that go without saying are not said.
func QueryFor(target connmodel.Address, path string) Query {
	host := target.Host
	scheme, usual := "https", uint16(443)
	if path != "" || target.Port == 80 {
		scheme, usual = "http", 80
	}
	if !strings.HasPrefix(path, "/") { // OPTIONS *
		path = "/"
	}
	path, _, _ = strings.Cut(path, "#")
	var b strings.Builder
	b.WriteString(scheme)
	b.WriteString("://")
	if target.Port != usual {
		b.WriteString(net.JoinHostPort(host, strconv.Itoa(int(target.Port))))
	} else if strings.Contains(host, ":") {
		b.WriteString("[" + host + "]")
	} else {
		b.WriteString(host)
	}
	if room := maxURL - b.Len(); len(path) > room {
		path = path[:max(room, 1)]
	}
	b.WriteString(path)
	return Query{URL: b.String(), Host: host}
}

// QueryForURL makes the question for a URL as a browser would: without user, password and fragment, and without the path where
// TLS hides it.
func QueryForURL(text string) (Query, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme == "" {
		return Query{}, errors.New("write a URL with its scheme, such as https://www.example.com/")
	}
	host, err := connmodel.CanonicalHost(u.Hostname())
	if err != nil {
		return Query{}, err
	}
	scheme, path := strings.ToLower(u.Scheme), u.RequestURI()
	usual := map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443", "ftp": "21"}[scheme]
	if scheme == "https" || scheme == "wss" || !strings.HasPrefix(path, "/") {
		path = "/"
	}
	at := host
	switch port := u.Port(); {
	case port != "" && port != usual:
		at = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		at = "[" + host + "]"
	}
	q := Query{URL: scheme + "://" + at + path, Host: host}
	if len(q.URL) > maxURL {
		q.URL = q.URL[:maxURL]
	}
	return q, nil
}
