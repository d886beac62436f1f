package policies

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
)

var (
	journalSchema = schema(attrs("enabled", "path", "keep", "keep_size"))
	recordsSchema = schema(attrs("path", "stdout", "journald", "headers"))
)

const (
	leastJournal = 8 << 20 // bytes of a journal; less would hold minutes
	mostJournal  = 16 << 40
)

// journal reads how records are kept that can be asked about.
func (l *loader) journal(x *hcl.Block) Journal {
	c := l.open(x, journalSchema)
	j := Journal{Off: !c.boolean("enabled", true), Path: c.path("path"), Keep: c.duration("keep"), KeepSize: c.size("keep_size", mostJournal)}
	if j.KeepSize > 0 && j.KeepSize < leastJournal {
		l.errorAt(c.rng("keep_size"), "Journal too small", `A journal of less than "8MiB" would forget what happened minutes ago. To keep none write enabled = false.`)
	}
	j.Asked = !j.Off
	return j
}

// records reads where records go beside the journal, and which header fields stand in all of them.
func (l *loader) records(x *hcl.Block) *Records {
	c := l.open(x, recordsSchema)
	r := &Records{Path: c.path("path"), Stdout: c.boolean("stdout", false), Journald: c.boolean("journald", false), Headers: l.keptFields(c)}
	if !c.has("path") && !r.Stdout && !r.Journald && !c.has("headers") {
		l.errorAt(x.DefRange, "Records without a place", `Records go to one place or several: write path = "/var/log/viaduct/records.ndjson", stdout = true or journald = true.`)
	}
	return r
}

// keptFields reads which header fields of requests stand in records, beside those that rules ask about.
func (l *loader) keptFields(c *block) []string {
	var all []string
	for _, e := range c.entries("headers") {
		name := strings.ToLower(e.text)
		switch {
		case !isToken(name):
			l.errorAt(e.r, "Wrong header name", fmt.Sprintf("%q cannot be the name of a header field, such as user-agent.", e.text))
		case connmodel.SecretField(name):
			l.errorAt(e.r, "Secret in records", fmt.Sprintf("Fields like %s hold secrets, which no record keeps.", name))
		default:
			all = append(all, name)
		}
	}
	if len(all) > connmodel.MaxSampledFields {
		l.errorAt(c.rng("headers"), "Too many header fields", fmt.Sprintf("A record keeps at most %d fields of a request.", connmodel.MaxSampledFields))
	}
	return all
}
