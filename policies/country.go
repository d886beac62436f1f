package policies

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"viaduct/connmodel"
	"viaduct/policies/geo"
)

// Tests of countries. They are made after all others that need nothing gathered; that of the target has its name resolved, as address has.

// geoBlock is the geoip block of the gateway.
type geoBlock struct {
	src       *hcl.Block
	db        *geo.Database // nil = it could not be opened, which has been reported
	warnAfter time.Duration
	used      bool
}

// GeoIPWarnAfter is how old a database may be unless the policy says otherwise.
const GeoIPWarnAfter = 30 * 24 * time.Hour

func (l *loader) buildGeoIP(x *hcl.Block) {
	b := l.open(x, geoipSchema)
	g := &geoBlock{src: x, warnAfter: b.duration("warn_after")}
	l.geo = g
	if g.warnAfter == 0 {
		g.warnAfter = GeoIPWarnAfter
	}
	if !b.need("file", `a database in the MaxMind DB format, such as "/var/lib/GeoIP/GeoLite2-Country.mmdb"`) {
		return
	}
	s := b.text("file")
	if s == "" {
		return
	}
	mark := geo.MarkOf(pathOf(b.rng("file"), s))
	data, full, ok := l.dataFile(b.rng("file"), s, geo.MaxSize, "GeoIP database")
	if !ok {
		return
	}
	db, err := geo.Open(full, mark, data)
	if err != nil {
		l.errorAt(b.rng("file"), "Not a GeoIP database", full+": "+strings.TrimSuffix(err.Error(), ".")+".")
		return
	}
	g.db = db
	if age := time.Since(db.Info().Built); age > g.warnAfter {
		l.warnAt(b.rng("file"), "Old GeoIP database", fmt.Sprintf("%s is %s, which is %d days old. Addresses change countries: let geoipupdate fetch a new one twice a week.", full, db, int(age.Hours()/24)))
	}
}

// countryOf is what conditions ask; nil without a geoip block.
func (l *loader) countryOf() func(netip.Addr) string {
	if l.geo == nil {
		return nil
	}
	g := l.geo
	return func(a netip.Addr) string { return g.db.Country(connmodel.Embedded(a)).Letters() }
}

// checkGeoIP warns of a database that nothing asks.
func (l *loader) checkGeoIP() {
	if l.geo != nil && !l.geo.used && !l.lost {
		l.warnAt(l.geo.src.DefRange, "Not used", "No rule asks for a country, so the database is read for nothing.")
	}
}

// countries are those that a test wants, the unknown among them.
type countries struct {
	words words
	set   geo.Set
	db    *geo.Database
}

func (b *block) countryTest(name string) *countries {
	a := b.attrs[name]
	if a == nil {
		return nil
	}
	c := &countries{}
	switch g := b.l.geo; {
	case g == nil:
		b.l.errorAt(a.NameRange, "No GeoIP database", fmt.Sprintf(`%q looks addresses up in a database: gateway { geoip { file = "/var/lib/GeoIP/GeoLite2-Country.mmdb" } } says where it is.`, name))
	default:
		c.db, g.used = g.db, true
	}
	for _, e := range b.entries(name) {
		code, err := geo.Parse(e.text)
		if err != nil {
			b.l.errorAt(e.r, "Unknown country", sentence(err.Error()))
			continue
		}
		c.words.add(e.text, 1)
		c.set.Add(code)
	}
	return c
}

// sentence ends a text with a full stop, if it has no end yet.
func sentence(s string) string {
	if s = upperFirst(s); !strings.HasSuffix(s, "?") && !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// codeOf looks an address up as the IPv4 address that it may be another spelling of.
func (c *countries) codeOf(a netip.Addr) geo.Code { return c.db.Country(connmodel.Embedded(a)) }

// holds never holds for an address that no database was asked about: without one nothing is known, not even that a country is unknown.
func (c *countries) holds(a netip.Addr) bool { return c.db != nil && c.set.Has(c.codeOf(a)) }

// holdClient never holds for a client on a Unix socket.
func (c *countries) holdClient(f *connmodel.Facts) bool {
	a := f.Client.Addr()
	return a.IsValid() && c.holds(a)
}

// takesCountry reports whether one of the target's addresses is in the countries.
func (t *tests) takesCountry(f *connmodel.Facts) verdict {
	switch {
	case f.TargetIP.IsValid():
		return verdictOf(t.countries.holds(f.TargetIP))
	case t.literal:
		return no
	case lacking(f):
		return unknown(connmodel.NeedAddresses)
	}
	for _, a := range f.Addresses {
		if t.countries.holds(a) {
			return yes
		}
	}
	return no
}

// countryTitle is a country for people: "DE (Germany)".
func countryTitle(c geo.Code) string {
	if n := c.Name(); n != "" {
		return fmt.Sprintf("%s (%s)", c, n)
	}
	return c.String()
}

func (c *countries) clientWords(f *connmodel.Facts) string {
	switch a := f.Client.Addr(); {
	case !a.IsValid():
		return "the client is on a Unix socket, and in no country"
	case c.db == nil:
		return "there is no GeoIP database here"
	default:
		return fmt.Sprintf("the country of client %s is %s by %s, not %s", a, countryTitle(c.codeOf(a)), c.db, c.words.of("countries"))
	}
}

func (c *countries) notWords(literal bool, f *connmodel.Facts) string {
	switch {
	case c.db == nil:
		return "there is no GeoIP database here"
	case f.TargetIP.IsValid():
		return fmt.Sprintf("the country of %s is %s by %s, not %s", f.TargetIP, countryTitle(c.codeOf(f.TargetIP)), c.db, c.words.of("countries"))
	case literal:
		return fmt.Sprintf("the target is the name %s, and resolve = false looks at literal addresses only", short(f.Target.Host))
	case len(f.Addresses) == 1:
		return fmt.Sprintf("the country of %s, address of %s, is %s by %s, not %s", f.Addresses[0], short(f.Target.Host), countryTitle(c.codeOf(f.Addresses[0])), c.db, c.words.of("countries"))
	}
	return fmt.Sprintf("none of the %d addresses of %s is in %s by %s", len(f.Addresses), short(f.Target.Host), c.words.of("countries"), c.db)
}

// yesWords names the address that is in one of the countries, and who says so.
func (c *countries) yesWords(f *connmodel.Facts) string {
	a := f.TargetIP
	for _, x := range f.Addresses {
		if !a.IsValid() && c.holds(x) {
			a = x
		}
	}
	return fmt.Sprintf("the country of %s is %s by %s", a, countryTitle(c.codeOf(a)), c.db)
}
