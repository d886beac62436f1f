package connmodel

import (
	"net/netip"
	"slices"
	"time"
)

// FilterField is something that a filter can ask of a flow. There is one of each: fields are compared by pointer or by name.
type FilterField struct {
	Name    string // "target.host"
	Aliases []string
	Type    FilterType
	Meaning string
	// Nullable says that Get may give FilterNull.
	Nullable bool
	// Policy says that conditions of policies have the name, too, with the same meaning.
	Policy bool
	// Seconds says that the number is a length of time in seconds, so that it may be compared with "5m", too.
	Seconds bool
	// Values are all that a text can be besides ""; nil = anything.
	Values []string
	// Low and High are the bounds of a number.
	Low, High float64
	// Key is what a map was asked for; "" for other fields.
	Key string

	get func(*Flow) FilterValue
	at  func(f *Flow, key string) string // of a map
}

// Get gives the value that flow has.
func (f *FilterField) Get(flow *Flow) FilterValue {
	if f.at != nil {
		return FilterValue{Type: FilterText, Text: f.at(flow, f.Key)}
	}
	return f.get(flow)
}

// At is the field of one key of a map: of metadata and of header fields. What the map has not is "".
func (f *FilterField) At(key string) *FilterField {
	if f.Type != FilterMap {
		return nil
	}
	k := *f
	k.Type, k.Key = FilterText, key
	return &k
}

// FilterFields lists what a filter can ask, in the order of the manual.
func FilterFields() []*FilterField { return slices.Clone(filterFields) }

// FilterFieldNamed finds a field by its name or another one it has; nil = there is none.
func FilterFieldNamed(name string) *FilterField { return filterFieldByName[name] }

var filterFieldByName = func() map[string]*FilterField {
	m := make(map[string]*FilterField, 2*len(filterFields))
	for _, f := range filterFields {
		for _, n := range append([]string{f.Name}, f.Aliases...) {
			if m[n] != nil {
				panic("connmodel: two filter fields of the name " + n)
			}
			m[n] = f
		}
	}
	return m
}()

// MaxFilterBytes bounds the sizes that filters compare: more than a connection carries in a lifetime, and small enough that sums stay exact.
const MaxFilterBytes = 1 << 50

// maxFilterTime bounds lengths of time, in seconds: some 34,000 years.
const maxFilterTime = 1 << 40

func textField(name, meaning string, get func(*Flow) string) *FilterField {
	return &FilterField{Name: name, Type: FilterText, Meaning: meaning, get: func(f *Flow) FilterValue { return FilterValue{Type: FilterText, Text: get(f)} }}
}

func boolField(name, meaning string, get func(*Flow) bool) *FilterField {
	return &FilterField{Name: name, Type: FilterBool, Meaning: meaning, get: func(f *Flow) FilterValue { return FilterValue{Type: FilterBool, Bool: get(f)} }}
}

func textsField(name, meaning string, get func(*Flow) []string) *FilterField {
	return &FilterField{Name: name, Type: FilterTexts, Meaning: meaning, get: func(f *Flow) FilterValue { return FilterValue{Type: FilterTexts, Texts: get(f)} }}
}

func addressField(name, meaning string, get func(*Flow) netip.Addr) *FilterField {
	return &FilterField{Name: name, Type: FilterAddress, Meaning: meaning, Nullable: true, get: func(f *Flow) FilterValue {
		if a := get(f); a.IsValid() {
			return FilterValue{Type: FilterAddress, Address: a}
		}
		return FilterValue{}
	}}
}

func timeField(name, meaning string, get func(*Flow) time.Time) *FilterField {
	return &FilterField{Name: name, Type: FilterTime, Meaning: meaning, Nullable: true, get: func(f *Flow) FilterValue {
		if t := get(f); !t.IsZero() {
			return FilterValue{Type: FilterTime, Time: t}
		}
		return FilterValue{}
	}}
}

// numberField is one whose values lie between 0 and high; what is higher counts as high.
func numberField(name, meaning string, high float64, get func(*Flow) float64) *FilterField {
	return &FilterField{Name: name, Type: FilterNumber, Meaning: meaning, High: high, get: func(f *Flow) FilterValue {
		return FilterValue{Type: FilterNumber, Number: min(max(get(f), 0), high)}
	}}
}

// maybeNumber is one that may be null: get says whether there is a value.
func maybeNumber(name, meaning string, high float64, get func(*Flow) (float64, bool)) *FilterField {
	return &FilterField{Name: name, Type: FilterNumber, Meaning: meaning, High: high, Nullable: true, get: func(f *Flow) FilterValue {
		v, ok := get(f)
		if !ok {
			return FilterValue{}
		}
		return FilterValue{Type: FilterNumber, Number: min(max(v, 0), high)}
	}}
}

// secondsField is a length of time that may not be known.
func secondsField(name, meaning string, get func(*Flow) (time.Duration, bool)) *FilterField {
	f := maybeNumber(name, meaning, maxFilterTime, func(f *Flow) (float64, bool) {
		d, ok := get(f)
		return seconds(d), ok
	})
	f.Seconds = true
	return f
}

// seconds is a duration to the microsecond, as a record keeps it.
func seconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

func mapField(name, meaning string, at func(*Flow, string) string) *FilterField {
	return &FilterField{Name: name, Type: FilterMap, Meaning: meaning, at: at}
}

func (f *FilterField) alias(names ...string) *FilterField {
	f.Aliases = names
	return f
}

func (f *FilterField) oneOf(values ...string) *FilterField {
	f.Values = values
	return f
}

// policy says that conditions have the field as well.
func (f *FilterField) policy() *FilterField {
	f.Policy = true
	return f
}
