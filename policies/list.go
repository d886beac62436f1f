package policies

import (
	"bytes"
	"fmt"
	"iter"
	"net/netip"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/policies/lists"
	"viaduct/policies/match"
)

// list is a large set of hosts or networks, from a file or a URL. Entries of files with one on each line are made part of the indexes of the programs
// that name them; what comes from a URL, and what has exceptions, is asked by its Ref.
type list struct {
	src    *hcl.Block
	name   string
	kind   string
	path   string // of the file
	read   bool   // the file could be read
	why    string // else the reason
	where  hcl.Range
	needed bool
	ref    *lists.Ref // nil = the entries are in text or networks
	remote *List      // nil = it is a file

	text       string // of hosts
	subdomains bool
	hostsFile  bool
	count      int
	networks   []netip.Prefix
}

// What a list holds.
const (
	listHosts    = "hosts"
	listNetworks = "networks"
)

const (
	maxList     = 512 << 20
	maxListLine = 1024
	maxBadLines = 10
)

var listSchema = schema(attrs("file", "url", "type", "format", "subdomains", "refresh", "timeout", "max_size", "max_shrink", "via", "on_error"), blocks("tls"))

// listCapsule lets a list stand in a value among texts: host = [list.ads, "x.example"].
var listCapsule = cty.Capsule("list", reflect.TypeFor[list]())

func (l *loader) listValues() cty.Value {
	all := map[string]cty.Value{}
	for _, x := range l.lists {
		all[x.name] = cty.CapsuleVal(listCapsule, x)
	}
	return cty.ObjectVal(all)
}

func (l *loader) buildLists() {
	for _, x := range l.lists {
		l.buildList(x)
	}
}

func (l *loader) buildList(x *list) {
	b := l.open(x.src, listSchema)
	if x.kind = b.oneOf("type", listHosts, listNetworks); x.kind == "" {
		x.kind = listHosts
	}
	format := lists.Format(b.oneOf("format", string(lists.Lines), string(lists.HostsFile), string(lists.Adblock), string(lists.Auto)))
	x.hostsFile = format == lists.HostsFile
	x.subdomains = b.boolean("subdomains", false)
	if x.kind == listNetworks && (b.has("subdomains") || b.has("format")) {
		l.errorAt(x.src.DefRange, "Without effect", `"subdomains" and "format" are about hosts, and this list is of networks.`)
	}
	if b.has("file") && b.has("url") {
		l.errorAt(b.attrs["file"].NameRange, "Two sources", `A list block has "url" or "file". Keep one.`)
		return
	}
	o := lists.Options{Networks: x.kind == listNetworks, Format: format, Subdomains: x.subdomains}
	if b.has("url") {
		x.where = b.rng("url")
		l.remoteList(x, b, o)
		return
	}
	for _, name := range remoteAttrs {
		if b.has(name) {
			l.errorAt(b.attrs[name].NameRange, "Without effect", fmt.Sprintf(`A file is read at the start and by "viaduct reload"; %q is about a URL.`, name))
		}
	}
	if t := b.one("tls"); t != nil {
		l.errorAt(t.DefRange, "Without effect", `"tls" is about a URL, and this list comes from a file.`)
	}
	x.where = b.rng("file")
	if !b.need("file", "the file with one entry on each line; or \"url\"") {
		return
	}
	s := b.text("file")
	if s == "" {
		return
	}
	path := pathOf(x.where, s)
	x.path = path
	src, err := l.readData(path, maxList)
	if err == nil {
		src, err = lists.Decompress(src, maxList)
	}
	if err != nil {
		x.why = reasonOf(err, path) // whether it matters depends on who uses it: see checkLists
		return
	}
	x.read = true
	if format == lists.Adblock || format == lists.Auto {
		l.mixedList(x, path, src, o)
		return
	}
	x.text = string(src)
	l.checkEntries(x, path)
}

// mixedList reads a file of which not every line is understood. What is left out is said.
func (l *loader) mixedList(x *list, path string, src []byte, o lists.Options) {
	o.MaxSize = maxList
	set, err := lists.Parse(bytes.NewReader(src), "", o)
	if err != nil {
		l.errorAt(x.where, "Not a list", fmt.Sprintf("%s: %v.", path, err))
		return
	}
	set.Name = x.name
	x.ref, x.count = lists.Fixed(set), set.Report.Entries
	if r := &set.Report; r.Unsupported+r.Wrong > 0 {
		l.noteAt(x.where, "Lines left out", fmt.Sprintf("%s: %s.", path, r))
	}
}

