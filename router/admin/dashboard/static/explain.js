// "What would you do with this?", asked of the code that does it.

import { el, fill, badge, value } from "./dom.js";
import { send } from "./api.js";
import { announce, gateway, mayWrite, setQuery } from "./main.js";
import { explanation } from "./explanation.js";

const protocols = ["", "connect", "http", "socks4", "socks4a", "socks5", "socks5-udp"];

export default async function explain(ctx) {
  const q = Object.fromEntries(ctx.query);
  const answer = el("section.answer", { "aria-label": "Answer" });
  const field = (id, label, attrs, help) => {
    const input = el(attrs?.rows ? "textarea" : "input", { id: `q-${id}`, name: id, autocomplete: "off", autocapitalize: "off", spellcheck: "false", ...(attrs?.rows ? {} : { type: "text" }), ...attrs, "aria-describedby": help ? `q-${id}-help` : null });
    input.value = q[id] ?? "";
    return el(`div.field${attrs?.rows ? ".broad" : ""}`, null, el("label", { for: `q-${id}` }, label), input, help && el("div.help", { id: `q-${id}-help` }, help));
  };
  const select = (id, label, options) => {
    const s = el("select", { id: `q-${id}`, name: id }, options.map((o) => el("option", { value: o }, o || "by the target")));
    s.value = q[id] ?? "";
    return el("div.field", null, el("label", { for: `q-${id}` }, label), s);
  };
  const listeners = el("select", { id: "q-listener", name: "listener" });
  const drawListeners = (s) => {
    const was = listeners.value || q.listener || "";
    if (!s || listeners.options.length === s.listeners.length + 1) return;
    fill(listeners, el("option", { value: "" }, "the first one"), s.listeners.map((l) => el("option", { value: l.name }, value(l.name))));
    listeners.value = was;
  };
  drawListeners(gateway.status);
  gateway.watchers.add(drawListeners);
  ctx.signal.addEventListener("abort", () => gateway.watchers.delete(drawListeners));
  const lookups = el("input", { id: "q-lookups", name: "lookups", type: "checkbox" });
  const button = el("button.primary", { type: "submit" }, "Explain");
  const further = el("details.further", null, el("summary", null, "More about the connection"), el("div.fields", null,
    select("protocol", "Protocol", protocols),
    field("method", "Method", { placeholder: "GET" }),
    field("at", "At", { placeholder: "now" }, "A time, such as 2026-11-23 09:30"),
    field("sni", "SNI", null, "The name in the client's first TLS message; - for a client that speaks no TLS"),
    field("alpn", "ALPN", { placeholder: "h2, http/1.1" }),
    field("ja4", "JA4"),
    field("resolve", "Addresses of the name", { placeholder: "192.0.2.7" }, mayWrite() ? "Addresses with commas, or policy or system to look them up" : "Addresses with commas; this door looks nothing up"),
    field("headers", "Fields of the request", { rows: 3, placeholder: "User-Agent: curl/8" }, "One on each line"),
    mayWrite() && el("div.field.check", null, lookups, el("label", { for: "q-lookups" }, "Let PAC scripts and network.reachable ask the network"))));
  const form = el("form.card", { "aria-label": "Question", submit: (e) => (e.preventDefault(), ask()) }, el("div.fields", null,
    field("target", "Target", { required: true, placeholder: "https://www.example.com/" }),
    field("client", "Client address", { placeholder: "127.0.0.1" }),
    field("user", "User"),
    el("div.field", null, el("label", { for: "q-listener" }, "Listener"), listeners)), further, el("div.actions", null, button));
  fill(ctx.body, el("p", null, "The answer comes from the very code and policy that the service runs. Nothing is dialled."), form, answer);
  if (["protocol", "method", "at", "sni", "alpn", "ja4", "resolve", "headers"].some((k) => q[k])) further.open = true;

  async function ask() {
    const data = Object.fromEntries(new FormData(form));
    setQuery({ ...data, lookups: null });
    const list = (s) => (s ?? "").split(",").map((x) => x.trim()).filter(Boolean);
    const body = { target: data.target.trim() };
    for (const k of ["client", "user", "listener", "at", "method", "protocol", "ja4"]) if (data[k]?.trim()) body[k] = data[k].trim();
    if (data.sni?.trim()) body.sni = data.sni.trim() === "-" ? "" : data.sni.trim();
    if (list(data.alpn).length) body.alpn = list(data.alpn);
    if (list(data.resolve).length) body.resolve = list(data.resolve);
    const headers = (data.headers ?? "").split("\n").map((x) => x.trim()).filter(Boolean);
    if (headers.length) body.headers = headers;
    if (lookups.checked) body.lookups = true;
    button.disabled = true;
    try {
      const x = await send("POST", "/v1/explain", body, { signal: ctx.signal });
      fill(answer, el("div.card", null, explanation(x)));
      announce("The answer is there");
      answer.querySelector(".decision")?.focus();
    } catch (e) {
      if (ctx.signal.aborted) return;
      fill(answer, el("div.card.note", { role: "alert" }, badge("bad", "No answer"), el("pre.wrap", null, value(e.message, { max: 4000, lines: true }))));
    } finally {
      button.disabled = false;
    }
  }
  if (q.target) await ask();
}
