"""What `wanflow run` says when it is done."""

from collections.abc import Mapping
from shlex import quote
from typing import Any

from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds


def render(done: Mapping[str, Any]) -> str:
    """Say where the result is, how the peak compares with the plan, and what to type next."""
    if done.get("status") == "stopped":
        return _stopped(done)
    products = (done.get(kind) for kind in ("video", "picture", "folder", "out"))
    product = next(filter(None, products))
    lines = [
        f"wrote {product}",
        _frames(done),
        _memory(done),
        f"next: wanflow trace summary {quote(str(done['trace']))}",
    ]
    return clean("\n".join(line for line in lines if line))


def _stopped(done: Mapping[str, Any]) -> str:
    stage, _, step = str(done["until"]).rpartition(":")
    took = f"{format_seconds(done['seconds'])} on {done['device']}, seed {done['seed']}"
    lines = [
        f"stopped after step {step} of {stage}, as asked: nothing is lost",
        took,
        f"preview: {done['preview']}" if done.get("preview") else "",
        _memory(done),
        f"next: {done['resume']}",
    ]
    return clean("\n".join(line for line in lines if line))


def _frames(done: Mapping[str, Any]) -> str:
    took = format_seconds(done["seconds"])
    planned = done.get("predicted_seconds")
    expected = f" (planned {format_seconds(planned)})" if planned else ""
    count = done["frames"]
    frames = "1 frame" if count == 1 else f"{count} frames"
    compiled = done.get("compile_seconds")
    before = f", compiled before in {format_seconds(compiled)}" if compiled else ""
    return f"{frames} in {took}{expected} on {done['device']}, seed {done['seed']}{before}"


def _memory(done: Mapping[str, Any]) -> str:
    budget, peak = done.get("budget_bytes"), done.get("peak_bytes")
    if not budget or peak is None:
        return ""
    planned = done.get("predicted_peak_bytes")
    said = f", planned {format_bytes(planned)}" if planned is not None else ""
    share = f"{peak / budget:.0%} of the {format_bytes(budget)} budget"
    over = done.get("over_budget_bytes")
    if over:
        share = f"over the {format_bytes(budget)} budget by {format_bytes(over)}"
    return f"peak {format_bytes(peak)}{said}, {share} ({done.get('peak_source', 'unknown')})"
