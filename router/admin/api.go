package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
)

// Bounds of /v1/connections.
const (
	defaultConnections = 1000
	maxShown           = 10_000
)

func routes(o *Options) http.Handler {
	mux := http.NewServeMux()
	gw := o.Gateway
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		// The reload goes on when whoever asked for it hangs up: half of one would be worse.
		res := gw.Reload(context.WithoutCancel(r.Context()))
		code := http.StatusOK
		if !res.OK {
			code = http.StatusUnprocessableEntity
		}
		answer(w, code, res)
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, gw.Status()) })
	mux.HandleFunc("GET /v1/history", func(w http.ResponseWriter, r *http.Request) { serveHistory(w, r, o.History) })
	mux.HandleFunc("GET /v1/connections", func(w http.ResponseWriter, r *http.Request) { connections(w, r, gw) })
	mux.HandleFunc("POST /v1/upstreams/{name}/reset", func(w http.ResponseWriter, r *http.Request) {
		res := gw.ResetCredential(r.PathValue("name"))
		switch {
		case !res.Found:
			problem(w, http.StatusNotFound, "there is no upstream of that name that is shown a credential")
		case res.Error != "":
			answer(w, http.StatusInternalServerError, res)
		default:
			answer(w, http.StatusOK, res)
		}
	})
	mux.HandleFunc("POST /v1/lists/{name}/refresh", func(w http.ResponseWriter, r *http.Request) {
		res := gw.RefreshList(r.Context(), r.PathValue("name"), r.URL.Query().Get("force") == "true")
		switch {
		case !res.Found:
			problem(w, http.StatusNotFound, "there is no list of that name that comes from a URL")
		case res.Error != "":
			answer(w, http.StatusBadGateway, res)
		default:
			answer(w, http.StatusOK, res)
		}
	})
	mux.HandleFunc("GET /v1/ca.pem", func(w http.ResponseWriter, _ *http.Request) { authority(w, o.CA) })
	mux.HandleFunc("GET /proxy.pac", func(w http.ResponseWriter, r *http.Request) { proxyPAC(w, r, o.PAC) })
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics.handler())
	}
	mux.HandleFunc("/", unknown)
	return mux
}

// methods are what the endpoints are asked with.
var methods = map[string]string{"/v1/reload": "POST", "/v1/status": "GET, HEAD", "/v1/connections": "GET, HEAD", "/v1/history": "GET, HEAD", "/v1/ca.pem": "GET, HEAD", "/proxy.pac": "GET, HEAD", "/metrics": "GET, HEAD"}

func unknown(w http.ResponseWriter, r *http.Request) {
	if allow, ok := methods[r.URL.Path]; ok {
		w.Header().Set("Allow", allow) // RFC 9110, section 15.5.6
		problem(w, http.StatusMethodNotAllowed, r.URL.Path+" is asked with "+allow)
		return
	}
	problem(w, http.StatusNotFound, "there is no such endpoint; see POST /v1/reload, POST /v1/upstreams/NAME/reset, POST /v1/lists/NAME/refresh, GET /v1/status, GET /v1/connections, GET /v1/history, GET /v1/ca.pem, GET /proxy.pac, GET /metrics")
}

// authority hands out the certificate that clients are to trust.
func authority(w http.ResponseWriter, ca func() []byte) {
	var b []byte
	if ca != nil {
		b = ca()
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
func proxyPAC(w http.ResponseWriter, r *http.Request, make func(listener, proxy string) ([]byte, error)) {
	if make == nil {
		unknown(w, r)
		return
	}
	b, err := make(r.URL.Query().Get("listener"), r.URL.Query().Get("proxy"))
	if err != nil {
		problem(w, http.StatusNotFound, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	w.Write(b)
}

// connections writes the flows one by one: each is bounded, and a thousand of them are not held as text.
func connections(w http.ResponseWriter, r *http.Request, gw Gateway) {
	limit := defaultConnections
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxShown {
			problem(w, http.StatusBadRequest, "limit is a number from 1 to "+strconv.Itoa(maxShown))
			return
		}
		limit = n
	}
	flows, open := gw.Connections(limit)
	w.Header().Set("Content-Type", "application/json")
	b := append([]byte(`{"open":`), strconv.Itoa(open)...)
	b = append(b, `,"truncated":`...)
	b = strconv.AppendBool(b, open > len(flows))
	b = append(b, `,"connections":[`...)
	for i, f := range flows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '\n')
		b = f.AppendJSON(b)
		if len(b) > 32<<10 {
			if _, err := w.Write(b); err != nil {
				return
			}
			b = b[:0]
		}
	}
	w.Write(append(b, "]}\n"...))
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
