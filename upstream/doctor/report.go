package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Status is how a step went.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, and there is something to know
	Fail Status = "fail"
	Skip Status = "skip" // it was not made; Says has why
)

// Report is what was found of one proxy. Its JSON form is an interface: fields are added and not changed.
type Report struct {
	Upstream string    `json:"upstream"`
	URL      string    `json:"url"` // scheme and address
	Through  string    `json:"through,omitempty"`
	Target   string    `json:"target"`
	Started  time.Time `json:"started"`
	Took     float64   `json:"took_ms"`
	Verdict  Status    `json:"verdict"` // Fail when a step failed, Warn when one warns, else OK
	Says     string    `json:"says"`    // the verdict in one line
	Steps    []*Step   `json:"steps"`
}

// Step is one thing that was looked at.
type Step struct {
	Name   string         `json:"step"`
	Status Status         `json:"status"`
	Took   float64        `json:"took_ms"`
	Says   string         `json:"says"`             // what was seen, on one line
	Code   string         `json:"code,omitempty"`   // names what is wrong, for programs
	Means  string         `json:"means,omitempty"`  // a plain sentence
	Try    string         `json:"try,omitempty"`    // what to do next
	Detail []string       `json:"detail,omitempty"` // more of what was seen, a line each
	Facts  map[string]any `json:"facts,omitempty"`

	about map[string]string // what stands for {words} in sentences
}

// ok says what was seen.
func (s *Step) ok(format string, args ...any) { s.Status, s.Says = OK, fmt.Sprintf(format, args...) }

// skip says why the step was not made.
func (s *Step) skip(format string, args ...any) {
	s.Status, s.Says = Skip, fmt.Sprintf(format, args...)
}

// fail says what was seen and, by the sentence of that code, what it means.
func (s *Step) fail(code, format string, args ...any) { s.wrong(Fail, code, format, args...) }

// warn is fail for what does not keep a connection from working.
func (s *Step) warn(code, format string, args ...any) { s.wrong(Warn, code, format, args...) }

func (s *Step) wrong(as Status, code, format string, args ...any) {
	s.Status, s.Code, s.Says = as, code, fmt.Sprintf(format, args...)
	x := lookup(code)
	s.Means, s.Try = s.fill(x.means), s.fill(x.try)
}

// fill puts names in the place of {words}.
func (s *Step) fill(text string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	var pairs []string
	for k, v := range s.about {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (s *Step) detail(format string, args ...any) {
	const most = 40
	if len(s.Detail) < most {
		s.Detail = append(s.Detail, fmt.Sprintf(format, args...))
	}
}

func (s *Step) fact(name string, value any) {
	if s.Facts == nil {
		s.Facts = make(map[string]any)
	}
	s.Facts[name] = value
}

// Step returns the last step of a name; nil = it was not made.
func (r *Report) Step(name string) *Step {
	for i := len(r.Steps) - 1; i >= 0; i-- {
		if r.Steps[i].Name == name {
			return r.Steps[i]
		}
	}
	return nil
}

// conclude writes the verdict.
func (r *Report) conclude(interrupted bool) {
	var failed, warned []string
	var first *Step
	for _, s := range r.Steps {
		switch s.Status {
		case Fail:
			if failed = add(failed, s.Name); first == nil {
				first = s
			}
		case Warn:
			warned = add(warned, s.Name)
		}
	}
	r.Verdict, r.Says = OK, "all is well"
	switch {
	case first != nil:
		r.Verdict, r.Says = Fail, first.Name+": "+first.Says
		if len(failed) > 1 {
			r.Says += "; failed besides: " + strings.Join(failed[1:], ", ")
		}
		if s := r.Step("connect"); s != nil && s.Status == OK && !slices.Contains([]string{"websocket", "idle"}, first.Name) {
			r.Says += "; a tunnel can be opened all the same"
		}
	case len(warned) > 0:
		r.Verdict, r.Says = Warn, "it works; to be looked at: "+strings.Join(warned, ", ")
	}
	if s := r.Step("connect"); s == nil || s.Status == Skip {
		switch r.Verdict {
		case OK:
			r.Says = "nothing is wrong as far as was looked: no tunnel was asked for"
		case Warn:
			r.Says = "as far as was looked, to be looked at: " + strings.Join(warned, ", ")
		}
	}
	if interrupted {
		r.Says = "interrupted; so far: " + r.Says
	}
}

func add(list []string, name string) []string {
	for _, have := range list {
		if have == name {
			return list
		}
	}
	return append(list, name)
}

// millis is a duration for JSON, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
