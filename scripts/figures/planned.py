"""Budget against time of every shipped graph, as planned: into planned.json, a minute a graph."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wanflow.graph import shipped_graphs
from wanflow.session import Request, plan
from wanflow.session.planning.planned import at_budget

STORE = Path(__file__).with_name("planned.json")
MACHINE, RAM = "rtx4090", "32GiB"
POINTS = 6


def swept(graph: str) -> dict[str, Any]:
    """Plan a graph from the smallest budget to where everything stays, in equal steps of a log."""
    planned = plan(Request(graph, {"prompt": ""}, machine=MACHINE, ram=RAM))
    overhead = planned.prepared.place.overhead_bytes
    low, high = planned.plan.minimum_bytes, planned.plan.resident_bytes
    budgets = {round(low * (high / low) ** (n / (POINTS - 1))) for n in range(POINTS)}
    points: list[list[float]] = []
    for nbytes in sorted(budgets | {low}):
        seconds = at_budget(planned, nbytes).predicted_seconds
        # What less room allows more room allows: the search for one budget is not that for all.
        points.append([nbytes + overhead, min([seconds, *(s for _, s in points)])])
    return {"graph": graph, "resident_bytes": high + overhead, "points": points}


def make(graphs: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Sweep *graphs*, all that are shipped where none is named, and keep them by name."""
    kept = {row["graph"]: row for row in (stored() if STORE.exists() else [])}
    for graph in graphs or shipped_graphs():
        print(f"sweeping {graph}", flush=True)
        kept[graph] = swept(graph)
        rows = [kept[name] for name in sorted(kept)]
        STORE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return stored()


def stored() -> list[dict[str, Any]]:
    """What was planned last."""
    return list(json.loads(STORE.read_text(encoding="utf-8")))
