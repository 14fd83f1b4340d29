// The ranks of a run on several devices: each one's memory over the same time, and who waits for whom.

import { chart, memoryBar, spanOf } from "./chart.js";
import { make } from "./make.js";
import { bytes, percent, seconds } from "./units.js";
import { say } from "./words.js";

const GAP = 24;

export function rankName(row) {
  return row.device ? `${row.rank} · ${row.device}` : String(row.rank);
}

// Two in a line where there is room, and lower the more there are.
export function ranksView(run, width) {
  const two = width >= 700, wide = two ? Math.floor((width - GAP) / 2) : width;
  const drawn = run.ranks.filter((row) => row.chart);
  const span = Math.max(1e-9, ...drawn.map((row) => spanOf(row.chart, row.head)));
  const height = run.ranks.length > 4 ? 130 : two ? 190 : 160;
  const left = run.rank_count - run.ranks.length;
  return make("div", {}, make("div", { class: two ? "ranks two" : "ranks" },
    run.ranks.map((row) => rankView(run, row, wide, height, span))),
    left > 0 ? make("p", { class: "quiet" }, say("more_ranks", { count: left })) : null);
}

function rankView(run, row, width, height, span) {
  const title = make("p", { class: "rank-title" }, make("b", {}, say("rank", { name: rankName(row) })), doing(run, row));
  if (!row.head) {
    return make("section", { class: "rank" }, title, run.state === "running" ? null
      : make("p", { class: "wrong" }, say("no_trace", { problem: row.problem })));
  }
  const { head } = row, running = run.state === "running" && !head.ended;
  const now = running ? say("memory_line", { now: bytes(head.now_bytes), peak: bytes(head.peak_bytes) })
    : `${say("peak")} ${bytes(head.peak_bytes)}`;
  const against = say("of_budget", { budget: bytes(head.budget_bytes), planned: bytes(head.planned_bytes) });
  return make("section", { class: "rank" }, title, memoryBar(head),
    make("p", { class: "rank-line" }, make("span", {}, now), make("span", { class: "quiet" }, against)),
    make("p", { class: "rank-line" }, waits(row)),
    row.problem ? make("p", { class: "wrong" }, row.state === "damaged" ? say("damaged", { problem: row.problem })
      : say("cut", { problem: row.problem })) : null,
    head.reading ? make("p", { class: "quiet" }, say("reading", { share: percent(head.read_share) })) : null,
    row.chart.resident_bytes.some((size) => size > 0) ? chart(row.chart, head, width, height, span) : null);
}

// What a rank does: the stage and step of one at work, or for whom it waits.
function doing(run, row) {
  const { head } = row;
  if (!head) return make("span", { class: "quiet" }, run.state === "running" ? say("starting") : say("unread"));
  if (row.status === "done") return make("span", { class: "badge", "data-state": "done" }, say("rank_ended"));
  const place = head.steps ? `${head.stage} ${head.step}/${head.steps}` : head.stage || say("starting");
  if (run.state !== "running") return make("span", { class: "quiet" }, place);
  return [make("span", { class: "quiet" }, place), row.waits_for === null ? null
    : make("span", { class: "badge", "data-state": "interrupted" }, say("waits_for", { rank: row.waits_for }))];
}

function waits(row) {
  const { waited_seconds: weights, exchanging_seconds: exchanging } = row.waits, words = [];
  words.push(say("waited_weights", { time: seconds(weights) }));
  if (exchanging > 0) {
    if (!row.head.reading) words.push(say("waited_ranks", { time: seconds(row.waits_seconds) }));
    words.push(say("exchanged", { time: seconds(exchanging) }));
  }
  return words.map((text) => make("span", { class: "quiet" }, text));
}
