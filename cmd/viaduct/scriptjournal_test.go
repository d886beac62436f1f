package main

import (
	"bytes"
	"context"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"viaduct/connmodel"
	"viaduct/connmodel/journal"
)

// scriptJournal makes a journal of a file of records.
func scriptJournal(ts *testscript.TestScript, _ bool, args []string) {
	wantArgs(ts, args, 2, "journal DIR RECORDS")
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	j, err := journal.Open(journal.Options{Dir: ts.MkAbs(args[0])})
	ts.Check(err)
	for line := range bytes.Lines(b) {
		f := new(connmodel.Flow)
		ts.Check(f.UnmarshalJSON(line))
		j.Record(f)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ts.Check(j.Close(ctx))
}
