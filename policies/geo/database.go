package geo

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// MaxSize bounds a database, in bytes. GeoLite2-Country has 10 MB, GeoIP2-Enterprise some 400 MB.
const MaxSize = 1 << 30

// Database is an open database, which Watch exchanges for a newer one when its file changes. It is safe for concurrent use. The nil *Database knows
// of no country.
//
// The file is read into memory and not mapped: a mapped file that is overwritten or cut short in place (cp, rsync --inplace) would end the process by
// a signal at the next look-up.
type Database struct {
	path string
	now  atomic.Pointer[content]

	mu     sync.Mutex
	read   Mark      // of the file in use
	since  time.Time // when the one in use was read
	failed string    // why the file that is there now is not in use; "" = it is
	loads  uint64
}

// content is a database as it was read.
type content struct {
	reader *maxminddb.Reader
	size   int64
	broken atomic.Uint64 // look-ups that met broken data
}

// Info says what a database is.
type Info struct {
	Path   string
	Type   string    // "GeoLite2-Country"
	Built  time.Time // by who made it
	Since  time.Time // when it was read
	Size   int64     // in bytes
	Error  string    // why the file that is there now is not the one in use; "" = it is
	Loads  uint64    // how often a file was taken into use
	Broken uint64    // look-ups that met broken data, since it was read
}

// Open takes the content of a file, which must not change any more, and the mark that the file had before it was read.
func Open(path string, m Mark, data []byte) (*Database, error) {
	c, err := read(data)
	if err != nil {
		return nil, err
	}
	db := &Database{path: path, read: m, since: time.Now(), loads: 1}
	db.now.Store(c)
	return db, nil
}

// read opens a database, and looks through it for countries and faults.
func read(data []byte) (*content, error) {
	r, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("it is no complete database in the MaxMind DB format (%s)", plain(err))
	}
	if v := r.Metadata.BinaryFormatMajorVersion; v != 2 {
		return nil, fmt.Errorf("it is of version %d of the MaxMind DB format, and only version 2 is known", v)
	}
	if strings.ContainsFunc(r.Metadata.DatabaseType, func(c rune) bool { return c < ' ' || c > '~' }) || len(r.Metadata.DatabaseType) > 100 {
		return nil, errors.New("the name of its type is none")
	}
	c := &content{reader: r, size: int64(len(data))}
	return c, c.check()
}

const (
	maxChecked = 400_000 // networks that are looked at when a database is opened
	maxBarren  = 20_000  // of those, without a country before one is found
)

// check looks at many of the networks. A database whose records are about something else has no country in them.
func (c *content) check() error {
	n, full, found := 0, 0, false
	seen := map[uintptr]bool{} // records that many networks share
	// Empty networks and those that lead elsewhere are counted too: a tree that leads back into itself has no others, and no end.
	for res := range c.reader.Networks(maxminddb.IncludeNetworksWithoutData(), maxminddb.IncludeAliasedNetworks()) {
		if n++; n > maxChecked || full > maxBarren && !found {
			break
		}
		if err := res.Err(); err != nil {
			return fmt.Errorf("it is broken (%s)", plain(err))
		}
		if !res.Found() {
			continue
		}
		full++
		if seen[res.Offset()] {
			continue
		}
		if len(seen) < 1<<16 {
			seen[res.Offset()] = true
		}
		var r record
		if err := res.Decode(&r); err != nil {
			return fmt.Errorf("it is broken (%s)", plain(err))
		}
		found = found || r.code() != 0
	}
	if !found {
		return fmt.Errorf("it knows no countries: its type is %q. Country and City databases have them (GeoLite2-Country.mmdb)", c.reader.Metadata.DatabaseType)
	}
	return nil
}

// plain is an error on one line without the library's prefixes.
func plain(err error) string {
	s := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "error opening database: ")
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.ToValidUTF8(s, "?")
}

// Country is where an address is registered; 0 = it is not known. It neither blocks nor allocates.
func (db *Database) Country(a netip.Addr) Code {
	if db == nil || !a.IsValid() {
		return 0
	}
	c := db.now.Load()
	if a = a.Unmap().WithZone(""); a.Is6() && c.reader.Metadata.IPVersion == 4 {
		return 0
	}
	res := c.reader.Lookup(a)
	if !res.Found() {
		if res.Err() != nil {
			c.broken.Add(1)
		}
		return 0
	}
	r := records.Get().(*record)
	*r = record{}
	err := res.Decode(r)
	code := r.code()
	records.Put(r)
	if err != nil {
		c.broken.Add(1)
		return 0
	}
	return code
}

// Info says what db is. The zero Info is of the nil *Database.
func (db *Database) Info() Info {
	if db == nil {
		return Info{}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	c := db.now.Load()
	return Info{
		Path: db.path, Type: c.reader.Metadata.DatabaseType, Built: c.reader.Metadata.BuildTime().UTC(), Since: db.since, Size: c.size, Error: db.failed,
		Loads: db.loads, Broken: c.broken.Load(),
	}
}

// String names the database for people: "GeoLite2-Country of 2026-11-24".
func (db *Database) String() string {
	if db == nil {
		return "no database"
	}
	m := &db.now.Load().reader.Metadata
	return m.DatabaseType + " of " + m.BuildTime().UTC().Format(time.DateOnly)
}
