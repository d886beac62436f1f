// Every rule, and what it took since the configuration came.

import { el, fill, badge, value } from "./dom.js";
import { get } from "./api.js";
import { setQuery } from "./main.js";
import { table } from "./table.js";
import { choice } from "./plot.js";
import { place } from "./record.js";
import { ago, count, clock } from "./format.js";

export default async function rules(ctx) {
  let all = [], which = ["never", "shadow"].includes(ctx.query.get("show")) ? ctx.query.get("show") : "all", most = 1;
  const summary = el("p.summary");
  const t = table({
    caption: "Rules", key: (r) => r.n, print: (r) => `${r.flows}.${r.open}.${r.last}.${most}.${r.line}.${r.route}`, sort: "", size: 200, empty: "No rule fits.",
    columns: [
      { key: "n", name: "No.", sort: (r) => r.n, cls: "num c-n", cell: (r) => count(r.n + 1) },
      { key: "rule", name: "Rule", head: true, sort: (r) => `${r.policy}/${r.rule}`, cls: "c-rulename", cell: (r) => [el("div.clip", null, r.rule ? value(r.rule) : el("i", null, "taken by no rule"), r.shadow && [" ", el("span.chip", null, "shadow")]), el("div.sub.clip", null, value(r.policy), " ", place(r.file, r.line))] },
      { key: "outcome", name: "Does", sort: (r) => `${r.outcome} ${r.route}`, cls: "c-does", cell: (r) => (r.outcome === "deny" ? badge("pause", "deny") : el("div.clip", null, value(r.route || r.outcome))) },
      { key: "flows", name: "Flows", first: "down", sort: (r) => r.flows, cls: "num c-flows", cell: (r) => [r.never ? el("span.never", null, "never") : el("a", { href: `#/connections?${new URLSearchParams({ filter: filterFor(r) })}`, title: "Its connections" }, count(r.flows)), el("meter", { min: 0, max: most, value: r.flows, "aria-hidden": "true" })] },
      { key: "open", name: "Open", first: "down", sort: (r) => r.open, cls: "num c-open", cell: (r) => count(r.open) },
      { key: "last", name: "Last", first: "down", sort: (r) => Date.parse(r.last ?? 0), cls: "c-last", cell: (r) => (r.last ? el("span", { title: clock(r.last, { day: true }) }, ago(r.last)) : "–") },
    ],
  });
  t.node.classList.add("rulelist");
  ctx.tools.append(choice("Which rules", [["all", "All"], ["never", "Never hit"], ["shadow", "Shadow"]], which, (v) => {
    which = v;
    setQuery({ show: v === "all" ? "" : v });
    draw();
  }));
  fill(ctx.body, summary, t.node, t.pager);

  function draw() {
    most = Math.max(1, ...all.map((r) => r.flows));
    t.update(all.filter((r) => which === "all" || (which === "never" ? r.never : r.shadow)));
  }

  ctx.every(5, async () => {
    const x = await get("/v1/rules", { signal: ctx.signal });
    all = x.rules.map((r, n) => ({ ...r, n }));
    const never = all.filter((r) => r.never).length;
    fill(summary, el("b", null, count(all.length)), ` rules, of which ${count(never)} took nothing since generation ${x.generation} came ${ago(x.loaded)}.`);
    draw();
  });
}

// filterFor is the expression for what a rule took. Names may hold anything: they are written as HCL strings.
function filterFor(r) {
  const text = (s) => JSON.stringify(s).replaceAll("${", "$${").replaceAll("%{", "%%{");
  return `policy == ${text(r.policy)} && rule == ${text(r.rule)}`;
}
