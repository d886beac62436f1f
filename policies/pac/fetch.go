package pac

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"viaduct/policies/source"
)

// Fetched is a script as it came.
type Fetched struct {
	source.Validators
	Text string
	Same bool // the server says that it has not changed; there is no Text then
}

// Fetcher gets scripts from web servers, through no proxy: a script says itself how things are reached.
type Fetcher struct{ *source.Fetcher }

// FetchOptions are the bounds of a Fetcher.
type FetchOptions struct {
	Timeout time.Duration // of one try; 0 = 10 s
	Retries int           // after a try that failed in a way that may pass
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewFetcher makes a fetcher.
func NewFetcher(o FetchOptions) *Fetcher {
	return &Fetcher{source.NewFetcher(source.Options{Timeout: o.Timeout, Retries: o.Retries, Dial: o.Dial,
		Accept: "application/x-ns-proxy-autoconfig, application/javascript;q=0.9, text/javascript;q=0.9, text/plain;q=0.8, */*;q=0.5"})}
}

// CheckURL says what is wrong with the URL of a script; nil = nothing.
func CheckURL(text string) error { return source.CheckURL(text, "a PAC script") }

// Fetch gets a script. prev has the validators of the copy that is there; nil = there is none. The text has been decoded but not run.
func (f *Fetcher) Fetch(ctx context.Context, from string, prev *Fetched) (*Fetched, error) {
	if err := CheckURL(from); err != nil {
		return nil, err
	}
	var have source.Validators
	if prev != nil {
		have = prev.Validators
	}
	got, err := f.Fetcher.Fetch(ctx, from, have)
	if err != nil {
		return nil, err
	}
	if got.Same {
		return &Fetched{Same: true, Validators: got.Validators}, nil
	}
	defer got.Body.Close()
	body, err := io.ReadAll(io.LimitReader(got.Body, MaxSource+1))
	if err != nil {
		return nil, fmt.Errorf("the script broke off after %d bytes: %w", len(body), err)
	}
	text, err := Decode(body, got.ContentType)
	if err != nil {
		return nil, err
	}
	return &Fetched{Validators: got.Validators, Text: text}, nil
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
