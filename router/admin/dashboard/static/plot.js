// Lines over time, drawn as SVG. Each plot says in words what it shows and has its values as a table; lines differ by dashes, too.

import { el, svg, fill } from "./dom.js";
import { clock } from "./format.js";

// em is the size of the page's letters: plots grow with them.
const em = () => parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;

// ticks are up to n round values from 0 to at least top. Bytes are counted in thousands here, too.
export function ticks(top, n = 4, whole = false) {
  if (!(top > 0) || (whole && top < n)) top = whole ? n : 1;
  const raw = top / n, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999) * power;
  const all = [];
  for (let v = 0; v <= top + step * 0.999; v += step) all.push(v);
  return all;
}

// runs are the pieces of a line between gaps.
function path(values, x, y) {
  let d = "", pen = false;
  values.forEach((v, i) => {
    if (v == null) pen = false;
    else {
      d += `${pen ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
      if (!pen && values[i + 1] == null) d += "h.01"; // one alone is a dot
      pen = true;
    }
  });
  return d;
}

// plot makes a figure. update gives it { times (seconds), step, lines: [{ name, values, cls }] }; show writes a value.
export function plot({ title, show, whole = false, empty = "Nothing was measured yet" }) {
  const drawing = svg("svg.plot", { role: "img" });
  const legend = el("div.legend", { "aria-hidden": "true" });
  const table = el("div.table-box");
  const details = el("details.values", { toggle: () => details.open && drawTable() }, el("summary", null, "Values", el("span.visually-hidden", null, ` of ${title}`)), table);
  const figure = el("figure.card.figure", null, el("figcaption", null, el("h2", null, title), legend), drawing, details);
  let data = null, at = null, width = 0, geometry = null;

  function draw() {
    if (!data || !width) return;
    const { times, lines } = data, unit = em();
    const HEIGHT = drawing.clientHeight, LEFT = 4.1 * unit, RIGHT = 0.5 * unit, TOP = 0.5 * unit, BOTTOM = 1.4 * unit;
    const top = Math.max(0, ...lines.map((l) => l.values.reduce((m, v) => Math.max(m, v ?? 0), 0)));
    const marks = ticks(top, 4, whole);
    const high = marks.at(-1);
    const x = (i) => LEFT + ((width - LEFT - RIGHT) * i) / Math.max(1, times.length - 1);
    const y = (v) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - v / high);
    geometry = { x, left: LEFT, right: RIGHT };
    const grid = marks.map((v) => [
      svg("line.grid", { x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }),
      svg("text.tick", { x: LEFT - 8, y: y(v) + unit / 4, "text-anchor": "end" }, show(v)),
    ]);
    const n = Math.max(1, Math.min(6, Math.floor(width / (6.5 * unit))));
    const labels = [];
    for (let k = 0; k <= n && times.length > 1; k++) {
      const i = Math.round(((times.length - 1) * k) / n);
      labels.push(svg("text.tick", { x: x(i), y: HEIGHT - 5, "text-anchor": k === n ? "end" : "middle" }, clock(times[i] * 1000, { seconds: data.step < 10, day: false })));
    }
    const seen = lines.some((l) => l.values.some((v) => v != null));
    fill(drawing, grid, labels,
      lines.map((l) => svg(`path.line.${l.cls}`, { d: path(l.values, x, y) })),
      !seen && svg("text.none", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, empty),
      svg("line.cursor", { y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" }));
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    drawing.setAttribute("aria-label", seen ? `${title}: ${lines.map((l) => words(l)).join("; ")}` : `${title}: ${empty}`);
    drawLegend();
    if (details.open) drawTable();
  }

  function words(l) {
    const has = l.values.filter((v) => v != null);
    if (!has.length) return `${l.name}: no values`;
    return `${l.name}: last ${show(has.at(-1))}, lowest ${show(Math.min(...has))}, highest ${show(Math.max(...has))}`;
  }

  function drawLegend() {
    const i = at;
    fill(legend, el("span.when", null, i == null ? "last" : clock(data.times[i] * 1000, { day: false })), data.lines.map((l) => {
      const v = i == null ? l.values.findLast((x) => x != null) : l.values[i];
      return el("span.key", null, svg("svg", { width: 22, height: 10, viewBox: "0 0 22 10" }, svg(`path.line.${l.cls}`, { d: "M1 5h20" })), l.name, el("b", null, v == null ? "–" : show(v)));
    }));
  }

  function drawTable() {
    const { times, lines } = data;
    const every = Math.max(1, Math.ceil(times.length / 20));
    const rows = [];
    for (let i = times.length - 1; i >= 0 && rows.length < 20; i -= every) {
      rows.push(el("tr", null, el("th", { scope: "row" }, clock(times[i] * 1000, { day: false })), lines.map((l) => el("td.num", null, l.values[i] == null ? "–" : show(l.values[i])))));
    }
    fill(table, el("table.small", null, el("caption.visually-hidden", null, title), el("thead", null, el("tr", null, el("th", { scope: "col" }, "Time"), lines.map((l) => el("th.num", { scope: "col" }, l.name)))), el("tbody", null, rows)));
  }

  function point(e) {
    if (!data || !geometry) return;
    const box = drawing.getBoundingClientRect();
    const share = (e.clientX - box.left - geometry.left) / Math.max(1, box.width - geometry.left - geometry.right);
    at = Math.min(data.times.length - 1, Math.max(0, Math.round(share * (data.times.length - 1))));
    const cursor = drawing.querySelector(".cursor");
    cursor.setAttribute("x1", geometry.x(at));
    cursor.setAttribute("x2", geometry.x(at));
    cursor.setAttribute("visibility", "visible");
    drawLegend();
  }
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerleave", () => {
    at = null;
    drawing.querySelector(".cursor")?.setAttribute("visibility", "hidden");
    if (data) drawLegend();
  });
  new ResizeObserver(([e]) => {
    const w = Math.floor(e.contentRect.width);
    if (w !== width) {
      width = w;
      draw();
    }
  }).observe(drawing);
  return {
    node: figure,
    update(next) {
      data = young(next);
      if (at != null && at >= data.times.length) at = null;
      draw();
    },
  };
}

// young leaves out what was before anything was measured, so that the first minutes of a gateway are not a line at the edge.
function young({ times, step, lines }) {
  const first = times.findIndex((_, i) => lines.some((l) => l.values[i] != null));
  const from = Math.max(0, Math.min(first < 0 ? 0 : first - 2, times.length - 61));
  return { times: times.slice(from), step, lines: lines.map((l) => ({ ...l, values: l.values.slice(from) })) };
}

// strip draws states over time as a row of blocks: one for each stretch that was the same.
export function strip({ states, label }) {
  const width = 600;
  const n = states.length || 1;
  const parts = [];
  for (let i = 0; i < states.length;) {
    let end = i + 1;
    while (end < states.length && states[end] === states[i]) end++;
    const x = (i * width) / n, w = ((end - i) * width) / n;
    if (states[i]) parts.push(svg(`rect.${states[i]}`, { x, y: states[i] === "down" ? 0 : 5, width: w + 0.4, height: states[i] === "down" ? 18 : states[i] === "ill" ? 13 : 8 }));
    i = end;
  }
  return svg("svg.strip", { viewBox: `0 0 ${width} 18`, preserveAspectRatio: "none", role: "img", "aria-label": label, height: 18 }, svg("rect.ground", { x: 0, y: 5, width, height: 8 }), parts);
}

// choice is a row of buttons of which one is pressed.
export function choice(label, options, chosen, change) {
  const group = el("div.choice", { role: "group", "aria-label": label });
  const draw = () => group.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b.value === chosen)));
  fill(group, options.map(([v, text]) => el("button", {
    type: "button", value: v, click: () => {
      if (v === chosen) return;
      chosen = v;
      draw();
      change(v);
    },
  }, text)));
  draw();
  return group;
}
