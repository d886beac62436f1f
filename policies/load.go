package policies

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"viaduct/connmodel"
	"viaduct/upstream"
)

// Options say what to load, and from where.
type Options struct {
	Paths  []string          // files and directories
	Source map[string][]byte // files in memory, by name (".json" at its end makes it HCL-JSON)

	Vars        map[string]string                 // values of variables, from the command line
	Environ     func(string) (string, bool)       // the environment; nil = empty
	Credentials string                            // directory that credential() reads from; "" = $CREDENTIALS_DIRECTORY of Environ
	ReadFile    func(path string) ([]byte, error) // for the files that a policy names; nil = the file system

	// Command runs the command of a secret and returns what it printed; nil = commands are not run, and what they give is not known: such
	// a policy can be looked at, and not be used to connect. Its errors hold nothing of what was printed.
	Command func(SecretCommand) (string, error)

	// Lenient makes unreadable files, unset environment variables and missing credentials warnings, so that a policy can be
	// checked on a machine without the secrets. A list that a rule needs is an error even so.
	Lenient bool
	// Generation is put into every decision.
	Generation uint64
}

// loader is the state of one Load.
type loader struct {
	o       Options
	names   []string // files, in order
	files   []*hcl.File
	sources map[string][]byte
	diags   hcl.Diagnostics
	notes   hcl.Diagnostics
	data    []string // other files read

	secretFiles    []string // files that secrets come from
	secretCommands []SecretCommand
	authHost       string                   // of the upstream whose auth block is being read
	authUser       string                   // its user name, when that has been read
	foreign        map[*hcl.Diagnostic]bool // those of diags that HCL wrote
	hiding         hidden                   // see hidden; made when it is first asked for

	variables map[string]*variable
	locals    map[string]*local
	values    map[string]cty.Value // roots of the load-time scope
	contexts  map[string]*hcl.EvalContext
	at        hcl.Range // expression being evaluated: what functions warn about
	condition bool      // it is a condition
	ofSecret  bool      // it is made of a secret: nothing may be said of its value

	gateway   *gatewayBlock
	listeners []*listenerBlock
	upstreams []*upstreamBlock
	pools     []*poolBlock
	chains    []*chainBlock
	lists     []*list
	pacs      []*pacBlock
	resolvers []*resolverBlock
	policies  []*policyBlock
	tests     []*testBlock
	byName    map[string]map[string]declared // kind -> name

	used   map[string]bool // "upstream.corp_a", "list.ads"
	lost   bool            // a name or a part of a block could not be read: what it means to use is not known
	voids  int             // expressions without a value
	inline []upstream.ChainSpec
	routes map[string]hcl.Range // where an in-line chain stands

	noScript     []placed // routes that must not depend on a PAC script
	servers      []serverAt
	nameServerAt []serverAt // those that are reached direct, by TCP

	reaches     map[connmodel.Address]bool // what conditions ask network.reachable about
	reachPlaces []serverAt
	signs       []hcl.Range // modes of rules that ask for certificates of the authority
	geo         *geoBlock   // nil = the gateway has no geoip block
}

// serverAt is a server that a rule dials, and where it says so.
type serverAt struct {
	address connmodel.Address
	rng     hcl.Range
}

// declared is a block with a name.
type declared struct {
	rng   hcl.Range
	label hcl.Range
	block any
}

// Load reads, checks and compiles. The Config is nil if and only if the Diagnostics have errors.
func Load(o Options) (*Config, Diagnostics) {
	l := newLoader(o)
	l.readSources(l.o)
	var cfg *Config
	if !l.diags.HasErrors() { // what a broken file does not say would be missed everywhere: one slip of the pen, a page of errors
		l.readBlocks()
		l.evaluateScope()
		cfg = l.build()
	}
	d := l.diagnostics()
	if d.HasErrors() {
		return nil, d
	}
	return cfg, d
}

