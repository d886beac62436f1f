// The policy in force, as it may be shown, with lines that can be linked to.

import { el, fill, value, badge, plain } from "./dom.js";
import { get, send } from "./api.js";
import { announce, gateway, mayWrite, refresh } from "./main.js";
import { lines } from "./hcl.js";
import { ago, count } from "./format.js";

const LOT = 2000; // lines drawn in one go

export default async function policy(ctx) {
  const c = await get("/v1/config", { signal: ctx.signal });
  const wanted = ctx.query.get("file"), line = Number(ctx.query.get("line")) || 0;
  const find = (name) => c.files.find((f) => f.name === name) ?? c.files.find((f) => f.name.endsWith(`/${name}`) || name.endsWith(`/${f.name}`));
  const file = (wanted && find(wanted)) || c.files[0];
  const notes = c.diagnostics ? (Array.isArray(c.diagnostics) ? c.diagnostics : c.diagnostics.diagnostics ?? []) : [];
  const said = el("p.said", { role: "status" });
  const button = el("button", { type: "button", hidden: true, click: reload }, "Reload the policy");
  ctx.tools.append(button);
  const allow = () => (button.hidden = !mayWrite());
  gateway.watchers.add(allow);
  ctx.signal.addEventListener("abort", () => gateway.watchers.delete(allow));
  allow();

  const code = el("ol.code", { "aria-label": `Text of ${plain(file?.name ?? "")}` });
  fill(ctx.body,
    el("p.summary", null, `Generation ${c.generation}, loaded ${ago(c.loaded)}`, c.default ? ", which is built in" : "", ". Secrets are replaced by ***. ", el("a", { href: "#/rules" }, "What each rule took")), said,
    notes.length > 0 && el("details.card", { open: notes.length < 4 }, el("summary", null, badge("warn", `${count(notes.length)} ${notes.length === 1 ? "warning" : "warnings"}`)),
      el("ul.diagnostics", null, notes.slice(0, 200).map((d) => el("li", null, el("b", null, value(d.summary ?? "")), " ", d.file && el("a.mono", { href: `#/policy?${new URLSearchParams({ file: d.file, line: d.line })}` }, value(`${d.file}:${d.line}`)), d.snippet && el("pre", null, value(d.snippet, { max: 500, lines: true })), d.detail && el("p", null, value(d.detail, { max: 1000 })))))),
    wanted && !find(wanted) && el("p.trouble", null, "The policy in force has no file ", value(wanted), " any more."),
    c.files.length > 1 && el("nav.files", { "aria-label": "Files of the policy" }, el("ul", null, c.files.map((f) => el("li", null, el("a", { href: `#/policy?${new URLSearchParams({ file: f.name })}`, "aria-current": f === file ? "true" : null }, value(f.name)))))),
    file ? el("div.card.code-box", { role: "region", "aria-label": `Policy ${plain(file.name)}`, tabindex: 0 }, el("h2.mono", null, value(file.name)), code) : el("p.empty", null, "There is no file."));
  if (!file) return;

  const text = lines(file.text.replaceAll("\r\n", "\n"));
  if (text.length > 1 && !text.at(-1).length) text.pop();
  let marked = null;
  const one = (parts, i) => {
    const li = el("li", { id: `L${i + 1}`, class: i + 1 === line ? "marked" : null },
      el("a.no", { href: `#/policy?${new URLSearchParams({ file: file.name, line: i + 1 })}`, tabindex: -1, "aria-label": `Line ${i + 1}`, "data-no": i + 1 }),
      el("code", null, parts.length ? parts.map(([cls, t]) => (cls ? el(`span.hcl-${cls}`, null, value(t, { max: 4000, cls: "t", lines: true })) : value(t, { max: 4000, cls: "t", lines: true }))) : "\u200b"));
    if (i + 1 === line) marked = li;
    return li;
  };
  for (let i = 0; i < text.length; i += LOT) {
    if (i > 0) await new Promise((done) => requestAnimationFrame(done));
    if (ctx.signal.aborted) return;
    code.append(...text.slice(i, i + LOT).map((parts, k) => one(parts, i + k)));
  }
  if (marked) {
    marked.setAttribute("aria-current", "location");
    marked.setAttribute("tabindex", "-1");
    marked.scrollIntoView({ block: "center" });
    marked.focus({ preventScroll: true });
  }

  async function reload() {
    button.disabled = true;
    try {
      const r = await send("POST", "/v1/reload");
      fill(said, badge(r.ok ? "good" : "bad", r.ok ? "applied" : "refused"), r.ok ? ` Generation ${r.generation} is in force.` : el("pre.wrap", null, value(r.error ?? "", { max: 8000, lines: true })));
      announce(r.ok ? "The policy was applied" : "The policy was refused");
      await refresh();
      if (r.ok && r.generation !== c.generation) dispatchEvent(new HashChangeEvent("hashchange"));
    } catch (e) {
      fill(said, e.message);
    } finally {
      button.disabled = false;
    }
  }
}
