package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"viaduct/connmodel"
)

// harWriter writes flows as an HTTP archive, version 1.2, for the tools that draw such. It is one JSON object, written as the flows come: what it holds
// is never in memory.
type harWriter struct {
	w     *bufio.Writer
	comma bool
}

type harEntry struct {
	Started  string      `json:"startedDateTime"`
	Time     float64     `json:"time"`
	Request  harRequest  `json:"request"`
	Response harResponse `json:"response"`
	Cache    struct{}    `json:"cache"`
	Timings  harTimings  `json:"timings"`
	ServerIP string      `json:"serverIPAddress,omitempty"`
	// Connection is the client's: requests of one have the same.
	Connection string `json:"connection,omitempty"`
	Comment    string `json:"comment,omitempty"`
	// What the format has no place for has names with an underscore before them (HAR 1.2, custom fields).
	Error    string `json:"_error,omitempty"`
	Protocol string `json:"_protocol"`
	Route    string `json:"_route,omitempty"`
	Rule     string `json:"_rule,omitempty"`
}

type harPair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type harRequest struct {
	Method      string    `json:"method"`
	URL         string    `json:"url"`
	HTTPVersion string    `json:"httpVersion"`
	Cookies     []harPair `json:"cookies"`
	Headers     []harPair `json:"headers"`
	Query       []harPair `json:"queryString"`
	HeadersSize int       `json:"headersSize"`
	BodySize    int64     `json:"bodySize"`
}

type harResponse struct {
	Status      int        `json:"status"`
	StatusText  string     `json:"statusText"`
	HTTPVersion string     `json:"httpVersion"`
	Cookies     []harPair  `json:"cookies"`
	Headers     []harPair  `json:"headers"`
	Content     harContent `json:"content"`
	RedirectURL string     `json:"redirectURL"`
	HeadersSize int        `json:"headersSize"`
	BodySize    int64      `json:"bodySize"`
}

type harContent struct {
	Size     int64  `json:"size"`
	MimeType string `json:"mimeType"`
}

// harTimings are milliseconds; -1 says that it does not apply. The time of an entry is their sum without ssl, which is a part of connect.
type harTimings struct {
	Blocked float64 `json:"blocked"`
	DNS     float64 `json:"dns"`
	Connect float64 `json:"connect"`
	SSL     float64 `json:"ssl"`
	Send    float64 `json:"send"`
	Wait    float64 `json:"wait"`
	Receive float64 `json:"receive"`
}

func newHAR(w io.Writer) (*harWriter, error) {
	h := &harWriter{w: bufio.NewWriter(w)}
	creator, err := json.Marshal(map[string]string{"name": "viaduct", "version": buildVersion().Version})
	if err != nil {
		return nil, err
	}
	_, err = h.w.WriteString(`{"log":{"version":"1.2","creator":` + string(creator) + `,"pages":[],"entries":[`)
	return h, err
}

func (h *harWriter) flow(f *connmodel.Flow) error {
	b, err := json.Marshal(harOf(f))
	if err != nil {
		return err
	}
	if h.comma {
		h.w.WriteByte(',')
	}
	h.comma = true
	h.w.WriteByte('\n')
	_, err = h.w.Write(b)
	return err
}

func (h *harWriter) flush() error { return h.w.Flush() }

func (h *harWriter) end() error {
	h.w.WriteString("\n]}}\n")
	return h.w.Flush()
}

