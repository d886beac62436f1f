package admin

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"viaduct/connmodel"
)

// What the door shows beyond the status it gets through the small interfaces of this file, which the program satisfies. All of them may be
// called from many goroutines, and all of them are asked with a context that ends when the client leaves, or asks for too much.

// BadRequest is an error of the client's: it is answered with 400 and these words.
type BadRequest struct{ Detail string }

func (e *BadRequest) Error() string { return e.Detail }

// ErrNotFound says that there is no such record.
var ErrNotFound = errors.New("there is no such connection, neither open nor in the journal")

// Records is what is known of flows that have ended.
type Records interface {
	// Each calls yield with records, the one that ended last first. An error of yield ends it and is returned.
	Each(ctx context.Context, q RecordQuery, yield func(*connmodel.Flow) error) error
	// Get returns one record, or ErrNotFound.
	Get(ctx context.Context, id connmodel.ID) (*connmodel.Flow, error)
	// Find returns the ids that prefix is the beginning or the end of, as people type them; at most a few.
	Find(ctx context.Context, prefix string) ([]connmodel.ID, error)
}

// RecordQuery says which records are meant.
type RecordQuery struct {
	Since, Until time.Time         // of their ends; zero = from the first on, up to now
	Filter       *connmodel.Filter // nil = all
	Limit        int               // 0 = all
	After        connmodel.ID
}

// Configuration is the policy in force, as it may be shown.
type Configuration struct {
	Generation  uint64          `json:"generation"`
	Loaded      time.Time       `json:"loaded"`
	Default     bool            `json:"default"` // it is the one that is built in
	Files       []ConfigFile    `json:"files"`
	Data        []string        `json:"data"`                  // files that it names: lists, certificates, passwords
	Diagnostics json.RawMessage `json:"diagnostics,omitempty"` // warnings, in the form of "viaduct validate --json"
}

// ConfigFile is a file of the policy.
type ConfigFile struct {
	Name string `json:"name"`
	Text string `json:"text"` // secrets in it are replaced by ***
}

// Rules is every rule of the policies in force, and what it took since they came.
type Rules struct {
	Generation uint64       `json:"generation"`
	Loaded     time.Time    `json:"loaded"`
	Rules      []RuleStatus `json:"rules"`
}

// RuleStatus is a rule.
type RuleStatus struct {
	Policy  string     `json:"policy"`
	Rule    string     `json:"rule"` // "otherwise" for the last one; "" = what no rule took
	File    string     `json:"file"`
	Line    int        `json:"line"`
	Outcome string     `json:"outcome"`         // via, deny
	Route   string     `json:"route,omitempty"` // of via
	Shadow  bool       `json:"shadow"`          // it decides nothing: what it would have taken is counted
	Flows   uint64     `json:"flows"`           // since the generation came, those that are open included
	Open    int        `json:"open"`            // of those
	Last    *time.Time `json:"last,omitempty"`  // when the last of them ended, or now while one is open
	Never   bool       `json:"never"`           // it took none
}

// ShadowReport is how the decisions since then differ from what shadow rules and shadow policies would have done.
type ShadowReport struct {
	Since       time.Time          `json:"since"`
	Until       time.Time          `json:"until"`
	Flows       int64              `json:"flows"`   // with a shadow verdict
	Differ      int64              `json:"differ"`  // of those
	Partial     bool               `json:"partial"` // there was no time, or no room, to look at all
	Differences []ShadowDifference `json:"differences"`
}

// ShadowDifference is flows that would go elsewhere, the same for all of them.
type ShadowDifference struct {
	Rule     string         `json:"rule"` // that took them: "policy/rule"
	From     string         `json:"from"` // route, or "deny"
	To       string         `json:"to"`   // route, "deny", or "undecided"
	By       string         `json:"by"`   // the shadow rule that would have: "policy/rule"
	Flows    int64          `json:"flows"`
	Bytes    int64          `json:"bytes"`
	Clients  int            `json:"clients"` // different ones; counting stops at 1000
	Examples []connmodel.ID `json:"examples"`
}

// Sources are where the answers come from that the Gateway does not give. A nil one is answered with 404 and a word why.
type Sources struct {
	// Compile reads a filter expression; an error is shown to the client.
	Compile func(expression string) (*connmodel.Filter, error)
	// Records returns the records of flows that have ended, or nil where none are kept.
	Records func() Records
	// Config returns the policy in force; nil = none is yet.
	Config func() *Configuration
	// Rules returns the rules in force; nil = there are none yet.
	Rules func() *Rules
	// Explain answers the question of "viaduct explain" with the answer of its --json. lookups says whether names may be looked up, and
	// web servers and proxies asked, where the question wants that. An error that is a BadRequest is the client's.
	Explain func(ctx context.Context, q *Question, lookups bool) (any, error)
	// Today says what the policy in force would decide for a flow, in the form of Explain; nil = that cannot be said.
	Today func(ctx context.Context, f *connmodel.Flow) (any, error)
	// Shadow counts what shadow rules and shadow policies would have done else.
	Shadow func(ctx context.Context, since time.Time) (*ShadowReport, error)
}

// Question is what explain is asked. The fields are the flags of the command.
type Question struct {
	Target   string   `json:"target"`
	Client   string   `json:"client,omitempty"` // default 127.0.0.1
	User     string   `json:"user,omitempty"`
	Listener string   `json:"listener,omitempty"` // default: the first one
	At       string   `json:"at,omitempty"`       // default: now
	Method   string   `json:"method,omitempty"`
	Headers  []string `json:"headers,omitempty"` // "Name: value"
	Protocol string   `json:"protocol,omitempty"`
	SNI      *string  `json:"sni,omitempty"` // "" = a client that speaks no TLS
	ALPN     []string `json:"alpn,omitempty"`
	JA4      string   `json:"ja4,omitempty"`
	// Resolve is the addresses that the target's name has; "policy" or "system" alone has it looked up.
	Resolve []string `json:"resolve,omitempty"`
	// Reachable is what network.reachable says yes to; absent = nothing is tried, and rules that ask leave the question open.
	Reachable []string `json:"reachable,omitempty"`
	// Lookups lets PAC scripts look names up and be fetched, and tries what network.reachable asks about.
	Lookups bool `json:"lookups,omitempty"`
}