func newLoader(o Options) *loader {
	if o.Environ == nil {
		o.Environ = func(string) (string, bool) { return "", false }
	}
	if o.Credentials == "" {
		o.Credentials, _ = o.Environ("CREDENTIALS_DIRECTORY")
	}
	return &loader{
		o: o, sources: map[string][]byte{}, variables: map[string]*variable{}, locals: map[string]*local{}, values: map[string]cty.Value{},
		contexts: map[string]*hcl.EvalContext{}, byName: map[string]map[string]declared{}, used: map[string]bool{}, routes: map[string]hcl.Range{},
	}
}

// diagnostics is all that was found, with what may hold a secret taken out.
func (l *loader) diagnostics() Diagnostics {
	d := Diagnostics{}
	if len(l.diags)+len(l.notes) > 0 {
		d = newDiagnostics(l.diags, l.sources, l.hides(), func(x *hcl.Diagnostic) bool { return l.foreign[x] })
		for _, x := range l.notes {
			d.hidden.seal(x, l.sources, false)
		}
		d.Notes = l.notes
	}
	d.sorted(l.names)
	return d
}

// The kinds of blocks that have a name others may refer to.
const (
	kindListener = "listener"
	kindUpstream = "upstream"
	kindPool     = "pool"
	kindChain    = "chain"
	kindList     = "list"
	kindPAC      = "pac"
	kindResolver = "resolver"
	kindPolicy   = "policy"
	kindTest     = "test"
	kindVariable = "variable"
)

var fileSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "gateway"}, {Type: "locals"}, {Type: kindVariable, LabelNames: []string{"name"}},
	{Type: kindListener, LabelNames: []string{"name"}}, {Type: kindUpstream, LabelNames: []string{"name"}},
	{Type: kindPool, LabelNames: []string{"name"}}, {Type: kindChain, LabelNames: []string{"name"}},
	{Type: kindList, LabelNames: []string{"name"}}, {Type: kindPolicy, LabelNames: []string{"name"}},
	{Type: kindTest, LabelNames: []string{"name"}}, {Type: kindPAC, LabelNames: []string{"name"}},
	{Type: kindResolver, LabelNames: []string{"name"}},
}}

// readBlocks sorts the blocks of all files by kind and notes the names, without evaluating anything.
func (l *loader) readBlocks() {
	for _, f := range l.files {
		content, diags := f.Body.Content(fileSchema)
		l.content(diags)
		for _, b := range content.Blocks {
			l.readBlock(b)
		}
	}
}

func (l *loader) readBlock(b *hcl.Block) {
	switch b.Type {
	case "gateway":
		l.readGateway(b)
		return
	case "locals":
		l.readLocals(b)
		return
	}
	var block any
	switch b.Type {
	case kindVariable:
		block = l.readVariable(b)
	case kindListener:
		x := &listenerBlock{src: b}
		l.listeners, block = append(l.listeners, x), x
	case kindUpstream:
		x := &upstreamBlock{src: b}
		l.upstreams, block = append(l.upstreams, x), x
	case kindPool:
		x := &poolBlock{src: b}
		l.pools, block = append(l.pools, x), x
	case kindChain:
		x := &chainBlock{src: b}
		l.chains, block = append(l.chains, x), x
	case kindPAC:
		x := &pacBlock{src: b}
		l.pacs, block = append(l.pacs, x), x
	case kindResolver:
		x := &resolverBlock{src: b}
		l.resolvers, block = append(l.resolvers, x), x
	case kindList:
		x := &list{src: b, name: b.Labels[0]}
		l.lists, block = append(l.lists, x), x
	case kindPolicy:
		x := &policyBlock{src: b, name: b.Labels[0]}
		l.policies, block = append(l.policies, x), x
	case kindTest:
		x := &testBlock{src: b}
		l.tests, block = append(l.tests, x), x
	}
	l.declare(b, block)
}

// declare notes the name of a block and refuses it if it is taken or cannot be referred to.
func (l *loader) declare(b *hcl.Block, block any) {
	kind, name := b.Type, b.Labels[0]
	label := b.LabelRanges[0]
	if kind == kindTest {
		l.checkTitle(name, label, "test")
	} else {
		l.checkName(name, label, kind)
	}
	if l.byName[kind] == nil {
		l.byName[kind] = map[string]declared{}
	}
	if first, taken := l.byName[kind][name]; taken {
		l.errorAt(label, "Duplicate name", fmt.Sprintf("There is %s %q already, at %s. Give one of them another name.", article(kind), name, place(first.rng)))
		return
	}
	l.byName[kind][name] = declared{b.DefRange, label, block}
}

