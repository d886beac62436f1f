// Everything about one connection: where it went, why, and which hop failed.

import { el, fill, badge, value, facts, plain, svg } from "./dom.js";
import { get, send, Problem } from "./api.js";
import { announce, gateway, mayWrite } from "./main.js";
import { row, outcomeBadge, failure, where, place, ruleName, link } from "./record.js";
import { explanation, steps, decisionOf } from "./explanation.js";
import { bytes, count, exact, ms, span, words } from "./format.js";

export default async function connection(ctx) {
  const head = el("div.one-head"), main = el("div.one");
  const said = el("p.said", { role: "status" });
  const close = el("button.danger", { type: "button", hidden: true, click: shut }, "Close connection");
  ctx.tools.append(el("a", { href: "#/connections" }, "All connections"), close);
  fill(ctx.body, said, head, main);
  let id = ctx.id, open = true, text = "", decided = null;

  function draw(x) {
    const next = JSON.stringify(x.today ? { ...x, today: { ...x.today, time: "" } } : x); // the time of asking is another one each time
    if (next === text) return;
    text = next;
    const stops = () => [...main.querySelectorAll("a, button, summary, [tabindex]")];
    const focused = stops().indexOf(document.activeElement);
    id = x.connection.id;
    open = x.open;
    decided = x.today;
    const f = x.connection, r = row(f, x.open);
    const was = new Map([...main.querySelectorAll("details[data-name]")].map((d) => [d.dataset.name, d.open]));
    const q = f.request;
    fill(ctx.heading, f.target ? value(q?.method ? `${q.method} ${f.target}${q.path ?? ""}` : f.target, { max: 120 }) : "Connection without a target");
    ctx.title(f.target ?? "Connection");
    close.hidden = !(x.open && mayWrite());
    fill(head, outcomeBadge(r), el("span.chip", null, f.protocol), el("span.mono.muted", null, f.id));
    fill(main, answer(f, r), attempts(f), waterfall(f), decision(f), today(x), certificates(f), about(f, r), raw(f));
    for (const d of main.querySelectorAll("details[data-name]")) if (was.has(d.dataset.name)) d.open = was.get(d.dataset.name);
    if (focused >= 0) (stops()[focused] ?? ctx.heading).focus({ preventScroll: true });
  }

  async function shut() {
    close.disabled = true;
    try {
      await send("DELETE", `/v1/connections/${encodeURIComponent(id)}`);
      fill(said, "It was closed.");
      announce("The connection was closed");
      ctx.heading.focus();
      again();
    } catch (e) {
      fill(said, e.message);
    } finally {
      close.disabled = false;
    }
  }

  const allow = () => (close.hidden = !(open && text && mayWrite()));
  gateway.watchers.add(allow);
  ctx.signal.addEventListener("abort", () => gateway.watchers.delete(allow));
  ctx.listen({
    types: "connection_closed", filter: "",
    event: (kind, f) => kind === "connection_closed" && f.id === id && text && draw({ connection: f, open: false, today: decided }),
    restored: () => again(),
  });
  const again = ctx.every(3, async () => {
    if (!open && text) return;
    try {
      draw(await get(`/v1/connections/${encodeURIComponent(ctx.id)}`, { signal: ctx.signal }));
    } catch (e) {
      if (!(e instanceof Problem && e.status === 404)) throw e;
      if (text) { // it has just ended and is on its way to the journal, or none is kept
        open = false;
        if (!said.firstChild) fill(said, "It has ended, and the journal does not have it (yet). What is shown was known before.");
        close.hidden = true;
        setTimeout(() => { if (!ctx.signal.aborted) { open = true; again(); } }, 2000);
        return;
      }
      fill(main, el("p.empty", null, value(e.message)));
    }
  });
}

// --- the answer ---------------------------------------------------------------

