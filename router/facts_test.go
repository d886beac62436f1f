package router

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"viaduct/connmodel"
)

// factsKept holds what every decision of a test was made from against what its record says of it, after that has been written and read. Every test
// that starts a gateway has one.
type factsKept struct {
	Log
	sink connmodel.Sink

	mu     sync.Mutex
	facts  map[connmodel.ID]*connmodel.Facts
	wrong  []string
	fields []string
}

func keepFacts(o *Options, c *Config) *factsKept {
	k := &factsKept{Log: o.Log, sink: o.Records, facts: map[connmodel.ID]*connmodel.Facts{}, fields: []string{"accept", "user-agent", "x-none"}}
	if k.Log == nil {
		k.Log = noLog{}
	}
	o.Log = k
	if o.Records != nil {
		o.Records = k
	}
	for i := range c.Listeners {
		if c.Listeners[i].Headers == nil {
			c.Listeners[i].Headers = k.fields
		}
	}
	return k
}

func (k *factsKept) Decision(f FlowLine) {
	own := *f.Facts
	own.Addresses = slices.Clone(own.Addresses)
	if own.Request != nil {
		q := *own.Request
		var kept connmodel.Gathered
		if g := own.Gather(connmodel.Address{}, k.fields); g != nil {
			kept.Headers = g.Headers
		}
		q.Header = headerList(kept.Headers)
		own.Request = &q
	}
	k.mu.Lock()
	k.facts[f.Flow] = &own
	k.mu.Unlock()
	k.Log.Decision(f)
}

type headerList []connmodel.HeaderSample

func (h headerList) Lookup(name string, i int) (string, bool) {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) && i < len(f.Values) {
			return f.Values[i], true
		}
	}
	return "", false
}

func (k *factsKept) Record(f *connmodel.Flow) {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.facts[f.ID]
	delete(k.facts, f.ID)
	if was != nil {
		var back connmodel.Flow
		if err := json.Unmarshal(f.AppendJSON(nil), &back); err != nil {
			k.wrong = append(k.wrong, err.Error())
		} else if d := k.differ(was, &back); d != "" && len(k.wrong) < 5 {
			k.wrong = append(k.wrong, fmt.Sprintf("%s\ndecided from %+v\nthe record is %s", d, was, f.AppendJSON(nil)))
		}
	}
	k.sink.Record(f)
}

// differ says what the record does not give back.
func (k *factsKept) differ(was *connmodel.Facts, f *connmodel.Flow) string {
	is, missing := f.Facts()
	if missing&connmodel.MissingCut != 0 {
		return "it says that it was cut"
	}
	for _, x := range []struct {
		what    string
		was, is any
	}{
		{"listener", was.Listener, is.Listener}, {"client", was.Client, is.Client}, {"user", was.User, is.User}, {"protocol", was.Protocol, is.Protocol},
		{"target", was.Target, is.Target}, {"address", was.TargetIP, is.TargetIP}, {"scheme", was.Scheme, is.Scheme}, {"tunnel", was.Tunnel, is.Tunnel},
		{"unread", []bool{was.HelloUnread, was.RequestUnread}, []bool{is.HelloUnread, is.RequestUnread}}, {"misdirected", was.Misdirected(), is.Misdirected()},
	} {
		if fmt.Sprint(x.was) != fmt.Sprint(x.is) {
			return fmt.Sprintf("%s was %v, is %v", x.what, x.was, x.is)
		}
	}
	switch {
	case !was.Time.Equal(is.Time):
		return fmt.Sprintf("time was %v, is %v", was.Time, is.Time)
	case was.Have&^is.Have != 0 && was.Have&^is.Have != connmodel.NeedAddresses:
		return fmt.Sprintf("had %v, is %v", was.Have, is.Have)
	case was.Have&connmodel.NeedAddresses != 0 && len(was.Addresses) <= 16 && !slices.Equal(was.Addresses, is.Addresses):
		return fmt.Sprintf("addresses were %v, are %v", was.Addresses, is.Addresses)
	case was.Hello != nil && fmt.Sprintf("%+v", was.Hello) != fmt.Sprintf("%+v", is.Hello):
		return fmt.Sprintf("the hello was %+v, is %+v", was.Hello, is.Hello)
	case was.Request == nil:
		return ""
	case is.Request == nil:
		if len(was.Request.Path) >= 2048 || len(was.Request.Method) >= 1024 {
			return ""
		}
		return "the request is gone"
	case was.Request.Method != is.Request.Method || was.Request.Path != is.Request.Path:
		return fmt.Sprintf("the request was %+v, is %+v", was.Request, is.Request)
	}
	for _, name := range k.fields {
		for i := range 4 {
			a, there := was.Request.Header.Lookup(name, i)
			b, still := is.Request.Header.Lookup(name, i)
			if (a != b || there != still) && string([]rune(a)) != b { // each octet that is no UTF-8 is replaced
				return fmt.Sprintf("field %s was %q, is %q", name, a, b)
			}
		}
	}
	return ""
}

func (k *factsKept) report() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wrong
}
