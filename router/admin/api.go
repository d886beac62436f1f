package admin

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

//go:embed openapi.json
var openAPI []byte

// Document is the OpenAPI document of the routes.
func Document() []byte { return openAPI }

func (a *api) document(w http.ResponseWriter, _ *http.Request, _ caller) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(openAPI)
}

func (a *api) status(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); ok {
		answer(w, http.StatusOK, a.o.Gateway.Status())
	}
}

func (a *api) listeners(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); ok {
		answer(w, http.StatusOK, struct {
			Listeners []ListenerStatus `json:"listeners"`
		}{a.o.Gateway.Status().Listeners})
	}
}

func (a *api) upstreams(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); ok {
		answer(w, http.StatusOK, struct {
			Upstreams []UpstreamStatus `json:"upstreams"`
		}{a.o.Gateway.Status().Upstreams})
	}
}

func (a *api) pools(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); ok {
		answer(w, http.StatusOK, struct {
			Pools []PoolStatus `json:"pools"`
		}{a.o.Gateway.Status().Pools})
	}
}

func (a *api) reload(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	// The reload goes on when whoever asked for it hangs up: half of one would be worse.
	res := a.o.Gateway.Reload(context.WithoutCancel(r.Context()))
	code := http.StatusOK
	if !res.OK {
		code = http.StatusUnprocessableEntity
	}
	answer(w, code, res)
}

func (a *api) config(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	var c *Configuration
	if a.o.Config != nil {
		c = a.o.Config()
	}
	if c == nil {
		problem(w, http.StatusNotFound, "there is no configuration in force")
		return
	}
	answer(w, http.StatusOK, c)
}

func (a *api) rules(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	var x *Rules
	if a.o.Rules != nil {
		x = a.o.Rules()
	}
	if x == nil {
		problem(w, http.StatusNotFound, "there is no configuration in force")
		return
	}
	answer(w, http.StatusOK, x)
}

func (a *api) reset(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	res := a.o.Gateway.ResetCredential(r.PathValue("name"))
	switch {
	case !res.Found:
		problem(w, http.StatusNotFound, "there is no upstream of that name that is shown a credential")
	case res.Error != "":
		answer(w, http.StatusInternalServerError, res)
	default:
		answer(w, http.StatusOK, res)
	}
}

func (a *api) drainUpstream(w http.ResponseWriter, r *http.Request, _ caller) {
	a.setDrained(w, r, true)
}

func (a *api) undrainUpstream(w http.ResponseWriter, r *http.Request, _ caller) {
	a.setDrained(w, r, false)
}

func (a *api) setDrained(w http.ResponseWriter, r *http.Request, drained bool) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	res := a.o.Gateway.DrainUpstream(r.PathValue("name"), drained)
	if !res.Found {
		problem(w, http.StatusNotFound, "there is no upstream of that name")
		return
	}
	answer(w, http.StatusOK, res)
}

func (a *api) refreshList(w http.ResponseWriter, r *http.Request, _ caller) {
	q, ok := queryOf(w, r, "force")
	if !ok {
		return
	}
	force, ok := q.boolean(w, "force")
	if !ok {
		return
	}
	res := a.o.Gateway.RefreshList(r.Context(), r.PathValue("name"), force)
	switch {
	case !res.Found:
		problem(w, http.StatusNotFound, "there is no list of that name that comes from a URL")
	case res.Error != "":
		answer(w, http.StatusBadGateway, res)
	default:
		answer(w, http.StatusOK, res)
	}
}

// drain begins a drain. It answers at once: the status says how far it is.
func (a *api) drain(w http.ResponseWriter, r *http.Request, _ caller) {
	q, ok := queryOf(w, r, "timeout", "exit")
	if !ok {
		return
	}
	var d DrainRequest
	if d.Exit, ok = q.boolean(w, "exit"); !ok {
		return
	}
	switch s := q.get("timeout"); s {
	case "":
	case "none":
		d.Timeout = -1
	default:
		if d.Timeout, ok = span(s); !ok || d.Timeout == 0 {
			problem(w, http.StatusBadRequest, "timeout is a time span longer than nothing, such as 90s, 10m or 1h, or none")
			return
		}
	}
	answer(w, http.StatusAccepted, a.o.Gateway.Drain(d))
}

// explain asks what would be done with a connection. Where the door only answers questions, it also only thinks: whoever may ask is not given
// a way to have names looked up and addresses connected to.
func (a *api) explain(w http.ResponseWriter, r *http.Request, c caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	if a.o.Explain == nil {
		problem(w, http.StatusNotFound, "this gateway explains nothing")
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		code := http.StatusBadRequest
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			code = http.StatusRequestEntityTooLarge
		}
		problem(w, code, "the question cannot be read: "+err.Error())
		return
	}
	var q Question
	if err := strict(b, &q); err != nil {
		problem(w, http.StatusBadRequest, "the question is an object such as {\"target\": \"https://www.example.com/\"}: "+err.Error())
		return
	}
	if q.asksNetwork() && !c.write {
		problem(w, http.StatusForbidden, "over TCP the control door looks nothing up (lookups, and resolve with policy or system) unless gateway { admin { write = true } } allows more; say the addresses with resolve")
		return
	}
	if !a.enter(w) {
		return
	}
	defer a.leave()
	ctx, cancel := context.WithTimeout(r.Context(), longestSearch)
	defer cancel()
	x, err := a.o.Explain(ctx, &q, c.write)
	a.answerOr(w, x, err)
}