function answer(f, r) {
  const d = f.decision, e = f.error;
  const by = d && ["rule ", el("b", null, value(ruleName(d.policy, d.rule))), " ", place(d.file, d.line)];
  const lines = [];
  if (e) {
    lines.push(el("p.verdict-line", null, badge("bad", d?.outcome === "deny" ? "refused" : "failed"), " ", el("b", null, value(failure(e)))));
    lines.push(el("pre.wrap.message", null, value(e.message, { max: 4000, lines: true })));
    lines.push(facts([
      ["Where", value(where(e))], ["During", words(e.phase)], ["What", words(e.kind)],
      ["Said", e.code ? `${e.code}${e.code_of ? ` (${words(e.code_of)})` : ""}` : null],
      ["To blame", e.blame ? words(e.blame) : "nobody"], ["Another attempt could help", e.retryable ? "yes" : "no"], ["Verdict", e.verdict && words(e.verdict)],
    ]));
  }
  if (d?.outcome === "deny") lines.push(el("p", null, "Denied by ", by, d.denial ? [`: ${d.denial.status} `, value(d.denial.reason)] : ""));
  else if (d) lines.push(el("p", null, e ? "It was to go via " : r.open ? "It goes via " : "It went via ", el("b", null, value(f.server_conn?.route || d.route || "")), d.server && [" to ", el("b", null, value(d.server))], " because of ", by, "."));
  else if (!e) lines.push(el("p", null, "No decision has been made yet."));
  return el("section.card.answer", { "aria-label": "In short" }, lines);
}

// --- the chain ----------------------------------------------------------------

const phases = [["dns_ms", "dns", "Name"], ["tcp_ms", "tcp", "TCP"], ["tls_ms", "tls", "TLS"], ["greeting_ms", "greeting", "Greeting"], ["auth_ms", "auth", "Authentication"], ["connect_ms", "connect", "Connect"]];

// guilty says whether an error is that of this hop.
function guilty(e, h, hops) {
  if (!e) return false;
  if (e.side === "hop") return e.hop === h.index;
  return e.side === "server" && h === hops.at(-1);
}

function hopNode(h, a, hops) {
  const last = !h.upstream;
  const e = h.error ?? (guilty(a.error, h, hops) ? a.error : null);
  const bad = e && (guilty(e, h, hops) || guilty(a.error, h, hops));
  const reached = !e && (a.connected || hops.indexOf(h) < hops.length - 1);
  return el(`li.node${bad ? ".guilty" : ""}${last ? ".end" : ""}`, null,
    el("div.node-name", null, last ? "server" : value(h.upstream)),
    el("div.node-state", null, bad ? badge("bad", last ? "failed here" : `hop ${h.index} failed`) : e ? badge("warn", "told of a failure") : reached ? badge("good", h.reused ? "shared" : "reached") : badge("none", "not reached")),
    el("div.mono.muted", null, value(h.address ?? "")),
    h.peername && h.peername !== h.address && el("div.mono.muted", null, value(h.peername)),
    el("div.muted", null, h.protocol && [value(h.protocol), " · "], ms(h.total_ms)),
    h.credential && el("div", null, el("span.chip", null, "credential ", value(h.credential))),
    h.tls && el("div", null, el("span.chip", null, value(h.tls.tls_version ?? "TLS")), h.tls.tls_verdict && h.tls.tls_verdict !== "ok" && [" ", badge("bad", words(h.tls.tls_verdict))]),
    e && el("div.node-error", null, value(e.message, { max: 600 })));
}

// beyond is the server where the last proxy was sent a request for it: then it is no hop of ours.
function beyond(f, a) {
  const last = a.hops.at(-1);
  if (!last?.upstream || !f.request) return null;
  return el("li.node.end", null, el("div.node-name", null, "server"),
    el("div.node-state", null, f.response && a.connected ? badge("good", `answered ${f.response.status}`) : badge("none", f.timestamp_end ? "no answer" : "asked")),
    el("div.mono.muted", null, value(f.decision?.server ?? f.target ?? "")), el("div.muted", null, "asked by ", value(last.upstream)));
}

function attempts(f) {
  const s = f.server_conn;
  const client = el("li.node.end", null, el("div.node-name", null, "client"), el("div.node-state", null, f.error?.side === "client" ? badge("bad", "failed here") : badge("good", f.timestamp_end ? "was connected" : "connected")), el("div.mono.muted", null, value(f.client_conn?.address ?? "")), f.client_conn?.user && el("div", null, el("span.chip", null, value(f.client_conn.user))));
  const own = f.error?.side === "viaduct";
  const self = el(`li.node.self${own ? ".guilty" : ""}`, null, el("div.node-name", null, "Viaduct"), el("div.node-state", null, f.decision?.outcome === "deny" ? badge("pause", "denied") : own ? badge("bad", "failed here") : badge("good", "passed on")), f.client_conn?.listener && el("div.muted", null, "listener ", value(f.client_conn.listener)), own && el("div.node-error", null, value(f.error.message, { max: 600 })));
  const list = s?.attempts ?? [];
  const chain = (more, label) => el("ol.chain", { "aria-label": label }, client.cloneNode(true), self.cloneNode(true), more);
  const title = el("h2", null, "The way");
  if (!list.length) {
    const end = s && el("li.node.end", null, el("div.node-name", null, "server"), el("div.node-state", null, s.reused ? badge("good", "kept connection") : badge("none", "not reached")), el("div.mono.muted", null, value(s.address ?? f.target ?? "")), s.route && el("div.muted", null, value(s.route)));
    return el("section.card", null, title, chain(end, "The way"), s?.reused && el("p.muted", null, "It used a connection that was there already: its attempts are in the record of the flow that opened it."));
  }
  return el("section.card", null, title, s.attempts_truncated && el("p.muted", null, "There were more attempts than are kept."), list.map((a) => el("div.attempt", null,
    list.length > 1 && el("h3", null, `Attempt ${a.number} `, value(a.route), " ", a.connected ? badge("good", "connected") : a.error ? badge("bad", "failed") : badge("none", "under way")),
    chain([a.hops.map((h) => hopNode(h, a, a.hops)), beyond(f, a)], `Attempt ${a.number}: ${plain(a.route)}`))));
}

