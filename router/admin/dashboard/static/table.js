// A table of many rows: sorted by its headings, shown page by page, brought up to date row by row, so that what is focused or selected
// stays where it is. The document holds one page of rows however many there are.

import { el, fill } from "./dom.js";
import { count } from "./format.js";

// table makes one. columns: { key, name, cell(row) → children, sort(row) → number or string, cls, wide }. key(row) names a row, print(row)
// is anything that differs when the row is to be drawn anew.
export function table({ caption, columns, key, print, size = 100, sort = "", empty = "There is nothing here.", onSort, onPage, rowClass }) {
  let rows = [], page = 0, [by, down] = parse(sort);
  const kept = new Map(); // key → { tr, print }
  const body = el("tbody");
  const heads = columns.map((c) => {
    const label = c.sort ? el("button", { type: "button", click: () => choose(c) }, c.name, el("span.arrow", { "aria-hidden": "true" })) : c.name;
    return el(`th${c.cls ? `.${c.cls}` : ""}`, { scope: "col" }, label);
  });
  const head = el("thead", null, el("tr", null, heads));
  const node = el("table.rows", null, el("caption.visually-hidden", null, caption), head, body);
  const none = el("p.empty", { hidden: true }, empty);
  const range = el("span.range");
  const back = el("button", { type: "button", click: () => turn(-1) }, "Previous");
  const next = el("button", { type: "button", click: () => turn(1) }, "Next");
  const pager = el("nav.pager", { "aria-label": `Pages of ${caption}` }, back, range, next);

  function parse(s) {
    return s.startsWith("-") ? [s.slice(1), true] : [s, false];
  }

  function choose(c) {
    if (by === c.key) down = !down;
    else [by, down] = [c.key, c.first === "down"];
    page = 0;
    draw();
    onSort?.(`${down ? "-" : ""}${by}`);
  }

  function turn(n) {
    page += n;
    draw();
    onPage?.(page);
    body.querySelector("a, button")?.focus({ preventScroll: true });
    node.scrollIntoView({ block: "start" });
  }

  function order() {
    const c = columns.find((x) => x.key === by);
    if (!c?.sort) return rows;
    const sign = down ? -1 : 1;
    const keyed = rows.map((r, i) => [c.sort(r), i, r]);
    keyed.sort(([a, i], [b, j]) => {
      const x = typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : (a ?? -Infinity) - (b ?? -Infinity);
      return (Number.isNaN(x) ? 0 : x * sign) || i - j;
    });
    return keyed.map(([, , r]) => r);
  }

  function draw() {
    const all = order();
    const pages = Math.max(1, Math.ceil(all.length / size));
    page = Math.max(0, Math.min(page, pages - 1));
    const shown = all.slice(page * size, (page + 1) * size);
    const used = new Set();
    let at = body.firstChild;
    for (const r of shown) {
      const k = key(r), p = print ? print(r) : r;
      used.add(k);
      let x = kept.get(k);
      if (!x) {
        x = { tr: el("tr"), print: undefined };
        kept.set(k, x);
      }
      if (x.print !== p) {
        redraw(x, r);
        x.print = p;
      }
      if (x.tr === at) at = at.nextSibling;
      else body.insertBefore(x.tr, at);
    }
    for (const [k, x] of kept) {
      if (!used.has(k)) {
        x.tr.remove();
        kept.delete(k);
      }
    }
    heads.forEach((th, i) => {
      const is = columns[i].key === by && columns[i].sort;
      if (is) th.setAttribute("aria-sort", down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    });
    none.hidden = all.length > 0;
    pager.hidden = pages === 1;
    back.disabled = page === 0;
    next.disabled = page === pages - 1;
    fill(range, `${count(page * size + 1)} to ${count(page * size + shown.length)} of ${count(all.length)}`);
  }

  // redraw keeps the focus on the cell's link when the row that it is in changes.
  function redraw(x, r) {
    const focused = x.tr.contains(document.activeElement);
    const cells = columns.map((c, i) => el(`${i === 0 || c.head ? "th" : "td"}${c.cls ? `.${c.cls}` : ""}`, i === 0 || c.head ? { scope: "row" } : null, c.cell(r)));
    fill(x.tr, cells);
    x.tr.className = rowClass?.(r) ?? "";
    if (focused) x.tr.querySelector("a, button")?.focus({ preventScroll: true });
  }

  return {
    node: el("div.table-box", null, node, none),
    pager,
    update(next) {
      rows = next;
      draw();
    },
    get page() { return page; },
    set page(n) { page = n; },
    get sort() { return `${down ? "-" : ""}${by}`; },
    body,
  };
}
