package browsertest

import (
	"testing"
	"time"
)

var allPages = []struct{ name, hash string }{
	{"overview", "/"}, {"connections", "/connections"}, {"upstreams", "/upstreams"}, {"rules", "/rules"}, {"policy", "/policy"}, {"explain", "/explain"}, {"shadow", "/shadow"},
}

// TestPictures makes pictures of all pages, for the manual and for those who look.
func TestPictures(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots DIR")
	}
	r := newRig(t)
	for range 6 {
		r.life(2)
		time.Sleep(700 * time.Millisecond)
	}
	c := r.tunnel("api.partner.example:443", 5000)
	defer c.Close()
	d := r.tunnel("git.example:22", 100)
	defer d.Close()
	b := newTab(t, r)
	b.open(r, "/")
	for _, w := range []struct {
		name          string
		width, height int64
	}{{"wide", 1440, 1000}, {"phone", 360, 780}, {"4k", 3840, 2160}} {
		for _, scheme := range []string{"light", "dark"} {
			if w.name == "4k" && scheme == "dark" {
				continue
			}
			b.size(w.width, w.height)
			b.scheme(scheme)
			for _, p := range allPages {
				b.to(p.hash)
				time.Sleep(900 * time.Millisecond)
				b.shoot(p.name + "-" + w.name + "-" + scheme)
			}
		}
	}
}