// --- the waterfall --------------------------------------------------------------

function waterfall(f) {
  const t0 = Date.parse(f.timestamp_start);
  const since = (t) => (t ? preciseMs(t) - preciseMs(f.timestamp_start) : null);
  const bars = [];
  const add = (name, from, took, cls, hop = "") => took != null && from != null && bars.push({ name, from: Math.max(0, from), took: Math.max(0, took), cls, hop });
  const decided = since(f.timestamp_decided);
  if (decided != null) add("Asked and decided", 0, decided, "decide");
  for (const a of f.server_conn?.attempts ?? []) {
    for (const h of a.hops) {
      let at = since(h.timestamp_start) ?? since(a.timestamp_start);
      const name = h.upstream ?? "server";
      let any = false;
      for (const [key, cls, word] of phases) {
        if (h[key] == null) continue;
        add(word, at, h[key], cls, name);
        at += h[key];
        any = true;
      }
      if (!any && h.total_ms) add("Reach", at, h.total_ms, "connect", name);
    }
  }
  const q = f.request, p = f.response;
  if (q?.timestamp_start && q.timestamp_end) add("Request", since(q.timestamp_start), since(q.timestamp_end) - since(q.timestamp_start), "up");
  if (p?.timestamp_start && q?.timestamp_end) add("Waiting", since(q.timestamp_end), since(p.timestamp_start) - since(q.timestamp_end), "wait");
  if (p?.timestamp_start && p.timestamp_end) add("Response", since(p.timestamp_start), since(p.timestamp_end) - since(p.timestamp_start), "down");
  if (!q && f.reply?.timestamp && !f.error && f.decision?.outcome !== "deny") {
    const from = since(f.reply.timestamp), end = f.timestamp_end ? since(f.timestamp_end) : null;
    if (end != null) add("Carrying bytes", from, end - from, "relay");
  }
  if (!bars.length || Number.isNaN(t0)) return null;
  const carrying = bars.find((b) => b.cls === "relay");
  const setup = Math.max(1e-3, ...bars.filter((b) => b !== carrying).map((b) => b.from + b.took));
  // What is carried for hours would make the rest too thin to see: the axis is that of setting up, and the last bar leaves it.
  const whole = carrying && carrying.from + carrying.took > setup * 1.5 ? setup * 1.25 : Math.max(setup, carrying ? carrying.from + carrying.took : 0);
  const x = (v) => Math.min(1000, (1000 * v) / whole);
  return el("section.card.scroll-x", null, el("h2", null, "Where the time went"), el("table.small.waterfall", null, el("caption.visually-hidden", null, "Steps with their beginning and how long they took"),
    el("thead", null, el("tr", null, el("th", { scope: "col" }, "Step"), el("th.num", { scope: "col" }, "At"), el("th.num", { scope: "col" }, "Took"), el("th.bar", { scope: "col" }, el("span.visually-hidden", null, "Drawn")))),
    el("tbody", null, bars.map((b) => el("tr", null, el("th", { scope: "row" }, b.hop && [value(b.hop), " · "], b.name), el("td.num", null, ms(b.from)), el("td.num", null, ms(b.took)),
      el("td.bar", null, svg("svg", { viewBox: "0 0 1000 14", preserveAspectRatio: "none", height: 14, "aria-hidden": "true" }, svg("rect.ground", { x: 0, y: 0, width: 1000, height: 14 }), svg(`rect.ph-${b.cls}`, { x: x(b.from), y: 1, width: Math.max(3, x(b.from + b.took) - x(b.from)), height: 12 }))))))));
}

