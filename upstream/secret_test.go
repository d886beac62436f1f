package upstream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"viaduct/connmodel"
	ut "viaduct/upstream/upstreamtest"
)

const canary = "c4n4ry-p4ss"

// leaks reports whether text holds the canary in a form that gives it away.
func leaks(text string) bool {
	for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte("user:" + canary)), fmt.Sprintf("%x", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			return true
		}
	}
	return false
}

// printed returns v in every verb that prints structures.
func printed(v any) string {
	var b strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	return b.String()
}

type named struct{ P Secret }

func TestSecretPrintsNothing(t *testing.T) {
	s := NewSecret(canary)
	hidden := struct{ inner struct{ s Secret } }{}
	hidden.inner.s = s
	for _, v := range []any{s, &s, []Secret{s}, map[string]Secret{"a": s}, struct{ P Secret }{s}, hidden, &hidden, &Auth{Username: "user", Password: s}} {
		if text := printed(v); leaks(text) {
			t.Errorf("%T: %s", v, text)
		}
		if j, err := json.Marshal(v); leaks(string(j)) {
			t.Errorf("%T as JSON: %s, %v", v, j, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		if leaks(log.String()) {
			t.Errorf("%T in a log: %s", v, log.String())
		}
	}
	if j, err := json.Marshal(struct{ P Secret }{s}); err != nil || string(j) != `{"P":"***"}` {
		t.Errorf("JSON %s, %v", j, err)
	}
	if x, err := xml.Marshal(named{s}); err != nil || leaks(string(x)) {
		t.Errorf("XML %s, %v", x, err)
	}
	if s.Reveal() != canary || fmt.Sprintf("%s|%v|%#v|%q|%x|%d", s, s, s, s, s, s) != "***|***|***|***|***|***" {
		t.Errorf("%s %v", s, s)
	}
	if !s.Equal(NewSecret(canary)) || s.Equal(NewSecret("other")) || !(Secret{}).Equal(NewSecret("")) || s.IsZero() || !NewSecret("").IsZero() {
		t.Error("equality")
	}
}

// TestNothingPrintsCredentials: tables, hops, connections and errors hold credentials, and show none.
func TestNothingPrintsCredentials(t *testing.T) {
	var c Config
	for _, scheme := range []string{"http", "socks5h"} {
		for _, does := range []ut.Behaviour{ut.OK, ut.Junk, ut.Status(407, canary), ut.CloseAfterRequest} {
			_, s := startProxy(t, nil, fmt.Sprintf("p%d", len(c.Upstreams)), scheme, ut.Options{User: "user", Password: canary, Script: []ut.Behaviour{does}})
			s.URL, _ = url.Parse(scheme + "://" + s.Address.String())
			c.Upstreams = append(c.Upstreams, s)
		}
	}
	to := listen(t, echo)
	tab := table(t, c)
	for _, s := range c.Upstreams {
		r := recorder(to)
		q := &Request{Route: "upstream." + s.Name, Target: to}
		conn, err := tab.Dial(t.Context(), q, r)
		things := []any{err, tab, *tab.hops[0], tab.hops[0], tab.routes, s, c, q, r.Snapshot(), tab.Status(), tab.Pools()}
		if conn != nil {
			things = append(things, conn)
			conn.Close()
		}
		if err != nil {
			things = append(things, err.Cause, *err)
		}
		q.Plain = true
		if plain, err := tab.Dial(t.Context(), q, nil); err == nil {
			things = append(things, plain, struct{ c *Conn }{plain})
			//lint:ignore SA1026 a Conn cannot be marshalled as a whole; what matters is what an attempt would leak
			if j, err := json.Marshal(plain); leaks(string(j)) {
				t.Errorf("connection as JSON: %s, %v", j, err)
			}
			plain.Close()
		}
		d, _ := tab.Describe(q.Route)
		for _, v := range append(things, d) {
			if text := printed(v); leaks(text) {
				t.Errorf("%T shows the password: %s", v, text)
			}
		}
		if j, err := json.Marshal(d); err != nil || leaks(string(j)) {
			t.Errorf("description: %s, %v", j, err)
		}
	}
	if d, ok := tab.Describe("upstream.p0"); !ok || d[0].Credential != "credential of p0" || d[0].ResolvedBy != "upstream" || d[0].Scheme != "http" {
		t.Errorf("description %+v", d)
	}
	if _, ok := tab.Describe("upstream.none"); ok {
		t.Error("a route that does not exist is described")
	}
	if _, err := tab.Dial(t.Context(), &Request{Route: "upstream.none", Target: to}, nil); err == nil || err.Kind != connmodel.KindInternal {
		t.Errorf("%+v", err)
	}
}
