package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

const policy = `
gateway {
  admin {
    address = "DOOR"
    EXTRA
  }
}
listener "desk" {
  address = "LISTEN"
}
upstream "corp" {
  url = "http://127.0.0.1:9"
  auth {
    username = "svc"
    password = env("PATH")
  }
}
upstream "bare" { url = "http://127.0.0.1:9" }
pool "both" {
  members = [upstream.corp, upstream.bare]
}
list "good" {
  url      = "LISTS/good"
  on_error = "empty"
}
list "bad" {
  url      = "LISTS/bad"
  on_error = "empty"
}
resolver "silent" {
  servers = ["udp://DNS"]
  timeout = "8s"
}
policy "default" {
  resolver = resolver.silent
  rule "lists" {
    match { host = [list.good, list.bad] }
    deny {}
  }
  rule "corp" {
    match { host = "*.corp.example" }
    via = pool.both
  }
  rule "asks" {
    match {
      host    = "*.asks.example"
      address = ["10.0.0.0/8"]
    }
    via = upstream.bare
  }
  rule "here" {
    match { address = ["127.0.0.0/8"] }
    via = direct
  }
  rule "shadowed" {
    shadow = true
    match { host = "*.example" }
    deny {}
  }
  otherwise { via = upstream.bare }
}
`

// document is the OpenAPI document with what has been seen of it.
type document struct {
	t      *testing.T
	doc    *openapi3.T
	router routers.Router
	mu     sync.Mutex
	seen   map[string]bool // operationId and status
}

