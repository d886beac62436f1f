package admin

import (
	"context"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"
)

// kind says what a route is for.
type kind uint8

const (
	asks     kind = iota // it changes nothing
	acts                 // it changes something
	profiles             // it shows the inside of the process
	static               // it shows no data: nobody is asked who they are
)

// route is one row of the table of routes.
type route struct {
	pattern string // as of http.ServeMux
	kind    kind
	serve   func(a *api, w http.ResponseWriter, r *http.Request, c caller)
}

// A nil route is what is not there.
func (rt *route) open() bool     { return rt != nil && rt.kind == static }
func (rt *route) changes() bool  { return rt != nil && rt.kind == acts }
func (rt *route) profiles() bool { return rt != nil && rt.kind == profiles }

// table is every route there is. The OpenAPI document has the same ones; a test holds them against each other.
var table = []route{
	{"GET /v1/openapi.json", asks, (*api).document},
	{"GET /v1/status", asks, (*api).status},
	{"POST /v1/reload", acts, (*api).reload},
	{"GET /v1/config", asks, (*api).config},
	{"GET /v1/rules", asks, (*api).rules},
	{"GET /v1/listeners", asks, (*api).listeners},
	{"GET /v1/upstreams", asks, (*api).upstreams},
	{"POST /v1/upstreams/{name}/reset", acts, (*api).reset},
	{"POST /v1/upstreams/{name}/drain", acts, (*api).drainUpstream},
	{"POST /v1/upstreams/{name}/undrain", acts, (*api).undrainUpstream},
	{"GET /v1/pools", asks, (*api).pools},
	{"POST /v1/lists/{name}/refresh", acts, (*api).refreshList},
	{"GET /v1/connections", asks, (*api).connections},
	{"GET /v1/connections/{id}", asks, (*api).connection},
	{"DELETE /v1/connections/{id}", acts, (*api).closeConnection},
	{"GET /v1/events", asks, (*api).events},
	{"POST /v1/explain", asks, (*api).explain},
	{"GET /v1/shadow", asks, (*api).shadow},
	{"GET /v1/history", asks, (*api).history},
	{"POST /v1/drain", acts, (*api).drain},
	{"GET /v1/ca.pem", asks, (*api).authority},
	{"GET /proxy.pac", asks, (*api).proxyPAC},
	{"GET /metrics", asks, (*api).metrics},
	{"GET /debug/pprof/", profiles, profile(pprof.Index)},
	{"GET /debug/pprof/cmdline", profiles, profile(pprof.Cmdline)},
	{"GET /debug/pprof/profile", profiles, profile(pprof.Profile)},
	{"GET /debug/pprof/symbol", profiles, profile(pprof.Symbol)},
	{"GET /debug/pprof/trace", profiles, profile(pprof.Trace)},
	{"GET /{$}", static, (*api).dashboard},
	{"GET /ui/", static, (*api).dashboard},
}

func profile(f http.HandlerFunc) func(*api, http.ResponseWriter, *http.Request, caller) {
	return func(_ *api, w http.ResponseWriter, r *http.Request, _ caller) {
		http.NewResponseController(w).SetReadDeadline(time.Time{}) // else a profile ends with the time that the request has to come
		f(w, r)
	}
}

// api is the table with what it is served from.
type api struct {
	o       *Options
	mux     *http.ServeMux
	by      map[string]*route // by pattern
	paths   map[string][]string
	pathMux *http.ServeMux // without methods: what a path could be asked with
	busy    chan struct{}  // places for searches
}

func newAPI(o *Options) *api {
	a := &api{o: o, mux: http.NewServeMux(), pathMux: http.NewServeMux(), by: map[string]*route{}, paths: map[string][]string{}, busy: make(chan struct{}, maxSearches)}
	for i := range table {
		rt := &table[i]
		a.by[rt.pattern] = rt
		a.mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			c, _ := r.Context().Value(callerKey{}).(caller)
			rt.serve(a, w, r, c)
		})
		method, path, _ := strings.Cut(rt.pattern, " ")
		if len(a.paths[path]) == 0 {
			a.pathMux.HandleFunc(path, func(http.ResponseWriter, *http.Request) {}) // only asked for what it finds
		}
		a.paths[path] = append(a.paths[path], method)
		if method == http.MethodGet {
			a.paths[path] = append(a.paths[path], http.MethodHead)
		}
	}
	return a
}

// find returns the route of a request, or nil.
func (a *api) find(r *http.Request) *route {
	_, pattern := a.mux.Handler(r)
	return a.by[pattern]
}

type callerKey struct{}

func (a *api) serve(w http.ResponseWriter, r *http.Request, c caller) {
	if a.find(r) == nil {
		a.unknown(w, r)
		return
	}
	a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
}

// unknown answers what is not in the table.
func (a *api) unknown(w http.ResponseWriter, r *http.Request) {
	if _, path := a.pathMux.Handler(r); path != "" {
		allow := slices.Sorted(slices.Values(a.paths[path]))
		w.Header().Set("Allow", strings.Join(allow, ", ")) // RFC 9110, section 15.5.6
		problem(w, http.StatusMethodNotAllowed, r.URL.Path+" is asked with "+strings.Join(allow, " or "))
		return
	}
	problem(w, http.StatusNotFound, "there is no such endpoint; GET /v1/openapi.json lists those that there are")
}
