package admin

import (
	"context"
	"encoding/json"
	"time"

	"viaduct/connmodel"
)

// Gateway is what the door leads to. Its methods are called from many goroutines.
type Gateway interface {
	// Reload reads the configuration again and applies it, or changes nothing and says why.
	Reload(ctx context.Context) ReloadResult
	// Status returns how things are. The caller owns the result.
	Status() *Status
	// ResetCredential opens the credential of an upstream again.
	ResetCredential(upstream string) ResetResult
	// RefreshList looks at the web server of a list now. With force what it sends is taken however much smaller it is.
	RefreshList(ctx context.Context, name string, force bool) ListResult
	// Open hands over a snapshot of each open flow, the one that began last first, until yield returns false; before is where to go on
	// (the flows that began before that one), zero = from the newest. It returns how many flows are open, looked at or not; yield may be nil then.
	Open(before connmodel.ID, yield func(*connmodel.Flow) bool) (open int)
	// CloseFlow ends an open flow and reports whether there was one. The record says "admin".
	CloseFlow(id connmodel.ID) bool
	// Drain stops taking clients for good and lets what is under way end. It returns at once; Status tells how far it is.
	Drain(r DrainRequest) DrainResult
	// DrainUpstream takes an upstream out of service for flows to come, or back; connections through it go on.
	DrainUpstream(name string, drained bool) UpstreamDrain
}

// DrainRequest says how a drain goes.
type DrainRequest struct {
	// Timeout is after how long what is left is cut: 0 = what the policy says, negative = never.
	Timeout time.Duration
	// Exit ends the process when nothing is left. Otherwise it goes on answering here until it is stopped.
	Exit bool
}

// DrainResult is how far a drain is.
type DrainResult struct {
	State    string     `json:"state"`              // StateDraining, StateDrained
	Began    time.Time  `json:"began"`              //
	Deadline *time.Time `json:"deadline,omitempty"` // after it what is left is cut; nil = never
	Open     int        `json:"open"`               // client connections that are left
	Cut      int        `json:"cut"`                // of those, that were cut
	Exit     bool       `json:"exit"`               // the process ends with it
}

// States of a gateway.
const (
	StateRunning  = "running"
	StateDraining = "draining" // nobody is taken any more, and connections are open
	StateDrained  = "drained"  // none is left
)

// UpstreamDrain is the outcome of taking an upstream out of service, or back.
type UpstreamDrain struct {
	Upstream string `json:"upstream"`
	Found    bool   `json:"found"`   // there is an upstream of that name
	Drained  bool   `json:"drained"` // as it is now
	Changed  bool   `json:"changed"` // as it was not before
	Open     int64  `json:"open"`    // connections through it
}

// ReloadResult is the outcome of one reading of the configuration, the first one included.
type ReloadResult struct {
	OK         bool      `json:"ok"`
	Generation uint64    `json:"generation"` // that is in force now
	Time       time.Time `json:"time"`
	Took       float64   `json:"took_ms"`
	Error      string    `json:"error,omitempty"` // why it failed, on one line or a few
	// Diagnostics are the errors and warnings of the policy in the form of "viaduct validate --json"; nil = none.
	Diagnostics json.RawMessage `json:"diagnostics,omitempty"`
}

