"""What a plan says of previews: at which steps of a stage, how large, and what they take."""

from __future__ import annotations

from wanflow.scheduler.machine.file_work import PREVIEW
from wanflow.scheduler.plan.schedule import Plan

_FAMILY = PREVIEW.partition(".")[0]  # how the kinds of both calls of a preview begin


def preview_reports(plan: Plan) -> dict[str, dict[str, object]]:
    """Give it for each stage that has any, by its name; steps are counted from 0.

    `workspace_bytes` is what making one needs at most, never the peak of a step, `seconds` what all
    of them take with their files.
    """
    rows: dict[str, dict[str, object]] = {}
    steps: dict[str, list[int]] = {}
    seconds: dict[str, float] = {}
    for call, took in zip(plan.footprint.calls, plan.timeline.compute, strict=True):
        if call.kind.partition(".")[0] != _FAMILY:
            continue
        seconds[call.stage] = seconds.get(call.stage, 0.0) + took
        if call.kind == PREVIEW:
            continue
        frames, height, width, _ = call.makes[0].shape
        steps.setdefault(call.stage, []).append(call.step)
        rows[call.stage] = {
            "frames": frames,
            "width": width,
            "height": height,
            "workspace_bytes": call.cost.workspace_bytes,
        }
    return {
        stage: {"steps": steps[stage], **row, "seconds": seconds[stage]}
        for stage, row in rows.items()
    }
