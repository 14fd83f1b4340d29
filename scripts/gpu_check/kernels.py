"""Kernels of the full models, each alone: the room it takes beside the room it is given."""

from __future__ import annotations

from typing import Any

import attrs

from benchmarks.lib.alone import Alone
from benchmarks.lib.kernels import Seen, measured
from benchmarks.lib.random_weights import RandomWeights
from benchmarks.lib.stage_case import Case
from scripts.gpu_check.checking import Checking
from wanflow.errors import WanflowError
from wanflow.units import format_bytes

PART = "kernels"
_CASES = (
    Case("1.3b-480p", "t2v-1.3b", "denoise", "832*480", blocks=1),
    Case("14b-480p", "t2v-14b", "denoise", "832*480", blocks=1),
    Case("vae-480p", "t2v-1.3b", "decode", "832*480", frames=9, blocks=1),
    Case("vae-480p-fp32", "t2v-1.3b", "decode", "832*480", frames=9, precision="fp32", blocks=1),
)


def kernels(check: Checking) -> None:
    """Note the kernels of a short run at each setting, then run each by itself."""
    weights = RandomWeights()
    for case in _CASES[::2] if check.shrink else _CASES:
        if check.late:
            check.leave(f"kernels of {case.name}")
            continue
        with check.trying(PART, case.name):
            small = _shrunken(case) if check.shrink else case
            _case(check, small, weights)


def _case(check: Checking, case: Case, weights: RandomWeights) -> None:
    alone = Alone.of(case, weights, check.folder, check.device)
    rows: list[dict[str, Any]] = []
    for kernel, count in _seen(check, alone).kernels.values():
        if check.late:
            check.leave(f"some kernels of {case.name}")
            break
        rows.append({**measured(kernel, check.torch_device, "native"), "count": count})
    above = [r for r in rows if r["workspace_bytes"] > r["predicted_workspace_bytes"]]
    worst = max((_excess(row) for row in above), default=0)
    said = f"{len(above)} of {len(rows)} take more, by {format_bytes(worst)} at most"
    check.add(
        PART, f"{case.name}: room that kernels take for themselves", "no more than planned",
        said if above else f"none of {len(rows)} takes more", not above, kernels=rows,
    )  # fmt: skip


def _shrunken(case: Case) -> Case:
    """The same question to the tiny model."""
    return attrs.evolve(case, graph="t2v-tiny", size="48*32", frames=5)


def _excess(row: dict[str, Any]) -> int:
    return int(row["workspace_bytes"] - row["predicted_workspace_bytes"])


def _seen(check: Checking, alone: Alone) -> Seen:
    """The kernels of a run at each setting that this card can hold."""
    seen = Seen()
    with seen:
        for setting in alone.settings():
            if check.late:
                check.leave(f"{alone.case.name} at {setting}")
                continue
            try:
                alone.run(alone.plan(alone.footprint(setting), alone.place.usable_bytes), _nothing)
            except WanflowError as problem:
                check.left_out.append(f"{alone.case.name} at {setting}: {problem.message}")
    return seen


def _nothing(*_: object) -> None:
    """Watch no value."""
