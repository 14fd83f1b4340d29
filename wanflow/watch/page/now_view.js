// What runs now: a card a run, with its bar, its memory and its preview.

import { chart, memoryBar, stepBar } from "./chart.js";
import { fileOf, make } from "./make.js";
import { ranksView } from "./ranks_view.js";
import { bytes, percent, seconds, whole } from "./units.js";
import { say } from "./words.js";

// A part of a view is [its name, what it shows, how it is drawn]: drawn anew where that changed.
export function nowParts(now, width) {
  const seen = [now.running, now.running_count, now.full];
  return [["now", seen, () => nowView(now, width)]];
}

function nowView(now, width) {
  const cards = now.running.map((run) => runCard(run, width));
  const more = now.running_count - now.running.length;
  return make("section", {}, make("h2", {}, say("running")),
    cards.length ? cards : make("p", { class: "quiet" }, say("nothing_runs")),
    more > 0 ? make("p", { class: "quiet" }, say("more_run", { count: more })) : null,
    now.full ? make("p", { class: "quiet" }, say("full")) : null);
}

function runCard(run, width) {
  const link = make("a", { href: `#/run/${run.key}` }, run.name || run.graph);
  const title = make("div", { class: "title" }, link, make("span", { class: "quiet" }, run.graph));
  if (!run.head) return make("article", {}, title, make("p", {}, say("starting")));
  const memoryOf = run.ranks.length ? ranksView(run, width)
    : [memory(run.head), preview(run), run.chart ? chart(run.chart, run.head, width) : null];
  return make("article", {}, title, progress(run.head), memoryOf, run.ranks.length ? preview(run) : null,
    run.prompt ? make("p", { class: "prompt" }, run.prompt) : null);
}

export function progress(head) {
  if (head.reading) return make("p", {}, say("reading", { share: percent(head.read_share) }));
  const words = [head.stage || say("starting")];
  if (head.steps) {
    words.push(say("step", { done: head.step, total: head.steps }));
    words.push(say("a_step", { time: seconds(head.step_seconds) }));
  }
  words.push(say("takes", { time: whole(head.elapsed_seconds) }));
  if (head.left_seconds > 0) words.push(say("left", { time: whole(head.left_seconds) }));
  return make("div", { class: "progress" }, stepBar(head.step, head.steps),
    make("p", {}, words.map((text, index) => make("span", { class: index ? null : "strong" }, text))));
}

export function memory(head) {
  return make("div", { class: "progress" }, memoryBar(head), memoryLine(head));
}

export function memoryLine(head) {
  const line = say("memory_line", { now: bytes(head.now_bytes), peak: bytes(head.peak_bytes) });
  const against = say("of_budget", { budget: bytes(head.budget_bytes), planned: bytes(head.planned_bytes) });
  return make("p", {}, make("span", {}, line), make("span", { class: "quiet" }, against));
}

export function preview(run) {
  const name = ["preview.webp", "preview.png"].find((each) => run.files[each]);
  if (!name) return null;
  return make("img", { class: "preview", src: fileOf(run, name), alt: say("preview") });
}
