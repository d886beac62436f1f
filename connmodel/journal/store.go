package journal

import (
	"context"
	"errors"
	"time"

	"viaduct/connmodel"
)

// Store keeps records and finds them again. It is the seam for stores of another kind: the data path knows connmodel.Sink alone, and what asks knows
// Finder alone.
type Store interface {
	// Append keeps the records of flows that have ended, in this order. It returns when they are kept, or why none of them is.
	Append(ctx context.Context, flows []*connmodel.Flow) error
	Finder
	Close(ctx context.Context) error
}

// Finder finds records. Its methods may be called from any goroutine.
type Finder interface {
	// Each calls f for the records that q means, until there are no more, f returns an error, or ctx ends. The flow is f's to keep.
	Each(ctx context.Context, q Query, f func(*connmodel.Flow) error) error
	// Get returns the whole record of a flow, or ErrNotFound.
	Get(ctx context.Context, id connmodel.ID) (*connmodel.Flow, error)
	// Find returns the ids that begin or end with part, hexadecimal digits and hyphens in either case, newest first; at most MaxFound of them.
	Find(ctx context.Context, part string) ([]connmodel.ID, error)
	// Count says how many records q means; its Limit, After and Light do not matter.
	Count(ctx context.Context, q Query) (int64, error)
}

// MaxFound is how many ids Find returns at most.
const MaxFound = 10

// ErrNotFound says that no record has that id.
var ErrNotFound = errors.New("journal: there is no such record")

// Query says which records are meant, and how they come. The zero Query is all of them, newest first.
type Query struct {
	// Since and Until bound the end of a flow: Since <= end < Until. Zero = no bound.
	Since, Until time.Time
	// Filter says what else; nil = nothing.
	Filter *connmodel.Filter
	// Oldest is the order in which records came; otherwise the newest is first.
	Oldest bool
	// Limit is how many at most; 0 = all.
	Limit int
	// After goes on behind the record of this id, in the order of the query; zero = from the beginning. An id that is not there is ErrNotFound.
	After connmodel.ID
	// Light is for those who look at many: records come without what the light form leaves out (see the file light.go): the details of hops, certificates
	// other than the subject, issuer and end of the server's own, times of requests, the rule trace.
	Light bool
	// Parallel lets f be called from several goroutines at once, and in no order; Limit and After must not be set.
	Parallel bool
}

// matches reports whether q means f.
func (q *Query) matches(f *connmodel.Flow) bool {
	if !q.Since.IsZero() && f.End.Before(q.Since) || !q.Until.IsZero() && !f.End.Before(q.Until) {
		return false
	}
	return q.Filter.Match(f)
}

// check says what is wrong with q.
func (q *Query) check() error {
	if q.Parallel && (q.Limit != 0 || !q.After.IsZero()) {
		return errors.New("journal: a parallel query has no order, and so neither Limit nor After")
	}
	return nil
}
