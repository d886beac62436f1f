package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Validators are what a server said of a copy, so that it can be asked whether it has another.
type Validators struct {
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"last_modified,omitempty"`
}

// Fetched is what a server sent. Body must be closed; it is nil when Same.
type Fetched struct {
	Validators
	Same        bool // what Validators were sent of has not changed
	Body        io.ReadCloser
	Length      int64 // of Body as it comes; -1 = not said
	ContentType string
	Encoding    string // Content-Encoding that is still on; "" with [Options.Raw] unset
	From        string // the URL that answered, where it is another host than the one asked; else ""
}

// Fetcher asks web servers. It has a transport of its own, which goes through no proxy of the environment: that could be this very gateway.
type Fetcher struct {
	client *retryablehttp.Client
	raw    bool
	accept string
}

// Options are the bounds of a Fetcher.
type Options struct {
	Timeout time.Duration // of one try, until the last byte; 0 = 10 s
	Connect time.Duration // until there is a connection, and until the answer begins; 0 = Timeout, at most 30 s
	Retries int           // after a try that failed in a way that may pass
	Accept  string        // of the request; "" = none
	Raw     bool          // what comes compressed by gzip is handed on so
	TLS     *tls.Config   // nil = the system's authorities
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// Waits between the tries of one look.
const (
	shortWait = 500 * time.Millisecond
	longWait  = 5 * time.Second
)

// NewFetcher makes a fetcher.
func NewFetcher(o Options) *Fetcher {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Connect <= 0 {
		o.Connect = min(o.Timeout, 30*time.Second)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: o.Connect}).DialContext
	}
	c := retryablehttp.NewClient()
	c.Logger = nil
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = o.Retries, shortWait, longWait
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler
	c.Backoff = func(lo, hi time.Duration, n int, r *http.Response) time.Duration {
		return min(hi, retryablehttp.DefaultBackoff(lo, hi, n, r)) // Retry-After is a wish, and may be days
	}
	c.HTTPClient = &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{Proxy: nil, DialContext: o.Dial, DisableKeepAlives: true, ForceAttemptHTTP2: true, DisableCompression: o.Raw,
			TLSClientConfig: o.TLS.Clone(), TLSHandshakeTimeout: o.Connect, ResponseHeaderTimeout: o.Connect, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("more than 5 redirects")
			}
			if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("redirected from https to " + r.URL.Scheme)
			}
			return nil
		},
	}
	return &Fetcher{c, o.Raw, o.Accept}
}

// CheckURL says what is wrong with the URL of what ("a list"); nil = nothing.
func CheckURL(text, what string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return errors.New("write http://HOST/PATH or https://HOST/PATH")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s is got by http or https; a file is named by its path", what)
	case u.User != nil:
		return errors.New("a user or password in a URL would be shown in logs")
	}
	return nil
}

// StatusError is an answer that is no copy.
type StatusError struct {
	Code int
	From string // as in Fetched
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
	if e.From != "" {
		s += ", after a redirect to " + e.From
	}
	return s
}

// Fetch asks for what is at a URL. have is what the server said of the copy that is there; the zero value = there is none.
func (f *Fetcher) Fetch(ctx context.Context, from string, have Validators) (*Fetched, error) {
	r, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "viaduct")
	if f.accept != "" {
		r.Header.Set("Accept", f.accept)
	}
	if f.raw {
		r.Header.Set("Accept-Encoding", "gzip")
	}
	if have.ETag != "" {
		r.Header.Set("If-None-Match", have.ETag)
	}
	if have.Modified != "" {
		r.Header.Set("If-Modified-Since", have.Modified)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // the URL is said by whoever asked
			err = ue.Err
		}
		return nil, err
	}
	elsewhere := ""
	if u := resp.Request.URL; u.Host != r.URL.Host {
		elsewhere = u.Scheme + "://" + u.Host
	}
	if resp.StatusCode == http.StatusOK {
		got := &Fetched{Validators: Validators{short(resp.Header.Get("ETag")), short(resp.Header.Get("Last-Modified"))}, Body: resp.Body, Length: resp.ContentLength,
			ContentType: short(resp.Header.Get("Content-Type")), From: elsewhere}
		if f.raw {
			got.Encoding = short(resp.Header.Get("Content-Encoding"))
		}
		return got, nil
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && have != (Validators{}) {
		return &Fetched{Same: true, Validators: have, From: elsewhere}, nil
	}
	return nil, &StatusError{resp.StatusCode, elsewhere}
}

// short leaves out what is no use to keep.
func short(s string) string {
	if len(s) > 512 {
		return ""
	}
	return s
}
