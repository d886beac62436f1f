// What shadow rules and shadow policies would have done else.

import { el, fill, badge, value } from "./dom.js";
import { get, query, Problem } from "./api.js";
import { setQuery } from "./main.js";
import { choice } from "./plot.js";
import { link } from "./record.js";
import { bytes, clock, count } from "./format.js";

const ranges = [["1h", "1 hour"], ["24h", "1 day"], ["7d", "7 days"]];

const side = (r) => (r === "deny" ? badge("pause", "deny") : r === "undecided" ? badge("none", "undecided") : value(r));

export default async function shadow(ctx) {
  let since = ranges.some(([v]) => v === ctx.query.get("since")) ? ctx.query.get("since") : "24h";
  const out = el("div.stack");
  ctx.tools.append(choice("Since", ranges, since, (v) => {
    since = v;
    setQuery({ since: v === "24h" ? "" : v });
    again();
  }));
  fill(ctx.body, el("p", null, "A rule with shadow = true, or a policy named by shadow = policy.NAME, decides nothing: what it would have done is noted in each record, and compared here with what was done."), out);
  const again = ctx.every(30, async () => {
    const wanted = since;
    let x;
    try {
      x = await get(`/v1/shadow${query({ since })}`, { signal: ctx.signal });
    } catch (e) {
      if (!(e instanceof Problem && e.status === 404)) throw e;
      fill(out, el("p.empty", null, value(e.message)));
      return;
    }
    if (wanted === since) draw(x);
  });

  function draw(x) {
    const all = x.differences;
    fill(out,
      el("p.summary", null, el("b", null, count(x.differ)), ` of ${count(x.flows)} connections with a shadow verdict since ${clock(x.since)} would have gone elsewhere.`, x.partial && [" ", badge("warn", "not all could be looked at")]),
      all.length === 0 ? el("p.empty", null, x.flows ? "No difference: shadow and policy agree." : "There was no connection with a shadow verdict.")
        : el("div.table-box", null, el("table.rows.shadowlist", null, el("caption.visually-hidden", null, "Differences, the most flows first"),
          el("thead", null, el("tr", null, ["From", "To", "Rule", "Shadow", "Flows", "Bytes", "Clients", "Examples"].map((h, i) => el(i > 3 && i < 7 ? "th.num" : "th", { scope: "col" }, h)))),
          el("tbody", null, all.map((d) => el("tr", null,
            el("th", { scope: "row" }, side(d.from)), el("td", null, el("span.to", { "aria-hidden": "true" }, "→ "), side(d.to)), el("td", null, value(d.rule)), el("td", null, value(d.by)),
            el("td.num", null, count(d.flows)), el("td.num", null, bytes(d.bytes)), el("td.num", null, d.clients >= 1000 ? "1,000 or more" : count(d.clients)),
            el("td", null, el("ul.plain.inline", null, (d.examples ?? []).slice(0, 5).map((id) => el("li", null, link(id, el("span.mono", null, `…${id.slice(-6)}`))))))))))));
  }
}
