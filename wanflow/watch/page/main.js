// Asks, draws, and asks again: each second while something runs, else less often; not while hidden.

import { batchParts } from "./batch_view.js";
import { listParts } from "./lists.js";
import { make } from "./make.js";
import { nowParts } from "./now_view.js";
import { runParts } from "./run_view.js";
import { language, say, switchLanguage } from "./words.js";

const BUSY = 1000, IDLE = 4000, LOST = 5000, PAGE = 50;
const main = document.getElementById("view");
const link = document.getElementById("link");

let place = {}, timer = 0, asked = 0;
const drawn = new Map();  // the parts of the view, by name: what each shows, and its element

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (answer.status === 401 || answer.status === 403) throw new Refused();
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(String(answer.status));
  return answer;
}

async function json(path) {
  const answer = await ask(path);
  return answer && answer.json();
}

// Where the page is, from the address; what was chosen there is forgotten with it.
function placeOf(hash) {
  const [, kind, key] = hash.match(/^#\/(run|batch)\/([0-9a-f]{16})$/) ?? [];
  if (kind === "run") return { kind, key, trace: "", rank: 0, view: null, text: null };
  if (kind === "batch") return { kind, key, status: "", most: PAGE };
  return { kind: "all", state: "", most: PAGE, version: -1, runs: null, batches: null, now: null };
}

function named(root) { document.getElementById("folder").textContent = root; }

const width = () => Math.max(280, Math.min(main.clientWidth - (main.clientWidth < 700 ? 26 : 42), 1000));

async function all(here) {
  const now = await json("/api/now");
  if (here.version !== now.version || here.stale) {
    const state = here.state ? `&state=${here.state}` : "";
    const [runs, batches] = await Promise.all([json(`/api/runs?most=${Math.min(200, here.most)}${state}`), json("/api/batches")]);
    for (let first = 200; first < here.most && first < runs.count; first += 200) {
      runs.runs.push(...(await json(`/api/runs?first=${first}&most=200${state}`)).runs);
    }
    Object.assign(here, { runs, batches: batches.batches, version: now.version, stale: false });
  }
  here.now = now;
  named(now.root);
  return now.running.length || now.batches.length ? BUSY : IDLE;
}

function drawAll(here) {
  if (!here.now) return [];
  const choose = (state) => { Object.assign(here, { state, most: PAGE, stale: true }); tick(); };
  const more = () => { here.most += PAGE; here.stale = true; tick(); };
  const idle = here.runs.runs.filter((run) => run.state !== "running");
  const listed = { ...here.runs, count: here.runs.count - (here.runs.runs.length - idle.length), runs: idle };
  return [...nowParts(here.now, width()), ...listParts(listed, here.batches, here.state, choose, more)];
}

async function one(here) {
  const trace = here.trace ? `&trace=${encodeURIComponent(here.trace)}` : "";
  here.run = await json(`/api/runs/${here.key}?rank=${here.rank}${trace}`);
  if (!here.run) return LOST;
  named(here.run.root);
  if ([here.run, ...here.run.ranks].some((each) => each.head?.reading)) return 50;
  return here.run.state === "running" ? BUSY : 2 * IDLE;
}

function drawRun(here) {
  if (here.run === undefined) return [];
  if (!here.run) return gone();
  const view = { name: here.view, text: here.text, choose: (name) => text(here, name) };
  const chooseTrace = (name) => { Object.assign(here, { trace: name, rank: 0, view: null, text: null }); tick(); };
  const chooseRank = (rank) => { Object.assign(here, { rank, view: null, text: null }); tick(); };
  return runParts(here.run, width(), view, chooseTrace, chooseRank);
}

function gone() {
  return [["gone", null, () => make("p", {}, make("a", { href: "#/" }, `← ${say("back")}`), " ", say("gone"))]];
}

async function text(here, name) {
  Object.assign(here, { view: name, text: "…" });
  redraw();
  try {
    const answer = await fetch(`/runs/${here.key}/views/${name}?trace=${encodeURIComponent(here.run.trace)}&rank=${here.run.rank}`);
    const said = await answer.text();
    here.text = answer.ok ? said : JSON.parse(said).error;
  } catch { here.text = say("lost"); }
  redraw();
}

async function batch(here) {
  const status = here.status ? `&status=${here.status}` : "", most = Math.min(200, here.most);
  here.answer = await json(`/api/batches/${here.key}?most=${most}${status}`);
  for (let first = 200; here.answer && first < Math.min(here.most, here.answer.count); first += 200) {
    const next = await json(`/api/batches/${here.key}?first=${first}&most=200${status}`);
    here.answer.rows.push(...(next?.rows ?? []));
  }
  if (here.answer) named(here.answer.root);
  return here.answer?.batch.state === "running" ? 2 * BUSY : 2 * IDLE;
}

function drawBatch(here) {
  if (here.answer === undefined) return [];
  if (!here.answer) return gone();
  const choose = (status) => { Object.assign(here, { status, most: PAGE }); tick(); };
  const more = () => { here.most += PAGE; tick(); };
  return batchParts(here.answer, here.status, choose, more);
}

const KINDS = { all: [all, drawAll], run: [one, drawRun], batch: [batch, drawBatch] };

// A part is drawn anew only where what it shows changed: what is selected, focused or played stays.
function redraw() {
  const parts = KINDS[place.kind][1](place);
  const wanted = parts.map(([name, shows, build]) => {
    const seen = JSON.stringify([shows, language(), main.clientWidth]);
    if (drawn.get(name)?.seen !== seen) drawn.set(name, { seen, node: kept(drawn.get(name)?.node, build()) });
    return drawn.get(name).node;
  });
  const there = wanted.filter(Boolean);
  there.forEach((node, index) => { if (main.children[index] !== node) main.insertBefore(node, main.children[index] ?? null); });
  while (main.children.length > there.length) main.lastChild.remove();
}

const FOCUS = "a, button, select, summary";

// What a reader did with the part before: how far it was scrolled, what was opened, what has the focus.
function kept(before, node) {
  if (!before || !node) return node;
  const focused = [...before.querySelectorAll(FOCUS)].indexOf(document.activeElement);
  const wide = [...before.querySelectorAll(".wide, pre")].map((each) => each.scrollLeft);
  before.replaceWith(node);
  node.querySelectorAll(".wide, pre").forEach((each, index) => { each.scrollLeft = wide[index] ?? 0; });
  if (before.open) node.open = true;
  if (focused >= 0) node.querySelectorAll(FOCUS)[focused]?.focus({ preventScroll: true });
  return node;
}

function connected(word, state) {
  link.textContent = say(word);
  link.dataset.state = state;
}

async function tick() {
  clearTimeout(timer);
  const here = place, number = ++asked;
  let wait = LOST;
  try {
    wait = await KINDS[here.kind][0](here);
    if (number !== asked) return;
    connected("live", "live");
    redraw();
  } catch (error) {
    if (number !== asked) return;
    connected(error instanceof Refused ? "refused" : "lost", "lost");
  }
  if (document.visibilityState === "visible") timer = setTimeout(tick, wait);
}

function go() {
  place = placeOf(location.hash);
  drawn.clear();
  main.replaceChildren();
  scrollTo(0, 0);
  tick();
}

function words() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  document.getElementById("lang").textContent = language() === "zh" ? "English" : "中文";
}

document.getElementById("lang").addEventListener("click", () => {
  switchLanguage();
  words();
  redraw();
});
addEventListener("hashchange", go);
addEventListener("resize", () => redraw());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") tick();
  else connected("paused", "paused");
});
words();
go();
