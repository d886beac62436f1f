package browsertest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

//go:embed testdata/axe.min.js
var axe string

// everyPage gives the addresses of all pages, with one failed and one open connection.
func everyPage(r *rig) []string {
	r.t.Helper()
	r.fails("old.edge.example:443")
	all := []string{"/", "/connections", "/upstreams", "/rules", "/policy", "/explain?target=https%3A%2F%2Fapi.partner.example%2F", "/shadow", "/connections/" + r.flow("old.edge.example:443"), "/connections/" + r.flow("git.example:22"), "/nothing"}
	return all
}

// settled waits until what a page asks for is there.
func (b *tab) settled(page string) {
	b.t.Helper()
	b.to(page)
	b.await("the page "+page, `location.hash === `+quote("#"+page)+` && document.querySelector("main h1") && document.querySelector(".page-body")?.childElementCount > 0 && !document.querySelector("[aria-busy]")`)
	time.Sleep(120 * time.Millisecond) // what is drawn in the next frames
}

func TestAccessible(t *testing.T) {
	r := newRig(t)
	r.life(1)
	c := r.tunnel("git.example:22", 10)
	defer c.Close()
	b := newTab(t, r)
	b.open(r, "/")
	b.do(chromedp.Evaluate[chromedp.Void](axe))
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		for _, p := range everyPage(r) {
			b.settled(p)
			text := ask[string](b, `axe.run(document, { resultTypes: ["violations"] }).then((r) => JSON.stringify(r.passes.length < 10 ? [{ id: "axe", help: "it has looked at next to nothing", nodes: [] }] : r.violations.map((v) => ({ id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 300) + " :: " + n.failureSummary) }))))`)
			var found []struct {
				ID, Help string
				Nodes    []string
			}
			if err := json.Unmarshal([]byte(text), &found); err != nil {
				t.Fatal(err)
			}
			for _, v := range found {
				t.Errorf("%s, %s: %s (%s)\n  %s", p, scheme, v.ID, v.Help, strings.Join(v.Nodes, "\n  "))
			}
		}
	}
}

func TestEveryWidth(t *testing.T) {
	r := newRig(t)
	r.life(1)
	c := r.tunnel("git.example:22", 10)
	defer c.Close()
	r.page("http://www.shop.example/" + strings.Repeat("long", 2000))
	b := newTab(t, r)
	b.open(r, "/")
	pages := everyPage(r)
	for _, width := range []int64{360, 768, 1440, 3840} {
		b.size(width, 900)
		for _, p := range pages {
			b.settled(p)
			x := ask[struct{ Scroll, Client int }](b, `({ Scroll: document.documentElement.scrollWidth, Client: document.documentElement.clientWidth })`)
			if x.Scroll > x.Client {
				wide := ask[string](b, `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).slice(0, 4).map((e) => e.tagName + "." + e.className).join(" ")`)
				t.Errorf("%s at %d: %d wide; %s", p, width, x.Scroll, wide)
			}
			if width == 360 {
				b.shoot(fmt.Sprintf("width-360-%s", strings.NewReplacer("/", "_", "?", "_", "%", "").Replace(p[:min(len(p), 20)])))
			}
		}
	}
	// The menu of a narrow page.
	b.size(360, 780)
	b.await("it is folded", `!document.querySelector("#nav").checkVisibility()`)
	b.run(`document.querySelector("#menu").click()`)
	b.await("it is open", `document.querySelector("#nav").checkVisibility() && document.querySelector("#menu").getAttribute("aria-expanded") === "true"`)
	b.shoot("phone-menu")
	b.run(`document.querySelector('#nav a[href="#/rules"]').click()`)
	b.await("it is folded again", `!document.querySelector("#nav").checkVisibility() && document.querySelector("h1").innerText === "Rules"`)
}

func TestColours(t *testing.T) {
	r := newRig(t)
	b := newTab(t, r)
	b.open(r, "/")
	ground := func() string { return ask[string](b, `getComputedStyle(document.body).backgroundColor`) }
	b.scheme("light")
	light := ground()
	b.scheme("dark")
	dark := ground()
	if light == dark {
		t.Fatalf("both are %s", light)
	}
	press := func(want, colour string) {
		t.Helper()
		b.run(`document.querySelector("#theme").click()`)
		b.await("the switch says "+want, `document.querySelector("#theme").innerText.includes(`+quote(want)+`)`)
		if got := ground(); got != colour {
			t.Errorf("%s: the ground is %s, want %s", want, got, colour)
		}
	}
	press("Light", light)
	press("Dark", dark)
	b.scheme("light")
	if ground() != dark {
		t.Error("the switch does not hold against the system's colours")
	}
	press("Auto", light)
}