// Status is a gateway at a moment.
type Status struct {
	Version    string           `json:"version"`
	Revision   string           `json:"revision,omitempty"`
	GoVersion  string           `json:"go_version"`
	Name       string           `json:"name,omitempty"`
	PID        int              `json:"pid"`
	Started    time.Time        `json:"started"`
	Uptime     float64          `json:"uptime_s"`
	State      string           `json:"state"`           // StateRunning, StateDraining, StateDrained
	Drain      *DrainResult     `json:"drain,omitempty"` // nil = there is none
	Generation uint64           `json:"generation"`
	Files      []string         `json:"files"`       // of the configuration; empty for the embedded default
	LastReload ReloadResult     `json:"last_reload"` // or the start, when there was none
	StateDir   string           `json:"state_directory,omitempty"`
	Listeners  []ListenerStatus `json:"listeners"`
	Upstreams  []UpstreamStatus `json:"upstreams"`
	Pools      []PoolStatus     `json:"pools"`
	PACs       []PACStatus      `json:"pacs,omitempty"`
	Lists      []ListStatus     `json:"lists,omitempty"`
	Reach      []ReachStatus    `json:"reach,omitempty"` // what conditions ask network.reachable about
	Network    NetworkStatus    `json:"network"`
	Resolvers  []ResolverStatus `json:"resolvers,omitempty"`
	Sessions   SessionCounts    `json:"sessions"`
	Journal    *JournalStatus   `json:"journal,omitempty"` // nil = none is kept
	Records    []RecordStatus   `json:"records,omitempty"` // places that records go to beside it
	GeoIP      *GeoIPStatus     `json:"geoip,omitempty"`   // nil = there is no database
	Door       *DoorStatus      `json:"door,omitempty"`    // this one
	Traces     *TraceStatus     `json:"traces,omitempty"`  // nil = none are made
	Panics     uint64           `json:"panics"`
	Unverified []string         `json:"unverified,omitempty"` // upstreams and rules that take any certificate (verify = false)
	Opened     *OpenedStatus    `json:"opened,omitempty"`     // nil = no rule opens tunnels, and none was opened
}

// DoorStatus is the control door.
type DoorStatus struct {
	Address     string            `json:"address"` // "unix:/path" or host:port
	TLS         bool              `json:"tls"`
	Write       bool              `json:"write"` // requests that change something are taken
	Pprof       bool              `json:"pprof"`
	Subscribers int               `json:"subscribers"`             // of events
	Refused     map[string]uint64 `json:"refused_total,omitempty"` // requests, by why: token, host, origin, read_only
}

// OpenedStatus is about tunnels that rules open, counted since the start.
type OpenedStatus struct {
	CA       string     `json:"ca,omitempty"`     // name of the authority; "" = there is none
	SHA256   string     `json:"sha256,omitempty"` // its fingerprint
	NotAfter *time.Time `json:"not_after,omitempty"`
	Tunnels  uint64     `json:"tunnels_total"`
	Rejected uint64     `json:"rejected_total"` // clients that did not accept our certificate
	Passed   uint64     `json:"passed_total"`   // tunnels passed through because of that
	Learnt   int        `json:"learnt"`         // clients and targets that are passed through now
	Minted   uint64     `json:"minted_total"`   // certificates
	Kept     int        `json:"kept"`           // certificates in memory
}

// ListenerStatus is where clients connect.
type ListenerStatus struct {
	Name    string `json:"name"`
	Network string `json:"network"`
	Address string `json:"address"` // as bound
	Policy  string `json:"policy"`
	TLS     bool   `json:"tls"`
	// CertificateEnd is when the first of its certificates ends; nil without TLS.
	CertificateEnd *time.Time `json:"certificate_end,omitempty"`
}

// SessionCounts are the router's own counters.
type SessionCounts struct {
	Open    int    `json:"open"`
	Streams int    `json:"streams"` // of HTTP/2 that are open
	Total   uint64 `json:"total"`
	Flows   uint64 `json:"flows_total"`
}

// States of upstreams. Members of pools that nobody has taken out can be unknown and failing, too.
const (
	StateUnknown = "unknown" // nothing was tried yet
	StateUp      = "up"      // it worked lately
	StateFailing = "failing" // it never worked, or failed several times in a row
	StateDown    = "down"    // a pool has ejected it, or an active check finds it down
)

// UpstreamStatus is a declared proxy.
type UpstreamStatus struct {
	Name           string            `json:"name"`
	Scheme         string            `json:"scheme"`
	Address        string            `json:"address"`
	State          string            `json:"state"` // StateUnknown, StateUp, StateFailing or StateDown
	Up             bool              `json:"up"`    // the state is up, or unknown
	Open           int64             `json:"open"`
	MaxConnections int               `json:"max_connections,omitempty"`
	Attempts       uint64            `json:"attempts_total"`
	Failures       uint64            `json:"failures_total"` // by its own fault
	LastError      string            `json:"last_error,omitempty"`
	LastErrorTime  *time.Time        `json:"last_error_time,omitempty"`
	Credential     *CredentialStatus `json:"credential,omitempty"` // that it is shown
	Check          *Check            `json:"check,omitempty"`      // of the upstream by itself; nil = there are none
	Drained        bool              `json:"drained,omitempty"`    // an operator took it out of service: no flow to come goes through it
	Since          *time.Time        `json:"since,omitempty"`      // these found it down, or well again
	Why            string            `json:"why,omitempty"`        // these find it down
}