func load(t *testing.T, b []byte) *document {
	t.Helper()
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(loader.Context); err != nil {
		t.Fatalf("the document is none of OpenAPI: %v", err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, ct := range []string{"text/event-stream", "application/pem-certificate-chain", "application/x-ns-proxy-autoconfig", "text/html", "text/css", "text/javascript", "image/svg+xml", "application/octet-stream"} {
		openapi3filter.RegisterBodyDecoder(ct, openapi3filter.PlainBodyDecoder)
	}
	return &document{t: t, doc: doc, router: router, seen: map[string]bool{}}
}

// ask asks the gateway and validates question and answer. good says that the question is one that the document allows.
func (d *document) ask(g *gateway, method, path, body string, good bool, change func(*http.Request)) (int, []byte) {
	d.t.Helper()
	req, err := http.NewRequest(method, g.base+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if g.token != "" {
		req.Header.Set("Authorization", "Bearer "+g.token)
	}
	if change != nil {
		change(req)
	}
	res, err := g.http.Do(req)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	var b []byte
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		b = make([]byte, len("retry: 2000\n\n"))
		_, err = io.ReadFull(res.Body, b)
	} else {
		b, err = io.ReadAll(res.Body)
	}
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	d.check(method, path, body, good, req.Header, res, b)
	return res.StatusCode, b
}

func (d *document) check(method, path, body string, good bool, header http.Header, res *http.Response, b []byte) {
	d.t.Helper()
	asDocumented, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	asDocumented.Header = header.Clone()
	route, params, err := d.router.FindRoute(asDocumented)
	if err != nil {
		d.t.Errorf("%s %s: not in the document: %v", method, path, err)
		return
	}
	ctx := context.Background()
	in := &openapi3filter.RequestValidationInput{Request: asDocumented, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if good {
		if err := openapi3filter.ValidateRequest(ctx, in); err != nil {
			d.t.Errorf("%s %s: the question: %v", method, path, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Options: in.Options, Body: io.NopCloser(bytes.NewReader(b))}
	if err := openapi3filter.ValidateResponse(ctx, out); err != nil {
		d.t.Errorf("%s %s: the answer %d: %v\n%.600s", method, path, res.StatusCode, err, b)
	}
	d.mu.Lock()
	d.seen[route.Operation.OperationID+" "+fmt.Sprint(res.StatusCode)] = true
	d.mu.Unlock()
	if res.StatusCode >= 400 && res.Header.Get("Content-Type") == "application/problem+json" {
		var p struct {
			Title, Detail string
			Status        int
		}
		if err := json.Unmarshal(b, &p); err != nil || p.Status != res.StatusCode || p.Detail == "" {
			d.t.Errorf("%s %s: problem %s", method, path, b)
		}
	}
}

// operations calls f for each, with a path that can be asked.
func (d *document) operations(f func(method, path string, op *openapi3.Operation)) {
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			f(method, strings.NewReplacer("{name}", "corp", "{id}", "ffffffff", "{path}", "api.js").Replace(path), op)
		}
	}
}

// unseen are statuses that a gateway in order does not give, and those of what it always has.
var unseen = []string{"resetUpstream 500", "config 404", "rules 404", "metrics 404", "history 404", "events 404", "explain 404", "dashboard 404", "shadow 404", "connections 404"}

// TestDocument asks a real gateway by every operation of its document, for every status that it names.
func TestDocument(t *testing.T) {
	echo, lists, dns := echoServer(t), listServer(t), silentDNS(t)
	fill := func(extra string) string {
		return strings.NewReplacer("EXTRA", extra, "LISTS", lists, "DNS", dns).Replace(policy)
	}
	unix := start(t, "unix", fill("pprof = true"), func(g *gateway) {
		cmd := exec.Command(viaduct, "ca", "init", "-c", filepath.Join(g.dir, "viaduct.hcl"))
		cmd.Env = g.env()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("ca init: %v\n%s", err, out)
		}
	})
	tcp := start(t, "tcp", fill(""), nil)

	res, err := unix.http.Get(unix.base + "/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	d := load(t, b)
	is := func(want, got int, b []byte) {
		t.Helper()
		if got != want {
			t.Errorf("answered %d, expected %d: %.300s", got, want, b)
		}
	}
	get := func(path string, want int) []byte {
		t.Helper()
		code, b := d.ask(unix, "GET", path, "", want < 400, nil)
		is(want, code, b)
		return b
	}
	post := func(path, body string, want int) []byte {
		t.Helper()
		code, b := d.ask(unix, "POST", path, body, want < 400, nil)
		is(want, code, b)
		return b
	}

	one, two := unix.tunnel(echo), unix.tunnel(echo)
	defer one.Close()
	for _, path := range []string{"/v1/openapi.json", "/v1/status", "/v1/config", "/v1/rules", "/v1/listeners", "/v1/upstreams", "/v1/pools", "/v1/connections", "/v1/events", "/v1/history",
		"/v1/history?range=24h", "/metrics", "/proxy.pac", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=0.1",
		"/v1/connections?limit=1", "/v1/connections?since=1h", "/v1/ca.pem", "/", "/ui/api.js"} {
		get(path, 200)
	}
	get("/proxy.pac?listener=nosuch", 404)
	get("/ui/nosuch.js", 404)
	post("/v1/explain", `{"target":"https://www.corp.example/","client":"10.1.2.3","headers":["X-A: b"]}`, 200)
	post("/v1/explain", `{"target":"x.asks.example:443"}`, 200)
	post("/v1/explain", `{"target":"x.asks.example:443","resolve":["10.1.1.1"],"reachable":[]}`, 200)
	for _, bad := range []string{`{}`, `{"target":""}`, `{"target":"::::"}`, `{"target":"a:1","client":"x"}`, `{"target":"a:1","listener":"x"}`, `{"target":"a:1","at":"x"}`, `{"target":"a:1","protocol":"x"}`, `{"target":"a:1","nosuch":1}`, `[`} {
		if b := post("/v1/explain", bad, 400); bytes.Contains(b, []byte("--")) {
			t.Errorf("%s: speaks of flags: %s", bad, b)
		}
	}
	post("/v1/explain", `{"target":"`+strings.Repeat("a", 70<<10)+`"}`, 413)

	// one connection, and what can be asked of it
	var page struct {
		Next        *string
		Connections []struct{ ID string }
	}
	if err := json.Unmarshal(get("/v1/connections?limit=1", 200), &page); err != nil || page.Next == nil || len(page.Connections) != 1 {
		t.Fatalf("%+v %v", page, err)
	}
	id := page.Connections[0].ID
	get("/v1/connections?limit=1&cursor="+*page.Next, 200)
	get("/v1/connections/"+id, 200)
	get("/v1/connections/"+id[:4], 409)
	get("/v1/connections/ffffffff", 404)
	get("/v1/connections/xyz!", 400)
	for _, query := range []string{"limit=0", "limit=x", "state=x", "since=x", "until=1y", "cursor=x", "nosuch=1", "limit=1&limit=2", "cursor=c" + id} {
		get("/v1/connections?"+query, 400)
	}
	code, b2 := d.ask(unix, "DELETE", "/v1/connections/"+id, "", true, nil)
	is(200, code, b2)
	code, b2 = d.ask(unix, "DELETE", "/v1/connections/ffffffff", "", true, nil)
	is(404, code, b2)
	code, b2 = d.ask(unix, "DELETE", "/v1/connections/xyz!", "", false, nil)
	is(400, code, b2)
	unix.tunnel(echo) // two again: their ids begin alike
	code, b2 = d.ask(unix, "DELETE", "/v1/connections/"+id[:4], "", true, nil)
	is(409, code, b2)
	two.Close()
	if code, b := d.ask(unix, "GET", "/v1/connections?state=all&filter="+url.QueryEscape(`target.port > 0`), "", true, nil); code != 200 && code != 400 && code != 404 {
		is(200, code, b)
	}
	d.ask(unix, "GET", "/v1/shadow?since=1h", "", true, nil)

	for path, want := range map[string]int{"/v1/upstreams/corp/drain": 200, "/v1/upstreams/corp/undrain": 200, "/v1/upstreams/corp/reset": 200, "/v1/upstreams/nosuch/drain": 404,
		"/v1/upstreams/nosuch/undrain": 404, "/v1/upstreams/nosuch/reset": 404, "/v1/lists/good/refresh": 200, "/v1/lists/good/refresh?force=true": 200, "/v1/lists/bad/refresh": 502,
		"/v1/lists/nosuch/refresh": 404, "/v1/reload": 200} {
		post(path, "", want)
	}
	whole, err := os.ReadFile(filepath.Join(unix.dir, "viaduct.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	unix.policy(string(whole) + "\nnonsense {}\n")
	post("/v1/reload", "", 422)
	unix.policy(string(whole))

	// too many at once: each of these waits for a name server that says nothing, and one that found no place tries again
	var wg sync.WaitGroup
	busy, enough := context.WithCancel(context.Background())
	defer enough()
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for busy.Err() == nil {
				req, _ := http.NewRequestWithContext(busy, "POST", unix.base+"/v1/explain", strings.NewReader(`{"target":"slow.asks.example:443","resolve":["policy"]}`))
				if res, err := unix.http.Do(req); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	for _, path := range []string{"/v1/connections?state=closed", "/v1/connections/" + id, "/v1/shadow"} {
		unix.await("a busy door for "+path, func() bool { code, _ := d.ask(unix, "GET", path, "", true, nil); return code == 503 })
	}
	unix.await("a busy door", func() bool {
		code, _ := d.ask(unix, "POST", "/v1/explain", `{"target":"a.example:1"}`, true, nil)
		return code == 503
	})
	enough()
	wg.Wait()
	var streams []io.Closer
	for range 32 {
		res, err := unix.http.Get(unix.base + "/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, res.Body)
	}
	get("/v1/events", 503)
	for _, s := range streams {
		s.Close()
	}

	// what every route refuses
	d.operations(func(method, path string, op *openapi3.Operation) {
		status := func(code string, change func(*http.Request)) {
			t.Helper()
			if op.Responses.Value(code) == nil {
				return
			}
			got, b := d.ask(tcp, method, path, "", false, change)
			if fmt.Sprint(got) != code {
				t.Errorf("%s %s: %d, expected %s: %.200s", method, path, got, code, b)
			}
		}
		status("421", func(r *http.Request) { r.Host = "evil.example" })
		status("403", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") })
		status("401", func(r *http.Request) { r.Header.Del("Authorization") })
		if op.Responses.Value("400") != nil {
			got, b := d.ask(unix, method, path+"?nosuch=1", "", false, nil)
			is(400, got, b)
		}
		if slices.Contains(op.Tags, "operate") {
			got, b := d.ask(tcp, method, path, "", true, nil)
			if got != 403 || !bytes.Contains(b, []byte("write = true")) {
				t.Errorf("%s %s over a door that answers questions alone: %d %s", method, path, got, b)
			}
		}
		if slices.Contains(op.Tags, "profile") {
			got, b := d.ask(tcp, method, path, "", true, nil)
			is(404, got, b)
		}
	})
	code, b2 = d.ask(tcp, "GET", "/v1/ca.pem", "", true, nil)
	is(404, code, b2)
	guessing(t, d, tcp)

	post("/v1/drain?timeout=x", "", 400)
	post("/v1/drain?timeout=1s", "", 202)
	unix.await("an empty gateway", func() bool { return bytes.Contains(get("/v1/status", 200), []byte(`"state": "drained"`)) })

	d.operations(func(method, path string, op *openapi3.Operation) {
		for code := range op.Responses.Map() {
			if name := op.OperationID + " " + code; !d.seen[name] && !slices.Contains(unseen, name) {
				t.Errorf("%s %s: %s was not seen", method, path, name)
			}
		}
	})
}

// guessing asks by every route while so many guess the token that no more may.
func guessing(t *testing.T, d *document, g *gateway) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 60 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				req, _ := http.NewRequest("GET", g.base+"/v1/status", nil)
				req.Header.Set("Authorization", "Bearer wrong-wrong-wrong-wrong")
				if res, err := g.http.Do(req); err == nil {
					res.Body.Close()
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	d.operations(func(method, path string, op *openapi3.Operation) {
		if op.Responses.Value("429") == nil {
			return
		}
		g.await(method+" "+path+": 429", func() bool {
			code, _ := d.ask(g, method, path, "", false, func(r *http.Request) { r.Header.Set("Authorization", "Bearer wrong-wrong-wrong-wrong") })
			return code == 429
		})
	})
	close(stop)
	wg.Wait()
}
