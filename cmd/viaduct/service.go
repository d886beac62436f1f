package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/connmodel"
	"viaduct/policies"
	"viaduct/router"
	"viaduct/router/admin"
	"viaduct/router/admin/dashboard"
	"viaduct/upstream"
	"viaduct/upstream/auth"
)

// service is a gateway that runs: the router, what it is configured from, and the control door.
type service struct {
	src   *source
	paths []string
	log   *logrus.Logger
	super supervisor

	router  *router.Router
	records recordSink
	journal journalSink
	metrics *admin.Metrics
	history *admin.History
	events  *admin.Events
	started time.Time

	loading sync.Mutex // one configuration is read at a time; guards what follows
	door    *admin.Door
	open    atomic.Pointer[admin.Door] // the same, for whoever does not load
	place   doorPlace
	stopped bool

	guard   *auth.Guard // of credentials; kept over reloads
	guarded string      // its directory

	printed  commands  // by the commands that secrets come from
	rotation *rotation // of secrets

	network   networkWatch
	wellbeing wellbeingLog

	now      atomic.Pointer[applied]
	last     atomic.Pointer[admin.ReloadResult]
	draining atomic.Bool
	drained  drain         // at an operator's word
	over     chan struct{} // has a token when the process is to end
}

// applied is the configuration in force.
type applied struct {
	generation  uint64
	since       time.Time
	diagnostics json.RawMessage            // what there is to say of it; nil = nothing
	conceal     func() func(string) string // made when somebody asks
	cfg         *policies.Config
	routes      *upstream.Table
	pacs        pacSet
	lists       listSet
	resolvers   resolverSet
	reach       *upstream.Reach
	geoip       *geoWatch // nil = there is no database
	traces      *traces   // nil = none are made
}

func newService(src *source, paths []string, log *logrus.Logger) *service {
	s := &service{src: src, paths: paths, log: log, started: time.Now(), over: make(chan struct{}, 1)}
	s.last.Store(&admin.ReloadResult{})
	s.metrics, s.events = admin.NewMetrics(s), admin.NewEvents()
	s.history = admin.NewHistory(s.metrics.Meter(), s.vitals)
	s.rotation = newRotation(log, s.renewSecrets)
	s.router = router.New(router.Options{Records: connmodel.Sinks{&s.journal, &s.records, s.events}, Watch: s.events, Log: router.LogrusLog{L: log, Lines: true}, Meter: s.metrics.Meter()})
	return s
}

// pacGrace is how long a PAC script that the policy has no more is there for flows under way.
const pacGrace = time.Minute

var errStopping = errors.New("the gateway is stopping")

// load reads the configuration and applies it. When it fails nothing has changed. diags may hold warnings beside success.
func (s *service) load() (diags policies.Diagnostics, err error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.stopped || s.draining.Load() {
		return diags, errStopping
	}
	begun := time.Now()
	generation := uint64(1)
	if cur := s.now.Load(); cur != nil {
		generation = cur.generation + 1
	}
	printed := commands{}
	cfg, diags, err := s.read(generation, printed)
	if err == nil {
		if err = s.apply(cfg, generation, diags); err == nil {
			s.printed = printed
			s.rotation.follow(cfg)
		}
		var more policies.Diagnostics
		if errors.As(err, &more) {
			diags.List = append(diags.List, more.List...)
		}
	}
	res := &admin.ReloadResult{OK: err == nil, Time: begun, Took: float64(time.Since(begun).Microseconds()) / 1000}
	if cur := s.now.Load(); cur != nil {
		res.Generation = cur.generation
	}
	if err != nil {
		res.Error = err.Error()
	}
	if len(diags.List) > 0 {
		res.Diagnostics, _ = json.Marshal(diags) // texts and numbers cannot fail
	}
	s.last.Store(res)
	s.events.Notify(admin.EventReload, res)
	return diags, err
}

func (s *service) read(generation uint64, printed commands) (*policies.Config, policies.Diagnostics, error) {
	o, notes, err := s.src.options(s.paths)
	if err != nil {
		return nil, policies.Diagnostics{}, err
	}
	o.Generation = generation
	o.Command = printed.run(context.Background())
	cfg, diags := policies.Load(o)
	err = diags.Err()
	if diags.List = append(notes.List, diags.List...); err == nil {
		err = notes.Err()
	}
	return cfg, diags, err
}

