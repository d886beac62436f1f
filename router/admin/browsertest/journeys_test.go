package browsertest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestLogin(t *testing.T) {
	r := newRig(t)
	b := newTab(t, r)
	b.do(chromedp.Navigate("http://" + r.door + "/"))
	b.await("the box for the token", `document.activeElement.id === "token"`)
	b.do(chromedp.SendKeys("#token", "wrong-wrong-wrong-wrong"+kb.Enter))
	b.says("does not take this token")
	if kept := ask[string](b, `JSON.stringify(sessionStorage)`); strings.Contains(kept, "wrong") {
		t.Errorf("a wrong token is kept: %s", kept)
	}
	b.do(chromedp.SendKeys("#token", r.token+kb.Enter))
	b.says("Open connections", "edge-1.fra.example")
	if ask[bool](b, `Object.values(localStorage).join().includes("`+r.token+`") || document.cookie !== ""`) {
		t.Error("the token is kept for longer than the tab is there")
	}
	b.run(`document.getElementById("logout").click()`)
	b.await("the box again", `document.activeElement.id === "token" && sessionStorage.length === 0`)

	// With the token in the address nothing is asked, and the address does not keep it.
	b.do(chromedp.Navigate("http://" + r.door + "/?again#token=" + url.QueryEscape(r.token) + "&/upstreams"))
	b.says("corp_a", "jump")
	if at := ask[string](b, `location.href + JSON.stringify(performance.getEntriesByType("navigation").length)`); strings.Contains(at, "token") {
		t.Errorf("the address still has the token: %s", at)
	}
	if at := ask[string](b, `location.hash`); at != "#/upstreams" {
		t.Errorf("the page is %s", at)
	}
	b.run(`history.back()`)
	b.await("what was before", `!location.href.includes("`+r.token+`")`)
}

func TestLiveConnection(t *testing.T) {
	r := newRig(t)
	b := newTab(t, r)
	b.open(r, "/connections")
	b.says("No connection fits", "live")
	b.do(chromedp.Focus("#filter"))
	c := r.tunnel("git.example:22", 300)
	b.await("the row of an open connection", `document.querySelector(".connections tbody tr")?.innerText.includes("open")`)
	b.says("git.example:22", "default/otherwise", "1 open in all")
	if id := ask[string](b, `document.activeElement.id`); id != "filter" {
		t.Errorf("the focus went to %q", id)
	}
	b.run(`window.row = document.querySelector(".connections tbody tr")`)
	c.Close()
	b.await("the same row, ended", `window.row.isConnected && !window.row.innerText.includes("open") && window.row.innerText.includes("done")`)

	// Nothing moves while the table is held, and all of it is there afterwards.
	b.run(`document.querySelector(".live-line button[aria-pressed]").click()`)
	r.tunnel("mail.example:993", 10).Close()
	r.fails("chess.games.example:443")
	b.says("Show 2 new")
	if n := ask[int](b, `document.querySelectorAll(".connections tbody tr").length`); n != 1 {
		t.Errorf("%d rows while it was paused", n)
	}
	b.run(`document.querySelector(".live-line button[aria-pressed]").click()`)
	b.await("three rows", `document.querySelectorAll(".connections tbody tr").length === 3`)
	b.says("denied", "mail.example:993", "No new ones")

	// By heading, and back to how it was by going back.
	b.run(`[...document.querySelectorAll(".connections thead button")].find((x) => x.innerText.startsWith("Target")).click()`)
	b.await("sorted by target", `document.querySelector("th[aria-sort=ascending]")?.innerText.startsWith("Target") && document.querySelector(".connections tbody tr").innerText.includes("chess")`)
	if at := ask[string](b, `location.hash`); at != "#/connections?sort=target" {
		t.Errorf("the address is %s", at)
	}
}

