package admin

import (
	"github.com/prometheus/client_golang/prometheus"
)

// statusCollector turns the Status into metrics when somebody looks: what is counted elsewhere is not counted twice.
type statusCollector struct{ gw Gateway }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("viaduct_"+name, help, labels, nil)
}

var (
	descBuild            = desc("build_info", "The program; always 1.", "version", "revision", "goversion")
	descGeneration       = desc("config_generation", "Number of the configuration in force; 1 is the first one.")
	descReloadOK         = desc("config_last_reload_success", "1 when the last reading of the configuration was applied, 0 when it was refused.")
	descReloadTime       = desc("config_last_reload_timestamp_seconds", "When the configuration was last read, applied or not.")
	descListenerEnd      = desc("listener_certificate_not_after_timestamp_seconds", "When the first of the certificates that the listener shows its clients expires.", "listener")
	descUpstreamUp       = desc("upstream_up", "1 unless the upstream never worked, failed several times in a row, or a pool has ejected it or finds it down.", "upstream")
	descUpstreamDrained  = desc("upstream_drained", "1 when an operator took the upstream out of service.", "upstream")
	descDraining         = desc("draining", "1 when no client is taken any more.")
	descDoorRefused      = desc("door_refused_total", "Requests that the control door turned away, by why: token, host, origin, read_only.", "reason")
	descEventReaders     = desc("event_readers", "Readers of the events of the control door.")
	descUpstreamOpen     = desc("upstream_connections_open", "Connections through the upstream, and attempts under way.", "upstream")
	descUpstreamTries    = desc("upstream_attempts_total", "Attempts through the upstream.", "upstream")
	descUpstreamFailures = desc("upstream_failures_total", "Attempts that failed by the upstream's own fault.", "upstream")
	descClosed           = desc("upstream_credential_closed", "1 when the upstream rejected its credential, which is not shown any more; of clients' own logins how many.", "upstream")
	descMemberUp         = desc("pool_member_up", "1 when the pool would choose the member.", "pool", "member")
	descMemberEjections  = desc("pool_member_ejections_total", "How often the member was ejected.", "pool", "member")
	descMemberCheck      = desc("pool_member_check_success", "1 when the last active check of the member went well.", "pool", "member")
	descMemberChecks     = desc("pool_member_checks_total", "Active checks of the member.", "pool", "member")
	descMemberCheckFails = desc("pool_member_check_failures_total", "Active checks of the member that failed.", "pool", "member")
	descUpstreamCheck    = desc("upstream_check_success", "1 when the last active check of the upstream by itself went well.", "upstream")
	descUpstreamChecks   = desc("upstream_checks_total", "Active checks of the upstream by itself.", "upstream")
	descUpstreamCheckNo  = desc("upstream_check_failures_total", "Active checks of the upstream by itself that failed.", "upstream")
	descRetriesRefused   = desc("pool_retries_refused_total", "Retries that the budget of the pool did not allow.", "pool")
	descListEntries      = desc("list_entries", "Entries of the list.", "list")
	descListReady        = desc("list_ready", "1 when there is a copy of the list.", "list")
	descListFresh        = desc("list_fresh", "1 when the last look at the server of the list went well.", "list")
	descListAge          = desc("list_age_seconds", "Time since the copy in use was last known to be that of the server.", "list")
	descListLoads        = desc("list_loads_total", "Copies of the list that were taken into use.", "list")
	descListFailures     = desc("list_load_failures_total", "Looks at the server of a list that gave nothing to use.", "list")
	descPACReady         = desc("pac_ready", "1 when there is a PAC script to ask.", "pac")
	descPACFresh         = desc("pac_fresh", "1 when the last look at the server of the PAC script went well.", "pac")
	descPACAge           = desc("pac_age_seconds", "Time since the PAC script in use was last known to be that of its server; 0 for files.", "pac")
	descPACLoadFailures  = desc("pac_load_failures_total", "Looks at the server of a PAC script that gave nothing to use.", "pac")
	descPACCalls         = desc("pac_calls_total", "Calls of the PAC script.", "pac")
	descPACHits          = desc("pac_cache_hits_total", "Answers of the PAC script that were known from before.", "pac")
	descPACFailures      = desc("pac_failures_total", "Calls of the PAC script that gave no entries.", "pac")
	descPACMemberUp      = desc("pac_member_up", "1 when a declared upstream, or direct, that the PAC script has named would be chosen.", "pac", "member")
	descPACMemberOut     = desc("pac_member_ejections_total", "How often a declared upstream, or direct, that the PAC script has named was ejected.", "pac", "member")
	descPACUndeclared    = desc("pac_undeclared_proxies", "Proxies that the PAC script has named and nobody declared.", "pac")
	descPACUndeclaredOut = desc("pac_undeclared_proxies_out", "Of those, that are passed over now.", "pac")
	descReachable        = desc("network_reachable", "1 when the address that a condition asks network.reachable about can be reached.", "address")
	descNetworkChanges   = desc("network_changes_total", "Changes of the addresses and routes of this machine.")
	descLookups          = desc("resolver_lookups_total", "Names that the resolver was asked for.", "resolver")
	descLookupHits       = desc("resolver_cache_hits_total", "Of those, answered from the cache.", "resolver")
	descLookupStale      = desc("resolver_stale_total", "Of those, answered by what is past its time.", "resolver")
	descLookupFailures   = desc("resolver_failures_total", "Searches of the resolver that gave no address.", "resolver")
	descLookupEntries    = desc("resolver_cache_entries", "Names in the cache of the resolver.", "resolver")
	descQueries          = desc("resolver_queries_total", "Answers of a name server, and what stands for one that did not come, by result.", "resolver", "domain", "server", "result")
	descQueryLatency     = desc("resolver_latency_seconds", "Moving average of the time that a name server takes.", "resolver", "domain", "server")
	descServerUp         = desc("resolver_server_up", "1 unless the name server did not answer lately.", "resolver", "domain", "server")
	descJournalRecords   = desc("journal_records_total", "Records that reached the journal.")
	descJournalDropped   = desc("journal_dropped_total", "Records that the journal lost, because its queue was full or it could not be written.")
	descJournalFailures  = desc("journal_failures_total", "Writes to the journal, and attempts to open it, that failed; they are tried again.")
	descJournalAside     = desc("journal_set_aside_total", "Damaged files of the journal that were set aside.")
	descJournalDeleted   = desc("journal_deleted_files_total", "Files of the journal that were deleted by age or size.")
	descJournalWriting   = desc("journal_writing", "1 when records can be written to the journal at present.")
	descJournalQueued    = desc("journal_queued_records", "Records that wait to be written to the journal.")
	descJournalBytes     = desc("journal_bytes", "What the journal takes on disk.")
	descJournalFiles     = desc("journal_files", "Files of the journal.")
	descJournalOldest    = desc("journal_oldest_timestamp_seconds", "The first day that the journal has records of.")
	descRecordsWritten   = desc("records_written_total", "Records that reached the place they go to beside the journal.", "to")
	descRecordsDropped   = desc("records_dropped_total", "Records that were lost on the way there, because the queue was full or writing failed.", "to")
	descRecordFailures   = desc("records_write_failures_total", "Writes of records that failed.", "to")
	descTraceFlows       = desc("trace_flows_total", "Flows of which spans were made.")
	descTraceDropped     = desc("trace_flows_dropped_total", "Flows that were to be traced and of which no spans were made, since too many waited.")
	descTraceExported    = desc("trace_spans_exported_total", "Spans that the collector has taken.")
	descTraceFailed      = desc("trace_spans_failed_total", "Spans that the collector has not taken.")
	descOpened           = desc("opened_tunnels_total", "Tunnels whose TLS was opened.")
	descRejected         = desc("opened_rejected_total", "Clients that did not accept our certificate.")
	descPassed           = desc("opened_passed_total", "Tunnels passed through, because their client had rejected our certificate before.")
	descMinted           = desc("opened_certificates_total", "Certificates made.")
	descCAEnd            = desc("ca_not_after_timestamp_seconds", "When the certificate authority expires.")
)

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBuild, descGeoIPBuilt, descGeoIPFresh, descGeoIPBroken, descGeneration, descReloadOK, descReloadTime, descListenerEnd, descUpstreamUp, descUpstreamDrained, descDraining, descDoorRefused, descEventReaders, descUpstreamOpen, descUpstreamTries,
		descUpstreamFailures, descClosed, descMemberUp, descMemberEjections,
		descMemberCheck, descMemberChecks, descMemberCheckFails, descUpstreamCheck, descUpstreamChecks, descUpstreamCheckNo, descRetriesRefused, descListEntries, descListReady, descListFresh, descListAge, descListLoads, descListFailures, descPACReady, descPACFresh, descPACAge, descPACLoadFailures, descPACCalls, descPACHits, descPACFailures, descPACMemberUp, descPACMemberOut, descPACUndeclared, descPACUndeclaredOut,
		descLookups, descLookupHits, descLookupStale, descLookupFailures, descLookupEntries, descQueries, descQueryLatency, descServerUp,
		descReachable, descNetworkChanges, descRecordsWritten, descRecordsDropped, descRecordFailures, descJournalRecords, descJournalDropped, descJournalFailures, descJournalAside, descJournalDeleted,
		descJournalWriting, descJournalQueued, descJournalBytes, descJournalFiles, descJournalOldest, descTraceFlows, descTraceDropped, descTraceExported, descTraceFailed, descOpened, descRejected, descPassed, descMinted, descCAEnd} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.gw.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, texts(labels)...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), texts(labels)...)
	}
	gauge(descBuild, 1, s.Version, s.Revision, s.GoVersion)
	gauge(descGeneration, float64(s.Generation))
	gauge(descDraining, bit(s.State != StateRunning))
	if d := s.Door; d != nil {
		for _, reason := range refusals {
			counter(descDoorRefused, d.Refused[reason], reason)
		}
		gauge(descEventReaders, float64(d.Subscribers))
	}
	gauge(descReloadOK, bit(s.LastReload.OK))
	gauge(descReloadTime, float64(s.LastReload.Time.UnixMilli())/1000)
	if g := s.GeoIP; g != nil {
		gauge(descGeoIPBuilt, float64(g.Built.Unix()))
		gauge(descGeoIPFresh, bit(g.Error == "" && !g.Old))
		counter(descGeoIPBroken, g.Broken)
	}
	for i := range s.Listeners {
		if l := &s.Listeners[i]; l.CertificateEnd != nil {
			gauge(descListenerEnd, float64(l.CertificateEnd.Unix()), l.Name)
		}
	}
	for i := range s.Upstreams {
		u := &s.Upstreams[i]
		gauge(descUpstreamUp, bit(u.Up), u.Name)
		gauge(descUpstreamDrained, bit(u.Drained), u.Name)
		gauge(descUpstreamOpen, float64(u.Open), u.Name)
		counter(descUpstreamTries, u.Attempts, u.Name)
		counter(descUpstreamFailures, u.Failures, u.Name)
		if k := u.Check; k != nil && k.At != nil {
			gauge(descUpstreamCheck, bit(k.OK), u.Name)
			counter(descUpstreamChecks, k.Made, u.Name)
			counter(descUpstreamCheckNo, k.Failures, u.Name)
		}
		if u.Credential != nil {
			n := bit(u.Credential.State == CredentialClosed)
			if k := u.Credential.Clients; k != nil {
				n = float64(k.Closed)
			}
			gauge(descClosed, n, u.Name)
		}
	}
	for i := range s.Pools {
		p := &s.Pools[i]
		counter(descRetriesRefused, p.RetriesRefused, p.Name)
		for j := range p.Members {
			m := &p.Members[j]
			gauge(descMemberUp, bit(m.Up()), p.Name, m.Route)
			counter(descMemberEjections, m.Ejections, p.Name, m.Route)
			if k := m.Check; k != nil && k.At != nil {
				gauge(descMemberCheck, bit(k.OK), p.Name, m.Route)
				counter(descMemberChecks, k.Made, p.Name, m.Route)
				counter(descMemberCheckFails, k.Failures, p.Name, m.Route)
			}
		}
	}
	for i := range s.Lists {
		l := &s.Lists[i]
		gauge(descListEntries, float64(l.Entries), l.Name)
		if l.Remote {
			gauge(descListReady, bit(l.State != "loading"), l.Name)
			gauge(descListFresh, bit(l.State == "fresh"), l.Name)
			gauge(descListAge, l.Age, l.Name)
			counter(descListLoads, l.Loads, l.Name)
			counter(descListFailures, l.LoadFailures, l.Name)
		}
	}
	for i := range s.PACs {
		p := &s.PACs[i]
		gauge(descPACReady, bit(p.State != "loading"), p.Name)
		gauge(descPACFresh, bit(p.State == "fresh"), p.Name)
		gauge(descPACAge, p.Age, p.Name)
		counter(descPACLoadFailures, p.LoadFailures, p.Name)
		counter(descPACCalls, p.Calls, p.Name)
		counter(descPACHits, p.Hits, p.Name)
		counter(descPACFailures, p.Failures, p.Name)
		for j := range p.Members { // others have names that the script made up
			m := &p.Members[j]
			gauge(descPACMemberUp, bit(m.Up()), p.Name, m.Route)
			counter(descPACMemberOut, m.Ejections, p.Name, m.Route)
		}
		gauge(descPACUndeclared, float64(p.Undeclared.Known), p.Name)
		gauge(descPACUndeclaredOut, float64(p.Undeclared.Out), p.Name)
	}
	if s.Network.Watched {
		counter(descNetworkChanges, s.Network.Changes)
	}
	for i := range s.Reach { // constants of the policy, and not many
		gauge(descReachable, bit(s.Reach[i].Reachable), s.Reach[i].Address)
	}
	for i := range s.Resolvers {
		r := &s.Resolvers[i]
		counter(descLookups, r.Lookups, r.Name)
		counter(descLookupHits, r.Hits, r.Name)
		counter(descLookupStale, r.Stale, r.Name)
		counter(descLookupFailures, r.Failures, r.Name)
		gauge(descLookupEntries, float64(r.Entries), r.Name)
		for j := range r.Servers {
			x := &r.Servers[j]
			for result, n := range x.Results {
				counter(descQueries, n, r.Name, x.Domain, x.Server, result)
			}
			if x.Results != nil {
				gauge(descQueryLatency, x.Latency/1000, r.Name, x.Domain, x.Server)
				gauge(descServerUp, bit(!x.Resting), r.Name, x.Domain, x.Server)
			}
		}
	}
	for _, r := range s.Records {
		counter(descRecordsWritten, r.Written, r.Kind)
		counter(descRecordsDropped, r.Dropped, r.Kind)
		counter(descRecordFailures, r.Failures, r.Kind)
	}
	if j := s.Journal; j != nil {
		counter(descJournalRecords, j.Written)
		counter(descJournalDropped, j.Dropped)
		counter(descJournalFailures, j.Failures)
		counter(descJournalAside, j.SetAside)
		counter(descJournalDeleted, j.Deleted)
		gauge(descJournalWriting, bit(j.State == JournalWriting))
		gauge(descJournalQueued, float64(j.Queued))
		gauge(descJournalBytes, float64(j.Bytes))
		gauge(descJournalFiles, float64(j.Files))
		if j.Oldest != nil {
			gauge(descJournalOldest, float64(j.Oldest.Unix()))
		}
	}
	if t := s.Traces; t != nil {
		counter(descTraceFlows, t.Flows)
		counter(descTraceDropped, t.Dropped)
		counter(descTraceExported, t.Exported)
		counter(descTraceFailed, t.Failed)
	}
	if o := s.Opened; o != nil {
		counter(descOpened, o.Tunnels)
		counter(descRejected, o.Rejected)
		counter(descPassed, o.Passed)
		counter(descMinted, o.Minted)
		if o.NotAfter != nil {
			gauge(descCAEnd, float64(o.NotAfter.Unix()))
		}
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func texts(names []string) []string {
	for i, n := range names {
		names[i] = text(n)
	}
	return names
}
