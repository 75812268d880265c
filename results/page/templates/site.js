"use strict";

// A click on a column's heading sorts: ascending, descending, and as it was. Rows stay in their section.
const NUMBER = /^[-−]?[\d,]*\.?\d+(e[-+]?\d+)?/i;
const NOTHING = new Set(["", "-", "missing", "failed", "unknown"]);

function keyOf(cell) {
  const text = cell?.dataset.key ?? cell?.textContent.trim() ?? "";
  return NOTHING.has(text) ? null : text;
}

function numberOf(text) {
  if (text === "Infinity") return Infinity;
  const found = text.match(NUMBER);
  return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : NaN;
}

function sortRows(table, column, direction) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.matches(".section"));
  const texts = new Map(rows.map((row) => [row, keyOf(row.cells[column])]));
  const numbers = new Map(rows.map((row) => [row, texts.get(row) === null ? null : numberOf(texts.get(row))]));
  const numeric = ![...numbers.values()].some(Number.isNaN);
  const words = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => {
    if (direction === 0) return a.place - b.place;
    if (texts.get(a) === null || texts.get(b) === null) return (texts.get(a) === null) - (texts.get(b) === null);
    const [x, y] = [numbers.get(a), numbers.get(b)];
    return direction * (numeric ? (x > y) - (x < y) : words.compare(texts.get(a), texts.get(b)));
  };
  for (const body of table.tBodies) {
    body.append(...[...body.rows].filter((row) => texts.has(row)).sort(compare));
  }
}

// What was chosen stays in the address, so that a link shows what its sender saw.
function address() {
  return new URLSearchParams(location.search);
}

function remember(key, value) {
  const query = address();
  if (value) query.set(key, value);
  else query.delete(key);
  const text = query.toString();
  history.replaceState(null, "", `${location.pathname}${text && `?${text}`}${location.hash}`);
}

function makeSortable(table) {
  const headings = [...table.tHead.rows].at(-1).cells;
  [...table.tBodies].flatMap((body) => [...body.rows]).forEach((row, place) => { row.place = place; });
  for (const heading of headings) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent || "name";
    button.classList.toggle("unnamed", !heading.textContent);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[heading.getAttribute("aria-sort") ?? "none"];
      for (const other of headings) other.removeAttribute("aria-sort");
      if (order !== "none") heading.setAttribute("aria-sort", order);
      sortRows(table, heading.cellIndex, { none: 0, ascending: 1, descending: -1 }[order]);
    });
  }
}

// Runs that have every word that was typed.
function makeFilter(line, table) {
  const [input, output] = [line.querySelector("input"), line.querySelector("output")];
  const rows = [...table.tBodies[0].rows].map((row) => {
    return [row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase()];
  });
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    output.textContent = `${shown} of ${rows.length}`;
    remember("filter", input.value);
  };
  input.value = address().get("filter") ?? "";
  input.addEventListener("input", show);
  line.hidden = false;
  show();
}

document.querySelectorAll("table").forEach(makeSortable);
const line = document.querySelector(".filter");
if (line) makeFilter(line, document.querySelector("#runs table"));
