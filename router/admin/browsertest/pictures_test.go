package browsertest

import (
	"slices"
	"testing"
	"time"
)

type pageOf struct{ name, hash string }

var allPages = []pageOf{
	{"overview", "/"}, {"connections", "/connections"}, {"upstreams", "/upstreams"}, {"rules", "/rules"}, {"policy", "/policy"}, {"explain", "/explain"}, {"shadow", "/shadow"},
}

// TestPictures makes pictures of all pages, for the manual and for those who look.
func TestPictures(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots DIR")
	}
	r := newRig(t)
	for i := range 40 { // so that the plots have something to show
		r.life(1 + i%3)
		time.Sleep(time.Second)
	}
	c := r.tunnel("api.partner.example:443", 5000)
	defer c.Close()
	d := r.tunnel("git.example:22", 100)
	defer d.Close()
	b := newTab(t, r)
	b.open(r, "/")
	failed := r.flow("old.edge.example:443")
	pages := append(slices.Clone(allPages), pageOf{"connection", "/connections/" + failed}, pageOf{"explained", "/explain?target=https%3A%2F%2Fapi.partner.example%2F"}, pageOf{"open", "/connections/" + r.flow("api.partner.example:443")})
	for _, w := range []struct {
		name          string
		width, height int64
	}{{"wide", 1280, 860}, {"phone", 360, 780}, {"4k", 3840, 2160}} {
		for _, scheme := range []string{"light", "dark"} {
			if w.name == "4k" && scheme == "dark" {
				continue
			}
			b.size(w.width, w.height)
			b.scheme(scheme)
			for _, p := range pages {
				b.to(p.hash)
				time.Sleep(600 * time.Millisecond)
				b.shoot(p.name + "-" + w.name + "-" + scheme)
			}
		}
	}
}
