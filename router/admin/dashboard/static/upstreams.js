// The declared proxies: how they are, were, and what may be done about them.

import { el, fill, badge, value, facts } from "./dom.js";
import { get, send } from "./api.js";
import { announce, gateway, mayWrite, refresh, setQuery } from "./main.js";
import { choice, strip } from "./plot.js";
import { ago, clock, count, ms, words } from "./format.js";

const stateKinds = { up: "good", healthy: "good", unknown: "none", failing: "warn", half_open: "warn", down: "bad", ejected: "bad" };

export function stateBadge(u) {
  if (u.drained) return badge("pause", "drained", "An operator took it out of service");
  return badge(stateKinds[u.state] ?? "none", words(u.state));
}

const ranges = [["5m", "5 min"], ["1h", "1 hour"], ["24h", "1 day"]];

export default async function upstreams(ctx) {
  let range = ranges.some(([v]) => v === ctx.query.get("range")) ? ctx.query.get("range") : "1h";
  let history = null;
  const list = el("div.ups"), pools = el("section"), changes = el("section");
  fill(ctx.body, list, pools, changes);
  const cards = new Map();
  ctx.tools.append(choice("Time of the health shown", ranges, range, (r) => {
    range = r;
    setQuery({ range: r === "1h" ? "" : r });
    draw2();
  }));

  // A card is kept as long as its upstream is there, so that its buttons keep the focus.
  function card(u) {
    let c = cards.get(u.name);
    if (!c) {
      const id = `up-${cards.size}`;
      c = { head: el("div.up-head"), state: el("div"), line: el("div.health"), facts: el("div"), actions: el("div.actions"), said: el("p.said", { role: "status" }) };
      c.node = el("article.card.up", { "aria-labelledby": id }, c.head, c.line, c.facts, c.actions, c.said);
      fill(c.head, el("h2", { id }, value(u.name)), c.state);
      cards.set(u.name, c);
    }
    fill(c.state, stateBadge(u));
    const cr = u.credential, k = u.check;
    fill(c.facts, facts([
      ["Address", el("span.mono", null, value(`${u.scheme}://${u.address}`))],
      ["Open", `${count(u.open)}${u.max_connections ? ` of at most ${count(u.max_connections)}` : ""}`],
      ["Attempts", `${count(u.attempts_total)}, ${count(u.failures_total)} failed by its fault`],
      ["Why", u.why && value(u.why)],
      ["Last error", u.last_error && [value(u.last_error), el("span.muted", null, ` ${ago(u.last_error_time)}`)]],
      ["Check", k && [badge(k.at ? (k.ok ? "good" : "bad") : "none", k.at ? (k.ok ? "well" : "failed") : "not yet"), " ", value(k.check), k.at && el("span.muted", null, ` ${ago(k.at)}, took ${ms(k.took_ms)}`), k.error && el("div", null, value(k.error)), k.short && el("div.muted", null, value(k.short))]],
      ["Credential", cr && [badge(cr.state === "closed" ? "bad" : cr.state === "proven" ? "good" : "none", cr.state), " ", value(cr.name), cr.schemes?.length ? el("span.muted", null, ` by ${cr.schemes.join(", ")}`) : "", cr.why && el("div", null, value(cr.why)),
        cr.clients && el("div.muted", null, `${count(cr.clients.proven)} logins of clients proven, ${count(cr.clients.closed)} closed`)]],
    ]));
    const want = mayWrite() ? `${u.drained}${cr?.state === "closed"}` : "";
    if (c.want !== want) {
      c.want = want;
      fill(c.actions, want && [
        el("button", { type: "button", click: (e) => act(c, e.currentTarget, u.drained ? "undrain" : "drain", u) }, u.drained ? "Put back into service" : "Take out of service", el("span.visually-hidden", null, ` ${u.name}`)),
        cr?.state === "closed" && el("button", { type: "button", click: (e) => act(c, e.currentTarget, "reset", u) }, "Show its credential again"),
      ]);
    }
    return c;
  }

  async function act(c, button, verb, u) {
    button.disabled = true;
    try {
      const r = await send("POST", `/v1/upstreams/${encodeURIComponent(u.name)}/${verb}`);
      const text = verb === "drain" ? `No new flow goes through ${u.name}; ${count(r.open)} open connections live on.` : verb === "undrain" ? `${u.name} takes flows again.` : `The credential of ${u.name} will be shown once more.`;
      fill(c.said, text);
      announce(text);
      await refresh();
      c.actions.querySelector("button")?.focus();
    } catch (e) {
      fill(c.said, e.message);
      button.disabled = false;
    }
  }

  function drawHealth(u) {
    const c = cards.get(u.name);
    const h = history?.upstreams.find((x) => x.name === u.name);
    if (!c || !history) return;
    if (!h) return void fill(c.line, el("p.muted", null, "No history is kept of it: there are too many upstreams."));
    const states = h.up.map((up, i) => (up == null ? "" : up === 0 ? "down" : h.failures[i] > 0 ? "ill" : h.attempts[i] > 0 ? "used" : "idle"));
    const known = states.filter(Boolean).length, down = states.filter((s) => s === "down").length, ill = states.filter((s) => s === "ill").length;
    const share = known ? `up ${(100 * (1 - down / known)).toFixed(down && down / known < 0.1 ? 1 : 0)} % of the time` : "nothing known of this time";
    fill(c.line, strip({ states, label: `Health of ${u.name}: ${share}, failures in ${ill} of ${known} steps` }), el("div.strip-words", null, el("span", null, clock(history.times[0] * 1000, { seconds: false })), el("span", null, share), el("span", null, "now")));
  }

  function draw(s) {
    const names = new Set(s.upstreams.map((u) => u.name));
    for (const [name, c] of cards) {
      if (!names.has(name)) {
        c.node.remove();
        cards.delete(name);
      }
    }
    list.querySelector(".empty")?.remove();
    if (!s.upstreams.length) list.append(el("p.empty", null, "The policy declares no upstream: everything goes directly."));
    s.upstreams.forEach((u, i) => {
      const { node } = card(u);
      if (list.children[i] !== node) list.insertBefore(node, list.children[i] ?? null);
      drawHealth(u);
    });
    fill(pools, s.pools.length > 0 && [el("h2", null, "Pools"), s.pools.map((p) => el("div.card.scroll", { tabindex: 0, role: "region", "aria-label": `Pool ${p.name}` },
      el("h3", null, value(p.name), " ", el("span.muted", null, words(p.select))),
      p.retries_refused_total > 0 && el("p.muted", null, `${count(p.retries_refused_total)} retries were not allowed by the budget`),
      el("table.small", null, el("caption.visually-hidden", null, `Members of pool ${p.name}`),
        el("thead", null, el("tr", null, ["Member", "State", "Open", "Connect", "Ejections", "Why"].map((x, i) => el(i > 1 && i < 5 ? "th.num" : "th", { scope: "col" }, x)))),
        el("tbody", null, p.members.map((m) => el("tr", null, el("th", { scope: "row" }, value(m.route)), el("td", null, stateBadge(m), m.until && el("div.muted", null, `until ${clock(m.until)}`)), el("td.num", null, count(m.open)), el("td.num", null, m.connect_ms ? ms(m.connect_ms) : "–"), el("td.num", null, count(m.ejections_total)), el("td", null, value(m.why || m.last_error || "", { max: 200 })))))))) ]);
  }

  async function draw2() {
    const wanted = range;
    const h = await get(`/v1/history?range=${range}`, { signal: ctx.signal });
    if (wanted !== range) return;
    history = h;
    for (const u of gateway.status?.upstreams ?? []) drawHealth(u);
    fill(changes, el("h2", null, "Changes"), h.changes.length ? el("table.small.card", null, el("caption.visually-hidden", null, "Changes of state, newest first"),
      el("thead", null, el("tr", null, ["Time", "Upstream", "From", "To"].map((x) => el("th", { scope: "col" }, x)))),
      el("tbody", null, h.changes.toReversed().slice(0, 100).map((c) => el("tr", null, el("th", { scope: "row" }, clock(c.time)), el("td", null, value(c.upstream)), el("td", null, c.from ? stateBadge({ state: c.from }) : "not there"), el("td", null, c.to ? stateBadge({ state: c.to }) : "not there")))))
      : el("p.muted", null, "No upstream changed its state in this time."));
  }

  gateway.watchers.add(draw);
  ctx.signal.addEventListener("abort", () => gateway.watchers.delete(draw));
  if (gateway.status) draw(gateway.status);
  ctx.every(5, () => refresh(ctx.signal));
  ctx.every(10, draw2);
}
