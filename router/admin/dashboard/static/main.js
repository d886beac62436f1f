// The frame around the pages: which one is shown, who is signed in, how the door is.

import { el, svg, fill, badge, plain } from "./dom.js";
import { get, token, onAnswer, Problem } from "./api.js";
import * as live from "./live.js";
import overview from "./overview.js";
import connections from "./connections.js";
import connection from "./connection.js";
import upstreams from "./upstreams.js";
import rules from "./rules.js";
import policy from "./policy.js";
import explain from "./explain.js";
import shadow from "./shadow.js";

const pages = [
  { path: "/", name: "Overview", show: overview },
  { path: "/connections", name: "Connections", show: connections },
  { path: "/upstreams", name: "Upstreams", show: upstreams },
  { path: "/rules", name: "Rules", show: rules },
  { path: "/policy", name: "Policy", show: policy },
  { path: "/explain", name: "Explain", show: explain },
  { path: "/shadow", name: "Shadow", show: shadow },
];

const at = (id) => document.getElementById(id);
const main = at("main");

// --- saying things to those who do not look ----------------------------------

let said = 0, saying;

// announce says something politely, and not more often than every four seconds: the last thing wins.
export function announce(text) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    said = Date.now();
    fill(at("announce"), text);
  }, Math.max(0, said + 4000 - Date.now()));
}

// --- the token ---------------------------------------------------------------

// A token in the fragment came with the address that somebody was given. It is taken out of the address before anything else is done.
function takeToken() {
  const m = /^#token=([^&]*)(?:&(.*))?$/.exec(location.hash);
  if (!m) return;
  let t = m[1];
  try {
    t = decodeURIComponent(t);
  } catch { /* then it is as it is written */ }
  token.set(t.trim());
  history.replaceState(null, "", location.pathname + (m[2]?.startsWith("/") ? `#${m[2]}` : "#/"));
}

let asking = false;

