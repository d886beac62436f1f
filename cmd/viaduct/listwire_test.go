package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/policies"
	"viaduct/policies/lists"
)

// TestAwait: a start does not wait for ever for a list whose server is slow, and says meanwhile what it waits for.
func TestAwait(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for seconds")
	}
	w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x.example\n", 1000))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer w.Close()
	x := policies.List{Name: "slow", URL: w.URL, Ref: lists.Later(false)}
	s := &listSource{Source: lists.Open(lists.SourceOptions{Name: x.Name, URL: x.URL}), list: x}
	defer s.Close()
	log := logrus.New()
	var said, text strings.Builder
	log.SetOutput(&text)
	begun := time.Now()
	await([]*listSource{s}, log, func(with string) { said.WriteString(with + "\n") })
	if took := time.Since(begun); took < listWait || took > 6*listWait {
		t.Errorf("waited %s", took)
	}
	if !strings.Contains(said.String(), "list slow: waiting for the first copy, of which 9.8 KiB have come") {
		t.Errorf("said: %s", said.String())
	}
	if !strings.Contains(text.String(), "flows whose rules depend on it are refused till then") {
		t.Errorf("logged: %s", text.String())
	}
}