// asksNetwork reports whether an answer would take more than thinking.
func (q *Question) asksNetwork() bool {
	return q.Lookups || len(q.Resolve) == 1 && (q.Resolve[0] == "policy" || q.Resolve[0] == "system")
}

func (a *api) shadow(w http.ResponseWriter, r *http.Request, _ caller) {
	q, ok := queryOf(w, r, "since")
	if !ok {
		return
	}
	now := time.Now()
	since, ok := q.moment(w, "since", now)
	if !ok {
		return
	}
	if since.IsZero() {
		since = now.Add(-24 * time.Hour)
	}
	if a.o.Shadow == nil {
		problem(w, http.StatusNotFound, noJournal)
		return
	}
	if !a.enter(w) {
		return
	}
	defer a.leave()
	ctx, cancel := context.WithTimeout(r.Context(), longestSearch)
	defer cancel()
	x, err := a.o.Shadow(ctx, since)
	if x == nil && err == nil {
		problem(w, http.StatusNotFound, noJournal)
		return
	}
	a.answerOr(w, x, err)
}

func (a *api) history(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r, "range"); ok {
		serveHistory(w, r, a.o.History)
	}
}

func (a *api) metrics(w http.ResponseWriter, r *http.Request, _ caller) {
	if a.o.Metrics == nil {
		problem(w, http.StatusNotFound, "this gateway counts nothing")
		return
	}
	a.o.Metrics.handler().ServeHTTP(w, r)
}

func (a *api) dashboard(w http.ResponseWriter, r *http.Request, _ caller) {
	if a.o.Dashboard == nil {
		problem(w, http.StatusNotFound, "this gateway has no dashboard; GET /v1/openapi.json lists what it answers")
		return
	}
	// Scripts of the page itself alone, and nothing from elsewhere: see the package comment.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	a.o.Dashboard.ServeHTTP(w, r)
}

// authority hands out the certificate that clients are to trust.
func (a *api) authority(w http.ResponseWriter, r *http.Request, _ caller) {
	if _, ok := queryOf(w, r); !ok {
		return
	}
	var b []byte
	if a.o.CA != nil {
		b = a.o.CA()
	}
	if len(b) == 0 {
		problem(w, http.StatusNotFound, `this gateway has no certificate authority; "viaduct ca init" makes one`)
		return
	}
	w.Header().Set("Content-Type", "application/pem-certificate-chain") // RFC 8555, section 9.1
	w.Header().Set("Content-Disposition", `attachment; filename="viaduct-ca.pem"`)
	w.Write(b)
}

// proxyPAC writes the script that sends browsers to a listener, or past it.
func (a *api) proxyPAC(w http.ResponseWriter, r *http.Request, _ caller) {
	q, ok := queryOf(w, r, "listener", "proxy")
	if !ok {
		return
	}
	if a.o.PAC == nil {
		problem(w, http.StatusNotFound, "this gateway makes no PAC script")
		return
	}
	b, err := a.o.PAC(q.get("listener"), q.get("proxy"))
	if err != nil {
		problem(w, http.StatusNotFound, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	w.Write(b)
}

// Searches read the journal, or think: only so many at once, and for so long.
const (
	maxSearches   = 4
	longestSearch = 30 * time.Second
)

func (a *api) enter(w http.ResponseWriter) bool {
	select {
	case a.busy <- struct{}{}:
		return true
	default:
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, strconv.Itoa(maxSearches)+" questions of this kind are being answered already")
		return false
	}
}

func (a *api) leave() { <-a.busy }

// answerOr writes v, or says what went wrong.
func (a *api) answerOr(w http.ResponseWriter, v any, err error) {
	var bad *BadRequest
	switch {
	case err == nil:
		answer(w, http.StatusOK, v)
	case errors.As(err, &bad):
		problem(w, http.StatusBadRequest, bad.Detail)
	case errors.Is(err, ErrNotFound):
		problem(w, http.StatusNotFound, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, "it took longer than "+longestSearch.String()+": ask for less")
	case errors.Is(err, context.Canceled): // the client has left
	default:
		problem(w, http.StatusInternalServerError, err.Error())
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		problem(w, http.StatusInternalServerError, "the answer could not be written down: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(b, '\n'))
}

// problem answers in the form of RFC 9457.
func problem(w http.ResponseWriter, code int, detail string) {
	b, _ := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(code), code, detail}) // strings and a number cannot fail
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code)
	w.Write(append(b, '\n'))
}
