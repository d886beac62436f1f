// Numbers and times as people read them.

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n) => (n == null ? "" : number.format(n));

export function bytes(n) {
  if (n == null) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) n /= 1000, i++;
  return `${i === 0 || n >= 99.5 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

// ms is a time span given in milliseconds.
export function ms(n) {
  if (n == null || Number.isNaN(n)) return "";
  if (n === 0) return "0 ms";
  if (n < 1) return `${(n * 1000).toFixed(0)} µs`;
  if (n < 9.95) return `${n.toFixed(1)} ms`;
  if (n < 999.5) return `${n.toFixed(0)} ms`;
  if (n < 59950) return `${(n / 1000).toFixed(1)} s`;
  return span(n / 1000);
}

// span is a time span given in seconds, in its two largest parts.
export function span(s) {
  s = Math.max(0, Math.round(s));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const i = parts.findIndex(([n]) => s >= n);
  if (i < 0) return "0 s";
  const first = `${Math.floor(s / parts[i][0])} ${parts[i][1]}`;
  const rest = i + 1 < parts.length ? Math.floor((s % parts[i][0]) / parts[i + 1][0]) : 0;
  return rest ? `${first} ${rest} ${parts[i + 1][1]}` : first;
}

const two = (n) => String(n).padStart(2, "0");

// clock is a time of today, or with its day when it is not.
export function clock(t, { seconds = true, day } = {}) {
  const d = new Date(t);
  if (Number.isNaN(d.getTime())) return "";
  const text = `${two(d.getHours())}:${two(d.getMinutes())}${seconds ? `:${two(d.getSeconds())}` : ""}`;
  day ??= d.toDateString() !== new Date().toDateString();
  return day ? `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${text}` : text;
}

// exact is a time with its milliseconds and the zone.
export function exact(t) {
  if (!t) return "";
  const d = new Date(t);
  return `${clock(d, { day: true })}.${String(d.getMilliseconds()).padStart(3, "0")}`;
}

export function ago(t) {
  if (!t) return "";
  return `${span((Date.now() - new Date(t).getTime()) / 1000)} ago`;
}

const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const rate = (n) => (n == null ? "" : n >= 100 ? count(n) : few.format(n));

// words of a record, for people.
export const words = (s) => String(s ?? "").replaceAll("_", " ");
