// Every word that the page says, in English and in Chinese: one key, the same numbers in both.

const WORDS = {
  running: ["Running now", "正在运行"],
  nothing_runs: ["Nothing runs now.", "当前没有运行任务。"],
  more_run: ["{count} more run, not followed here.", "另有 {count} 个任务在运行，此处未跟踪。"],
  batches: ["Batches", "批次"],
  runs: ["Runs", "运行记录"],
  no_runs: ["No runs in this folder yet.", "此文件夹中还没有运行记录。"],
  none_such: ["None.", "无。"],
  start_one: ["wanflow run t2v-tiny makes one, in runs/.", "wanflow run t2v-tiny 会在 runs/ 中生成一个。"],
  full: ["There are more folders than are looked into.", "文件夹过多，仅查看了其中一部分。"],
  all: ["all", "全部"],
  state_running: ["running", "运行中"],
  state_done: ["done", "完成"],
  state_failed: ["failed", "失败"],
  state_interrupted: ["interrupted", "已中断"],
  state_killed: ["killed", "被终止"],
  state_waiting: ["waiting", "等待中"],
  more: ["show more", "显示更多"],
  of: ["{done} of {total}", "已完成 {done}，共 {total}"],
  stage: ["stage", "阶段"],
  step: ["step {done} of {total}", "第 {done} / {total} 步"],
  a_step: ["{time} a step", "每步 {time}"],
  left: ["{time} left", "剩余 {time}"],
  takes: ["for {time}", "已用 {time}"],
  starting: ["starting", "启动中"],
  reading: ["reading its trace: {share}", "正在读取追踪文件：{share}"],
  peak: ["peak", "峰值"],
  budget: ["budget", "预算"],
  planned: ["planned", "计划"],
  planned_stage: ["planned for the stage", "该阶段计划"],
  memory_time: ["Memory over time", "内存随时间变化"],
  memory_line: ["{now} now, peak {peak}", "当前 {now}，峰值 {peak}"],
  of_budget: ["budget {budget}, planned {planned}", "预算 {budget}，计划 {planned}"],
  comma: [", ", "，"],
  over: ["over the budget by {bytes}", "超出预算 {bytes}"],
  within: ["within the budget", "在预算之内"],
  weights: ["weights", "权重"],
  value: ["values", "数值"],
  state: ["states", "状态"],
  workspace: ["workspace", "工作区"],
  slack: ["allocator slack", "分配器余量"],
  other: ["other", "其他"],
  preview: ["Preview", "预览"],
  first_frame: ["The first frame", "首帧"],
  facts: ["The run", "运行概况"],
  graph: ["graph", "流程图"],
  prompt: ["prompt", "提示词"],
  device: ["device", "设备"],
  began: ["began", "开始"],
  time: ["time", "耗时"],
  predicted: ["{time}, predicted {predicted}", "{time}，预测 {predicted}"],
  predicted_only: ["predicted {predicted}", "预测 {predicted}"],
  measured: ["measured", "实测"],
  folder: ["folder", "文件夹"],
  inputs: ["Inputs", "输入"],
  stages: ["Stages", "各阶段"],
  state_head: ["state", "状态"],
  seconds: ["time", "耗时"],
  seconds_planned: ["planned", "计划"],
  waited: ["waited", "等待"],
  steps: ["steps", "步数"],
  moved: ["moved in", "移入"],
  notes: ["Notes", "备注"],
  trace: ["Trace", "追踪"],
  which_trace: ["of the try", "所属尝试"],
  report: ["report", "分析报告"],
  download: ["trace file", "追踪文件"],
  view_summary: ["summary", "摘要"],
  view_stages: ["stages", "各阶段"],
  view_timeline: ["timeline", "时间线"],
  view_peak: ["peak", "峰值"],
  view_check: ["check", "检查"],
  cut: ["The trace is cut: {problem}", "追踪文件不完整：{problem}"],
  damaged: ["The trace is damaged: {problem}", "追踪文件已损坏：{problem}"],
  go_on: ["Go on with it:", "继续运行："],
  no_trace: ["There is no trace to be read: {problem}", "没有可读取的追踪文件：{problem}"],
  rank: ["rank {name}", "设备 {name}"],
  on_devices: ["{count} devices: {names}", "{count} 个设备：{names}"],
  of_rank: ["stages and views of rank", "以下阶段和视图属于设备"],
  more_ranks: ["{count} more ranks, not shown here.", "另有 {count} 个设备，此处未显示。"],
  rank_ended: ["its part is done", "已完成其部分"],
  unread: ["nothing to be read", "无可读内容"],
  waits_for: ["waits for rank {rank}", "等待设备 {rank}"],
  waited_weights: ["waited {time} for weights", "等待权重 {time}"],
  waited_ranks: ["{time} for other ranks", "等待其他设备 {time}"],
  exchanged: ["{time} in exchanges in all", "交换共 {time}"],
  exchanging: ["exchanging", "交换"],
  row: ["row", "行"],
  batch: ["batch", "批次"],
  same_as: ["the same as row {row}", "与第 {row} 行相同"],
  done_stage: ["done", "完成"],
  open_stage: ["open", "进行中"],
  "not started_stage": ["not started", "未开始"],
  lost: ["no connection", "连接已断开"],
  refused: ["refused: open the address with its token again", "已拒绝：请重新打开带令牌的地址"],
  live: ["live", "实时"],
  paused: ["paused", "已暂停"],
  gone: ["It is not there any more.", "内容已不存在。"],
  back: ["all runs", "所有运行"],
  simulated: ["simulated, nothing was run", "模拟，未实际运行"],
};

const KEPT = "wanflow-lang";
let lang = chosen();

function chosen() {
  let kept = null;
  try { kept = localStorage.getItem(KEPT); } catch { /* storage may be switched off */ }
  if (kept === "en" || kept === "zh") return kept;
  const wanted = navigator.languages?.[0] ?? navigator.language ?? "en";
  return wanted.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function language() { return lang; }

export function switchLanguage() {
  lang = lang === "en" ? "zh" : "en";
  try { localStorage.setItem(KEPT, lang); } catch { /* then it lasts as long as the page */ }
}

export function say(key, values = {}) {
  const pair = WORDS[key];
  if (!pair) return key;
  return pair[lang === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export { WORDS };