// CredentialClosed is the state of a credential that a proxy rejected: it is not shown until its secret changes or somebody opens it again.
const CredentialClosed = "closed"

// CredentialUnguarded is the state of a credential that nothing is known of: of SOCKS proxies, and of tickets that others keep.
const CredentialUnguarded = "unguarded"

// CredentialOfClients is the state of a credential that there is not one of: each client has its own (ClientLogins).
const CredentialOfClients = "of clients"

// ClientLogins counts what clients have proved to us and a proxy was shown, since the start.
type ClientLogins struct {
	Proven   int `json:"proven"`
	Closed   int `json:"closed"` // the proxy rejected them: each is not shown until its password changes or somebody opens them again
	Unproven int `json:"unproven"`
}

// CredentialStatus is what is known of the credential that a proxy is shown.
type CredentialStatus struct {
	Name    string     `json:"name"`
	Schemes []string   `json:"schemes"`
	State   string     `json:"state"` // unproven, proving, proven, closed; of clients; unguarded
	Since   *time.Time `json:"since,omitempty"`
	Why     string     `json:"why,omitempty"` // it is closed

	SecretSince *time.Time `json:"secret_since,omitempty"` // its secret is the one that it is; nil = it has none of ours

	Clients *ClientLogins `json:"clients,omitempty"` // where it is the clients' own
}

// ResetResult is the outcome of opening a credential again.
type ResetResult struct {
	Upstream string `json:"upstream"`
	Found    bool   `json:"found"` // there is an upstream of that name with a credential
	Was      string `json:"was,omitempty"`
	Error    string `json:"error,omitempty"`
}

// PoolStatus is a pool with its members.
type PoolStatus struct {
	Name           string         `json:"name"`
	Select         string         `json:"select"`
	RetriesRefused uint64         `json:"retries_refused_total"`
	Members        []MemberStatus `json:"members"`
}

// MemberStatus is a route that a pool may choose.
type MemberStatus struct {
	Route     string     `json:"route"`
	State     string     `json:"state"` // healthy, ejected, half_open, down, unknown, failing
	Until     *time.Time `json:"until,omitempty"`
	Failures  int        `json:"failures,omitempty"` // in a row
	Ejections uint64     `json:"ejections_total"`
	Open      int64      `json:"open"`
	Connect   float64    `json:"connect_ms,omitempty"` // moving average
	LastError string     `json:"last_error,omitempty"`
	Since     *time.Time `json:"since,omitempty"` // it was taken out, or came back
	Why       string     `json:"why,omitempty"`   // it is out
	Check     *Check     `json:"check,omitempty"` // nil = no active checks
}

// Check is what active checks ask, and how the last one went.
type Check struct {
	Kind     string     `json:"check"`        // "tcp", "connect www.example.com:443", "GET http://www.example.com/"
	At       *time.Time `json:"at,omitempty"` // of the last one; nil = there was none yet
	Took     float64    `json:"took_ms,omitempty"`
	OK       bool       `json:"ok"`
	Short    string     `json:"short,omitempty"`  // why it went well without going all the way
	Status   int        `json:"status,omitempty"` // of the answer
	Error    string     `json:"error,omitempty"`
	InARow   int        `json:"in_a_row,omitempty"` // checks like the last one
	Next     *time.Time `json:"next,omitempty"`
	Made     uint64     `json:"made_total"`
	Failures uint64     `json:"failures_total"`
}

// Up reports whether the pool would choose the member.
func (m *MemberStatus) Up() bool { return m.State != "ejected" && m.State != "down" }

