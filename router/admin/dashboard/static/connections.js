// Connections as they come and go, and those of the journal.

import { el, fill, value } from "./dom.js";
import { get, query, Problem } from "./api.js";
import { announce, setQuery } from "./main.js";
import { table } from "./table.js";
import { choice } from "./plot.js";
import { row, outcomeBadge, place, link } from "./record.js";
import { bytes, clock, count, ms } from "./format.js";

const LOT = 1000; // records asked for at once
const MOST = 10_000; // rows kept
const PACE = 250; // ms between drawings

const columns = [
  { key: "start", name: "Began", first: "down", sort: (r) => r.start, cls: "c-time", cell: (r) => [link(r.id, clock(r.start))] },
  { key: "target", name: "Target", sort: (r) => r.target, cls: "c-target", cell: (r) => [el("div.clip", null, r.target ? value(r.target, { max: 600 }) : el("i.muted", null, "no target")), el("div.sub", null, r.protocol, r.error && [" · ", value(r.error, { cls: "bad-text" })])] },
  { key: "outcome", name: "Outcome", sort: (r) => outcomeWord(r), cls: "c-outcome", cell: (r) => outcomeBadge(r) },
  { key: "client", name: "Client", sort: (r) => `${r.client} ${r.user}`, cls: "c-client", cell: (r) => [el("div.clip", null, value(r.client, { max: 60 })), el("div.sub.clip", null, r.user ? value(r.user, { max: 60 }) : value(r.listener, { max: 60 }))] },
  { key: "rule", name: "Rule", sort: (r) => r.rule, cls: "c-rule", cell: (r) => [el("div.clip", null, value(r.rule, { max: 80 })), el("div.sub.clip", null, place(r.file, r.line))] },
  { key: "route", name: "Route", sort: (r) => r.route, cls: "c-route", cell: (r) => el("div.clip", null, value(r.route, { max: 120 })) },
  { key: "bytes", name: "Bytes", first: "down", sort: (r) => r.up + r.down, cls: "num c-bytes", cell: (r) => (r.open && !r.up && !r.down ? "–" : [el("div", null, bytes(r.down), " ", el("span.muted", null, "↓"), el("span.visually-hidden", null, "down")), el("div.sub", null, bytes(r.up), " ↑", el("span.visually-hidden", null, "up"))]) },
  { key: "duration", name: "Took", first: "down", sort: (r) => (r.open ? Date.now() - r.start : r.ms), cls: "num c-took", cell: (r) => (r.open ? el("span.muted", null, "open") : ms(r.ms)) },
];

const outcomeWord = (r) => (r.open ? "0" : r.error || r.reason);

const sinces = [["", "any time"], ["15m", "15 min"], ["1h", "1 hour"], ["24h", "1 day"], ["7d", "7 days"]];

