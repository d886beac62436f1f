package resolve

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// doh asks a server over HTTPS (RFC 8484), by HTTP/2 where it speaks it.
type doh struct {
	url    string
	get    bool
	client *http.Client
}

const messageType = "application/dns-message"

func newDoH(s *server, conf *tls.Config) *doh {
	h := http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second} // a connection whose way is gone is found out
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.c.ways().Stream(ctx, s.via, s.spec.Host, s.spec.Port)
		},
		TLSClientConfig: conf, ForceAttemptHTTP2: true, HTTP2: &h,
		TLSHandshakeTimeout: streamConnect, IdleConnTimeout: streamIdle, MaxConnsPerHost: maxStreams, MaxIdleConnsPerHost: maxStreams,
		MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
	u := url.URL{Scheme: "https", Host: net.JoinHostPort(s.spec.Host, strconv.Itoa(int(s.spec.Port)))}
	if s.spec.Port == 443 {
		if u.Host = s.spec.Host; bytes.IndexByte([]byte(u.Host), ':') >= 0 {
			u.Host = "[" + u.Host + "]"
		}
	}
	return &doh{url: u.String() + s.spec.Path, get: s.spec.Get, client: &http.Client{
		Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it sends us elsewhere, and a name server is not followed")
		},
	}}
}

func (d *doh) close() { d.client.CloseIdleConnections() }

func (d *doh) ask(ctx context.Context, q *question) (reply, error) {
	q.id = 0 // section 4.1: so that caches see the same question as the same
	msg, err := q.append(nil, true)
	if err != nil {
		return reply{}, err
	}
	var req *http.Request
	if d.get {
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, d.url+"?dns="+base64.RawURLEncoding.EncodeToString(msg), nil)
	} else if req, err = http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(msg)); err == nil {
		req.Header.Set("Content-Type", messageType)
	}
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Accept", messageType)
	req.Header["User-Agent"] = nil
	res, err := d.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // it repeats the URL
		}
		return reply{}, because(ctx, err)
	}
	defer res.Body.Close()
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); res.StatusCode/100 != 2 || kind != messageType {
		io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
		if res.StatusCode/100 != 2 {
			return reply{}, fmt.Errorf("HTTP status %d", res.StatusCode)
		}
		return reply{}, errors.New("a document that is no DNS message: is this the URL of a name server?")
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxMessage+1))
	switch {
	case err != nil:
		return reply{}, because(ctx, err)
	case len(body) > maxMessage:
		return reply{}, errGarbage
	}
	r, err := parseReply(body, q)
	if err == nil && r.truncated {
		err = errGarbage
	}
	if age, e := strconv.ParseUint(res.Header.Get("Age"), 10, 31); e == nil && err == nil { // section 5.1: it has been in a cache for so long
		r.ttl -= min(r.ttl, uint32(age))
	}
	return r, err
}
