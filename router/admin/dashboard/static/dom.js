// Making elements. Every value becomes a text node or an attribute that cannot run: there is no other way in this page to put something
// into the document, so that what clients, proxies and policies say stays text.

const SVG = "http://www.w3.org/2000/svg";

// Attributes whose value is code, markup, or style the content security policy would refuse.
const never = /^(style|srcdoc|on)/i;

function make(node, attrs, children) {
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (value == null || value === false) continue;
    if (typeof value === "function") {
      node.addEventListener(name, value);
      continue;
    }
    if (never.test(name)) throw new Error(`attribute ${name} is not set here`);
    if ((name === "href" || name === "src") && !/^(#|\/(?!\/))/.test(value)) throw new Error("addresses lead to this page alone");
    node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

export function append(node, children) {
  for (const child of [children].flat(Infinity)) {
    if (child == null || child === false || child === "") continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

// el makes an element: el("a.quiet", {href: "#/"}, "text", otherElement). Attributes that are functions are listeners by their event's name.
export function el(what, attrs, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  return make(node, attrs, children);
}

// svg does the same for drawings.
export function svg(what, attrs, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElementNS(SVG, tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  return make(node, attrs, children);
}

// fill puts children in place of what node has.
export function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

// Characters that are not seen, or that make others be seen elsewhere: controls, format and bidirectional ones, halves of pairs.
const unseen = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffc]|[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g;

function escaped(c) {
  if (c.length === 2) { // of the pairs only tags and private planes are not to be seen
    const n = c.codePointAt(0);
    return n >= 0xe0000 ? `\\U${n.toString(16).padStart(8, "0")}` : null;
  }
  const known = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[c];
  const n = c.charCodeAt(0);
  return known ?? (n < 256 ? `\\x${n.toString(16).padStart(2, "0")}` : `\\u${n.toString(16).padStart(4, "0")}`);
}

// plain is a value as text in which nothing is hidden, for labels and titles.
export function plain(s, max = 300) {
  const text = String(s ?? "").slice(0, max + 2).replace(unseen, (c) => escaped(c) ?? c);
  return text.length > max ? text.slice(0, max) + "…" : text;
}

// value shows what somebody else has said: isolated from its neighbours, with characters that nobody sees written out and marked.
// lines leaves tabs and ends of lines alone, for texts of several lines.
export function value(s, { max = 300, cls = "v", lines = false } = {}) {
  let text = String(s ?? "");
  const cut = text.length > max;
  if (cut) text = text.slice(0, max);
  const node = el(`bdi.${cls}`);
  let at = 0;
  for (const m of text.matchAll(unseen)) {
    const shown = lines && (m[0] === "\n" || m[0] === "\t") ? null : escaped(m[0]);
    if (shown === null) continue;
    append(node, text.slice(at, m.index));
    append(node, el("span.esc", null, shown));
    at = m.index + m[0].length;
  }
  append(node, text.slice(at));
  if (cut) append(node, el("span.muted", null, `… ${String(s).length.toLocaleString("en")} characters`));
  return node;
}

// facts gives a definition list of the pairs that have something.
export function facts(pairs) {
  return el("dl.facts", null, pairs.filter(([, v]) => v != null && v !== "" && v !== false && v !== 0).map(([k, v]) => el("div", null, el("dt", null, k), el("dd", null, v))));
}

const shapes = {
  good: () => [svg("circle", { cx: 8, cy: 8, r: 6.5 }), svg("path.mark", { d: "M5 8.3l2 2 4-4.3" })],
  bad: () => [svg("path", { d: "M5.3 1.5h5.4l3.8 3.8v5.4l-3.8 3.8H5.3l-3.8-3.8V5.3z" }), svg("path.mark", { d: "M5.5 5.5l5 5m0-5l-5 5" })],
  warn: () => [svg("path", { d: "M8 1.8l6.6 12H1.4z" }), svg("path.mark", { d: "M8 6v4m0 1.6v.4" })],
  live: () => [svg("circle.ring", { cx: 8, cy: 8, r: 6 }), svg("circle", { cx: 8, cy: 8, r: 3 })],
  pause: () => [svg("rect", { x: 1.5, y: 1.5, width: 13, height: 13, rx: 3 }), svg("path.mark", { d: "M6 5v6m4-6v6" })],
  none: () => [svg("circle.ring", { cx: 8, cy: 8, r: 6, "stroke-dasharray": "2.5 2.2" })],
};

// icon is a small drawing whose meaning is said beside it.
export function icon(kind) {
  return svg(`svg.icon.${kind}`, { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, shapes[kind]());
}

// badge is a state: a shape, a colour and a word, so that no one of them is needed.
export function badge(kind, word, title) {
  return el(`span.badge.${kind}`, { title }, icon(kind), el("span", null, word));
}