// build evaluates the blocks in the order in which they need each other.
func (l *loader) build() *Config {
	cfg := &Config{Programs: map[string]*Program{}, Shadows: map[string]*ShadowPolicy{}, UpstreamResolvers: map[string]string{}}
	cfg.Gateway = l.buildGateway()
	l.buildLists()
	for _, u := range l.upstreams {
		l.buildUpstream(u)
		cfg.Upstreams.Upstreams = append(cfg.Upstreams.Upstreams, u.spec)
		if u.resolver != "" {
			cfg.UpstreamResolvers[u.spec.Name] = u.resolver
		}
	}
	for _, p := range l.pools {
		l.buildPool(p)
		cfg.Upstreams.Pools = append(cfg.Upstreams.Pools, p.spec)
	}
	for _, c := range l.chains {
		l.buildChain(c)
		cfg.Upstreams.Chains = append(cfg.Upstreams.Chains, c.spec)
	}
	for _, p := range l.pacs {
		l.buildPAC(p)
		cfg.Upstreams.Dynamic = append(cfg.Upstreams.Dynamic, p.dynamic)
		cfg.PACs = append(cfg.PACs, p.pac)
	}
	for _, r := range l.resolvers {
		l.buildResolver(r)
		cfg.Resolvers = append(cfg.Resolvers, r.config)
	}
	if l.gateway != nil {
		cfg.Upstreams.Direct = l.gateway.direct
		cfg.Upstreams.WarnBefore = cfg.Gateway.WarnBefore
	}
	for _, p := range l.policies {
		l.buildPolicy(p)
	}
	for _, b := range l.listeners {
		cfg.Listeners = append(cfg.Listeners, l.buildListener(b, cfg.Gateway))
	}
	l.shadowListeners(cfg)
	for _, t := range l.tests {
		cfg.Tests = append(cfg.Tests, l.buildTest(t))
	}
	cfg.Upstreams.Chains = append(cfg.Upstreams.Chains, l.inline...)
	l.checkRoutes(cfg)
	l.checkResolvers(cfg)
	l.checkInnerNames(cfg)
	l.checkDatagrams(cfg)
	l.checkClientLogins(cfg)
	l.checkHealth(cfg)
	l.checkLists()
	l.checkUse()
	l.checkGeoIP()
	if l.diags.HasErrors() {
		return nil
	}
	for _, p := range l.policies {
		prog, err := compile(p, l.o.Generation)
		if err != nil {
			l.errorAt(p.src.DefRange, "Policy too large", err.Error()+".")
			return nil
		}
		cfg.Programs[p.name] = prog
	}
	ways := newWayNames(l.inline)
	for i := range cfg.Listeners {
		if name := cfg.Listeners[i].Shadow; name != "" && cfg.Shadows[name] == nil {
			cfg.Shadows[name] = newShadowPolicy(cfg.Programs[name], ways)
		}
	}
	for _, x := range l.lists {
		if x.remote != nil {
			cfg.Lists = append(cfg.Lists, *x.remote)
		} else {
			cfg.Lists = append(cfg.Lists, List{Name: x.name, File: x.path, Entries: x.count})
		}
		x.text, x.networks = "", nil // the programs hold them in their own form
	}
	cfg.Reaches = slices.SortedFunc(maps.Keys(l.reaches), func(a, b connmodel.Address) int { return strings.Compare(a.String(), b.String()) })
	cfg.Files = slices.Clone(l.names)
	cfg.Signs = l.signs
	cfg.sources = l.sources
	slices.Sort(l.secretFiles)
	cfg.SecretFiles, cfg.SecretCommands = slices.Compact(l.secretFiles), l.secretCommands
	slices.Sort(l.data)
	cfg.Data = slices.Compact(l.data)
	return cfg
}

// place is how a message names another place.
func place(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }

func (l *loader) errorAt(r hcl.Range, summary, detail string) {
	l.report(hcl.DiagError, r, summary, detail)
}
func (l *loader) warnAt(r hcl.Range, summary, detail string) {
	l.report(hcl.DiagWarning, r, summary, detail)
}