function askToken(why) {
  if (asking) return;
  asking = true;
  leave();
  live.stop();
  const field = el("input", { id: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", "aria-describedby": "token-help" });
  const form = el("form.card.login", {
    submit: (e) => {
      e.preventDefault();
      token.set(field.value.trim());
      asking = false;
      begin();
    },
  },
  el("h1", { tabindex: -1 }, "Sign in"),
  el("p", { id: "token-help" }, "This door asks for its token. It is the credential admin.token, or the file admin.token in the gateway's state directory. It is kept in this tab alone."),
  why && el("p.trouble", { role: "alert" }, why),
  el("label", { for: "token" }, "Token"), field,
  el("div.actions", null, el("button.primary", { type: "submit" }, "Sign in")));
  document.title = "Sign in · Viaduct";
  at("nav").hidden = at("logout").hidden = at("menu").hidden = true;
  fill(at("door"));
  fill(main, form);
  field.focus();
}

onAnswer((status) => {
  if (status === 401) {
    const had = token.get() !== "";
    token.set("");
    askToken(had ? "The gateway does not take this token." : "");
  } else if (status === 429) announce("The gateway takes no more tries for a while.");
});

// --- what all pages know -----------------------------------------------------

// gateway is what the last status said; pages may read it, and be told of a new one.
export const gateway = { status: null, watchers: new Set() };

export async function refresh(signal) {
  const s = await get("/v1/status", { signal });
  gateway.status = s;
  drawDoor();
  for (const f of gateway.watchers) f(s);
  return s;
}

export const mayWrite = () => gateway.status?.door?.write === true;

let doorState = "off", nextTry = 0, ticking;

function drawDoor() {
  const s = gateway.status;
  const parts = [];
  if (doorState === "lost") {
    const left = Math.max(0, Math.ceil((nextTry - Date.now()) / 1000));
    parts.push(badge("bad", "Gateway not reachable"), el("span.muted.wide", null, left > 0 ? `next try in ${left} s` : "trying"), el("button.quiet", { type: "button", click: () => live.retry() }, "Try now"));
  } else if (doorState === "live") {
    parts.push(badge(s?.state && s.state !== "running" ? "warn" : "live", s?.state && s.state !== "running" ? s.state : "live"));
  } else if (doorState === "connecting") parts.push(badge("none", "connecting"));
  else if (doorState === "refused") parts.push(badge("warn", "no live events", "The gateway answers, but too many read its events"));
  else if (doorState === "off") parts.push(badge("pause", "resting"));
  if (s && doorState !== "lost") {
    parts.push(el("span.muted.wide", null, [s.name && plain(s.name, 60), `viaduct ${s.version}`].filter(Boolean).join(" · ")));
    if (s.door && !s.door.write) parts.push(el("span.chip.wide", { title: "Over TCP the door answers questions alone, unless gateway { admin { write = true } }" }, "read-only"));
  }
  const before = document.activeElement;
  const inside = at("door").contains(before);
  fill(at("door"), parts);
  if (inside) (at("door").querySelector("button") ?? main).focus({ preventScroll: true });
  at("door").classList.toggle("lost", doorState === "lost");
}

live.onState((state, when) => {
  const was = doorState;
  [doorState, nextTry] = [state, when];
  clearInterval(ticking);
  if (state === "lost") ticking = setInterval(drawDoor, 1000);
  if (was !== state && state === "lost") announce("The gateway is not reachable. This page tries again by itself.");
  if (was === "lost" && state === "live") announce("The gateway is reachable again.");
  if (!asking) drawDoor();
});

live.onEvent((kind) => {
  if (["reload", "drain", "upstream", "restored"].includes(kind)) refresh().catch(() => {});
});

// --- which page --------------------------------------------------------------

let shown = null; // { abort, path, page }

function route() {
  const [path, rest] = location.hash.replace(/^#/, "").split(/\?(.*)/s);
  const query = new URLSearchParams(rest ?? "");
  if (path === "" || path === "/") return { page: pages[0], path: "/", query };
  const m = /^\/connections\/([^/]+)$/.exec(path);
  if (m) return { page: { path: "/connections", name: "Connection", show: connection }, path, query, id: decode(m[1]) };
  const page = pages.find((p) => p.path === path);
  return { page, path, query };
}

function decode(s) {
  try {
    return decodeURIComponent(s);
  } catch {
    return s;
  }
}

// setQuery changes the query of the page's address without showing the page anew.
export function setQuery(params, { push = false } = {}) {
  const [path] = location.hash.replace(/^#/, "").split("?");
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v != null && v !== "") q.set(k, v);
  const hash = `#${path || "/"}${q.size ? `?${q}` : ""}`;
  if (hash === location.hash) return;
  history[push ? "pushState" : "replaceState"](null, "", hash);
}

function leave() {
  shown?.abort.abort();
  shown = null;
  live.listen(null);
}

function drawNav(path) {
  const nav = at("nav");
  if (!nav.firstChild) {
    fill(nav, el("ul", null, pages.map((p) => el("li", null, el("a", { href: `#${p.path}`, click: closeMenu }, p.name)))));
  }
  nav.querySelectorAll("a").forEach((a, i) => {
    if (pages[i].path === path) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  });
}

async function show(first) {
  if (asking) return;
  const r = route();
  leave();
  drawNav(r.page?.path);
  const abort = new AbortController();
  shown = { abort };
  const name = r.page?.name ?? "No such page";
  document.title = `${name} · Viaduct`;
  const heading = el("h1", { tabindex: -1 }, name);
  const tools = el("div.page-tools");
  const body = el("div.page-body");
  fill(main, el("div.page", null, el("div.page-head", null, heading, tools), body));
  if (!first) {
    window.scrollTo(0, 0);
    heading.focus({ preventScroll: true });
  }
  if (!r.page) {
    fill(body, el("p", null, "There is no such page. ", el("a", { href: "#/" }, "To the overview")));
    return;
  }
  const ctx = {
    id: r.id, query: r.query, signal: abort.signal, body, tools, heading,
    title: (text) => { document.title = `${plain(text, 80)} · Viaduct`; },
    listen: (o) => !abort.signal.aborted && live.listen(o),
    // every calls f now and then again while the page is looked at, until it is left. What fails is shown, and tried again.
    every: (seconds, f) => every(seconds, f, abort.signal, body),
    trouble: (e) => trouble(body, e, abort.signal),
  };
  try {
    await r.page.show(ctx);
  } catch (e) {
    if (!abort.signal.aborted) ctx.trouble(e);
  }
}

function trouble(body, e, signal) {
  if (signal.aborted || asking) return;
  if (!(e instanceof Problem)) console.error(e); // a fault of the page itself
  let box = body.querySelector(":scope > .trouble");
  if (!box) {
    box = el("div.trouble", { role: "alert" });
    body.prepend(box);
  }
  fill(box, e instanceof Problem ? e.message : `This page has a fault: ${e.message}`);
}

function every(seconds, f, signal, body) {
  let timer, busy = false, again = false;
  const turn = async () => {
    clearTimeout(timer);
    if (signal.aborted) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      await f();
      body.querySelector(":scope > .trouble")?.remove();
    } catch (e) {
      if (!signal.aborted && !(e instanceof Problem && e.status === 0)) trouble(body, e, signal); // that there is no answer is said at the top
    }
    busy = false;
    if (again) {
      again = false;
      return turn();
    }
    if (!signal.aborted && !document.hidden) timer = setTimeout(turn, seconds * 1000);
  };
  document.addEventListener("visibilitychange", () => !document.hidden && turn(), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  turn();
  return turn;
}

// --- the frame's own buttons --------------------------------------------------

const themes = ["system", "light", "dark"];

function drawTheme() {
  const t = localStorage.getItem("viaduct.theme") ?? "system";
  if (t === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = t;
  fill(at("theme"), svg("svg.icon", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("circle.ring", { cx: 8, cy: 8, r: 6.5 }), svg("path", { d: t === "light" ? "M8 4a4 4 0 010 8 4 4 0 010-8" : t === "dark" ? "M8 1.5a6.5 6.5 0 010 13 6.5 6.5 0 010-13" : "M8 1.5a6.5 6.5 0 010 13z" })), el("span.visually-hidden", null, "Colours: "), { system: "Auto", light: "Light", dark: "Dark" }[t] ?? "Auto");
}

at("theme").addEventListener("click", () => {
  const t = localStorage.getItem("viaduct.theme") ?? "system";
  localStorage.setItem("viaduct.theme", themes[(themes.indexOf(t) + 1) % themes.length]);
  drawTheme();
});

function closeMenu() {
  at("menu").setAttribute("aria-expanded", "false");
  at("nav").classList.remove("open");
}

at("menu").addEventListener("click", () => {
  const open = at("nav").classList.toggle("open");
  at("menu").setAttribute("aria-expanded", String(open));
});

at("nav").addEventListener("keydown", (e) => {
  if (e.key !== "Escape" || !at("nav").classList.contains("open")) return;
  closeMenu();
  at("menu").focus();
});

at("skip").addEventListener("click", (e) => {
  e.preventDefault(); // the fragment is the page's address here
  main.focus();
});

at("logout").addEventListener("click", () => {
  token.set("");
  gateway.status = null;
  askToken("");
});

window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) {
    takeToken();
    asking = false;
    return begin();
  }
  show(false);
});

async function begin() {
  at("nav").hidden = at("menu").hidden = false;
  at("logout").hidden = token.get() === "";
  drawNav(route().page?.path);
  try {
    await refresh(); // asks for the token before a page is drawn for nothing
  } catch (e) {
    if (asking) return;
    if (!(e instanceof Problem)) throw e;
  }
  live.start();
  show(true);
}

takeToken();
drawTheme();
begin();