// preciseMs keeps the parts of a millisecond that Date leaves out.
function preciseMs(t) {
  const m = /\.(\d{3})(\d+)/.exec(t);
  return Date.parse(t) + (m ? Number(`0.${m[2]}`) : 0);
}

// --- decision -------------------------------------------------------------------

function decision(f) {
  const d = f.decision;
  if (!d) return null;
  const shadows = (d.shadow ?? []).map((s) => el("li", null, value(s.rule), " ", place(s.file, s.line), " would have ", s.outcome === "deny" ? "denied it" : ["sent it via ", el("b", null, value(s.route ?? ""))]));
  const p = d.shadow_policy;
  if (p) shadows.push(el("li", null, "policy ", value(p.policy), " ", place(p.file, p.line), p.undecided ? [" could not decide: ", value(p.undecided)] : p.outcome === "deny" ? " would have denied it" : [" would have sent it via ", el("b", null, value(p.route ?? ""))]));
  return el("section.card", null, el("h2", null, "Why"), facts([
    ["Rule", [el("b", null, value(ruleName(d.policy, d.rule))), " ", place(d.file, d.line)]],
    ["Outcome", d.outcome === "deny" ? [badge("pause", "deny"), " ", d.denial && [`${d.denial.status} `, value(d.denial.reason)]] : ["via ", value(d.route ?? "")]],
    ["Server in place of the target", d.server && value(d.server)],
    ["Tags", d.tags?.length && d.tags.map((t) => [el("span.chip", null, value(t)), " "])],
    ["Shadow", shadows.length > 0 && el("ul.plain", null, shadows)],
    ["Configuration", `generation ${d.generation}`],
  ]), f.trace?.length > 0 && [el("h3", null, "Rules asked"), steps(f.trace)]);
}

function today(x) {
  const t = x.today, d = x.connection.decision;
  if (!t) return null;
  const same = d && t.outcome === d.outcome && t.rule === d.rule && (t.via ?? "") === (d.route ?? "") && !t.refused && !t.open;
  return el("section.card", null, el("h2", null, "The policy of today"),
    el("p", null, same ? [badge("good", "the same"), " It would be decided as it was."] : t.open ? [badge("none", "cannot be said"), " ", value(t.open, { max: 600 })] : [badge("warn", "different"), " It would be ", decisionOf(t)]),
    el("details", { "data-name": "today", open: !same && !t.open }, el("summary", null, "How it comes to that"), explanation(t, { level: "h3" })));
}

// --- TLS ------------------------------------------------------------------------

function certificates(f) {
  const all = [];
  const add = (name, t) => t && (t.tls_version || t.certificate_list?.length || t.tls_verdict || t.sni) && all.push([name, t]);
  if (f.client_conn?.tls || f.client_conn?.certificate_list?.length) add("Client", f.client_conn);
  let any = false;
  for (const a of f.server_conn?.attempts ?? []) {
    for (const h of a.hops) {
      if (!h.tls) continue;
      add(`${(f.server_conn.attempts.length ?? 0) > 1 ? `Attempt ${a.number}, ` : ""}${h.upstream ? `hop ${h.upstream}` : "server"}`, h.tls);
      any ||= !h.upstream;
    }
  }
  if (!any && f.server_conn?.tls) add("Server", f.server_conn);
  const hello = f.client_conn?.tls_clienthello;
  if (!all.length && !hello) return null;
  return el("section.card", null, el("h2", null, "TLS"), hello && facts([
    ["The client asked for", value(hello.sni ?? "no name")], ["Why not", hello.sni_error && value(hello.sni_error)], ["Offered", hello.alpn_offers?.length && value(hello.alpn_offers.join(", "))],
    ["Versions", hello.tls_versions?.join(", ")], ["JA4", hello.ja4 && el("span.mono", null, value(hello.ja4))], ["Encrypted ClientHello", hello.ech && "yes"],
  ]), all.map(([name, t], i) => tlsOf(name, t, i)));
}

