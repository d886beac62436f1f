// How the gateway is at a glance.

import { el, fill, badge, value } from "./dom.js";
import { get } from "./api.js";
import { gateway, refresh, setQuery } from "./main.js";
import { plot, choice } from "./plot.js";
import { bytes, count, ms, rate, span, ago } from "./format.js";
import { stateBadge } from "./upstreams.js";

const ranges = [["5m", "5 min"], ["1h", "1 hour"], ["24h", "1 day"]];

export default async function overview(ctx) {
  let range = ranges.some(([v]) => v === ctx.query.get("range")) ? ctx.query.get("range") : "5m";
  const plots = {
    bytes: plot({ title: "Throughput", show: (v) => `${bytes(v)}/s` }),
    flows: plot({ title: "Flows and errors", show: (v) => `${rate(v)}/s` }),
    connect: plot({ title: "Time to connect", show: (v) => ms(v * 1000), empty: "Nothing connected in this time" }),
    open: plot({ title: "Open connections", show: count, whole: true }),
  };
  const tiles = el("div.tiles");
  const notes = el("div.notes");
  const ups = el("section.card", { "aria-labelledby": "glance" });
  const about = el("section.card", { "aria-labelledby": "about" });
  const plotBox = el("section.plots", { "aria-label": "Plots" }, Object.values(plots).map((p) => p.node));
  fill(ctx.body, notes, tiles, plotBox, el("div.columns", null, ups, about));
  const again = () => drawHistory();
  ctx.tools.append(choice("Time shown in the plots", ranges, range, (r) => {
    range = r;
    setQuery({ range: r === "5m" ? "" : r });
    again();
  }));

  async function drawHistory() {
    const wanted = range;
    const h = await get(`/v1/history?range=${range}`, { signal: ctx.signal });
    if (wanted !== range) return;
    const s = h.series, base = { times: h.times, step: h.step };
    plots.bytes.update({ ...base, lines: [{ name: "to clients", values: s.bytes_down, cls: "a" }, { name: "to servers", values: s.bytes_up, cls: "b" }] });
    plots.flows.update({ ...base, lines: [{ name: "flows", values: s.flows, cls: "a" }, { name: "errors", values: s.errors, cls: "bad" }] });
    plots.connect.update({ ...base, lines: [{ name: "median", values: s.connect_p50, cls: "a" }, { name: "99 % within", values: s.connect_p99, cls: "c" }] });
    plots.open.update({ ...base, lines: [{ name: "open", values: s.open, cls: "a" }] });
    drawTiles(gateway.status, h);
  }

  function drawTiles(s, h) {
    if (!s) return;
    const mean = (list) => {
      const has = (list ?? []).slice(-Math.max(1, Math.round(60 / (h?.step ?? 60)))).filter((v) => v != null);
      return has.length ? has.reduce((a, b) => a + b, 0) / has.length : null;
    };
    const x = h?.series ?? {};
    const flows = mean(x.flows), errors = mean(x.errors), p50 = mean(x.connect_p50), p99 = mean(x.connect_p99);
    const open = x.open?.findLast((v) => v != null) ?? s.sessions.open;
    const sick = s.upstreams.filter((u) => !u.up || u.drained).length;
    fill(tiles, [
      ["Open connections", count(open), `${count(s.sessions.flows_total)} flows since the start`],
      ["Flows", flows == null ? "–" : `${rate(flows)}/s`, "mean of the last minute"],
      ["Errors", errors == null ? "–" : `${rate(errors)}/s`, flows > 0 && errors != null ? `${((100 * errors) / flows).toFixed(errors / flows < 0.1 ? 1 : 0)} % of flows` : "none of none"],
      ["Connect", p50 ? ms(p50 * 1000) : "–", p99 ? `99 % within ${ms(p99 * 1000)}` : "half of them within"],
      ["Upstreams", s.upstreams.length ? `${s.upstreams.length - sick} of ${s.upstreams.length}` : "none", sick ? "ready for new flows" : s.upstreams.length ? "all ready" : "declared"],
    ].map(([name, v, more]) => el("div.tile", null, el("div.name", null, name), el("div.number", null, v), el("div.muted", null, more))));
  }

  function drawStatus(s) {
    const list = [];
    const r = s.last_reload;
    if (r && !r.ok) list.push(note("bad", ["The last reload was refused ", ago(r.time), "; what was in force before still is. "], r.error));
    if (s.state !== "running") list.push(note("warn", [`The gateway is ${s.state}: it takes no new clients.`, s.drain ? ` ${count(s.drain.open)} connections are left.` : ""]));
    for (const u of s.unverified ?? []) list.push(note("warn", [value(u), ": any certificate is taken (verify = false)"]));
    for (const [name, x] of [["The records", s.records], ["The journal", s.journal]]) {
      if (x?.error) list.push(note("bad", [`${name} cannot be written: `], x.error));
      else if (x?.dropped_total > 0) list.push(note("warn", [`${name}: ${count(x.dropped_total)} were dropped, because they could not be written in time.`]));
    }
    if (s.panics > 0) list.push(note("bad", [`${count(s.panics)} faults of Viaduct itself since the start; the log has them.`]));
    if (s.network?.error) list.push(note("warn", ["Changes of the network are not seen: "], s.network.error));
    for (const w of warnings(r?.diagnostics)) list.push(note("warn", [value(w.summary ?? w.message ?? ""), " ", w.where && el("span.mono", null, value(w.where))], w.detail));
    for (const l of [...(s.lists ?? []), ...(s.pacs ?? [])]) if (l.error) list.push(note("warn", [value(l.name), ": "], l.error));
    fill(notes, list.slice(0, 12), list.length > 12 && el("p.muted", null, `and ${list.length - 12} more; viaduct status has all`));
    fill(ups, el("h2", { id: "glance" }, "Upstreams"), s.upstreams.length
      ? el("table.small", null, el("caption.visually-hidden", null, "Upstreams at a glance"),
        el("thead", null, el("tr", null, ["Name", "State", "Open", "Failures"].map((x, i) => el(i > 1 ? "th.num" : "th", { scope: "col" }, x)))),
        el("tbody", null, s.upstreams.slice(0, 12).map((u) => el("tr", null, el("th", { scope: "row" }, value(u.name)), el("td", null, stateBadge(u)), el("td.num", null, count(u.open)), el("td.num", null, `${count(u.failures_total)} of ${count(u.attempts_total)}`)))))
      : el("p.muted", null, "The policy declares none: everything goes directly."),
    s.upstreams.length > 0 && el("p", null, el("a", { href: "#/upstreams" }, s.upstreams.length > 12 ? `All ${s.upstreams.length} upstreams` : "Health over time, pools and credentials")));
    fill(about, el("h2", { id: "about" }, "This gateway"), el("dl.facts", null, [
      ["Version", `${s.version}${s.name ? ` on ${s.name}` : ""}`],
      ["Running", `${span(s.uptime_s)}, process ${s.pid}`],
      ["Configuration", [el("a", { href: "#/policy" }, `generation ${s.generation}`), ` from ${s.files.length ? "" : "what is built in"}`, s.files.map((f) => [value(f), " "])]],
      ["Last reload", r && [badge(r.ok ? "good" : "bad", r.ok ? "applied" : "refused"), ` ${ago(r.time)}, took ${ms(r.took_ms)}`]],
      ["Records", s.records && [`${count(s.records.written_total)} to `, value(s.records.to)]],
      ["Journal", journal(s.journal)],
      ["Listeners", el("ul.plain", null, s.listeners.map((l) => el("li", null, value(l.name), " ", el("span.mono.muted", null, value(l.address)), l.tls && el("span.chip", null, "TLS"))))],
    ].filter(([, v]) => v).map(([k, v]) => el("div", null, el("dt", null, k), el("dd", null, v)))));
  }

  gateway.watchers.add(drawStatus);
  ctx.signal.addEventListener("abort", () => gateway.watchers.delete(drawStatus));
  if (gateway.status) {
    drawStatus(gateway.status);
    drawTiles(gateway.status, null);
  }
  ctx.every(5, () => refresh(ctx.signal));
  ctx.every({ "5m": 2 }[range] ?? 10, drawHistory);
}

function journal(j) {
  if (!j) return null;
  if (j.enabled === false) return "kept off by the policy";
  const parts = [];
  const n = j.written_total ?? j.written;
  if (n != null) parts.push(`${count(n)} written`);
  const size = j.size_bytes ?? j.bytes;
  if (size != null) parts.push(bytes(size));
  if (j.files != null) parts.push(`${Array.isArray(j.files) ? j.files.length : j.files} day files`);
  return [parts.join(", "), " ", j.error ? badge("bad", "failing") : badge("good", "well")];
}

function note(kind, text, more) {
  return el("div.note", null, badge(kind, kind === "bad" ? "Problem" : "Warning"), el("div", null, el("div", null, text), more && el("pre.wrap", null, value(more, { max: 4000, lines: true }))));
}

function warnings(d) {
  const list = Array.isArray(d) ? d : d?.diagnostics ?? [];
  return list.filter((x) => x.severity === "warning").map((x) => ({ ...x, where: x.file ? `${x.file}:${x.line ?? ""}` : x.range?.filename ? `${x.range.filename}:${x.range.start?.line ?? ""}` : "" }));
}
