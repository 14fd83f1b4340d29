"""The report's words in English and Chinese: one sentence a key, the same numbers in both."""

from __future__ import annotations

from typing import Literal

Lang = Literal["en", "zh"]

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("Memory report", "显存分析报告"),
    "run": ("The run", "运行概况"),
    "graph": ("graph", "流程图"),
    "status": ("status", "状态"),
    "simulated": ("simulated, nothing was run", "模拟，未实际运行"),
    "unfinished": ("unfinished", "未完成"),
    "where": ("where", "设备"),
    "budget": ("budget", "显存预算"),
    "predicted": ("predicted", "预测"),
    "peak_of": ("peak", "峰值"),
    "measured": ("measured", "实测"),
    "time": ("time", "耗时"),
    "plan": ("plan", "计划"),
    "versions": ("versions", "版本"),
    "trace": ("trace", "追踪文件"),
    "events": ("{count} events", "{count} 个事件"),
    "over": ("over the budget by {bytes}", "超出预算 {bytes}"),
    "within": ("within the budget, {bytes} to spare", "在预算之内，剩余 {bytes}"),
    "models": ("Loading the models", "模型加载分析"),
    "models_text": (
        "The weights come to {bytes}; {model} has the most of them, {share}.",
        "模型权重共 {bytes}，其中 {model} 最大，占 {share}。",
    ),
    "no_models": ("No weights were moved.", "没有加载任何权重。"),
    "model": ("model", "模型"),
    "segments": ("segments", "分段"),
    "weights": ("weights", "权重"),
    "share": ("share", "占比"),
    "at_once": ("at once", "同时驻留"),
    "loaded": ("loaded", "累计加载"),
    "waited": ("waited", "等待"),
    "peak": ("The peak", "峰值显存分析"),
    "peak_text": (
        "The most, {bytes}, lay on {tier} at {time}, in stage {stage}, step {step}.",
        "最高点 {bytes}：{tier}，时刻 {time}，阶段 {stage}，第 {step} 步。",
    ),
    "no_peak": ("Nothing lay on the device.", "设备上没有任何数据。"),
    "kind": ("kind", "类别"),
    "bytes": ("bytes", "大小"),
    "value": ("values", "中间值"),
    "state": ("states", "状态"),
    "workspace": ("workspace", "工作区（激活）"),
    "slack": ("allocator slack", "分配器碎片"),
    "other": ("other", "其他"),
    "for_stage": ("for stage", "所属阶段"),
    "object": ("object", "对象"),
    "since": ("since", "起始"),
    "largest": ("The largest objects there:", "其中最大的对象："),
    "stages": ("Stage by stage", "各阶段"),
    "stage": ("stage", "阶段"),
    "wall": ("wall", "耗时"),
    "compute": ("compute", "计算"),
    "over_time": ("Memory over time", "显存随时间变化"),
    "steps": ("Step by step, frame by frame", "逐步、逐帧的显存变化"),
    "steps_text": (
        "{stage}: {count} steps, {first} at the end of the first, {last} at the end of the last.",
        "{stage}：共 {count} 步，第一步结束时 {first}，最后一步结束时 {last}。",
    ),
    "no_steps": ("No stage has steps.", "没有逐步执行的阶段。"),
    "step": ("step", "步"),
    "resident": ("there at its end", "结束时驻留"),
    "change": ("change", "增量"),
    "skipped": ("({count} steps between are left out)", "（中间 {count} 步从略）"),
    "waiting": ("Time lost waiting", "等待造成的时间损失"),
    "waiting_text": (
        "Compute stood still for {time}, {share} of the run.",
        "计算共等待 {time}，占全程 {share}。",
    ),
    "no_waiting": ("Compute never waited for a transfer.", "计算从未等待传输。"),
    "loads": ("loads", "加载次数"),
    "advice": ("What to do", "优化建议"),
    "advice_text": (
        "Each was planned again for {machine}: as it was, {bytes} and {time}.",
        "每条建议都在 {machine} 上重新规划得出；原计划为 {bytes}，{time}。",
    ),
    "no_advice": (
        "No change to the options was found that saves memory or time.",
        "没有找到能节省显存或时间的改动。",
    ),
    "not_planned": ("Nothing could be planned again: {reason}.", "无法重新规划：{reason}。"),
    "priority": ("priority", "优先级"),
    "high": ("high", "高"),
    "medium": ("medium", "中"),
    "low": ("low", "低"),
    "add": ("add", "添加选项"),
    "saves": ("saves", "节省"),
    "costs": ("costs", "代价"),
    "picture": ("picture", "画面"),
    "same": ("same to the bit", "逐位相同"),
    "rounding": ("differs by rounding", "仅舍入差异"),
    "another": ("another one", "不同"),
    "base": ("The run as it was:", "原运行命令："),
    "notes": ("Notes", "备注"),
    "at": ("at", "时刻"),
    "note": ("note", "内容"),
    "damage": ("This trace is {state}: {problem}.", "追踪文件 {state}：{problem}。"),
}


def phrases(lang: Lang) -> dict[str, str]:
    """Give every sentence in one language."""
    index = 0 if lang == "en" else 1
    return {key: both[index] for key, both in _WORDS.items()}