// ResolverStatus is a resolver of the policy.
type ResolverStatus struct {
	Name     string             `json:"name"`
	Lookups  uint64             `json:"lookups_total"`
	Hits     uint64             `json:"cache_hits_total"` // answered from the cache
	Stale    uint64             `json:"stale_total"`      // ... past their time, because no server answered
	Hosts    uint64             `json:"hosts_total"`      // answered by what is written in the policy
	Failures uint64             `json:"failures_total"`   // searches that gave no address
	Entries  int                `json:"entries"`          // in the cache
	InFlight int                `json:"in_flight"`
	Servers  []NameServerStatus `json:"servers"`
}

// NameServerStatus is a server of a resolver.
type NameServerStatus struct {
	Domain        string            `json:"domain,omitempty"` // names it is asked for; "" = all others
	Server        string            `json:"server"`           // "tls://192.0.2.53:853"; "system"
	Via           string            `json:"via,omitempty"`
	Resting       bool              `json:"resting"` // it did not answer, and is asked after the others
	Queries       uint64            `json:"queries_total"`
	Failures      uint64            `json:"failures_total"`
	Results       map[string]uint64 `json:"results"`              // ok, nxdomain, nodata, servfail, refused, timeout, failed
	Latency       float64           `json:"latency_ms,omitempty"` // moving average
	LastError     string            `json:"last_error,omitempty"`
	LastErrorTime *time.Time        `json:"last_error_time,omitempty"`
}

// ListStatus is a list of hosts or networks.
type ListStatus struct {
	Name    string     `json:"name"`
	From    string     `json:"from"` // URL, or path of a file
	Remote  bool       `json:"remote"`
	Via     string     `json:"via,omitempty"`     // route to the web server
	State   string     `json:"state"`             // loading: there is no copy yet; fresh; stale: the last look at the server failed
	Since   *time.Time `json:"since,omitempty"`   // when the copy in use was last known to be that of the server
	Changed *time.Time `json:"changed,omitempty"` // when it came
	Age     float64    `json:"age_s,omitempty"`   // since it was last known to be the server's
	Error   string     `json:"error,omitempty"`   // of the last look at the server
	Looking bool       `json:"looking,omitempty"` // a look is under way
	Read    int64      `json:"read_bytes,omitempty"`

	Version     uint64  `json:"version,omitempty"` // counts the copies since the start
	Entries     int     `json:"entries"`
	Exceptions  int     `json:"exceptions,omitempty"`  // entries that take others back
	Unsupported int     `json:"unsupported,omitempty"` // rules that are about more than hosts
	Wrong       int     `json:"wrong,omitempty"`       // lines that are no entries
	FirstWrong  string  `json:"first_wrong,omitempty"`
	Size        int64   `json:"size_bytes,omitempty"`
	Took        float64 `json:"took_ms,omitempty"` // to read the copy and make its index

	Looks        uint64 `json:"looks_total,omitempty"`
	Loads        uint64 `json:"loads_total,omitempty"`
	LoadFailures uint64 `json:"load_failures_total,omitempty"`
}

// ListResult is the outcome of looking at the server of a list.
type ListResult struct {
	List    string `json:"list"`
	Found   bool   `json:"found"` // there is a list of that name that comes from a URL
	Changed bool   `json:"changed"`
	Entries int    `json:"entries"`
	Version uint64 `json:"version"`
	Error   string `json:"error,omitempty"`
}

// PACStatus is a PAC script that chooses ways.
type PACStatus struct {
	Name         string     `json:"name"`
	From         string     `json:"from"`              // URL, or path of a file
	State        string     `json:"state"`             // loading: there is none yet; fresh; stale: the last look at the server failed
	Since        *time.Time `json:"since,omitempty"`   // when the script in use was last known to be that of the server
	Changed      *time.Time `json:"changed,omitempty"` // when it came
	Age          float64    `json:"age_s"`             // since then, of a URL
	Error        string     `json:"error,omitempty"`   // of the last look at the server
	Loads        uint64     `json:"loads_total"`
	LoadFailures uint64     `json:"load_failures_total"`
	Calls        uint64     `json:"calls_total"`
	Hits         uint64     `json:"cache_hits_total"`
	Failures     uint64     `json:"failures_total"` // calls that gave no entries
	Engines      int        `json:"engines"`
	Rebuilt      uint64     `json:"engines_rebuilt_total"` // because a bound was met
	OnError      string     `json:"on_error"`              // the route when it gives no entries; deny; next = the other members of a pool, else deny

	Members []MemberStatus `json:"members,omitempty"` // declared upstreams and direct that it has named
	// Undeclared is proxies that it has named and that no upstream block declares; Others are some of them, those that are out first.
	Undeclared UndeclaredStatus `json:"undeclared"`
	Others     []MemberStatus   `json:"others,omitempty"`
	// RetriesRefused is attempts that the budget did not allow.
	RetriesRefused uint64 `json:"retries_refused_total"`
}

