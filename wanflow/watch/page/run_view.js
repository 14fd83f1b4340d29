// One run: what it made, its memory over time, its stages, and the views of its trace.

import { chart } from "./chart.js";
import { badge } from "./lists.js";
import { fileOf, make, pairs, table } from "./make.js";
import { memory, preview, progress } from "./now_view.js";
import { rankName, ranksView } from "./ranks_view.js";
import { bytes, date, percent, seconds } from "./units.js";
import { language, say } from "./words.js";

const VIEWS = ["summary", "stages", "timeline", "peak", "check"];

export function runParts(run, width, view, chooseTrace, chooseRank) {
  const { chart: drawn, head, summary, files, ranks, ...told } = run;
  return [
    ["title", told, () => title(run)],
    ["media", mediaFiles(run), () => mediaOf(run)],
    ["live", [run.state, head], () => live(run)],
    ["memory", [drawn, head, run.problem, ranks], () => memoryPart(run, width)],
    ["facts", [told, summary], () => facts(run)],
    ["rank", [run.rank_count, run.rank, ranks.map((row) => row.device)], () => rankChoice(run, chooseRank)],
    ["stages", [summary?.stages, run.rank], () => stages(run)],
    ["notes", summary?.notes, () => notes(run)],
    ["trace", [run.traces, run.trace, run.rank, !run.head, view.name, view.text], () => traces(run, view, chooseTrace)],
    ["inputs", run.inputs, () => inputs(run)],
  ];
}

function title(run) {
  return make("div", {}, make("p", {}, back(run)),
    make("h1", {}, run.name || run.graph, " ", badge(run.state)),
    run.prompt ? make("p", { class: "prompt" }, run.prompt) : null,
    run.error ? make("p", { class: "wrong" }, run.error) : null, goOn(run));
}

function back(run) {
  const link = run.batch ? [`#/batch/${run.batch}`, say("batch")] : ["#/", say("back")];
  return make("a", { href: link[0] }, `← ${link[1]}`);
}

function mediaOf(run) {
  const names = Object.keys(run.files), of = (kind) => names.filter((name) => run.files[name].kind === kind);
  const shown = [
    ...of("video").map((name) => make("video", { controls: true, loop: true, muted: true, playsinline: true,
      preload: "metadata", src: fileOf(run, name) })),
    ...of("picture").map((name) => make("img", { src: fileOf(run, name), alt: name })),
    ...of("frame").map((name) => make("figure", {}, make("img", { src: fileOf(run, name), alt: name }),
      make("figcaption", {}, say("first_frame")))),
  ];
  const early = preview(run);
  if (early && (run.state === "running" || !shown.length)) shown.push(early);
  const strip = run.files["preview.png"] && make("div", { class: "wide" },
    make("img", { class: "strip", src: fileOf(run, "preview.png"), alt: say("preview") }));
  return make("div", { class: "media" }, shown, strip);
}

// Drawn anew only with other files, so that a video goes on playing.
function mediaFiles(run) {
  return [run.state === "running", Object.entries(run.files).filter(([, file]) =>
    ["video", "picture", "frame", "preview"].includes(file.kind)).map(([name, file]) => [name, file.version])];
}

function goOn(run) {
  if (!run.resume) return null;
  return make("p", { class: "quiet" }, say("go_on"), " ", make("code", {}, run.resume));
}

function live(run) {
  if (run.state !== "running" || !run.head) return null;
  return make("div", {}, progress(run.head), run.ranks.length ? null : memory(run.head));
}

function memoryPart(run, width) {
  if (run.ranks.length) {
    return make("div", {}, make("h2", {}, say("memory_time")), ranksView(run, width));
  }
  if (!run.chart) return make("p", { class: "quiet" }, say("no_trace", { problem: run.problem }));
  const { summary, head } = run, problem = [];
  if (["cut", "damaged"].includes(summary.state) && run.state !== "running" && !head.reading) {
    problem.push(make("p", { class: "wrong" }, say(summary.state, { problem: summary.problem })));
  }
  if (head.reading) problem.push(make("p", {}, say("reading", { share: percent(head.read_share) })));
  return make("div", {}, make("h2", {}, say("memory_time")), problem,
    run.chart.resident_bytes.some((size) => size > 0) ? chart(run.chart, head, width) : null);
}

