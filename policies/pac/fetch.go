package pac

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Fetched is a script as it came.
type Fetched struct {
	Text     string
	Same     bool   // the server says that it has not changed; there is no Text then
	ETag     string // validators for the next time; "" = none
	Modified string
}

// Fetcher gets scripts from web servers. It has a transport of its own, which goes through no proxy: the environment's could be this very
// gateway, and a script says itself how things are reached.
type Fetcher struct {
	client *retryablehttp.Client
}

// FetchOptions are the bounds of a Fetcher.
type FetchOptions struct {
	Timeout time.Duration // of one try; 0 = 10 s
	Retries int           // after a try that failed in a way that may pass
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewFetcher makes a fetcher.
func NewFetcher(o FetchOptions) *Fetcher {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: o.Timeout}).DialContext
	}
	c := retryablehttp.NewClient()
	c.Logger = nil
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = o.Retries, 500*time.Millisecond, 5*time.Second
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler
	c.HTTPClient = &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{Proxy: nil, DialContext: o.Dial, DisableKeepAlives: true, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: o.Timeout, ResponseHeaderTimeout: o.Timeout, MaxResponseHeaderBytes: 64 << 10},
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
	return &Fetcher{c}
}

// CheckURL says what is wrong with the URL of a script; nil = nothing.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return errors.New("write http://HOST/PATH or https://HOST/PATH")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("a PAC script is got by http or https; a file is named by its path")
	case u.User != nil:
		return errors.New("a user or password in a URL would be shown in logs; PAC scripts are not secret")
	}
	return nil
}

// Fetch gets a script. prev has the validators of the copy that is there; nil = there is none. The text has been decoded but not run.
func (f *Fetcher) Fetch(ctx context.Context, from string, prev *Fetched) (*Fetched, error) {
	if err := CheckURL(from); err != nil {
		return nil, err
	}
	r, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/x-ns-proxy-autoconfig, application/javascript;q=0.9, text/javascript;q=0.9, text/plain;q=0.8, */*;q=0.5")
	r.Header.Set("User-Agent", "viaduct")
	if prev != nil && prev.ETag != "" {
		r.Header.Set("If-None-Match", prev.ETag)
	}
	if prev != nil && prev.Modified != "" {
		r.Header.Set("If-Modified-Since", prev.Modified)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // the URL is said by whoever asked
			err = ue.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && prev != nil {
		return &Fetched{Same: true, ETag: prev.ETag, Modified: prev.Modified}, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxSource+1))
	if err != nil {
		return nil, fmt.Errorf("the script broke off after %d bytes: %w", len(body), err)
	}
	text, err := Decode(body, resp.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	return &Fetched{Text: text, ETag: short(resp.Header.Get("ETag")), Modified: short(resp.Header.Get("Last-Modified"))}, nil
}

// short leaves out a validator that is no use to keep.
func short(s string) string {
	if len(s) > 512 {
		return ""
	}
	return s
}

// ReadFile reads a script from a file.
func ReadFile(path string) (string, error) {
	f, err := os.Open(strings.TrimPrefix(path, "file://"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, MaxSource+1))
	if err != nil {
		return "", err
	}
	return Decode(body, "")
}
