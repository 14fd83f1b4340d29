"""How long does planning take? The planner alone on chains of 1,000 to 50,000 segments.

`python benchmarks/planner.py [REPEATS]` prints one JSON object. `deep` has 40 blocks and many
passes, as a transformer does; `wide` is read in two passes, each segment of its own size.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable

from wanflow.scheduler.footprint.costs import (
    CallRecord,
    Cost,
    Footprint,
    Made,
    SegmentUse,
    StageFacts,
)
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.schedule import Plan
from wanflow.units import MIB

CALLS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
MACHINE = named_machine("rtx4090")


def chain(blocks: int, calls: int, nbytes: Callable[[int], int], tera: float) -> Footprint:
    """Make *calls* calls over *blocks* blocks; a value goes through them."""
    segments = {f"dit/{i}": SegmentUse(f"dit/{i}", nbytes(i)) for i in range(blocks)}
    steps = []
    for i in range(calls):
        made = (Made(i + 1, "x", 8 * MIB, is_state=False),)
        cost = Cost(200 * MIB, {"gemm": tera * 1e12}, 10**9, 40)
        reads = (i,) if i else ()
        steps.append(
            CallRecord("denoise", "block", i // blocks, cost, f"dit/{i % blocks}", 0, reads, made)
        )
    total = sum(s.nbytes for s in segments.values())
    facts = (StageFacts("denoise", "denoise", "dit", calls // blocks, total, {}, ()),)
    return Footprint(facts, tuple(steps), segments, frozenset(), {"denoise": "bfloat16"})


def timed(footprint: Footprint, repeats: int) -> dict[str, object]:
    """Plan at half of what would stay, and where a tenth of the RAM leaves the disk to be read."""
    ends = plan([footprint], MACHINE, None)
    budget = (ends.minimum_bytes + ends.resident_bytes) // 2
    times, found = [], ends
    for number in range(repeats + 1):
        began = time.perf_counter()
        found = plan([footprint], MACHINE, budget + number)
        times.append(time.perf_counter() - began)
    ram = ends.host.minimum_bytes + footprint.stages[0].weights_bytes // 10
    began = time.perf_counter()
    plan([footprint], MACHINE, budget, ram_bytes=ram)
    from_disk = time.perf_counter() - began
    return {
        "median_s": statistics.median(times[1:]), "min_s": min(times[1:]), "max_s": max(times[1:]),
        "from_disk_s": from_disk, "gap_to_bound": gap(found),
    }  # fmt: skip


def gap(found: Plan) -> float:
    """How much longer than the busiest queue by itself."""
    return found.predicted_seconds / found.bound_seconds - 1


def main(repeats: int) -> None:
    """Measure and print."""
    rng = random.Random(0)  # noqa: S311
    rows = []
    for calls in CALLS:
        deep = chain(40, calls, lambda _: 700 * MIB, 4)
        wide = chain(calls // 2, calls, lambda _: rng.randrange(MIB, 9 * MIB), 0.02)
        for name, footprint in (("deep", deep), ("wide", wide)):
            rows.append({"chain": name, "calls": calls, **timed(footprint, repeats)})
    about = f"{platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"machine": about, "planned_for": MACHINE.name, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
