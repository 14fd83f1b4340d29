"""Runs of the tiny model for the figures: memory over time, and planned beside measured peaks.

Each is run by this computer's CPU, in this process, and what its trace says is kept in runs.json.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.lib.report import machine_line
from wanflow.session import Request, plan, run
from wanflow.trace import read, summarise
from wanflow.trace.exports.curve import draw_curves

STORE = Path(__file__).with_name("runs.json")
GRAPH = "t2v-tiny"
PROMPT = "a red circle moves right on a blue background"
COLUMNS = 120
BUDGETS = 6  # from the smallest to where everything stays
KINDS = ("weights", "value", "state", "workspace")


def request(vram: str, pins: tuple[str, ...] = ()) -> Request:
    """A run of the tiny graph on the CPU."""
    return Request(
        GRAPH, {"prompt": PROMPT, "seed": 0}, vram=vram, device="cpu", pins=pins,
        prompt_cache=False, probe=False,
    )  # fmt: skip


def make() -> dict[str, Any]:
    """Run at every budget, a resident one and a tight one with their memory over time, and keep."""
    machine = machine_line("cpu")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for exact in (False, True):
            pins = ("denoise.rows=all", "decode.strips=whole", "encode.tokens=all") * exact
            for nbytes in _budgets(pins):
                rows.append(_ran(request(f"{nbytes}B", pins), Path(folder), len(rows)))
        made = {"machine": {"device": machine["device"]}, "graph": GRAPH, "rows": rows}
        made["over_time"] = [
            _over_time(Path(folder) / str(row["number"]), row) for row in (rows[-1], rows[0])
        ]
    STORE.write_text(json.dumps(made, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    return made


def _budgets(pins: tuple[str, ...]) -> list[int]:
    report: Any = plan(request("1GiB", pins)).report
    low, high = report["minimum_bytes"], report["resident_bytes"]
    return sorted({low + (high - low) * n // (BUDGETS - 1) for n in range(BUDGETS)})


def _ran(asked: Request, folder: Path, number: int) -> dict[str, Any]:
    done = run(asked, out=folder / str(number))
    figures = ("budget_bytes", "predicted_peak_bytes", "peak_bytes", "predicted_seconds", "seconds")
    return {"case": GRAPH, "number": number, **{name: done[name] for name in figures}}


def _over_time(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Bytes of each kind in each column of a run's time, and its stages."""
    summary = summarise(folder / "trace.msgpack")
    events = read(folder / "trace.msgpack")
    curves = draw_curves(events, round(summary.seconds * 1e9), COLUMNS)
    (curve,) = (curve for tier, curve in curves.tiers.items() if tier == "cpu")
    return {
        "budget_bytes": row["budget_bytes"],
        "seconds": summary.seconds,
        "stages": [list(stage) for stage in curves.stages],
        **{kind: [level.by_kind[kind] for level in curve.cells] for kind in KINDS},
    }


def stored() -> dict[str, Any]:
    """What ran last."""
    return dict(json.loads(STORE.read_text(encoding="utf-8")))
