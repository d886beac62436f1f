package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"viaduct/router/admin"
)

// doorForwarder serves on loopback what a gateway answers at its Unix socket. The socket lets its user do everything and asks nobody who they
// are, so that all the guarding is here: the name of the host, whose page asks, the token, and whether anything may be changed.
type doorForwarder struct {
	token [sha256.Size]byte
	hosts [2]string // that it is known by
	write bool
	proxy *httputil.ReverseProxy
	over  context.Context // ends with the command
	end   context.CancelFunc
}

// Bounds of what is read and rewritten on the way.
const (
	maxForwarded = 64 << 10 // of a request's body; the door takes no more either
	maxStatus    = 16 << 20
)

func newDoorForwarder(d *doorClient, address, token string, write bool) *doorForwarder {
	f := &doorForwarder{token: sha256.Sum256([]byte(token)), hosts: [2]string{address}, write: write}
	if _, port, err := net.SplitHostPort(address); err == nil {
		f.hosts[1] = "localhost:" + port
	}
	f.over, f.end = context.WithCancel(context.Background())
	f.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", d.host, d.host
			keep := http.Header{}
			for _, k := range []string{"Accept", "Accept-Encoding", "Content-Type", "If-None-Match", "Last-Event-ID"} {
				if v := r.In.Header.Values(k); v != nil {
					keep[http.CanonicalHeaderKey(k)] = v
				}
			}
			r.Out.Header = keep // what was for the guard here is not for the door, and no field of a browser is
			if r.In.URL.Path == "/v1/status" {
				keep.Del("Accept-Encoding")
			}
		},
		ModifyResponse: func(res *http.Response) error {
			if res.Request.URL.Path == "/v1/status" && res.StatusCode == http.StatusOK && !f.write {
				return readOnlyStatus(res)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				forwardProblem(w, http.StatusBadGateway, unreachable(d.address, err).Error())
			}
		},
		ErrorLog:      log.New(io.Discard, "", 0), // whoever has left is no news
		Transport:     d.http.Transport,
		FlushInterval: -1,
	}
	return f
}

func (f *doorForwarder) server() *http.Server {
	return &http.Server{Handler: f, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(io.Discard, "", 0)}
}

func (f *doorForwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Host != f.hosts[0] && r.Host != f.hosts[1] {
		forwardProblem(w, http.StatusMisdirectedRequest, "the dashboard does not answer to this host name")
		return
	}
	static := r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/ui/")
	question := r.Method == http.MethodGet || r.Method == http.MethodHead
	// Whoever follows a link comes from another page; what they get are static files, in which there is nothing.
	arrives := static && question && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Origin") == ""
	if !arrives && !f.ownPage(r) {
		forwardProblem(w, http.StatusForbidden, "the dashboard does not serve pages of other sites")
		return
	}
	if !(static && question) && !f.knows(r) {
		h.Set("WWW-Authenticate", `Bearer realm="viaduct dashboard"`)
		forwardProblem(w, http.StatusUnauthorized, "the token of the address that \"viaduct dashboard\" has printed is needed")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForwarded))
	if err != nil {
		forwardProblem(w, http.StatusRequestEntityTooLarge, "the question is too long, or ended early")
		return
	}
	if !f.write {
		var why string
		var code int
		if body, code, why = readOnly(r, body, question); why != "" {
			forwardProblem(w, code, why)
			return
		}
	}
	r.Body, r.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	http.NewResponseController(w).SetReadDeadline(time.Time{}) // streams outlive the time that a request has to come
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(f.over, cancel)()
	f.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// ownPage reports whether a browser, if it is one, asks on behalf of the page that came from here.
func (f *doorForwarder) ownPage(r *http.Request) bool {
	if s := r.Header.Values("Sec-Fetch-Site"); len(s) > 1 || len(s) == 1 && s[0] != "same-origin" && s[0] != "none" {
		return false
	}
	o := r.Header.Values("Origin")
	return len(o) == 0 || len(o) == 1 && o[0] == "http://"+r.Host
}

func (f *doorForwarder) knows(r *http.Request) bool {
	fields := r.Header.Values("Authorization")
	if len(fields) != 1 {
		return false
	}
	scheme, token, ok := strings.Cut(fields[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], f.token[:]) == 1
}

// readOnly says why a request is not forwarded when nothing may be changed. A question to explain is written anew, so that the door reads in
// it what was read here.
func readOnly(r *http.Request, body []byte, question bool) (_ []byte, code int, why string) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/debug/"):
		return nil, http.StatusForbidden, `profiles are forwarded with "viaduct dashboard --write" alone`
	case question:
		return body, 0, ""
	case r.Method != http.MethodPost || r.URL.Path != "/v1/explain":
		return nil, http.StatusForbidden, `this dashboard is read-only: begin it with "viaduct dashboard --write"`
	}
	var q admin.Question
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, http.StatusBadRequest, "the question cannot be read: " + err.Error()
	}
	if q.Lookups || len(q.Resolve) == 1 && (q.Resolve[0] == "policy" || q.Resolve[0] == "system") {
		return nil, http.StatusForbidden, `this dashboard is read-only and has nothing looked up: begin it with "viaduct dashboard --write", or say the addresses with resolve`
	}
	b, _ := json.Marshal(&q) // strings and lists of them cannot fail
	return b, 0, ""
}

// readOnlyStatus says in a status that nothing can be changed: that is so here, if not at the door.
func readOnlyStatus(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, maxStatus))
	res.Body.Close()
	if err != nil {
		return err
	}
	var status, door map[string]json.RawMessage
	if json.Unmarshal(b, &status) == nil && json.Unmarshal(status["door"], &door) == nil && door != nil {
		door["write"] = json.RawMessage("false")
		if d, err := json.Marshal(door); err == nil {
			status["door"] = d
			if whole, err := json.Marshal(status); err == nil {
				b = whole
			}
		}
	}
	res.Body = io.NopCloser(bytes.NewReader(b))
	res.ContentLength = int64(len(b))
	res.Header.Set("Content-Length", strconv.Itoa(len(b)))
	return nil
}

// forwardProblem answers as the door does, in the form of RFC 9457.
func forwardProblem(w http.ResponseWriter, code int, detail string) {
	b, _ := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(code), code, detail}) // strings and a number cannot fail
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	w.Write(append(b, '\n'))
}
