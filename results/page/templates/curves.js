
// The curves of ticked runs in one plot. A colour is a run; the dashes of a line are a gate.
const CURVES = JSON.parse(document.querySelector("#curves")?.textContent ?? "{}");
const COLORS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8a7a00", "#777777"];
const DASHES = ["", "7 3", "2 3", "10 3 2 3", "1 2", "12 4"];
const PLOT = { left: 56, right: 790, top: 12, bottom: 300 };

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// The curves of the runs with these ids: each has a name, points, a colour and dashes.
function chosenCurves(ids, what) {
  return ids.flatMap((id, number) => {
    const run = CURVES[id];
    const color = COLORS[number % COLORS.length];
    const points = (values) => run.epochs.map((x, k) => [x, values[k]]).filter(([, y]) => y !== null);
    if (what !== "gates") return [{ name: id, points: points(run[what]), color, dash: "" }];
    return Object.keys(run.gates).map((gate, k) => {
      return { name: `${id} ${gate}`, points: points(run.gates[gate]), color, dash: DASHES[k % DASHES.length] };
    });
  }).filter((curve) => curve.points.length);
}

// Round numbers between two: 1, 2 or 5 times a power of ten; on a logarithmic axis the powers and their halves.
function ticks(low, high, logarithmic) {
  if (logarithmic) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    }
    return found.filter((value) => value >= low && value <= high);
  }
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((value) => value >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high * (1 + 1e-9); value += step) found.push(value);
  return found;
}

function drawCurves(plot, curves, isShare) {
  const xs = curves.flatMap((curve) => curve.points.map(([x]) => x));
  const ys = curves.flatMap((curve) => curve.points.map(([, y]) => y));
  const [firstX, lastX, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const logarithmic = low > 0 && high > 10 * low;
  const scale = logarithmic ? Math.log : Number;
  const x = (value) => PLOT.left + ((value - firstX) / (lastX - firstX || 1)) * (PLOT.right - PLOT.left);
  const y = (value) => {
    const share = (scale(value) - scale(low)) / (scale(high) - scale(low) || 1);
    return PLOT.bottom - share * (PLOT.bottom - PLOT.top);
  };
  const shown = (value) => (isShare ? `${+(100 * value).toPrecision(4)} %` : `${+value.toPrecision(4)}`);
  const marks = ticks(low, high, logarithmic).flatMap((value) => [
    svg("line", { class: "frame", x1: PLOT.left, x2: PLOT.right, y1: y(value), y2: y(value) }),
    svg("text", { x: PLOT.left - 6, y: y(value) + 4, "text-anchor": "end" }, shown(value)),
  ]);
  const epochs = ticks(firstX, lastX, false).filter(Number.isInteger).map((value) => {
    return svg("text", { x: x(value), y: PLOT.bottom + 18, "text-anchor": "middle" }, String(value));
  });
  const lines = curves.map((curve) => {
    const places = curve.points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`);
    if (places.length === 1) places.push(places[0]);
    const look = { points: places.join(" "), stroke: curve.color, "stroke-dasharray": curve.dash };
    return svg("polyline", { ...look, "stroke-linecap": "round" }, svg("title", {}, curve.name));
  });
  const axis = svg("text", { x: PLOT.right, y: PLOT.bottom + 36, "text-anchor": "end" }, "epoch");
  plot.replaceChildren(...marks, ...epochs, axis, ...lines);
}

function makeCurves(figure, table) {
  const [plot, choice, legend] = ["svg", "select", ".legend"].map((part) => figure.querySelector(part));
  const boxes = new Map();
  for (const row of table.tBodies[0].rows) {
    const id = row.dataset.run;
    if (!CURVES[id]) continue;
    const box = document.createElement("input");
    box.type = "checkbox";
    box.setAttribute("aria-label", `draw ${id}`);
    row.cells[0].prepend(box);
    boxes.set(id, box);
  }
  if (!boxes.size) return;
  const draw = () => {
    const ids = [...boxes].filter(([, box]) => box.checked).map(([id]) => id);
    const curves = chosenCurves(ids, choice.value);
    plot.toggleAttribute("hidden", !curves.length);
    if (curves.length) drawCurves(plot, curves, choice.value === "gates" || CURVES[ids[0]].share);
    legend.replaceChildren(...curves.map((curve) => {
      const sample = svg("svg", { viewBox: "0 0 32 10", "aria-hidden": "true" },
        svg("line", { x1: 0, x2: 32, y1: 5, y2: 5, stroke: curve.color, "stroke-width": 2.5, "stroke-dasharray": curve.dash }));
      const item = document.createElement("li");
      item.append(sample, curve.name);
      return item;
    }));
    remember("runs", ids.join(","));
    remember("curves", choice.value === "valid" ? "" : choice.value);
  };
  const tick = (which) => {
    for (const [id, box] of boxes) box.checked = which(id, box);
    draw();
  };
  const asked = new Set((address().get("runs") ?? "").split(","));
  choice.value = address().get("curves") ?? "valid";
  if (!choice.value) choice.value = "valid";
  choice.addEventListener("change", draw);
  for (const box of boxes.values()) box.addEventListener("change", draw);
  figure.querySelector(".all").addEventListener("click", () => tick((id, box) => !box.closest("tr").hidden));
  figure.querySelector(".none").addEventListener("click", () => tick(() => false));
  figure.hidden = false;
  tick((id) => asked.has(id));
}

const figure = document.querySelector(".curves");
if (figure) makeCurves(figure, document.querySelector("#runs table"));
