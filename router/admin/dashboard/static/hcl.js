// Colours for the policy's language: a small reader of HCL that finds comments, strings with their templates, heredocs, numbers and words.
// It never fails: what it does not know is plain.

// tokens cuts text into [class, text] pairs; class "" is plain.
export function tokens(text) {
  const out = [];
  let i = 0;
  const emit = (cls, end) => {
    if (end > i) out.push([cls, text.slice(i, end)]);
    i = end;
  };
  const depths = []; // braces open within each template that is open
  while (i < text.length) {
    const c = text[i];
    const two = text.slice(i, i + 2);
    if (c === "#" || two === "//") emit("comment", lineEnd(text, i));
    else if (two === "/*") {
      const end = text.indexOf("*/", i + 2);
      emit("comment", end < 0 ? text.length : end + 2);
    } else if (two === "<<") {
      const m = /<<-?([A-Za-z_][\w-]*)[ \t]*\r?\n/y;
      m.lastIndex = i;
      const h = m.exec(text);
      if (!h) emit("", i + 2);
      else {
        const close = new RegExp(`^[ \\t]*${h[1]}[ \\t]*\\r?$`, "m");
        const found = close.exec(text.slice(m.lastIndex));
        emit("string", found ? m.lastIndex + found.index + found[0].length : text.length);
      }
    } else if (c === '"') string(i + 1);
    else if (/[0-9]/.test(c)) emit("number", match(/[0-9][\w.]*/y, text, i));
    else if (/[\p{L}_]/u.test(c)) word();
    else {
      if (depths.length) {
        if (c === "{") depths[depths.length - 1]++;
        else if (c === "}" && depths[depths.length - 1]-- === 0) {
          depths.pop();
          emit("template", i + 1);
          string(i);
          continue;
        }
      }
      emit(/[\s]/.test(c) ? "" : "mark", i + 1);
    }
  }
  return out;

  // string reads from after the quote, or from after a template, to the end of it or to the next template.
  function string(from) {
    let end = from;
    while (end < text.length && text[end] !== '"' && text[end] !== "\n") {
      const s = text.slice(end, end + 3);
      if (s === "$${" || s === "%%{") end += 3;
      else if (s.startsWith("${") || s.startsWith("%{")) {
        emit("string", end);
        emit("template", end + 2);
        depths.push(0);
        return;
      } else end += text[end] === "\\" ? 2 : 1;
    }
    emit("string", Math.min(text.length, text[end] === '"' ? end + 1 : end));
  }

  function word() {
    const end = match(/[\p{L}_][\p{L}\p{N}_-]*/uy, text, i);
    const name = text.slice(i, end);
    const rest = /[ \t]*(.?)(.?)/sy;
    rest.lastIndex = end;
    const [, a, b] = rest.exec(text);
    const first = /(^|\n)[ \t]*$/.test(text.slice(Math.max(0, i - 200), i));
    let cls = "";
    if (["true", "false", "null", "for", "in", "if"].includes(name)) cls = "literal";
    else if (a === "(") cls = "function";
    else if (first && a === "=" && b !== "=") cls = "attribute";
    else if (first && (a === "{" || a === '"')) cls = "block";
    emit(cls, end);
  }
}

function lineEnd(text, i) {
  const end = text.indexOf("\n", i);
  return end < 0 ? text.length : end;
}

function match(re, text, i) {
  re.lastIndex = i;
  return re.exec(text) ? re.lastIndex : i + 1;
}

// lines cuts the tokens at ends of lines.
export function lines(text) {
  const all = [[]];
  for (const [cls, t] of tokens(text)) {
    t.split("\n").forEach((part, i) => {
      if (i > 0) all.push([]);
      if (part) all.at(-1).push([cls, part]);
    });
  }
  return all;
}
