// What the policy decides, drawn: the answer of explain, for a question and for "what would be done today".

import { el, badge, value, facts } from "./dom.js";
import { place, ruleName } from "./record.js";
import { ms, words } from "./format.js";

// decisionOf says in one line what an explanation comes to.
export function decisionOf(x) {
  if (x.open) return [badge("warn", "open"), " The question cannot be answered yet."];
  if (x.refused) return [badge("bad", "refused"), " ", value(x.refused, { max: 600 })];
  if (x.outcome === "deny") return [badge("pause", "denied"), x.status ? ` with ${x.status}` : "", x.reason ? [": ", value(x.reason)] : ""];
  return [badge("good", "allowed"), " via ", el("b", null, value(x.via))];
}

export function by(x) {
  return x.rule || x.policy ? ["by rule ", el("b", null, value(ruleName(x.policy, x.rule))), " ", place(x.file, x.line)] : null;
}

export function steps(rules, caption = "Rules asked, in their order") {
  if (!rules?.length) return null;
  return el("div.table-box", null, el("table.small.steps", null, el("caption.visually-hidden", null, caption),
    el("thead", null, el("tr", null, ["Held", "Rule", "Where", "Because"].map((x) => el("th", { scope: "col" }, x)))),
    el("tbody", null, rules.map((s) => el(`tr${s.matched ? ".matched" : ""}`, null,
      el("td", null, s.matched ? badge(s.shadow ? "none" : "good", "yes") : el("span.muted", null, "no")),
      el("th", { scope: "row" }, value(s.rule), s.shadow && [" ", el("span.chip", null, "shadow")]),
      el("td", null, place(s.file, s.line)),
      el("td", null, value(s.reason, { max: 600 })))))));
}

function hop(h) {
  const name = h.kind === "direct" ? "direct" : `${h.kind}.${h.name}`.replace(/^(\w+)\.\1\./, "$1.");
  return el("li.node", null,
    el("div.node-name", null, value(name)),
    h.address && el("div.mono.muted", null, value(h.scheme ? `${h.scheme}://${h.address}` : h.address)),
    h.select && el("div.muted", null, words(h.select), h.hash_by ? [" by ", value(h.hash_by)] : ""),
    h.credential && el("div", null, el("span.chip", null, "credential ", value(h.credential))),
    h.from_client && el("div", null, el("span.chip", null, "the client's own login")),
    h.unverified && el("div", null, badge("warn", "any certificate")),
    h.members?.length > 0 && el("ul.members", null, h.members.map((m) => el("li", null, value(m.route), m.hops?.[0]?.address && el("div.mono.muted", null, value(`${m.hops[0].scheme}://${m.hops[0].address}`))))));
}

export function route(x) {
  if (!x.route?.length || x.outcome === "deny") return null;
  return el("ol.chain", { "aria-label": "The way it takes" },
    el("li.node.end", null, el("div.node-name", null, "client"), el("div.mono.muted", null, value(x.client))),
    el("li.node.self", null, el("div.node-name", null, "Viaduct"), el("div.muted", null, "listener ", value(x.listener))),
    x.route.filter((h) => h.kind !== "direct" || h.members).map(hop),
    el("li.node.end", null, el("div.node-name", null, "server"), el("div.mono.muted", null, value(x.server || x.target)), x.server && el("div.muted", null, "in place of ", value(x.target)), x.tls && el("div", null, el("span.chip", null, "TLS ", words(x.tls)))));
}

// explanation draws all of one.
export function explanation(x, { level = "h2" } = {}) {
  return [
    el("div.verdict", null, el(`${level}.decision`, { tabindex: -1 }, decisionOf(x)), by(x) && el("p", null, by(x))),
    x.open && el("p", null, value(x.open, { max: 1000 })),
    x.accept?.length > 0 && el("div.note", null, badge("warn", "At the door"), el("ul.plain", null, x.accept.map((t) => el("li", null, value(t))))),
    route(x),
    steps(x.rules, `Rules of policy ${x.policy}, in their order`),
    x.pac?.map((p) => el("p", null, "PAC script of ", el("b", null, value(p.route)), ": ", p.error ? [badge("bad", "no answer"), " ", value(p.error, { max: 600 })] : value(p.answer ?? p.result ?? JSON.stringify(p), { max: 600 }))),
    x.reach?.length > 0 && el("ul.plain", null, x.reach.map((r) => el("li", null, "network.reachable ", value(r.address), ": ", value(String(r.reachable ?? r.answer ?? ""))))),
    facts([
      ["Asked for", [value(x.protocol), " ", x.method && x.path ? value(`${x.method} ${x.scheme ?? "http"}://${x.target}${x.path}`) : value(x.target)]],
      ["Client", [value(x.client), x.user && [" as ", value(x.user)]]],
      ["Name resolved by", x.resolved_by && value(x.resolved_by)],
      ["Addresses told", x.resolved?.length && value(x.resolved.join(", "))],
      ["Looked up", x.lookup?.took_ms != null && `in ${ms(x.lookup.took_ms)}`],
      ["SNI", x.sni && value(x.sni)],
      ["ALPN", x.alpn_offers?.length && value(x.alpn_offers.join(", "))],
      ["TLS name", x.tls_server_name && value(x.tls_server_name)],
      ["Tags", x.tags?.length && x.tags.map((t) => [el("span.chip", null, value(t)), " "])],
    ]),
    x.inside && el("section.inside", null, el("h3", null, "The request inside the tunnel"), explanation(x.inside, { level: "h4" })),
  ];
}
