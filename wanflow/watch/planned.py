"""What a run's `plan.json` predicts, by rank and stage: of a file that anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from wanflow.trace.plain import count_in
from wanflow.watch.shown import shown_text

MOST_STAGES = 256  # a run has a dozen
_LONGEST_NAME = 256
_LONGEST_DEVICE = 40


@attrs.frozen
class RankForecast:
    """What is planned for a rank: on which device, and `stages` as `planned_stages` gives them."""

    device: str = ""
    stages: tuple[dict[str, Any], ...] = ()


def planned_ranks(plan: Mapping[str, Any], most: int) -> tuple[int, tuple[RankForecast, ...]]:
    """Give how many ranks a plan is for, 0 for one device; and what is planned for *most* of them.

    On one device what is planned is that of the run.
    """
    rows = plan.get("ranks")
    if not isinstance(rows, list) or not rows:
        return 0, (_forecast(plan),)
    return len(rows), tuple(_forecast(row) for row in rows[:most])


def planned_stages(plan: object) -> tuple[dict[str, Any], ...]:
    """Give what is predicted of each stage: its name, its `peak_bytes` and its `seconds`."""
    rows = plan.get("stages") if isinstance(plan, Mapping) else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return tuple(
        {
            "stage": row["stage"], "seconds": float(row["seconds"]),
            "peak_bytes": count_in(row, "peak_bytes") or 0,
        }
        for row in found[:MOST_STAGES]
        if _is_name(row.get("stage")) and _is_time(row.get("seconds"))
    )  # fmt: skip


def _forecast(row: object) -> RankForecast:
    device = row.get("device") if isinstance(row, Mapping) else None
    return RankForecast(shown_text(device, _LONGEST_DEVICE), planned_stages(row))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e12  # type: ignore[operator]
