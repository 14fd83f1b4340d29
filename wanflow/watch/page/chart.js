// Memory over time by kind, against the budget and the plan. Drawn for the width that there is.

import { draw, make } from "./make.js";
import { bytes, seconds } from "./units.js";
import { say } from "./words.js";

const KINDS = ["weights", "state", "value", "workspace", "slack", "other"];
const PAD = { left: 62, right: 8, top: 10, bottom: 34 };

export function spanOf(data, head) {
  return Math.max(data.resident_bytes.length * data.cell_seconds, head.elapsed_seconds, 1e-9);
}

// Of several ranks all are drawn over the same time, `span`, so that what is at once is below each other.
export function chart(data, head, width, height = 210, span = spanOf(data, head)) {
  const count = data.resident_bytes.length;
  const over = head.overhead_bytes;
  const most = Math.max(head.budget_bytes, head.planned_bytes, head.peak_bytes, 1) * 1.06;
  const inner = width - PAD.left - PAD.right, tall = height - PAD.top - PAD.bottom;
  const x = (time) => PAD.left + (inner * time) / span;
  const y = (size) => PAD.top + tall * (1 - Math.min(size, most) / most);
  const at = (index) => x(index * data.cell_seconds);

  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": say("memory_time") });
  svg.append(...gridded(most, y, width), ...times(span, x, height));
  svg.append(...areas(data, over, at, y, count));
  svg.append(...stages(data, at, y, height, width));
  const line = (size, kind) => draw("line", { x1: PAD.left, x2: width - PAD.right, y1: y(size), y2: y(size), class: kind });
  if (head.planned_bytes) svg.append(line(head.planned_bytes, "planned"));
  if (head.budget_bytes) svg.append(line(head.budget_bytes, "budget"));
  return make("figure", {}, svg, key(data, over, head));
}

function gridded(most, y, width) {
  const unit = 2 ** Math.floor(Math.log2(most / 3)), marks = [];
  for (let size = 0; size <= most; size += unit) marks.push(size);
  return marks.flatMap((size) => [
    draw("line", { x1: PAD.left, x2: width - PAD.right, y1: y(size), y2: y(size), class: "grid" }),
    draw("text", { x: PAD.left - 6, y: y(size) + 4, "text-anchor": "end" }, bytes(size)),
  ]);
}

const TURNS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400];

function times(span, x, height) {
  const turn = TURNS.find((step) => span / step <= 6) ?? span / 5, marks = [];
  for (let time = 0; time <= span; time += turn) marks.push(time);
  return marks.map((time) => draw("text", { x: x(time), y: height - 4,
    "text-anchor": time ? "middle" : "start" }, time < 60 ? `${Number(time.toFixed(2))} s` : seconds(time)));
}

// Cells are stacked from what is set aside up; a path a kind.
function areas(data, over, at, y, count) {
  let below = new Array(count).fill(over);
  const drawn = over ? [area(new Array(count).fill(0), below, at, y, "aside")] : [];
  for (const kind of KINDS.filter((name) => data.by_kind[name])) {
    const above = below.map((base, index) => base + Math.max(0, data.by_kind[kind][index]));
    drawn.push(area(below, above, at, y, kind));
    below = above;
  }
  return drawn;
}

function area(below, above, at, y, kind) {
  const upper = [], lower = [];
  above.forEach((size, index) => {
    upper.push(`${at(index).toFixed(1)},${y(size).toFixed(1)}`, `${at(index + 1).toFixed(1)},${y(size).toFixed(1)}`);
    lower.push(`${at(index).toFixed(1)},${y(below[index]).toFixed(1)}`, `${at(index + 1).toFixed(1)},${y(below[index]).toFixed(1)}`);
  });
  return draw("polygon", { points: [...upper, ...lower.reverse()].join(" "), class: `kind ${kind}` });
}

function stages(data, at, y, height, width) {
  return data.stages.flatMap(({ stage, first, end, planned_bytes: planned }, index) => {
    const from = at(first), to = Math.min(at(end), width - PAD.right), wide = to - from;
    const shown = wide > 7 * stage.length + 6 ? stage : wide > 26 ? `${stage.slice(0, Math.floor(wide / 8))}…` : "";
    const top = height - PAD.bottom + 2;
    return [
      draw("rect", { x: from, y: top, width: Math.max(0.5, wide), height: 14, class: index % 2 ? "band odd" : "band" }, draw("title", {}, stage)),
      shown && draw("text", { x: (from + to) / 2, y: top + 11, "text-anchor": "middle", class: "name" }, shown),
      planned && draw("line", { x1: from, x2: to, y1: y(planned), y2: y(planned), class: "planned-stage" }),
    ].filter(Boolean);
  });
}

function key(data, over, head) {
  const there = KINDS.filter((name) => data.by_kind[name]);
  const item = (kind, text) => make("span", {}, make("i", { class: kind }), text);
  return make("figcaption", {}, there.map((kind) => item(`kind ${kind}`, say(kind))),
    head.budget_bytes ? item("line budget", `${say("budget")} ${bytes(head.budget_bytes)}`) : null,
    head.planned_bytes ? item("line planned", `${say("planned")} ${bytes(head.planned_bytes)}`) : null,
    data.stages.some((stage) => stage.planned_bytes) ? item("line planned-stage", say("planned_stage")) : null);
}

// A bar of memory: what is taken now, the peak, and marks where plan and budget are.
export function memoryBar(head) {
  const top = Math.max(head.budget_bytes, head.peak_bytes, head.planned_bytes, 1), high = 14;
  const share = (size) => `${((100 * size) / top).toFixed(2)}%`;
  return draw("svg", { width: "100%", height: high, role: "img", class: "memory",
    "aria-label": say("memory_line", { now: bytes(head.now_bytes), peak: bytes(head.peak_bytes) }) },
    draw("rect", { width: share(head.peak_bytes), height: high, class: "peak" }),
    draw("rect", { width: share(head.now_bytes), height: high, class: "now" }),
    draw("line", { x1: share(head.planned_bytes), x2: share(head.planned_bytes), y1: 0, y2: high, class: "planned" }));
}

export function stepBar(done, total) {
  return make("progress", { max: total || 1, value: done, "aria-label": `${done} / ${total}` });
}
