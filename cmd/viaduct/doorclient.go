package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// doorClient asks one control door, as often as wanted, over connections that are kept. Close it.
type doorClient struct {
	address, token string
	http           *http.Client
	host           string
	scheme         string
}

// open finds the door. Nothing is sent yet.
func (k *control) open() (*doorClient, error) {
	found, err := k.find()
	if err != nil {
		return nil, err
	}
	address := found.address
	d := &doorClient{address: address, token: found.token, host: "localhost", scheme: "http"}
	if !strings.HasPrefix(address, "unix:") {
		d.host = address
	}
	if found.tls != nil {
		d.scheme = "https"
	}
	d.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig: found.tls,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var n net.Dialer
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				return n.DialContext(ctx, "unix", path)
			}
			return n.DialContext(ctx, "tcp", address)
		},
		IdleConnTimeout: 30 * time.Second, // the door's is a minute
	}}
	return d, nil
}

func (d *doorClient) close() { d.http.CloseIdleConnections() }

const (
	maxAnswer  = 64 << 20        // of what is read from the door
	askTimeout = 2 * time.Minute // a reload reads lists of any size
)

// problemError is a "no" of the gateway in the form of RFC 9457.
type problemError struct {
	address string
	status  int
	detail  string // or the status line, when there was none
}

func (e *problemError) Error() string {
	return fmt.Sprintf("the gateway at %s says: %s", e.address, e.detail)
}

// send sends a request. The caller closes the body. Any status that is no success with a problem in it is a *problemError.
func (d *doorClient) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.scheme+"://"+d.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("--admin %s: %w", d.address, err)
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := d.http.Do(req)
	if err != nil {
		return nil, unreachable(d.address, err)
	}
	if res.StatusCode >= 300 && res.Header.Get("Content-Type") == "application/problem+json" {
		defer res.Body.Close()
		var p struct{ Detail string }
		text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		if err != nil || json.Unmarshal(text, &p) != nil || p.Detail == "" {
			p.Detail = res.Status
		}
		return nil, &problemError{d.address, res.StatusCode, p.Detail}
	}
	return res, nil
}

// ask sends one request, with body as JSON unless it is nil, and decodes the answer into v. refused is true when the gateway said no; then
// v is filled all the same where the answer has its form.
func (d *doorClient) ask(ctx context.Context, method, path string, body []byte, v any) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	res, err := d.send(ctx, method, path, body)
	if err != nil {
		var p *problemError
		return errors.As(err, &p), err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return false, fmt.Errorf("the answer from %s ended early: %w", d.address, err)
	}
	refused = res.StatusCode >= 300
	if err := json.Unmarshal(text, v); err != nil {
		return refused, fmt.Errorf("what answers at %s is not a gateway (%s): %w", d.address, res.Status, err)
	}
	return refused, nil
}

func unreachable(address string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return &noDoor{address, err}
}

// noDoor says that nobody answers where the control door should be.
type noDoor struct {
	address string
	err     error
}

func (e *noDoor) Error() string {
	return fmt.Sprintf("no gateway answers at %s: %v. Does it run? Is its door elsewhere (--admin, --config)?", e.address, e.err)
}
func (e *noDoor) Unwrap() error { return e.err }