func TestFilter(t *testing.T) {
	r := newRig(t)
	r.tunnel("mail.example:993", 10).Close()
	open := r.tunnel("git.example:22", 10)
	defer open.Close()
	r.fails("closed.far.example:80")
	b := newTab(t, r)
	b.open(r, "/connections")
	b.await("three rows", `document.querySelectorAll(".connections tbody tr").length === 3`)
	b.do(chromedp.SendKeys("#filter", `target.host == "git.example"`+kb.Enter))
	b.await("one row", `document.querySelectorAll(".connections tbody tr").length === 1`)
	b.says("git.example:22")
	// Only what fits comes by the stream, too.
	r.tunnel("mail.example:993", 10).Close()
	other := r.tunnel("git.example:22", 10)
	defer other.Close()
	b.await("two rows", `document.querySelectorAll(".connections tbody tr").length === 2`)

	b.run(`document.querySelector("#filter").value = ""`)
	b.do(chromedp.SendKeys("#filter", `target.hots == "git.example"`+kb.Enter))
	b.says("target.hots", "^")
	b.await("the field is marked", `document.querySelector("#filter").getAttribute("aria-invalid") === "true" && document.querySelector("#filter").getAttribute("aria-describedby").split(" ").some((id) => document.getElementById(id).innerText.includes("did you mean".slice(1)))`)
	b.shoot("filter-mistake")
	b.run(`document.querySelector("#filter").value = ""`)
	b.do(chromedp.SendKeys("#filter", `error.kind == "refused" || error.side == "hop"`+kb.Enter))
	b.await("the one that failed", `document.querySelectorAll(".connections tbody tr").length === 1 && document.querySelector("#filter-error").hidden`)
	b.says("closed.far.example:80", "failed")

	// The address says what was asked: it can be sent to somebody, and going back works.
	href := ask[string](b, `location.href`)
	b.to("/rules")
	b.says("partner api")
	b.run(`history.back()`)
	b.await("the same question", `location.href === `+quote(href)+` && document.querySelector("#filter").value.startsWith("error.kind") && document.querySelectorAll(".connections tbody tr").length === 1`)
}

