package policies

import (
	"testing"
	"time"
)

func TestJournal(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Journal
		records    *Records
	}{
		{name: "nothing said", text: `gateway {}`},
		{name: "an empty block asks for one", text: `gateway {
  journal {}
}`, want: Journal{Asked: true}},
		{name: "off", text: `gateway {
  journal { enabled = false }
}`, want: Journal{Off: true}},
		{name: "all", text: `gateway {
  journal {
    path      = "/srv/journal"
    keep      = "1d12h"
    keep_size = "512MiB"
  }
}`, want: Journal{Asked: true, Path: "/srv/journal", Keep: 36 * time.Hour, KeepSize: 512 << 20}},
		{name: "records go to all places", text: `gateway {
  records {
    path     = "/srv/r.ndjson"
    stdout   = true
    journald = true
  }
}`, records: &Records{Path: "/srv/r.ndjson", Stdout: true, Journald: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := c.text + "\n" + `listener "desk" {
  address = "127.0.0.1:3128"
}
policy "default" {
  otherwise { via = direct }
}
`
			cfg, diags := Load(Options{Source: map[string][]byte{"x.hcl": []byte(text)}})
			if err := diags.Err(); err != nil {
				t.Fatal(err)
			}
			if cfg.Gateway.Journal != c.want {
				t.Errorf("journal %+v, want %+v", cfg.Gateway.Journal, c.want)
			}
			if got := cfg.Gateway.Records; (got == nil) != (c.records == nil) || got != nil && (got.Path != c.records.Path || got.Stdout != c.records.Stdout || got.Journald != c.records.Journald) {
				t.Errorf("records %+v, want %+v", got, c.records)
			}
		})
	}
}