// apply makes cfg the configuration in force; notes is what there is to say of it. Whatever can fail is done before anything changes.
func (s *service) apply(cfg *policies.Config, generation uint64, notes policies.Diagnostics) error {
	if len(cfg.Listeners) == 0 { // an emptied file is a mistake, not a wish to take the gateway down
		return errors.New(`the policy has no listener, so nobody could connect: add listener "desk" { address = "127.0.0.1:3128" } on lines of its own, or stop the service`)
	}
	cur := s.now.Load()
	var prev *upstream.Table
	var prevPACs pacSet
	var prevLists listSet
	var prevResolvers resolverSet
	var prevReach *upstream.Reach
	var prevTraces *traces
	if cur != nil {
		prev, prevPACs, prevLists, prevReach, prevResolvers = cur.routes, cur.pacs, cur.lists, cur.reach, cur.resolvers
		prevTraces = cur.traces
	} else {
		setLog(s.log, &cfg.Gateway) // what is said from here on is said as the policy wants it
	}
	resolvers, err := openResolvers(cfg, prevResolvers)
	if err != nil {
		return err
	}
	ways := cfg.Upstreams
	ways.Guard = s.guardFor(&cfg.Gateway)
	ways.CertificateWarning = s.router.CertificateWarning
	ways.Changed, ways.Later = s.wellbeingChanged, true
	pacs, fresh, err := openPACs(cfg, prevPACs, s.log)
	if err != nil {
		return err
	}
	var reach *upstream.Reach
	var freshLists []*listSource
	var traced *traces
	done := false
	defer func() {
		if !done {
			if traced != prevTraces {
				traced.close(s.log)
			}
			closeAll(freshLists)
			closeAll(fresh)
			reach.Close()
			resolvers.leave(prevResolvers) // lists and probes may have asked them already
		}
	}()
	ways.Dynamic = dynamic(cfg, func(route string) upstream.Chooser { return pacChooser{pacs[route]} }, s.router.Owns)
	routes, err := upstream.NewTable(ways, prev)
	if err != nil {
		return err
	}
	resolvers.begin(routes, prevResolvers)
	if err := cfg.Upstreams.CheckMarks(); err != nil {
		routes.Close()
		return err
	}
	var sources listSet
	if len(cfg.Lists) > 0 {
		s.super.busy("reading lists")
	}
	sources, freshLists = openLists(cfg, prevLists, s.log, s.dialList(routes))
	reach = s.newReach(cfg, prevReach) // it may need resolvers, which may need routes
	commitRecords, abandonRecords, err := s.records.prepare(cfg.Gateway.Records, s.log)
	if err != nil {
		routes.Close()
		return err
	}
	commitJournal, abandonJournal, err := s.journal.prepare(&cfg.Gateway, s.log)
	if err != nil {
		abandonRecords()
		routes.Close()
		return err
	}
	if traced, err = openTraces(cfg.Gateway.Traces, prevTraces, s.log); err != nil {
		abandonJournal()
		abandonRecords()
		routes.Close()
		return err
	}
	door, place, access, err := s.openDoor(cfg)
	if err != nil {
		abandonJournal()
		abandonRecords()
		routes.Close()
		return err
	}
	rc, problems := routerConfig(cfg, generation, routes, resolvers, place.address)
	rc.Reach, rc.Traces = reach, traced.tracing()
	if !problems.HasErrors() {
		await(freshLists, s.log, s.super.busy)
	}
	if problems.HasErrors() {
		err = policies.Diagnostics{List: problems}
	} else {
		if cur == nil { // the first flow may end before Apply returns
			commitJournal()
			commitRecords()
			commitJournal, commitRecords = func() {}, func() {}
		}
		err = s.router.Apply(rc)
	}
	if err != nil {
		if door != nil {
			closeDoor(door)
		}
		abandonJournal()
		abandonRecords()
		routes.Close()
		return err
	}
	setLog(s.log, &cfg.Gateway)
	commitJournal()
	commitRecords()
	if door != nil {
		s.door, door, s.place = door, s.door, place
		s.open.Store(s.door)
	} else if err := s.door.Allow(access); err != nil { // openDoor has looked
		s.log.WithError(err).Error("control door")
	}
	done = true
	routes.Begin()
	resolvers.reach(routes)
	prevResolvers.leave(resolvers) // flows under way make new connections
	s.metrics.Meter().Configured(labelNames(cfg))
	now := &applied{generation: generation, since: time.Now(), cfg: cfg, routes: routes, pacs: pacs, lists: sources, resolvers: resolvers, reach: reach, geoip: watchGeoIP(cfg, s.log), traces: traced}
	now.conceal = sync.OnceValue(cfg.Concealer)
	if len(notes.List) > 0 {
		now.diagnostics, _ = json.Marshal(notes) // texts and numbers cannot fail
	}
	if cur != nil && cur.generation == generation { // but for its secrets it is the one there was
		now.since, now.diagnostics = cur.since, cur.diagnostics
	}
	s.now.Store(now)
	if prevTraces != nil && traced != prevTraces {
		go prevTraces.close(s.log) // flows that end from now on are recorded by the new one
	}
	prevReach.Close() // flows under way keep what it knew
	if cur != nil {
		cur.geoip.stop()
	}
	if gone := left(prevPACs, pacs); len(gone) > 0 {
		time.AfterFunc(pacGrace, func() { closeAll(gone) }) // flows that were decided before may still ask them
	}
	closeAll(left(prevLists, sources)) // flows under way keep the copies they know
	if door != nil {
		go closeDoor(door) // the request for this reload may have come through it
	}
	if prev != nil {
		prev.Close()
	}
	return nil
}

