// The one stream of events that this tab reads, and what it tells about the door. Browsers allow six connections to a host over all tabs, so
// there is never more than one, and none while nobody looks.

import { events, Problem } from "./api.js";

const BEGIN = 500, LONGEST = 15_000; // ms between attempts

const ALWAYS = "reload,upstream,drain";
const last = { id: "" };
let want = { types: ALWAYS, filter: "" };
let take = null; // the page's function for events
let run = null; // AbortController of the stream
let wake = null; // ends the waiting between attempts
let state = "off", hidden = false, rest;
const watchers = new Set();

// onState tells of the door: "off" (nobody looks), "connecting", "live", "lost" with the time of the next attempt, "refused" (it answers, but
// tells no events: too many listen) with the same, "denied".
export function onState(f) {
  watchers.add(f);
  f(state, 0);
  return () => watchers.delete(f);
}

function set(next, at = 0) {
  state = next;
  for (const f of watchers) f(next, at);
}

// listen says what the page at hand wants to be told; null = only what concerns the whole gateway. opened is called when that begins, restored
// when the stream is there again after it was not: something may have been missed.
export function listen(o) {
  const next = o ? { types: `${o.types},${ALWAYS}`, filter: o.filter ?? "" } : { types: ALWAYS, filter: "" };
  take = o;
  if (next.types === want.types && next.filter === want.filter && run) return void (state === "live" && o?.opened?.());
  want = next;
  last.id = "";
  if (run) restart();
}

const everyone = new Set();

// onEvent is for those who are told whatever page is shown.
export function onEvent(f) { everyone.add(f); }

export function start() {
  if (!run && !document.hidden) restart();
}

export function stop() {
  run?.abort();
  run = null;
  set("off");
}

// retry asks at once, because somebody wants to know.
export function retry() { wake?.(); }

function restart() {
  run?.abort();
  run = new AbortController();
  loop(run.signal);
}

async function loop(signal) {
  let wait = BEGIN, lost = false;
  while (!signal.aborted) {
    let opened = 0, refused = false;
    try {
      if (state !== "live" && state !== "lost" && state !== "refused") set("connecting");
      await events({
        ...want, last, signal,
        onOpen: () => {
          opened = performance.now();
          set("live");
          if (lost) take?.restored?.();
          else take?.opened?.();
          if (lost) for (const f of everyone) f("restored", {});
          lost = false;
        },
        onEvent: (kind, data) => {
          if (kind === "lagged") take?.lagged?.(data.missed);
          else take?.event?.(kind, data);
          for (const f of everyone) f(kind, data);
        },
      });
    } catch (e) {
      if (signal.aborted) return;
      if (e instanceof Problem && e.status === 401) {
        run = null;
        return set("denied");
      }
      refused = e instanceof Problem && e.status > 0;
    }
    if (signal.aborted) return;
    if (opened && performance.now() - opened > 5000) wait = BEGIN;
    lost = true;
    const pause = wait * (0.8 + Math.random() * 0.4);
    wait = Math.min(wait * 2, LONGEST);
    set(refused ? "refused" : "lost", Date.now() + pause);
    await new Promise((done) => {
      const timer = setTimeout(done, pause);
      wake = () => (clearTimeout(timer), done());
      signal.addEventListener("abort", wake, { once: true });
    });
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !run && state === "off" && hidden) {
    hidden = false;
    start();
    take?.restored?.();
  } else if (document.hidden && run) {
    clearTimeout(rest);
    rest = setTimeout(() => document.hidden && run && ((hidden = true), stop()), 20_000);
  }
});

