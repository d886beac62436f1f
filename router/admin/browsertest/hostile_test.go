package browsertest

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// hostile are texts that would do something where a page is made of strings.
var hostile = []string{
	`<img src=x onerror=alert(1)>`,
	`"><script>alert(2)</script>`,
	`' onmouseover='alert(3)`,
	`</title><svg/onload=alert(4)>`,
	"moc.live\u202egro.knab", // read from right to left
	`javascript:alert(5)`,
	`{{constructor.constructor('alert(6)')()}}`,
}

func TestHostileText(t *testing.T) {
	quoted := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", "$${").Replace(s) + `"`
	}
	r := newRig(t, func(p string) string {
		// Names of rules, reasons and tags come from the policy: also there somebody may have pasted something.
		return strings.Replace(p, `  rule "no games" {`, `  rule `+quoted(hostile[0])+` {
    match { host = "rule.hostile.example" }
    deny { reason = `+quoted(hostile[1])+` }
  }
  rule `+quoted(hostile[3])+` {
    match { path = "/hostile*" }
    via  = pool.corp
    tags = ["<svg/onload=alert(1)>", "<b>tag</b>"]
  }
  rule "no games" {`, 1)
	})
	r.fails("rule.hostile.example:443")
	for i, s := range hostile {
		r.socks(s, 443)
		escaped := strings.ReplaceAll(s, " ", "%20")
		r.page("http://www.shop.example/hostile" + string(rune('a'+i)) + strings.Map(func(c rune) rune {
			if c < 0x21 || c > 0x7e {
				return -1
			}
			return c
		}, escaped))
	}
	r.page("http://www.shop.example/hostile" + strings.Repeat("<b>x</b>", 10_000/8))
	b := newTab(t, r)
	check := func(where string) {
		t.Helper()
		found := ask[string](b, `[...document.querySelectorAll("script, img, iframe, svg, object, embed, style, a")].filter((e) =>
			e.matches("script:not([src='/ui/main.js']), img:not([src='/ui/icon.svg']), iframe, object, embed, style, main bdi *:not(.esc):not(.muted)") || [...e.attributes].some((a) => /^on/i.test(a.name)) || (e.href?.baseVal ?? e.href ?? "").startsWith("javascript:")).map((e) => e.outerHTML).join("\n")`)
		if found != "" {
			t.Errorf("%s: text has become elements:\n%s", where, found)
		}
		if ask[bool](b, `document.body.innerText.includes("\u202e")`) {
			t.Errorf("%s: a character that turns the direction is in the page", where)
		}
	}
	b.open(r, "/connections")
	b.await("rows", `document.querySelectorAll(".connections tbody tr").length > 7`)
	b.says("<img src=x onerror=alert(1)>")
	check("connections")
	b.shoot("hostile-connections")
	ids := ask[[]string](b, `[...document.querySelectorAll(".connections tbody a[href*='/connections/']")].map((a) => a.getAttribute("href").slice(1)).filter((_, i) => i % 2 == 0).slice(0, 10)`)
	for i, id := range ids {
		b.to(id)
		b.await("the page of a connection", `document.querySelector(".one .facts") !== null && location.hash === `+quote("#"+id))
		b.run(`document.querySelectorAll("details").forEach((d) => { d.open = true; })`)
		if i == 0 {
			time.Sleep(300 * time.Millisecond)
			b.shoot("hostile-connection")
		}
		check(id)
	}
	b.to("/rules")
	b.says(hostile[0])
	check("rules")
	b.to("/policy")
	b.says(hostile[3])
	check("policy")
	for _, s := range []string{hostile[0], hostile[3], hostile[4]} {
		b.to("/explain?" + url.Values{"target": {"http://www.shop.example/hostile" + s}, "user": {s}, "client": {s}}.Encode())
		b.await("an answer", `document.querySelector(".answer > *") !== null`)
		check("explain " + s)
		b.to("/connections?" + url.Values{"filter": {s}}.Encode())
		b.await("the mistake", `!document.querySelector("#filter-error").hidden`)
		check("filter " + s)
		b.to("/policy?" + url.Values{"file": {s}, "line": {s}}.Encode())
		b.says("has no file")
		check("file " + s)
		b.to("/connections/" + url.PathEscape(s))
		b.await("no such connection", `document.querySelector(".page-body").innerText.length > 10`)
		check("id " + s)
		b.to("/" + s)
		b.says("There is no such page")
		check("page " + s)
	}
	// The log of what the browser had to stop, and of dialogs, is looked at when the tab ends.
}
