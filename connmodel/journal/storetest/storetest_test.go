package storetest

import (
	"testing"

	"viaduct/connmodel/journal"
)

func TestMemory(t *testing.T) { Run(t, func(*testing.T) journal.Store { return new(Memory) }) }

func TestSQLite(t *testing.T) {
	Run(t, func(t *testing.T) journal.Store {
		s, err := journal.OpenStore(journal.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		s.Skipped = func(path string, err error) { t.Errorf("skipped %s: %v", path, err) }
		return s
	})
}