// harOf makes an entry of a flow. A tunnel is a CONNECT, whichever way it was asked for: what is in it is not known.
func harOf(f *connmodel.Flow) *harEntry {
	e := &harEntry{
		Started: f.Start.UTC().Format("2006-01-02T15:04:05.000Z"), Protocol: string(f.Protocol), Connection: f.Session.String(), Comment: f.ID.String(),
		Request:  harRequest{Method: "CONNECT", URL: tunnelURL(f), HTTPVersion: "unknown", Cookies: []harPair{}, Headers: []harPair{}, Query: []harPair{}, HeadersSize: -1, BodySize: f.Up},
		Response: harResponse{HTTPVersion: "unknown", Cookies: []harPair{}, Headers: []harPair{}, Content: harContent{Size: f.Down, MimeType: "application/octet-stream"}, HeadersSize: -1, BodySize: f.Down},
	}
	if r := f.Request; r != nil && r.Method != "" {
		e.Request.Method = r.Method
		u := requestURL(f)
		e.Request.URL = u.String()
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			if pair != "" {
				k, v, _ := strings.Cut(pair, "=")
				e.Request.Query = append(e.Request.Query, harPair{unescaped(k), unescaped(v)})
			}
		}
	}
	switch {
	case f.Response != nil && f.Response.Status != 0:
		e.Response.Status = f.Response.Status
	case f.Reply != nil && f.Reply.Code >= 100 && f.Reply.Code < 600: // HTTP; SOCKS has smaller ones
		e.Response.Status = int(f.Reply.Code)
	}
	e.Response.StatusText = http.StatusText(e.Response.Status)
	if f.Error != nil {
		e.Error = f.Error.Error()
	}
	if d := f.Decision; d != nil {
		e.Rule = d.Rule
	}
	if s := f.Server; s != nil {
		e.Route = s.Route
		if s.Peer.IsValid() {
			e.ServerIP = s.Peer.Addr().Unmap().WithZone("").String()
		}
	}
	e.Timings = timingsOf(f)
	t := &e.Timings
	for _, v := range []float64{t.Blocked, t.DNS, t.Connect, t.Send, t.Wait, t.Receive} {
		e.Time += max(v, 0)
	}
	e.Time = round3(e.Time)
	return e
}

func unescaped(s string) string {
	if v, err := url.QueryUnescape(s); err == nil {
		return strings.ToValidUTF8(v, "\ufffd")
	}
	return s
}

// tunnelURL is an address in the form that the format wants.
func tunnelURL(f *connmodel.Flow) string {
	if f.Target.IsZero() {
		return "about:blank"
	}
	scheme := "tcp"
	switch {
	case f.Protocol == connmodel.ProtocolUDP:
		scheme = "udp"
	case f.Target.Port == 443 || f.Client != nil && f.Client.Hello != nil:
		scheme = "https"
	}
	u := url.URL{Scheme: scheme, Host: hostPort(f.Target, scheme), Path: "/"}
	return u.String()
}

func requestURL(f *connmodel.Flow) *url.URL {
	r := f.Request
	u := &url.URL{Scheme: r.Scheme, Host: hostPort(f.Target, r.Scheme)}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	path, query, _ := strings.Cut(r.Path, "?")
	if path == "" || path == "*" {
		path = "/"
	}
	u.Path, u.RawQuery = path, query
	if p, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = p, path
	}
	return u
}

// hostPort leaves the usual port of the scheme out.
func hostPort(a connmodel.Address, scheme string) string {
	if scheme == "https" && a.Port == 443 || scheme == "http" && a.Port == 80 {
		if strings.Contains(a.Host, ":") {
			return "[" + a.Host + "]"
		}
		return a.Host
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// timingsOf shares the time of a flow out among the parts that the format knows. What is not known is not guessed, but for the end: whatever no other part
// took is receive.
func timingsOf(f *connmodel.Flow) harTimings {
	t := harTimings{Blocked: -1, DNS: -1, Connect: -1, SSL: -1}
	at := f.Start
	step := func(to time.Time) float64 { // from where the last one ended
		if to.IsZero() || to.Before(at) {
			return 0
		}
		d := to.Sub(at)
		at = to
		return millis(d)
	}
	s := f.Server
	if s != nil && !s.Reused && !s.Start.IsZero() {
		t.Blocked = step(s.Start)
		up := s.TCPSetup
		if s.TLSSetup.After(up) {
			t.SSL = millis(s.TLSSetup.Sub(up))
			up = s.TLSSetup
		}
		if up.IsZero() && f.Error != nil { // all of it was the search for a way
			up = f.End
		}
		t.Connect = step(up)
		if dns := firstLookup(s); dns > 0 && millis(dns) <= t.Connect {
			t.DNS = millis(dns)
			t.Connect = round3(t.Connect - t.DNS)
			t.SSL = min(t.SSL, t.Connect)
		}
	}
	if r := f.Request; r != nil {
		t.Send = step(r.End)
	}
	if r := f.Response; r != nil {
		t.Wait = step(r.Start)
		t.Receive = step(r.End)
	}
	t.Receive = round3(t.Receive + step(f.End))
	return t
}

// firstLookup is the time of looking the first name of the way up.
func firstLookup(s *connmodel.Server) time.Duration {
	if n := len(s.Attempts); n > 0 && len(s.Attempts[n-1].Hops) > 0 {
		return s.Attempts[n-1].Hops[0].DNS
	}
	return 0
}

func round3(v float64) float64 { return float64(int64(v*1000+0.5)) / 1000 }
