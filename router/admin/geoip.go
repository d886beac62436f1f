package admin

import "time"

// GeoIPStatus is the database that says in which country an address is.
type GeoIPStatus struct {
	Path   string    `json:"path"`
	Type   string    `json:"type"`            // "GeoLite2-Country"
	Built  time.Time `json:"built"`           // by who made it
	Since  time.Time `json:"since"`           // when it was read
	Old    bool      `json:"old"`             // it is older than the policy wants it
	Size   int64     `json:"size"`            // in bytes
	Error  string    `json:"error,omitempty"` // why the file that is there now is not in use
	Loads  uint64    `json:"loads_total"`     // files taken into use since the configuration was applied
	Broken uint64    `json:"broken_total"`    // look-ups that met broken data
}

var (
	descGeoIPBuilt  = desc("geoip_build_timestamp_seconds", "When the GeoIP database in use was built.")
	descGeoIPFresh  = desc("geoip_fresh", "1 when the GeoIP database in use is that of the file and not older than the policy wants it.")
	descGeoIPBroken = desc("geoip_broken_lookups_total", "Look-ups that met broken data in the GeoIP database in use.")
)