// checkEntries reports lines that are no entries, and keeps networks.
func (l *loader) checkEntries(x *list, path string) {
	bad := 0
	for n, entry := range x.lines() {
		var err error
		switch {
		case len(entry) > maxListLine:
			err = fmt.Errorf("the line is longer than %d bytes", maxListLine)
		case x.kind == listNetworks:
			var p netip.Prefix
			if p, err = match.ParseNetwork(entry); err == nil {
				x.networks = append(x.networks, p)
			}
		default:
			_, err = x.pattern(entry)
		}
		if err == nil {
			x.count++
			continue
		}
		if bad++; bad <= maxBadLines {
			l.errorAt(x.where, "Wrong entry in a list", fmt.Sprintf("%s:%d: %s.", path, n, reasonOfPattern(err)))
		}
	}
	switch {
	case bad > maxBadLines:
		l.errorAt(x.where, "Wrong entry in a list", fmt.Sprintf("%s: %d more lines are wrong.", path, bad-maxBadLines))
	case x.count == 0 && bad == 0:
		l.warnAt(x.where, "Empty list", fmt.Sprintf("%s has no entries, so nothing is in the list.", path))
	}
	if x.kind == listNetworks {
		x.text = ""
	}
}

// lines gives the entries of a file with their line numbers: what stands before a #, without blanks. In a hosts file the
// address in front is dropped.
func (x *list) lines() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(x.text) {
			n++
			line, _, _ = strings.Cut(line, "#")
			line = strings.TrimSpace(line)
			if line == "" {
				continue
			}
			if !x.hostsFile {
				if !yield(n, line) {
					return
				}
				continue
			}
			for i, name := range strings.Fields(line) {
				if i > 0 && !localNames[name] && !yield(n, name) {
					return
				}
			}
		}
	}
}

// localNames stand at the top of every hosts file and are never meant to be in a list.
var localNames = map[string]bool{
	"localhost": true, "localhost.localdomain": true, "local": true, "broadcasthost": true, "ip6-localhost": true, "ip6-loopback": true,
	"ip6-localnet": true, "ip6-mcastprefix": true, "ip6-allnodes": true, "ip6-allrouters": true, "ip6-allhosts": true, "0.0.0.0": true,
}

// pattern makes a line a host pattern as the index takes it.
func (x *list) pattern(entry string) (string, error) {
	h, err := parseHost(entry)
	if err != nil {
		return "", err
	}
	if h.glob != nil || h.regex != nil {
		return "", fmt.Errorf("%q is a pattern with wildcards; a list holds names, *.names and addresses", entry)
	}
	if x.subdomains && h.index[0] != '*' && h.index[0] != '.' {
		if !isAddress(h.index) {
			return "." + h.index, nil
		}
	}
	return h.index, nil
}

// patterns gives the host patterns of a list that has been checked.
func (x *list) patterns() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, entry := range x.lines() {
			if p, err := x.pattern(entry); err == nil && !yield(p) {
				return
			}
		}
	}
}

func isAddress(host string) bool { return connmodel.Address{Host: host, Port: 1}.IP().IsValid() }

// checkLists reports lists that could not be read: always if a rule or listener needs them, since a policy without its
// list is another policy.
func (l *loader) checkLists() {
	for _, x := range l.lists {
		if x.why == "" {
			continue
		}
		if x.needed {
			l.errorAt(x.where, "Cannot read list", x.why+" A rule needs this list.")
			continue
		}
		l.missing(x.where, "Cannot read list", x.why)
	}
}

// entry is a text or a list.
type entry struct {
	text string
	list *list
	r    hcl.Range
}

// mixed reads texts and lists, which must be of the given kind.
func (b *block) mixed(name, kind string) []entry {
	var all []entry
	for _, e := range b.items(name) {
		if e.v.Type().Equals(listCapsule) {
			x := e.v.EncapsulatedValue().(*list)
			b.l.used["list."+x.name], x.needed = true, true
			if x.kind != kind {
				b.l.errorAt(e.r, "Wrong kind of list", fmt.Sprintf("%q takes %s, and list.%s holds %s.", name, kind, x.name, x.kind))
				continue
			}
			all = append(all, entry{list: x, r: e.r})
			continue
		}
		if s, ok := b.l.to(e.v, cty.String, e.r, "Each entry of "+quoted(name)); ok {
			all = append(all, entry{text: b.l.clean(s.AsString(), e.r, name), r: e.r})
		}
	}
	return all
}
