package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
	"viaduct/connmodel/journal/flowtest"
)

func randomFlows(n int) []*connmodel.Flow {
	r := rand.New(rand.NewPCG(11, 12))
	list := make([]*connmodel.Flow, n)
	for i := range list {
		list[i] = flowtest.Flow(r)
	}
	return list
}

// TestTable holds lines to their terminal: never wider, whatever is in the records, and one line each.
func TestTable(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	for _, columns := range []int{80, 100, 109, 110, 132, 200} {
		t.Setenv("COLUMNS", fmt.Sprint(columns))
		for _, days := range []bool{false, true} {
			var b bytes.Buffer
			w := newTable(&b, time.UTC, days)
			flows := randomFlows(300)
			for _, f := range flows {
				if err := w.flow(f); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.end(); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
			if len(lines) != len(flows)+1 {
				t.Fatalf("%d lines of %d records", len(lines), len(flows))
			}
			for i, l := range lines {
				if n := cells(l); n > columns || n < columns-20 || printable(l) != l {
					t.Fatalf("%d columns, line of %d: %q", columns, n, l)
				}
				if i > 0 && !strings.HasSuffix(l, " "+flows[i-1].ID.Short()) {
					t.Fatalf("the end of the id is not whole: %q", l)
				}
			}
		}
	}
}

func TestTableInAPipe(t *testing.T) {
	t.Setenv("COLUMNS", "")
	var b bytes.Buffer
	w := newTable(&b, time.UTC, false)
	f := flowtest.Flow(rand.New(rand.NewPCG(1, 1)))
	f.Request, f.Target = nil, connmodel.Address{Host: strings.Repeat("long.", 30) + "example", Port: 443}
	w.flow(f)
	w.end()
	if !strings.Contains(b.String(), f.Target.String()) {
		t.Errorf("the target was cut: %s", b.String())
	}
}

func TestShort(t *testing.T) {
	for n, want := range map[int64]string{-1: "0", 0: "0", 999: "999", 1000: "1.0k", 9949: "9.9k", 9950: "10k", 999_499: "999k", 999_500: "1.0M", 1 << 40: "1.1T", 1<<63 - 1: "9.2E"} {
		if got := bytesShort(n); got != want || len(got) > 5 {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-1: "-", 0: "0", time.Microsecond: "<0.1ms", 1500 * time.Microsecond: "1.5ms", 9949 * time.Microsecond: "9.9ms", 42 * time.Millisecond: "42ms", 999 * time.Millisecond: "999ms",
		9995 * 100 * time.Microsecond: "1.0s", 99 * time.Second: "99.0s", 100 * time.Second: "2m", 90 * time.Minute: "90m", 3 * time.Hour: "3h", 72 * time.Hour: "3d"} {
		if got := tookShort(d); got != want || len(got) > 6 {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}

// TestCSV reads what is written for spreadsheets: RFC 4180, and no cell that would be taken for a formula.
func TestCSV(t *testing.T) {
	var b bytes.Buffer
	w, err := newCSV(&b)
	if err != nil {
		t.Fatal(err)
	}
	flows := randomFlows(500)
	for _, f := range flows {
		if err := w.flow(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	if bytes.Count(b.Bytes(), []byte("\r\n")) != len(flows)+1 || bytes.Count(b.Bytes(), []byte("\n")) != len(flows)+1 {
		t.Error("lines do not end in CR LF, or cells hold line breaks")
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(flows)+1 || rows[0][0] != "id" {
		t.Fatalf("%d rows", len(rows))
	}
	neutral := 0
	for i, row := range rows[1:] {
		if row[0] != flows[i].ID.String() {
			t.Errorf("row %d is of %s", i, row[0])
		}
		for j, c := range row {
			if c != "" && strings.ContainsAny(c[:1], "=+-@\t\r") {
				t.Errorf("%s: %q", rows[0][j], c)
			}
			if strings.HasPrefix(c, "'=") {
				neutral++
			}
		}
	}
	if neutral == 0 {
		t.Error("no record had a formula")
	}
	for in, want := range map[string]string{"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@a": "'@a", " =x": "' =x", "\t=x": `\t=x`, "＝1": "'＝1", "a=b": "a=b", "": "", "-": "-"} {
		if got := cell(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestNDJSON reads records back.
func TestNDJSON(t *testing.T) {
	var b bytes.Buffer
	w := newNDJSON(&b)
	flows := randomFlows(100)
	for _, f := range flows {
		w.flow(f)
	}
	w.end()
	lines := bytes.Split(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != len(flows) {
		t.Fatalf("%d lines", len(lines))
	}
	for i, l := range lines {
		f := new(connmodel.Flow)
		if err := json.Unmarshal(l, f); err != nil || f.ID != flows[i].ID {
			t.Errorf("%v: %s", err, l)
		}
	}
}

// TestHAR holds archives to HAR 1.2: the fields that must be there, their types, and that the times add up.
func TestHAR(t *testing.T) {
	var b bytes.Buffer
	w, err := newHAR(&b)
	if err != nil {
		t.Fatal(err)
	}
	flows := randomFlows(400)
	for _, f := range flows {
		if err := w.flow(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	log := doc["log"].(map[string]any)
	if log["version"] != "1.2" || log["creator"].(map[string]any)["name"] != "viaduct" || log["creator"].(map[string]any)["version"] == "" {
		t.Errorf("%v", log["creator"])
	}
	entries := log["entries"].([]any)
	if len(entries) != len(flows) {
		t.Fatalf("%d entries", len(entries))
	}
	tunnels := 0
	for i, x := range entries {
		if err := validEntry(x.(map[string]any)); err != nil {
			t.Fatalf("%v: %v of %s", err, x, flows[i].AppendJSON(nil))
		}
		if x.(map[string]any)["request"].(map[string]any)["method"] == "CONNECT" {
			tunnels++
		}
	}
	if tunnels == 0 || tunnels == len(entries) {
		t.Errorf("%d tunnels of %d", tunnels, len(entries))
	}
	b.Reset()
	w, _ = newHAR(&b)
	w.end()
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil || len(doc["log"].(map[string]any)["entries"].([]any)) != 0 {
		t.Errorf("an empty archive: %v", err)
	}
}

func validEntry(e map[string]any) error {
	want := func(m map[string]any, where string, fields map[string]any) error {
		for k, v := range fields {
			have, ok := m[k]
			if !ok {
				return fmt.Errorf("%s has no %s", where, k)
			}
			if fmt.Sprintf("%T", have) != fmt.Sprintf("%T", v) {
				return fmt.Errorf("%s.%s is %T", where, k, have)
			}
		}
		return nil
	}
	object, list := map[string]any{}, []any{}
	if err := want(e, "entry", map[string]any{"startedDateTime": "", "time": 0., "request": object, "response": object, "cache": object, "timings": object}); err != nil {
		return err
	}
	q, p, t := e["request"].(map[string]any), e["response"].(map[string]any), e["timings"].(map[string]any)
	err := errors.Join(
		want(q, "request", map[string]any{"method": "", "url": "", "httpVersion": "", "cookies": list, "headers": list, "queryString": list, "headersSize": 0., "bodySize": 0.}),
		want(p, "response", map[string]any{"status": 0., "statusText": "", "httpVersion": "", "cookies": list, "headers": list, "content": object, "redirectURL": "", "headersSize": 0., "bodySize": 0.}),
		want(t, "timings", map[string]any{"send": 0., "wait": 0., "receive": 0., "blocked": 0., "dns": 0., "connect": 0., "ssl": 0.}))
	if err != nil {
		return err
	}
	if err := want(p["content"].(map[string]any), "content", map[string]any{"size": 0., "mimeType": ""}); err != nil {
		return err
	}
	if _, err := time.Parse(time.RFC3339Nano, e["startedDateTime"].(string)); err != nil {
		return err
	}
	if u, err := url.Parse(q["url"].(string)); err != nil || u.Scheme == "" {
		return fmt.Errorf("url %q: %v", q["url"], err)
	}
	sum := 0.
	for k, v := range t {
		ms := v.(float64)
		if ms < 0 && (ms != -1 || slices.Contains([]string{"send", "wait", "receive"}, k)) {
			return fmt.Errorf("timings.%s is %v", k, ms)
		}
		if k != "ssl" {
			sum += max(ms, 0)
		}
	}
	if d := sum - e["time"].(float64); d > 0.01 || d < -0.01 {
		return fmt.Errorf("the timings are %v together, the time is %v", sum, e["time"])
	}
	return nil
}

// TestWritersHoldNothing: a hundred thousand records take no more memory than a hundred.
func TestWritersHoldNothing(t *testing.T) {
	flows := randomFlows(200)
	t.Setenv("COLUMNS", "")
	writers := map[string]flowWriter{"table": newTable(io.Discard, time.UTC, true), "ndjson": newNDJSON(io.Discard)}
	writers["csv"], _ = newCSV(io.Discard)
	writers["har"], _ = newHAR(io.Discard)
	n := 20_000
	if testing.Short() {
		n = 4000
	}
	for name, w := range writers {
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for i := range n {
			if err := w.flow(flows[i%len(flows)]); err != nil {
				t.Fatal(err)
			}
		}
		if after := heap(); after > before+4<<20 {
			t.Errorf("%s: %d bytes more", name, after-before)
		}
		w.end()
	}
}