// flows returns ids of flows to a target, the newest first.
func (r *rig) flows(target string) (ids []string) {
	r.t.Helper()
	b, code := r.get("/v1/connections?state=all")
	if code != 200 {
		b, _ = r.get("/v1/connections")
	}
	var x struct {
		Connections []struct{ ID, Target string }
	}
	if err := json.Unmarshal(b, &x); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range x.Connections {
		if c.Target == target {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func (r *rig) flow(target string) (id string) {
	until(r.t, "a record of "+target, func() bool {
		if ids := r.flows(target); len(ids) > 0 {
			id = ids[0]
		}
		return id != ""
	})
	return id
}

func TestFailedHop(t *testing.T) {
	r := newRig(t)
	r.fails("old.edge.example:443")
	r.fails("closed.far.example:80")
	b := newTab(t, r)
	b.open(r, "/connections/"+r.flow("old.edge.example:443"))
	b.says("hop 1 (edge) failed at TLS", "hop 1 failed", "expired", "default/old edge", "office.hcl:50")
	if n := ask[int](b, `document.querySelectorAll(".attempt .guilty").length`); n != 1 {
		t.Errorf("%d hops are marked", n)
	}
	if s := ask[string](b, `document.querySelector(".attempt .guilty").innerText`); !strings.Contains(s, "edge") || !strings.Contains(s, "failed") {
		t.Errorf("the marked hop says %q", s)
	}
	b.shoot("connection-failed-tls")
	// Its certificate is there with the verdict, and the record itself.
	b.await("the certificate", `[...document.querySelectorAll(".certs")].some((x) => x.innerText.includes("edge.corp.example") && x.innerText.includes("expired"))`)
	b.run(`[...document.querySelectorAll("summary")].at(-1).click()`)
	b.says(`"close_reason": "failed"`)
	// From the rule to its line.
	b.run(`document.querySelector(".answer a.place").click()`)
	b.await("the line of the rule", `document.activeElement.id === "L50" && document.activeElement.innerText.includes('rule "old edge"')`)
	b.shoot("policy-line")

	// Two hops: the second says that the server refused. It is not to blame for that.
	b.open(r, "/connections/"+r.flow("closed.far.example:80"))
	b.says("The way", "Where the time went")
	guilty := ask[string](b, `[...document.querySelectorAll(".attempt .guilty")].map((x) => x.innerText).join()`)
	if !strings.Contains(guilty, "failed") {
		t.Errorf("marked as guilty: %q", guilty)
	}
	b.shoot("connection-failed-server")
}

func TestOneConnection(t *testing.T) {
	r := newRig(t)
	c := r.tunnel("api.partner.example:443", 4000)
	defer c.Close()
	b := newTab(t, r)
	id := r.flow("api.partner.example:443")
	b.open(r, "/connections/"+id)
	b.says("It goes via", "corp_a > jump", "10.9.0.5:8443", "default/partner api", "office.hcl:41", "partner", "audited", "Where the time went")
	if n := ask[int](b, `document.querySelectorAll(".attempt .node").length`); n != 5 {
		t.Errorf("the chain has %d places, want client, Viaduct, corp_a, jump, server", n)
	}
	b.await("the door lets write", `[...document.querySelectorAll("button")].some((x) => x.innerText === "Close connection" && !x.hidden)`)
	b.shoot("connection-open")
	b.run(`[...document.querySelectorAll("button")].find((x) => x.innerText === "Close connection").click()`)
	b.says("It was closed")
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the tunnel is still open")
	}
	b.await("that it has ended", `!document.querySelector(".one-head").innerText.includes("open")`)
}

func TestUpstreamOutOfService(t *testing.T) {
	r := newRig(t)
	b := newTab(t, r)
	b.open(r, "/upstreams")
	b.await("the buttons", `document.querySelectorAll(".up .actions button").length === 4`)
	b.run(`[...document.querySelectorAll(".up")].find((x) => x.innerText.includes("corp_b")).querySelector("button").click()`)
	b.await("drained", `[...document.querySelectorAll(".up")].find((x) => x.innerText.includes("corp_b")).querySelector(".badge").innerText === "drained"`)
	b.says("No new flow goes through corp_b")
	b.await("the focus stays", `document.activeElement.innerText.startsWith("Put back")`)
	before := len(r.corpB.Requests())
	r.tunnel("mail.example:993", 10).Close()
	if n := len(r.corpB.Requests()); n != before {
		t.Errorf("%d requests came to it", n-before)
	}
	b.shoot("upstreams-drained")
	b.run(`document.activeElement.click()`)
	b.await("in service", `[...document.querySelectorAll(".up")].every((x) => x.querySelector(".badge").innerText !== "drained")`)
}

func TestRulesAndPolicy(t *testing.T) {
	r := newRig(t)
	r.life(1)
	b := newTab(t, r)
	b.open(r, "/rules")
	b.says("partner api", "never", "shadow", "office.hcl:63")
	b.run(`document.querySelector('.choice button[value="never"]').click()`)
	b.await("the one that took nothing", `document.querySelectorAll(".rulelist tbody tr").length === 1 && document.querySelector(".rulelist tbody").innerText.includes("night batch")`)
	b.run(`document.querySelector(".rulelist a.place").click()`)
	b.await("its line", `document.activeElement.id === "L63"`)
	if s := ask[string](b, `document.querySelector("#L63 .hcl-block").innerText + document.querySelector("#L63 .hcl-string").innerText`); s != `rule"night batch"` {
		t.Errorf("coloured: %s", s)
	}
	whole := ask[string](b, `[...document.querySelectorAll(".code code")].map((x) => x.textContent.replace("\u200b", "")).join("\n") + "\n"`)
	text, _ := r.get("/v1/config")
	var c struct{ Files []struct{ Text string } }
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if whole != c.Files[0].Text {
		t.Errorf("the text shown differs from that of the policy:\n%s", whole)
	}
	b.run(`[...document.querySelectorAll("button")].find((x) => x.innerText === "Reload the policy").click()`)
	b.says("Generation 2")
}

func TestExplain(t *testing.T) {
	r := newRig(t)
	b := newTab(t, r)
	b.open(r, "/explain")
	b.do(chromedp.SendKeys("#q-target", "https://api.partner.example/"+kb.Enter))
	b.says("allowed", "default/partner api", "10.9.0.5:8443", "host api.partner.example, port 443")
	b.await("the answer has the focus", `document.activeElement.classList.contains("decision")`)
	b.shoot("explain-answer")
	b.run(`document.querySelector("#q-target").value = ""`)
	b.do(chromedp.SendKeys("#q-target", "https://chess.games.example/"+kb.Enter))
	b.says("denied", "not during office hours")
	b.run(`document.querySelector("#q-target").value = ""`)
	b.do(chromedp.SendKeys("#q-target", "not a target at all"+kb.Enter))
	b.says("No answer")
}

func TestShadow(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.tunnel("cdn.shop.example:443", 1000).Close()
	}
	r.flow("cdn.shop.example:443")
	b := newTab(t, r)
	b.open(r, "/shadow")
	b.says("would have gone elsewhere", "soon through jump", "upstream.jump")
	b.shoot("shadow")
	b.run(`document.querySelector(".shadowlist tbody a").click()`)
	b.says("would have sent it via", "upstream.jump")
}

func TestReconnects(t *testing.T) {
	r := newRig(t)
	b := newTab(t, r)
	b.open(r, "/connections")
	b.says("live")
	r.stop()
	b.says("Gateway not reachable")
	b.await("the button to try", `[...document.querySelectorAll("#door button")].some((x) => x.innerText === "Try now")`)
	b.shoot("gateway-away")
	r.start()
	b.run(`document.querySelector("#door button")?.click()`)
	b.await("live again", `document.querySelector("#door").innerText.includes("live")`)
	c := r.tunnel("git.example:22", 10)
	defer c.Close()
	b.await("the row of an open connection", `document.querySelector(".connections tbody")?.innerText.includes("git.example:22")`)
}

func TestKeyboard(t *testing.T) {
	r := newRig(t)
	c := r.tunnel("git.example:22", 10)
	defer c.Close()
	b := newTab(t, r)
	b.open(r, "/")
	press := func(keys string, n int) {
		for range n {
			b.do(chromedp.KeyEvent(keys))
		}
	}
	focused := func() string {
		return ask[string](b, `(document.activeElement.innerText || document.activeElement.id || document.activeElement.tagName).slice(0, 60)`)
	}
	// seek presses Tab until something has the focus; on the way every place must be seen.
	seek := func(what string) {
		t.Helper()
		for range 80 {
			press(kb.Tab, 1)
			x := ask[struct {
				Text    string
				Visible bool
			}](b, `(() => { const e = document.activeElement, r = e.getBoundingClientRect(), s = getComputedStyle(e); return { Text: (e.innerText || e.id || e.tagName).slice(0, 200), Visible: e === document.body || (r.width > 0 && r.height > 0 && r.bottom > 0 && r.top < innerHeight && (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0)) } })()`)
			if !x.Visible {
				t.Errorf("the focus cannot be seen on %q", x.Text)
			}
			if strings.Contains(x.Text, what) {
				return
			}
		}
		t.Fatalf("the keyboard does not get to %q; it is at %q", what, focused())
	}
	b.run(`document.activeElement.blur()`)
	seek("Skip to the content")
	press(kb.Enter, 1)
	b.await("the content has the focus", `document.activeElement.id === "main"`)
	press(kb.Shift+kb.Tab, 0)
	b.run(`document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute("tabindex")`)
	seek("Connections")
	press(kb.Enter, 1)
	b.await("the page of connections, its heading focused", `document.activeElement.tagName === "H1" && document.activeElement.innerText === "Connections"`)
	b.await("the row", `document.querySelector(".connections tbody a") !== null`)
	seek("filter")
	b.do(chromedp.KeyEvent(`target.port == 22`))
	press(kb.Enter, 1)
	b.await("the question is asked", `location.hash.includes("target.port")`)
	seek("Target")
	press(kb.Enter, 1)
	b.await("sorted", `document.querySelector("th[aria-sort]")?.innerText.startsWith("Target") && document.activeElement.innerText.startsWith("Target")`)
	seek(":") // the time of the first row
	press(kb.Enter, 1)
	b.await("the page of one connection", `document.activeElement.tagName === "H1" && document.activeElement.innerText === "git.example:22"`)
	seek("office.hcl:")
	press(kb.Enter, 1)
	b.await("the policy", `document.activeElement.id.startsWith("L")`)
	press(kb.Tab, 3) // no trap
	if s := focused(); s == "" {
		t.Error("the focus is lost behind the policy")
	}
}

func TestReadOnly(t *testing.T) {
	r := newRig(t, func(p string) string { return strings.Replace(p, "write   = true", "write   = false", 1) })
	c := r.tunnel("git.example:22", 10)
	defer c.Close()
	b := newTab(t, r)
	for _, p := range []string{"/upstreams", "/policy", "/connections/" + r.flow("git.example:22")} {
		b.open(r, p)
		b.says("read-only")
		if s := ask[string](b, `[...document.querySelectorAll("main button")].filter((x) => x.checkVisibility()).map((x) => x.innerText).join()`); strings.Contains(s, "Close") || strings.Contains(s, "Take out") || strings.Contains(s, "Reload") {
			t.Errorf("%s: offers %s", p, s)
		}
	}
}

var _ = fmt.Sprint
