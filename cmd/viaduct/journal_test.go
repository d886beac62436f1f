package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
)

const journalPolicy = `
variable "listen" { type = string }
variable "records" { type = string }
gateway {
  log { level = "error" }
}
listener "desk" {
  address = var.listen
}
policy "default" {
  rule "here" {
    match { address = ["127.0.0.0/8"] }
    via = direct
  }
}
`

// TestJournalSurvivesKill kills the gateway in the middle of its work, again and again. What ended more than a second before is in the journal, whose files are
// sound, and no record is torn.
func TestJournalSurvivesKill(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer origin.Close()
	g := startGateway(t, journalPolicy)
	dir := filepath.Join(g.dir, "viaduct", "journal")
	proxy, err := url.Parse("http://" + g.addr)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{} // every request that got its answer more than a second before a kill
	for round := range rounds {
		var mu sync.Mutex
		ended := map[string]time.Time{}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range 4 {
			tr := &http.Transport{Proxy: http.ProxyURL(proxy)}
			c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
			group.Go(func() {
				defer tr.CloseIdleConnections()
				for n := 0; ctx.Err() == nil; n++ {
					path := fmt.Sprintf("/%d/%d/%d", round, i, n)
					res, err := c.Get(origin.URL + path)
					if err != nil {
						time.Sleep(10 * time.Millisecond)
						continue
					}
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if err == nil {
						mu.Lock()
						ended[path] = time.Now()
						mu.Unlock()
					}
					time.Sleep(3 * time.Millisecond) // some 1,000 a second: more would only take time to read back
				}
			})
		}
		time.Sleep(1500*time.Millisecond + time.Duration(round)*77*time.Millisecond)
		killed := time.Now()
		if err := g.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		g.cmd.Wait()
		cancel()
		group.Wait()
		early := 0
		for path, at := range ended {
			if killed.Sub(at) > time.Second {
				asked[path] = true
				early++
			}
		}
		if early == 0 {
			t.Fatalf("round %d: %d requests, none of them early: the test shows nothing", round, len(ended))
		}
		checkAfterKill(t, dir, asked)
		g.again()
	}
}

func checkAfterKill(t *testing.T, dir string, asked map[string]bool) {
	t.Helper()
	err := journal.Check(t.Context(), dir, func(s journal.FileState) error {
		if s.Aside || len(s.Problems) > 0 {
			t.Errorf("after a kill: %+v", s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := journal.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.Skipped = func(path string, err error) { t.Errorf("skipped %s: %v", path, err) }
	seen := map[string]int{}
	err = r.Each(t.Context(), journal.Query{Light: true}, func(f *connmodel.Flow) error {
		if f.Request != nil {
			seen[f.Request.Path]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for path := range asked {
		switch seen[path] {
		case 1:
		case 0:
			missing++
		default:
			t.Errorf("%s has %d records", path, seen[path])
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d records that were older than a second are lost", missing, len(asked))
	}
}