export default async function connections(ctx) {
  const q = Object.fromEntries(ctx.query);
  const at = { state: ["open", "closed"].includes(q.state) ? q.state : "all", filter: q.filter ?? "", since: q.since ?? "", until: q.until ?? "", sort: q.sort ?? "-start" };
  const rows = new Map(); // id → row
  let held = new Map(), paused = false, cursor = null, openCount = null, dirty = false, timer = 0, lagged = 0, journal = true, changed = false;
  let turn = 0; // of the questions: an answer to an old one is not wanted

  // --- the question
  const field = el("input", { id: "filter", type: "text", name: "filter", autocomplete: "off", autocapitalize: "off", spellcheck: "false", value: at.filter, placeholder: 'target.host == "api.example" && error.kind == "refused"', "aria-describedby": "filter-help filter-error", maxlength: 4000 });
  field.value = at.filter;
  const wrong = el("pre.wrap.trouble", { id: "filter-error", hidden: true });
  const form = el("form.filter", { role: "search", "aria-label": "Connections", submit: (e) => (e.preventDefault(), apply({ filter: field.value.trim() })) },
    el("label", { for: "filter" }, "Filter"), el("div.filter-line", null, field, el("button.primary", { type: "submit" }, "Apply"), el("button", { type: "button", click: () => ((field.value = ""), apply({ filter: "" }), field.focus()) }, "Clear")),
    el("p.help", { id: "filter-help" }, "An expression over the names of policies and records, such as ", el("code", null, 'target.host'), ", ", el("code", null, "client.user"), ", ", el("code", null, "rule"), ", ", el("code", null, "error.hop_name"), ", ", el("code", null, "duration"), "."), wrong);
  const since = el("input", { id: "since", type: "text", autocomplete: "off", spellcheck: "false", size: 12, placeholder: "1h" });
  const until = el("input", { id: "until", type: "text", autocomplete: "off", spellcheck: "false", size: 12, placeholder: "now" });
  since.value = at.since;
  until.value = at.until;
  const times = el("form.times", { submit: (e) => (e.preventDefault(), apply({ since: since.value.trim(), until: until.value.trim() })) },
    el("label", { for: "since" }, "Since"), since, el("label", { for: "until" }, "Until"), until, el("button", { type: "submit" }, "Show"));
  const quick = el("div.choice", { role: "group", "aria-label": "Ended within" }, sinces.map(([v, text]) => el("button", { type: "button", value: v, "aria-pressed": String(v === at.since && !at.until), click: () => { since.value = v; until.value = ""; apply({ since: v, until: "" }); } }, text)));

  // --- what is live
  const pauseButton = el("button", { type: "button", "aria-pressed": "false", click: () => setPaused(!paused) }, "Pause");
  const more = el("button.new", { type: "button", disabled: true, click: () => { release(); t.page = 0; draw(); } }, "No new ones");
  const summary = el("p.summary");
  const older = el("button", { type: "button", hidden: true, click: () => load(cursor) }, "Load older ones");
  const t = table({
    caption: "Connections", columns, key: (r) => r.id, print: (r) => `${r.open}${r.up}.${r.down}.${r.ms}.${r.error}.${r.route}`, sort: at.sort,
    empty: "No connection fits.", onSort: (s) => save({ sort: s }), onPage: () => draw(), rowClass: (r) => (r.fresh ? "fresh" : ""),
  });
  t.node.classList.add("connections");

  fill(ctx.body, el("div.card.controls", null, form, el("div.controls-line", null, choice("Which", [["all", "All"], ["open", "Open"], ["closed", "Ended"]], at.state, (v) => apply({ state: v })), quick, times)),
    el("div.live-line", null, summary, more, pauseButton), t.node, el("div.foot", null, t.pager, older));

  function save(change) {
    Object.assign(at, change);
    setQuery({ state: at.state === "all" ? "" : at.state, filter: at.filter, since: at.since, until: at.until, sort: at.sort === "-start" ? "" : at.sort });
  }

  function apply(change) {
    save(change);
    for (const b of quick.children) b.setAttribute("aria-pressed", String(b.value === at.since && !at.until));
    t.page = 0;
    begin();
  }

  async function begin() {
    turn++;
    held = new Map();
    lagged = 0;
    wrong.hidden = true;
    field.removeAttribute("aria-invalid");
    ctx.listen(null);
    const asked = performance.now();
    if (!(await load(null))) return;
    if (at.until) return; // nothing that comes now belongs to it
    ctx.listen({
      types: "connection_opened,connection_closed", filter: at.filter, event, restored: () => reload(), opened: () => catchUp(asked),
      lagged: (n) => {
        lagged += n;
        announce(`${count(n)} events were missed`);
        later();
      },
    });
  }

  // reload asks again for what is shown, after something may have been missed. What is loaded stays until the answer is there.
  async function reload() {
    const asked = performance.now();
    if (!ctx.signal.aborted && (await load(null))) catchUp(asked);
  }

  // catchUp takes what happened between the question and the first event, by the gateway's own clock.
  async function catchUp(asked) {
    const mine = turn;
    try {
      const a = await get(`/v1/connections${query({ state: journal ? at.state : "open", filter: at.filter, since: `${Math.ceil((performance.now() - asked) / 1000) + 1}s`, limit: LOT })}`, { signal: ctx.signal });
      if (mine !== turn || ctx.signal.aborted) return;
      for (const f of a.connections) event(f.timestamp_end ? "connection_closed" : "connection_opened", f);
      later();
    } catch { /* the stream tells what is new, and a door that is away is said at the top */ }
  }

  async function load(from) {
    const mine = ++turn;
    t.node.setAttribute("aria-busy", "true");
    older.disabled = true;
    try {
      const ask = (state) => get(`/v1/connections${query({ state, filter: at.filter, since: at.since, until: at.until, limit: LOT, cursor: from })}`, { signal: ctx.signal });
      let a;
      try {
        a = await ask(journal ? at.state : "open");
      } catch (e) {
        if (!(e instanceof Problem && e.status === 404 && at.state !== "open")) throw e;
        journal = false; // none is kept: what is open can be shown all the same
        a = await ask("open");
      }
      if (mine !== turn || ctx.signal.aborted) return false;
      if (!from) rows.clear();
      for (const f of a.connections) rows.set(f.id, row(f));
      cursor = a.next;
      openCount = a.open;
      older.hidden = !cursor || rows.size >= MOST;
      ctx.body.querySelector(":scope > .trouble")?.remove();
      draw();
      if (from) announce(`${count(rows.size)} connections`);
      return true;
    } catch (e) {
      if (ctx.signal.aborted || mine !== turn) return false;
      if (e instanceof Problem && e.status === 400) {
        fill(wrong, value(e.message, { max: 4000, lines: true }));
        wrong.hidden = false;
        field.setAttribute("aria-invalid", "true");
        announce("The filter has a mistake");
      } else ctx.trouble(e);
      return false;
    } finally {
      if (mine === turn) {
        t.node.removeAttribute("aria-busy");
        older.disabled = false;
      }
    }
  }

  // --- events
  function event(kind, f) {
    if (kind !== "connection_opened" && kind !== "connection_closed") return;
    const opened = kind === "connection_opened";
    changed = true;
    const r = row(f, opened);
    if (!opened && at.state === "open") held.delete(f.id);
    if (rows.has(f.id)) {
      if (paused) held.set(f.id, r);
      else if (!opened && at.state === "open") rows.delete(f.id);
      else if (!(opened && !rows.get(f.id).open)) rows.set(f.id, r);
    } else if (at.state === "closed" ? !opened : at.state === "open" ? opened : true) {
      if (opened && held.has(f.id)) return;
      r.fresh = true;
      held.set(f.id, r);
      if (held.size > MOST) held.delete(held.keys().next().value);
    }
    later();
  }

  // busy reports whether somebody reads or holds something in the table: then nothing moves under the eyes.
  function busy() {
    return paused || t.page > 0 || t.node.contains(document.activeElement) || t.body.matches(":hover") || window.scrollY > t.node.offsetTop || !getSelection().isCollapsed;
  }

  function release() {
    for (const [id, r] of held) {
      const was = rows.get(id);
      if (!was) rows.set(id, r);
      else if (!r.open && at.state === "open") rows.delete(id);
      else if (was.open || !r.open) rows.set(id, r);
    }
    held = new Map();
    if (rows.size > MOST) { // those that ended and began first go
      const all = [...rows.values()].sort((a, b) => a.open - b.open || a.start - b.start);
      for (const r of all.slice(0, rows.size - MOST)) rows.delete(r.id);
    }
  }

  function later() {
    dirty = true;
    timer ||= setTimeout(() => requestAnimationFrame(() => {
      timer = 0;
      if (dirty && !ctx.signal.aborted) draw();
    }), PACE);
  }

  function draw() {
    dirty = false;
    if (!busy()) release();
    t.update([...rows.values()]);
    const n = held.size;
    more.disabled = n === 0;
    fill(more, n === 0 ? "No new ones" : `Show ${count(n)} new`);
    const parts = [el("b", null, count(rows.size)), cursor ? " shown" : rows.size === 1 ? " connection" : " connections"];
    if (openCount != null) parts.push(`, ${count(openCount)} open in all`);
    if (lagged) parts.push(`, ${count(lagged)} events missed `, el("button.quiet", { type: "button", click: () => ((lagged = 0), reload()) }, "load anew"));
    if (!journal) parts.push(". No journal is kept: those that have ended are not known");
    fill(summary, parts);
  }

  function setPaused(p) {
    paused = p;
    pauseButton.setAttribute("aria-pressed", String(p));
    fill(pauseButton, p ? "Go on" : "Pause");
    announce(p ? "Paused: nothing is added to the table" : "Connections are added as they come");
    if (!p) release();
    draw();
  }

  // What was held because somebody looked is shown when they have gone.
  t.body.addEventListener("pointerleave", later);
  t.node.addEventListener("focusout", later);
  addEventListener("scroll", () => held.size && later(), { signal: ctx.signal, passive: true });
  ctx.signal.addEventListener("abort", () => clearTimeout(timer));

  ctx.every(4, async () => { // how many are open in all is not for this page to reckon: it does not see them all
    if (!changed || paused) return;
    changed = false;
    openCount = (await get("/v1/connections?state=open&limit=1", { signal: ctx.signal })).open;
    later();
  });
  await begin();
}

