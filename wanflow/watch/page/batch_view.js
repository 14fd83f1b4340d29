// One batch: how far it is, and its rows.

import { make, table } from "./make.js";
import { stepBar } from "./chart.js";
import { badge, counts } from "./lists.js";
import { bytes, seconds } from "./units.js";
import { say } from "./words.js";

const STATUSES = ["", "done", "failed", "running", "waiting"];

export function batchParts(answer, status, choose, more) {
  return [["batch", [answer, status], () => batchView(answer, status, choose, more)]];
}

function batchView(answer, status, choose, more) {
  const batch = answer.batch;
  const filters = STATUSES.map((each) => make("button", { type: "button", class: "filter",
    "aria-pressed": each === status ? "true" : "false", onclick: () => choose(each) },
    each ? `${say(`state_${each}`)} ${batch.counts[each]}` : `${say("all")} ${batch.rows}`));
  return make("section", {}, make("p", {}, make("a", { href: "#/" }, `← ${say("back")}`)),
    make("h1", {}, batch.name, " ", badge(batch.state)),
    make("div", { class: "progress" }, stepBar(batch.counts.done, batch.rows), make("p", {}, counts(batch))),
    make("div", { class: "filters" }, filters),
    answer.rows.length ? rowsTable(answer.rows) : make("p", { class: "quiet" }, say("none_such")),
    answer.rows.length < answer.count
      ? make("button", { type: "button", class: "more", onclick: more }, say("more")) : null);
}

function rowsTable(rows) {
  const heads = [[say("row"), "n"], say("state_head"), say("prompt"), [say("time"), "n"], [say("peak"), "n"]];
  return table(heads, rows.map((row) => {
    const run = row.run;
    const text = row.error ?? (row.same_as ? say("same_as", { row: row.same_as }) : run?.prompt || row.folder);
    return [[row.row, "n"], badge(row.status),
      [run ? make("a", { href: `#/run/${run.key}` }, text) : text, row.error ? "text wrong" : "text"],
      [row.seconds === undefined ? "" : seconds(row.seconds), "n"],
      [run?.peak_bytes ? bytes(run.peak_bytes) : "", "n"]];
  }));
}