function facts(run) {
  const sum = run.summary ?? {};
  const peaks = [sum.whole_peak_bytes && bytes(sum.whole_peak_bytes),
    sum.state === "whole" && sum.measured_peak_bytes && `${say("measured")} ${bytes(sum.measured_peak_bytes)} (${sum.measured_source})`];
  const took = run.seconds ?? (run.state === "running" ? null : sum.seconds);
  const expected = run.predicted_seconds ?? sum.predicted_seconds;
  const time = took === null || took === undefined
    ? (expected ? say("predicted_only", { predicted: seconds(expected) }) : "")
    : expected ? say("predicted", { time: seconds(took), predicted: seconds(expected) }) : seconds(took);
  const budget = run.budget_bytes ?? sum.budget_bytes, over = run.over_budget_bytes ?? sum.over_budget_bytes;
  return make("div", {}, make("h2", {}, say("facts")), pairs([
    [say("graph"), run.graph], [say("device"), run.ranks.length ? devices(run) : sum.device ?? run.device],
    [say("began"), date(run.began, language())], [say("time"), time],
    [say("budget"), budget ? [bytes(budget), say("comma"), over ? say("over", { bytes: bytes(over) }) : say("within")] : ""],
    [say("peak"), peaks.filter(Boolean).join(say("comma"))],
    [say("planned"), run.predicted_peak_bytes ?? sum.predicted_peak_bytes
      ? bytes(run.predicted_peak_bytes ?? sum.predicted_peak_bytes) : ""],
    [say("folder"), run.name],
    ["", sum.simulated ? say("simulated") : ""],
  ]));
}

function devices(run) {
  const names = [...new Set(run.ranks.map((row) => row.device).filter(Boolean))].join(say("comma"));
  return say("on_devices", { count: run.rank_count, names });
}

// The sums and views below are those of one rank.
function rankChoice(run, chooseRank) {
  if (run.rank_count < 2) return null;
  return make("div", { class: "rank-choice" }, make("label", {}, say("of_rank"), " ",
    make("select", { "aria-label": say("of_rank"), onchange: (event) => chooseRank(Number(event.target.value)) },
      run.ranks.map((row) => make("option", { value: row.rank, selected: row.rank === run.rank }, rankName(row))))));
}

function stages(run) {
  if (!run.summary?.stages.length) return null;
  const heads = [say("stage"), say("state_head"), [say("steps"), "n"], [say("seconds"), "n"], [say("seconds_planned"), "n"],
    [say("waited"), "n"], ...(run.ranks.length ? [[say("exchanging"), "n"]] : []), [say("peak"), "n"], [say("planned"), "n"], [say("moved"), "n"]];
  const rows = run.summary.stages.map((row) => [make("span", { title: row.knobs.join(" ") }, row.stage || "–"),
    say(`${row.state}_stage`), [row.steps_total > row.steps ? `${row.steps}/${row.steps_total}` : row.steps || "", "n"],
    [seconds(row.seconds), "n"], [row.planned_seconds === null ? "" : seconds(row.planned_seconds), "n"],
    [seconds(row.waited_seconds), "n"], ...(run.ranks.length ? [[seconds(row.exchanging_seconds), "n"]] : []),
    [bytes(row.whole_peak_bytes), "n"],
    [row.planned_peak_bytes === null ? "" : bytes(row.planned_peak_bytes), "n"], [bytes(row.moved_in_bytes), "n"]]);
  return make("div", {}, make("h2", {}, say("stages")), table(heads, rows));
}

function notes(run) {
  if (!run.summary?.notes.length) return null;
  return make("div", {}, make("h2", {}, say("notes")), table(["", ""], run.summary.notes.map((note) =>
    [[seconds(note.at_seconds), "n"], [`${note.topic}: ${note.text}`, "text"]])));
}

function traces(run, view, chooseTrace) {
  if (!run.traces.length && !run.head) return null;
  const query = `?trace=${encodeURIComponent(run.trace)}&rank=${run.rank}`, lang = `&lang=${language()}`;
  const links = [
    make("a", { href: `/runs/${run.key}/report${query}${lang}`, target: "_blank", rel: "noopener" }, say("report")),
    ...VIEWS.map((name) => make("a", { href: "#", "aria-current": name === view.name ? "true" : null,
      onclick: (event) => { event.preventDefault(); view.choose(name); } }, say(`view_${name}`))),
    make("a", { href: `/runs/${run.key}/trace${query}` }, say("download")),
  ];
  return make("div", {}, make("h2", {}, say("trace")),
    run.traces.length > 1 ? make("p", {}, say("which_trace"), " ", make("select", { "aria-label": say("which_trace"),
      onchange: (event) => chooseTrace(event.target.value) },
      run.traces.map((name) => make("option", { value: name, selected: name === run.trace }, name)))) : null,
    make("p", { class: "links" }, links),
    view.text === null ? null : make("pre", {}, view.text));
}

function inputs(run) {
  const rows = Object.entries(run.inputs).filter(([name]) => name !== "prompt");
  if (!rows.length) return null;
  const word = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : value === "" ? "–" : String(value));
  return make("details", {}, make("summary", {}, say("inputs")), pairs(rows.map(([name, value]) => [name, word(value)])));
}
