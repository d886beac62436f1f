package connmodel

// Sink takes the record of every flow. Record must not block and must not change f: it is called on the connection's
// goroutine, from many at once.
type Sink interface {
	Record(f *Flow)
}

// SinkFunc makes a function a Sink.
type SinkFunc func(f *Flow)

// Record calls s.
func (s SinkFunc) Record(f *Flow) { s(f) }

// Sinks is several sinks, each given every record.
type Sinks []Sink

// Record hands f to each.
func (s Sinks) Record(f *Flow) {
	for _, each := range s {
		each.Record(f)
	}
}
