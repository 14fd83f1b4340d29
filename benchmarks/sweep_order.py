"""Is the predicted order of budgets the measured one? Ten budgets of the tiny graph.

    python benchmarks/sweep_order.py [--rounds 5] [--budgets 10] [--graph t2v-tiny] [--link 20e6]
                                     [--shrink]

With `--link` the weights come over a link of so many bytes a second (`lib/linked.py`), so that a
budget costs time even where the compute is slow: without it the loads of a tiny graph all hide.
One process; a round to warm up, then rounds in which the budgets take turns, every other round
backwards. Prints a table, then one JSON object, which goes into benchmarks/results/ too.
"""

import argparse
import contextlib
import itertools
import json
import tempfile
from pathlib import Path
from statistics import quantiles
from typing import Any

import attrs

from benchmarks.lib.linked import linked
from benchmarks.lib.report import error, keep, machine_line, spread
from wanflow.session import Request, plan, run
from wanflow.session.preparing.place import FindPlace, find_place

NOISE = 0.01  # predictions closer than this share have no order
Row = dict[str, Any]


def told(done: list[Row]) -> Row:
    """All runs at one budget as one row."""
    keys = ("budget_bytes", "predicted_peak_bytes", "predicted_seconds", "peak_source", "plan_id")
    seconds, peak = [row["seconds"] for row in done], max(row["peak_bytes"] for row in done)
    low, _, high = quantiles(seconds, n=4, method="inclusive") if seconds[1:] else seconds * 3
    row = {"case": "sweep", **{key: done[0][key] for key in keys}, "peak_bytes": peak}
    row |= {"seconds": spread(seconds), "quartiles": [low, high]}
    row["peak_error"] = error(row["predicted_peak_bytes"], peak)
    row["time_error"] = error(row["predicted_seconds"], row["seconds"]["median"])
    return row


def ranks(values: list[float]) -> list[float]:
    """Places from 0; equal values share the middle one."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
        for value in values
    ]


def rank_correlation(rows: list[Row]) -> float | None:
    """Spearman's: 1 for the same order, None where all predictions are equal."""
    first = ranks([float(f"{row['predicted_seconds']:.6e}") for row in rows])
    second = ranks([row["seconds"]["median"] for row in rows])
    middle = (len(rows) - 1) / 2
    products = sum((a - middle) * (b - middle) for a, b in zip(first, second, strict=True))
    norm = sum((a - middle) ** 2 for a in first) * sum((b - middle) ** 2 for b in second)
    return float(products / norm**0.5) if norm else None


def swapped(rows: list[Row]) -> list[tuple[int, int]]:
    """Pairs of budgets, predicted faster and slower, measured the other way round beyond noise."""
    return [
        (fast["budget_bytes"], slow["budget_bytes"])
        for fast, slow in itertools.permutations(rows, 2)
        if fast["predicted_seconds"] < slow["predicted_seconds"] * (1 - NOISE)
        and fast["quartiles"][0] > slow["quartiles"][1]
    ]


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    with linked(given.link) if given.link else contextlib.nullcontext(find_place) as on:
        rows = measured(given, on)
    result = {
        "benchmark": "sweep_order", "machine": machine_line(given.device), "rounds": given.rounds,
        "link_bytes_per_second": given.link, "rows": rows,
        "rank_correlation": rank_correlation(rows), "swapped": swapped(rows),
    }  # fmt: skip
    if given.link:  # both sides of the link are RAM here: the meter can't tell them apart
        for row in rows:
            del row["peak_bytes"], row["peak_error"], row["peak_source"]
    else:
        result["largest_peak_error"] = max(abs(row["peak_error"]) for row in rows)
    for row in rows:
        print(
            f"{row['budget_bytes']:>12}  peak {row['predicted_peak_bytes']} / "
            f"{row.get('peak_bytes')}  time {row['predicted_seconds']:.3f} / "
            f"{row['seconds']['median']:.3f} s ({row['time_error']:+.0%})"
        )
    name = f"{result['machine']['device']}{'-linked' if given.link else ''}"
    keep(result, given.out, name=name)
    print(json.dumps(result))


def measured(given: argparse.Namespace, on: FindPlace) -> list[Row]:
    """Plan at every budget, then run them in turns; a row a budget."""
    inputs = {"steps": 2} if given.shrink else {}
    request = Request(given.graph, inputs, device=given.device, exact=True, prompt_cache=False)
    report: Any = plan(request, on=on).report
    low, gap = report["minimum_bytes"], report["resident_bytes"] - report["minimum_bytes"]
    budgets = [low + gap * n // (given.budgets - 1) for n in range(given.budgets)]
    found: dict[int, list[Row]] = {budget: [] for budget in budgets}
    # All are predicted before the first run: each run teaches the machine other rates.
    asked = {budget: attrs.evolve(request, vram=f"{budget}B") for budget in budgets}
    predicted = {
        budget: plan(each, on=on).report["predicted_seconds"] for budget, each in asked.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds + 1):
            for budget in budgets[:: -1 if number % 2 else 1]:
                done = run(asked[budget], out=Path(folder) / "run", force=True, on=on)
                if number:  # the first round warms up
                    told_before = {"predicted_seconds": predicted[budget]}
                    found[budget].append({**done, **told_before})
    return [told(done) for done in found.values()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budgets", type=int, default=10)
    parser.add_argument("--graph", default="t2v-tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--link", type=float, help="bytes a second to a device behind a link")
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="two steps instead of eight")
    main(parser.parse_args())