// closeRecords writes what is queued, to the journal and elsewhere at once.
func (s *service) closeRecords() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.journal.close(s.log)
	}()
	s.records.close(s.log)
	<-done
}

// guardFor returns what keeps accounts from being locked: the one there is, unless its files are to be elsewhere now.
func (s *service) guardFor(g *policies.Gateway) *auth.Guard {
	dir, err := authDir(g.State)
	if err != nil {
		return auth.BrokenGuard(err, s.noticed)
	}
	if s.guard == nil || s.guarded != dir {
		s.guard, s.guarded = auth.NewGuard(dir, s.noticed), dir
	}
	return s.guard
}

// noticed logs what becomes of a credential.
func (s *service) noticed(n auth.Notice) {
	entry := s.log.WithFields(logrus.Fields{"credential": n.Credential, "upstream": n.Upstream, "state": n.State.String()})
	if n.State == auth.Shut {
		entry.Error("credential: " + n.Text)
		return
	}
	entry.Info("credential: " + n.Text)
}

// openDoor opens the control door that cfg wants, or returns none when it is the one that is open. access is who may use it.
func (s *service) openDoor(cfg *policies.Config) (door *admin.Door, place doorPlace, access admin.Access, err error) {
	if place, err = doorFor(cfg.Gateway.Admin); err != nil {
		return nil, place, access, err
	}
	tcp := !strings.HasPrefix(place.address, "unix:")
	if access, err = s.accessFor(cfg, tcp); err != nil {
		return nil, place, access, err
	}
	if s.door != nil && place.address == s.place.address {
		return nil, place, access, access.Check(tcp)
	}
	ln, err := admin.Listen(place.address, place.mode)
	if err != nil {
		return nil, place, access, err
	}
	door, err = admin.New(admin.Options{Gateway: s, Sources: s.sources(), Metrics: s.metrics, History: s.history, Events: s.events, Access: access, Dashboard: dashboard.Handler(), CA: s.authorityPEM, PAC: s.proxyPAC,
		Problem: func(text string) { s.log.Warn(text) }}).Serve(ln)
	return door, place, access, err
}

func closeDoor(d *admin.Door) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.Close(ctx)
}

// Reload implements admin.Gateway, and is what SIGHUP does.
func (s *service) Reload(context.Context) admin.ReloadResult {
	s.super.reloading()
	diags, err := s.load()
	res := *s.last.Load()
	entry := s.log.WithFields(logrus.Fields{"generation": res.Generation, "took_ms": res.Took})
	s.warn(diags)
	switch {
	case errors.Is(err, errStopping):
		res.OK, res.Error = false, err.Error()
	case err != nil:
		entry.WithError(err).Error("reload failed: the configuration stays as it was")
		s.super.ready(fmt.Sprintf("reload failed, running on with configuration %d", res.Generation))
	default:
		entry.WithField("files", said(s.now.Load().cfg.Files)).Info("configuration reloaded")
		s.super.ready(s.headline())
	}
	return res
}

// warn logs the warnings among diags.
func (s *service) warn(diags policies.Diagnostics) {
	for _, d := range diags.List {
		if text, isWarning := warningText(d); isWarning {
			s.log.Warn(text)
		}
	}
}

// headline is what systemctl status shows.
func (s *service) headline() string {
	var at []string
	for _, l := range s.now.Load().cfg.Listeners {
		at = append(at, l.Address)
	}
	return fmt.Sprintf("configuration %d, listening on %s", s.now.Load().generation, strings.Join(at, ", "))
}

// stop drains and ends everything. It returns when no session is left, or at once when hurry is done.
func (s *service) stop(hurry context.Context) (cut int) {
	s.loading.Lock()
	s.stopped = true
	s.loading.Unlock()
	s.rotation.close()
	s.draining.Store(true)
	s.journal.draining()
	s.network.close()
	cur := s.now.Load()
	drain := s.drainTimeout()
	s.super.stopping(drain)
	s.log.WithField("timeout", drain.String()).WithField("sessions", s.router.Stats().SessionsOpen).Info("draining")
	ctx, cancel := context.WithTimeout(hurry, drain)
	defer cancel()
	cut = s.router.Shutdown(ctx)
	if s.guard != nil {
		s.guard.Close()
	}
	s.closeRecords()
	s.history.Close()
	if cur != nil {
		cur.traces.close(s.log)
	}
	if s.door != nil {
		closeDoor(s.door)
	}
	s.events.Close()
	if cur != nil {
		cur.routes.Close()
		cur.reach.Close()
		closeAll(left(cur.pacs, nil))
		closeAll(left(cur.lists, nil))
		cur.resolvers.leave(nil)
		cur.geoip.stop()
	}
	return cut
}
