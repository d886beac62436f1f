package geo

import (
	"sync"

	"github.com/oschwald/maxminddb-golang/v2/mmdbdata"
)

// record is what is wanted of one: MaxMind and DB-IP write {"country": {"iso_code": "DE"}}, IPinfo {"country": "DE"} or
// {"country_code": "DE"}.
type record struct {
	Country place `maxminddb:"country"`
	Code    place `maxminddb:"country_code"`
}

func (r *record) code() Code {
	if r.Country.code != 0 {
		return r.Country.code
	}
	return r.Code.code
}

// records are decoded into, so that a look-up allocates nothing.
var records = sync.Pool{New: func() any { return new(record) }}

// place is a country as text, or as a map that has it.
type place struct{ code Code }

// maxFields bounds the entries of a country's map: there are six.
const maxFields = 64

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler. What has another form is no country.
func (p *place) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	kind, err := c.Kind()
	if err != nil {
		return c, err
	}
	switch kind {
	case mmdbdata.KindString:
		return p.text(c)
	case mmdbdata.KindMap:
		return p.fields(c)
	}
	return c.Skip()
}

func (p *place) text(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	s, next, err := c.ReadString()
	if err == nil {
		if k := codeOf(s); k != 0 {
			p.code = k
		}
	}
	return next, err
}

func (p *place) fields(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	m, err := c.Map()
	if err != nil {
		return c, err
	}
	if m.Size() > maxFields {
		return c.Skip()
	}
	var next mmdbdata.Cursor
	for {
		key, value, ok := m.Next(next)
		if !ok {
			break
		}
		kind, err := value.Kind()
		if err != nil {
			return c, err
		}
		if string(key) == "iso_code" && kind == mmdbdata.KindString {
			next, err = p.text(value)
		} else {
			next, err = value.Skip()
		}
		if err != nil {
			return c, err
		}
	}
	if err := m.Err(); err != nil {
		return c, err
	}
	return m.End()
}