// noteAt says what is right and yet good to know.
func (l *loader) noteAt(r hcl.Range, summary, detail string) {
	l.notes = append(l.notes, &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: summary, Detail: detail, Subject: &r})
}

func (l *loader) report(s hcl.DiagnosticSeverity, r hcl.Range, summary, detail string) {
	l.diags = append(l.diags, &hcl.Diagnostic{Severity: s, Summary: summary, Detail: detail, Subject: &r})
}

// content reports what a block, or a file, has in it that its schema does not know.
func (l *loader) content(diags hcl.Diagnostics) {
	l.lost = l.lost || diags.HasErrors()
	l.ofHCL(diags)
}

// ofHCL reports what HCL found wrong. It repeats what is written, and functions repeat their arguments: see hidden.
func (l *loader) ofHCL(diags hcl.Diagnostics) {
	if l.foreign == nil {
		l.foreign = map[*hcl.Diagnostic]bool{}
	}
	for _, d := range diags {
		l.foreign[d] = true
	}
	l.diags = append(l.diags, diags...)
}

// ofValue reports what HCL found wrong with the value of an expression.
func (l *loader) ofValue(diags hcl.Diagnostics) {
	if l.ofSecret {
		for _, d := range diags {
			if d.Summary != "Not available in a condition" { // which tells of the name alone
				d.Detail = ofSecretDetail
			}
		}
	}
	var rest hcl.Diagnostics
	for _, d := range diags {
		if !l.ofSecret && l.ofFunction(d) {
			continue
		}
		rest = append(rest, d)
	}
	l.ofHCL(rest)
}

// ofFunction reports in our words that a function found nothing here, and whether d says that. The name of a variable or file is no secret, also where
// what it holds is one; what HCL says of such a place would not be repeated.
func (l *loader) ofFunction(d *hcl.Diagnostic) bool {
	call, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d)
	if !ok || call.FunctionCallError() == nil || d.Subject == nil {
		return false
	}
	summary := absentHere[call.CalledFunctionName()]
	if summary == "" {
		return false
	}
	l.errorAt(*d.Subject, summary, upperFirst(call.FunctionCallError().Error()))
	return true
}

// ofSecretDetail stands for what is wrong with a value that is made of a secret.
const ofSecretDetail = "The value is made of a secret, so it is not shown what is wrong with it."

func (l *loader) hides() hidden {
	if l.hiding == nil {
		l.hiding = hide(l.sources)
	}
	return l.hiding
}

// unplaced reports what stands in no file.
func (l *loader) unplaced(s hcl.DiagnosticSeverity, summary, detail string) {
	l.diags = append(l.diags, &hcl.Diagnostic{Severity: s, Summary: summary, Detail: detail})
}

// missing reports a file, credential or variable that is not here: an error, or a warning when lenient.
func (l *loader) missing(r hcl.Range, summary, detail string) {
	s := hcl.DiagError
	if l.o.Lenient {
		s = hcl.DiagWarning
	}
	l.report(s, r, summary, detail)
}

// pathOf takes a path as relative to the file it is written in.
func pathOf(r hcl.Range, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(r.Filename), path)
}

// readData reads a file that a policy names.
func (l *loader) readData(path string, most int64) ([]byte, error) {
	l.data = append(l.data, path)
	if l.o.ReadFile != nil {
		b, err := l.o.ReadFile(path)
		if err == nil && int64(len(b)) > most {
			return nil, fmt.Errorf("it is longer than %d bytes", most)
		}
		return b, err
	}
	return readBounded(path, most)
}

// dataFile reads a file at r, and reports when it cannot.
func (l *loader) dataFile(r hcl.Range, path string, most int64, what string) ([]byte, string, bool) {
	full := pathOf(r, path)
	b, err := l.readData(full, most)
	if err != nil {
		l.missing(r, "Cannot read file", fmt.Sprintf("The %s: %s", what, reasonOf(err, full)))
		return nil, full, false
	}
	return b, full, true
}

var _ connmodel.Decider = (*Program)(nil)
