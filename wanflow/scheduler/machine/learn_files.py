"""Refine what files cost by a run: its video, and what it saved after each step. No torch.

A run tells one figure of the two that make up such a time, the one that most of it goes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.call_times import CallTimes
from wanflow.scheduler.machine.figures import FILES, Machine
from wanflow.scheduler.machine.file_work import file_work, written_at

_FACTORS = (0.2, 5.0)  # from what was probed


def learn_files(
    machine: Machine, footprint: Footprint, times: CallTimes, save_seconds: Sequence[float]
) -> Machine:
    """Return *machine* with what its files took; *save_seconds* has each time something was saved.

    Of a run that was resumed, or began again, nothing is told.
    """
    if machine.device != "cpu":
        return machine
    work, spans = file_work(footprint), times.spans_of(footprint)
    videos = [w for w in work.values() if w.video_bytes]
    writers = {footprint.calls[index].stage for index, w in work.items() if w.video_bytes}
    written = [i for i in written_at(footprint) if footprint.calls[i].stage in writers]
    writing = [span for span in (spans[index] for index in written) if span is not None]
    if videos and len(writing) == len(written):
        parts = _added([w.parts(machine) for w in videos])
        machine = _taught(machine, parts, sum(span for span, _gap in writing))
    saves = [w for w in work.values() if w.saved_files]
    if saves and len(saves) == len(save_seconds):
        each = [w.parts(machine) for w in saves]
        ratios = [s / sum(p.values()) for s, p in zip(save_seconds, each, strict=True)]
        parts = _added(each)
        machine = _taught(machine, parts, median(ratios) * sum(parts.values()))
    return machine


def _added(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(parts[name] for parts in each) for name in FILES}


def _taught(machine: Machine, parts: dict[str, float], seconds: float) -> Machine:
    """Change the figure that most of the predicted time comes from, so that the sum is right."""
    name = max(parts, key=lambda n: parts[n])
    wanted = max(seconds - sum(parts.values()) + parts[name], 0.2 * seconds)
    factor = wanted / parts[name]
    now = machine.figure(name)
    value = now * factor if name.endswith("_seconds") else now / factor
    low, high = (machine.was.get(name, now) * bound for bound in _FACTORS)
    return machine.with_figures({name: min(max(value, low), high)}, "learned")
