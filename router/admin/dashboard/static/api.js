// Asking the control door. The token is kept for this tab alone, and goes out in a field of each request: there is nothing that a browser
// would add by itself, and so nothing that another page could use.

const KEY = "viaduct.token";

// Problem is an answer that says no, or that there was none (status 0).
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (t) => (t ? sessionStorage.setItem(KEY, t) : sessionStorage.removeItem(KEY)),
};

// tell is told of each answer: its status, 0 when there was none.
let tell = () => {};
export function onAnswer(f) { tell = f; }

function fields(more) {
  const h = { ...more };
  if (token.get()) h.Authorization = `Bearer ${token.get()}`;
  return h;
}

async function ask(method, path, { body, signal, accept = "application/json", extra } = {}) {
  let res;
  const sent = token.get();
  try {
    res = await fetch(path, {
      method, signal, cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
      headers: fields({ Accept: accept, ...extra, ...(body === undefined ? {} : { "Content-Type": "application/json" }) }),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (e) {
    if (signal?.aborted) throw e;
    tell(0);
    throw new Problem(0, "The gateway does not answer.");
  }
  if (sent === token.get()) tell(res.status);
  if (res.ok || res.status === 422) return res;
  let detail = `${res.status} ${res.statusText}`;
  try {
    const p = await res.json();
    detail = p.detail || p.error || p.title || detail;
  } catch { /* it says it with its status alone */ }
  throw new Problem(res.status, detail);
}

async function json(method, path, o) {
  const res = await ask(method, path, o);
  try {
    return await res.json();
  } catch (e) {
    if (o?.signal?.aborted) throw e;
    tell(0);
    throw new Problem(0, "The answer of the gateway ended early.");
  }
}

export const get = (path, o) => json("GET", path, o);
export const send = (method, path, body, o) => json(method, path, { body, ...o });

// query makes ?a=b of what has a value.
export function query(params) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v != null && v !== "") q.set(k, v);
  const s = q.toString();
  return s && `?${s}`;
}

const MAX_LINE = 1 << 20; // a record is at most 64 KiB
const SILENCE = 40_000; // the door says something every 15 s

// lines hands out the lines of a stream until it ends.
async function lines(stream, line, alive) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    rest += value;
    let at = 0;
    for (let end; (end = rest.indexOf("\n", at)) >= 0; at = end + 1) line(rest.slice(at, rest[end - 1] === "\r" ? end - 1 : end));
    rest = rest.slice(at);
    if (rest.length > MAX_LINE) throw new Error("a line without an end");
  }
}

// events reads the stream of events once, until it ends or signal says so. last.id is kept up to date for the next time.
export async function events({ types, filter, last, signal, onOpen, onEvent }) {
  const over = new AbortController();
  const stop = () => over.abort();
  signal.addEventListener("abort", stop, { once: true });
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(stop, SILENCE);
  };
  try {
    alive();
    const res = await ask("GET", `/v1/events${query({ types, filter })}`, {
      signal: over.signal, accept: "text/event-stream", extra: last.id ? { "Last-Event-ID": last.id } : undefined,
    });
    onOpen();
    let kind = "", data = "", id = "";
    await lines(res.body, (line) => {
      if (line === "") {
        if (id) last.id = id;
        if (data) onEvent(kind || "message", JSON.parse(data));
        kind = data = id = "";
      } else if (line.startsWith("event:")) kind = line.slice(6).trim();
      else if (line.startsWith("data:")) data += (data && "\n") + line.slice(5).trimStart();
      else if (line.startsWith("id:")) id = line.slice(3).trim();
    }, alive);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    over.abort();
  }
}
