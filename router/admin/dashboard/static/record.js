// What a record says, in the words that all pages share.

import { el, badge, value, plain } from "./dom.js";
import { words } from "./format.js";

export const ruleName = (policy, rule) => (rule ? `${policy}/${rule}` : policy || "");

// outcome is how a flow went: [kind of badge, word].
export function outcome(r) {
  if (r.open) return ["live", "open"];
  if (r.reason === "denied" || (r.denied && !r.error)) return ["pause", "denied"];
  if (r.error) return ["bad", "failed"];
  if (["client_reset", "server_reset", "idle_timeout", "half_closed_idle", "limit", "internal", "drained", "admin"].includes(r.reason)) return ["warn", words(r.reason)];
  return ["good", "done"];
}

export const outcomeBadge = (r) => badge(...outcome(r), r.reason ? words(r.reason) : undefined);

// row is what a list keeps of a record: a whole one is some kilobytes, and there may be ten thousand.
export function row(f, open) {
  const d = f.decision, e = f.error, start = Date.parse(f.timestamp_start);
  const end = f.timestamp_end ? Date.parse(f.timestamp_end) : 0;
  const s = f.server_conn, q = f.request;
  return {
    id: f.id, open: open ?? !end, start, end,
    target: q?.host && q.method ? `${q.method} ${f.target ?? q.host}${(q.path ?? "").slice(0, 250)}` : (f.target ?? "").slice(0, 300),
    host: f.target ?? "",
    protocol: f.protocol, client: clientOf(f.client_conn), user: f.client_conn?.user ?? "", listener: f.client_conn?.listener ?? "",
    rule: d ? ruleName(d.policy, d.rule) : "", denied: d?.outcome === "deny", route: s?.route || s?.via || d?.route || "",
    file: d?.file ?? "", line: d?.line ?? 0,
    connect: s?.timestamp_tcp_setup && s?.timestamp_start ? Date.parse(s.timestamp_tcp_setup) - Date.parse(s.timestamp_start) : null,
    up: f.bytes_up ?? 0, down: f.bytes_down ?? 0, ms: f.duration_ms, status: f.response?.status ?? 0,
    error: e ? failure(e) : "", kind: e?.kind ?? "", reason: f.close_reason ?? "",
  };
}

// clientOf is the client's address without its port.
export function clientOf(c) {
  return c?.address ? hostOf(c.address) : "";
}

export function hostOf(address) {
  const m = /^\[([^\]]*)\](?::\d+)?$/.exec(address) ?? /^([^:]*):\d+$/.exec(address);
  return m ? m[1] : address;
}

// where names the place of a failure.
export function where(e) {
  if (e.side === "hop") return `hop ${e.hop}${e.hop_name ? ` (${e.hop_name})` : ""}`;
  if (e.side === "server") return "the server";
  if (e.side === "client") return "the client";
  return "Viaduct";
}

const kinds = {
  refused: "refused", unreachable: "could not be reached", timeout: "did not answer in time", dns: "has no address", auth: "did not accept who we are",
  denied: "said no", tls: "failed at TLS", protocol: "broke the protocol", reset: "cut the connection", eof: "hung up", limit: "met a limit", canceled: "gave up", internal: "has a fault",
};

// failure says in a few words what failed: "hop 2 (jump) refused".
export function failure(e) {
  const at = where(e);
  if (e.side === "viaduct" && e.kind === "denied") return "refused by Viaduct";
  return `${at} ${kinds[e.kind] ?? words(e.kind)}`;
}

// place is a rule's file and line, as a link into the policy.
export function place(file, line, { text } = {}) {
  if (!file) return null;
  if (!(line > 0) || file.startsWith("(")) return el("span.mono", null, value(file));
  const short = file.split("/").pop();
  return el("a.mono.place", { href: `#/policy?${new URLSearchParams({ file, line })}`, title: plain(file) }, value(text ?? `${short}:${line}`));
}

export const link = (id, text) => el("a", { href: `#/connections/${encodeURIComponent(id)}` }, text);