// NetworkStatus is about changes of the addresses and routes of the machine.
type NetworkStatus struct {
	Watched bool       `json:"watched"`         // the kernel tells of them
	Error   string     `json:"error,omitempty"` // why it does not
	Changes uint64     `json:"changes_total"`
	Last    *time.Time `json:"last,omitempty"`
	What    string     `json:"what,omitempty"` // the last change
}

// ReachStatus is an address that conditions ask network.reachable about.
type ReachStatus struct {
	Address   string     `json:"address"`
	Reachable bool       `json:"reachable"`
	Known     bool       `json:"known"`           // it was tried
	Since     *time.Time `json:"since,omitempty"` // it is so
	At        *time.Time `json:"at,omitempty"`    // of the last try
	Took      float64    `json:"took_ms,omitempty"`
	Error     string     `json:"error,omitempty"` // of the last try
	Tries     uint64     `json:"tries_total"`
}

// UndeclaredStatus counts proxies that a PAC script named and nobody declared.
type UndeclaredStatus struct {
	Known int   `json:"known"`
	Out   int   `json:"out"` // of those, that are passed over now
	Open  int64 `json:"open"`
}

// States of the journal.
const (
	JournalWriting     = "writing"
	JournalWaiting     = "waiting"     // for the process before us to let go of it; records wait meanwhile
	JournalFailing     = "failing"     // records cannot be written at present, and wait
	JournalUnavailable = "unavailable" // it could not be opened; that is tried again
)

// JournalStatus is how the journal does: the records that can be asked about.
type JournalStatus struct {
	Dir      string     `json:"directory"`
	State    string     `json:"state"`           // writing, waiting, failing, unavailable
	Error    string     `json:"error,omitempty"` // why records cannot be written at present
	Written  uint64     `json:"written_total"`
	Dropped  uint64     `json:"dropped_total"`  // records that are lost: the queue was full, or nothing could be written
	Failures uint64     `json:"failures_total"` // writes, and attempts to open it, that failed
	Queued   int        `json:"queued"`
	Bytes    int64      `json:"bytes"` // on disk
	Files    int        `json:"files"`
	Oldest   *time.Time `json:"oldest,omitempty"` // the first day that there are records of
	SetAside uint64     `json:"set_aside_total"`  // damaged files
	Deleted  uint64     `json:"deleted_files_total"`
	Keep     float64    `json:"keep_s"`     // how long records are kept
	KeepSize int64      `json:"keep_bytes"` // how much all files may take
}

// RecordStatus says how the writing of records goes in one place.
type RecordStatus struct {
	To       string `json:"to"`   // path, "stdout", "journald"
	Kind     string `json:"kind"` // file, stdout, journald
	Written  uint64 `json:"written_total"`
	Dropped  uint64 `json:"dropped_total"`
	Failures uint64 `json:"failures_total"`
	Error    string `json:"error,omitempty"` // why writing fails at present
}

// TraceStatus says how the export of distributed traces goes.
type TraceStatus struct {
	Endpoint string `json:"endpoint"`
	Flows    uint64 `json:"flows_total"`         // of which spans were made
	Dropped  uint64 `json:"flows_dropped_total"` // of which none were made, since too many waited
	Exported uint64 `json:"spans_exported_total"`
	Failed   uint64 `json:"spans_failed_total"` // that the collector has not taken
	Error    string `json:"error,omitempty"`    // why exporting fails at present
}
