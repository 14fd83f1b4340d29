// The lists of runs and of batches.

import { fileOf, make, table } from "./make.js";
import { bytes, date, percent, seconds } from "./units.js";
import { language, say } from "./words.js";

const STATES = ["", "done", "failed", "interrupted", "killed"];

export function badge(state) {
  return make("span", { class: "badge", "data-state": state }, say(`state_${state}`));
}

export function listParts(runs, batches, state, choose, more) {
  return [["batches", batches, () => batchesView(batches)],
    ["runs", [runs, state], () => runsView(runs, state, choose, more)]];
}

function runsView(list, state, choose, more) {
  const filters = STATES.map((each) => make("button", { type: "button", class: "filter",
    "aria-pressed": each === state ? "true" : "false", onclick: () => choose(each) },
    each ? say(`state_${each}`) : say("all")));
  const empty = state ? say("none_such") : say("no_runs");
  return make("section", {}, make("h2", {}, say("runs"), " ", make("small", {}, list.count)),
    make("div", { class: "filters" }, filters),
    list.runs.length ? make("ul", { class: "runs" }, list.runs.map(runRow))
      : make("p", { class: "quiet" }, empty, state ? null : make("br"), state ? null : say("start_one")),
    list.runs.length < list.count
      ? make("button", { type: "button", class: "more", onclick: more }, say("more")) : null);
}

function runRow(run) {
  const facts = [run.graph, date(run.began, language())];
  if (run.seconds !== null) facts.push(seconds(run.seconds));
  if (run.peak_bytes !== null) facts.push(memoryOf(run));
  return make("li", {}, make("a", { class: "row", href: `#/run/${run.key}` },
    thumbnail(run),
    make("span", { class: "what" },
      make("span", { class: "first" }, make("b", {}, run.name || run.graph), badge(run.state)),
      run.prompt ? make("span", { class: "prompt" }, run.prompt) : null,
      make("span", { class: "quiet" }, facts.filter(Boolean).join(" · ")),
      run.error ? make("span", { class: "wrong" }, run.error) : null)));
}

function memoryOf(run) {
  const peak = `${say("peak")} ${bytes(run.peak_bytes)}`;
  if (!run.budget_bytes) return peak;
  return `${peak}, ${percent(run.peak_bytes / run.budget_bytes)} · ${say("budget")} ${bytes(run.budget_bytes)}`;
}

// A picture where there is one; a video's first frame costs a request each, so none of those.
function thumbnail(run) {
  const names = Object.keys(run.files);
  const name = names.find((each) => each === "preview.webp")
    ?? names.find((each) => ["picture", "frame"].includes(run.files[each].kind));
  return make("span", { class: "thumb" }, name
    ? make("img", { src: fileOf(run, name), alt: "", loading: "lazy" })
    : make("span", { "data-kind": names.some((each) => run.files[each].kind === "video") ? "video" : "none" }));
}

function batchesView(batches) {
  if (!batches.length) return null;
  const rows = batches.map((batch) => [
    make("a", { href: `#/batch/${batch.key}` }, batch.name),
    badge(batch.state), batch.graph, [counts(batch), "n"],
    [batch.counts.failed || "", "n wrong"], [date(batch.began, language()), "n"]]);
  const heads = [say("batch"), say("state_head"), say("graph"), [say("state_done"), "n"],
    [say("state_failed"), "n"], [say("began"), "n"]];
  return make("section", {}, make("h2", {}, say("batches"), " ", make("small", {}, batches.length)),
    table(heads, rows));
}

export function counts(batch) {
  return say("of", { done: batch.counts.done, total: batch.rows });
}