function tlsOf(name, t, i) {
  const v = t.tls_verdict;
  return el("div.tls", null, el("h3", null, value(name), " ", v ? badge(v === "ok" ? "good" : t.tls_unverified ? "warn" : "bad", words(v)) : ""),
    t.tls_problem && el("p", null, value(t.tls_problem, { max: 1000 }), t.tls_unverified && el("span.muted", null, " It stopped nothing: verify = false.")),
    facts([["Version", t.tls_version], ["Cipher", t.cipher], ["Asked for", t.sni && value(t.sni)], ["Checked against", t.verified_name && value(t.verified_name)], ["ALPN", t.alpn && value(t.alpn)], ["Client certificate", t.tls_client_certificate], ["Resumed", t.tls_resumed && "yes"]]),
    t.certificate_list?.length > 0 && el("details", { "data-name": `tls${i}`, open: v && v !== "ok" }, el("summary", null, `${t.certificate_list.length === 1 ? "1 certificate" : `${t.certificate_list.length} certificates`} as shown`), el("ol.certs", null, t.certificate_list.map((c) => el("li", null,
      el("div", null, el("b", null, value(c.subject || "(no subject)")), " ", c.verdict && badge(c.verdict === "ok" ? "good" : "bad", c.verdict === "ok" ? "in its dates" : words(c.verdict)), c.is_ca && [" ", el("span.chip", null, "CA")]),
      facts([["Issuer", value(c.issuer)], ["Names", names(c.sans)], ["Valid", `${exact(c.not_before).slice(0, 10)} to ${exact(c.not_after).slice(0, 10)}${left(c.not_after)}`], ["Key", value(c.key_type)], ["Signature", c.signature && value(c.signature)], ["Serial", el("span.mono", null, value(c.serial))], ["SHA-256", el("span.mono", null, value(c.sha256))], ["Pin", c.pin && el("span.mono", null, value(c.pin))]]))))));
}

const names = (s) => s && value([...(s.dns ?? []), ...(s.ip ?? []), ...(s.uri ?? [])].join(", "), { max: 1000 });

function left(t) {
  const s = (Date.parse(t) - Date.now()) / 1000;
  return Number.isNaN(s) ? "" : s > 0 ? `, ${span(s)} left` : `, over for ${span(-s)}`;
}

// --- the rest ---------------------------------------------------------------------

const firsts = { client: "the client", server: "the server", hop: "a hop", viaduct: "Viaduct" };

function about(f, r) {
  const c = f.client_conn, s = f.server_conn, q = f.request;
  return el("section.card", null, el("h2", null, "Facts"), facts([
    ["Target", value(f.target ?? "")],
    ["Request", q && [value(`${q.method} ${q.scheme}://${q.host}${q.path}`, { max: 2000 }), f.response && ` → ${f.response.status}`]],
    ["Inside tunnel", q?.tunnel && link(q.tunnel, q.tunnel)],
    ["Client", c && [value(c.address), c.user && [" as ", value(c.user)]]],
    ["Listener", c && value(c.listener)],
    ["Connected to", s?.peername && [value(s.peername), s.resolved_by && el("span.muted", null, `, name resolved by ${words(s.resolved_by)}`)]],
    ["Began", exact(f.timestamp_start)], ["Decided", exact(f.timestamp_decided)], ["Ended", exact(f.timestamp_end)],
    ["Took", r.open ? `${span((Date.now() - r.start) / 1000)} so far` : ms(f.duration_ms)],
    ["Bytes", `${bytes(f.bytes_up)} up, ${bytes(f.bytes_down)} down${f.bytes_up + f.bytes_down > 999 ? ` (${count(f.bytes_up)} and ${count(f.bytes_down)})` : ""}`],
    ["Answered", f.reply && `${f.reply.code}${f.reply.early ? ", before the server was reached" : ""} at ${exact(f.reply.timestamp)}`],
    ["Ended by", f.close_reason && `${words(f.close_reason)}${f.closed_first ? `, first ${firsts[f.closed_first] ?? f.closed_first}` : ""}`],
    ["Notes", Object.keys(f.metadata ?? {}).length > 0 && el("ul.plain", null, Object.entries(f.metadata).map(([k, v]) => el("li", null, el("b", null, value(k)), " ", value(v))))],
    ["Session", el("a.mono", { href: `#/connections?${new URLSearchParams({ filter: `session == ${JSON.stringify(f.session)}` })}` }, f.session)],
    ["Faults", f.panicked && badge("bad", "a fault of Viaduct itself")],
    ["Cut", f.truncated && "parts of the record were left out to keep it bounded"],
  ]));
}

function raw(f) {
  const box = el("details.card", { "data-name": "raw", toggle: () => box.open && !box.querySelector("pre") && box.append(el("pre.wrap.raw", { tabindex: 0, "aria-label": "The record as JSON" }, value(JSON.stringify(f, null, 2), { max: 300_000, lines: true }))) }, el("summary", null, "The record"));
  return box;
}

