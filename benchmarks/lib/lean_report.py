"""What the rows of `gpu_lean.py` say: each in a line, whether it is near enough, and all of it."""

from __future__ import annotations

from typing import Any

from benchmarks.lib.peers import DIFFUSERS

BOUNDS = {"bf16": 8 * 2**-8, "fp32": 2**-9}  # fp32: of a card's convolutions, which are TF32
LEVEL = 1 / 255  # more, where frames are levels
Row = dict[str, Any]


def within(row: Row) -> bool:
    """Whether a row's result is as near to diffusers' as it has to be."""
    bound = BOUNDS[row["precision"]] + (LEVEL / row["largest"] if row["in_levels"] else 0)
    return bool(row["finite"] and row["difference"] <= bound)


def line(row: Row) -> str:
    """Say a row."""
    seconds, share = (
        row[f"step_{name}" if f"step_{name}" in row else name]["median"]
        for name in ("seconds", "share")
    )
    peak = f"peak {row['peak_bytes']}"
    if "peak_error" in row:
        peak += f", predicted {row['predicted_peak_bytes']}"
    return (
        f"{row['case']} {row.get('budget', row['way'])}: {seconds:.3f} s ({share:.3f} of "
        f"{DIFFUSERS}), {peak}, off by {row['difference']:.2g}"
    )


def verdict(told: list[Row]) -> Row:
    """What must hold of every case, and the least memory that was seen of either side."""
    found = {}
    for name in dict.fromkeys(row["case"].partition(" ")[0] for row in told):
        mine = [r for r in told if r["case"].partition(" ")[0] == name]
        our = [r for r in mine if "knobs" in r]
        theirs = [r["peak_bytes"] for r in mine if "knobs" not in r]
        found[name] = {
            "within_bound": all(r["within_bound"] for r in our) if our else None,
            "bitwise_is_identical": all(r["identical"] for r in our if not r["rounding"])
            if our
            else None,
            "least_bytes": min((r["peak_bytes"] for r in our), default=None),
            "least_bytes_of_diffusers": min(theirs, default=None),
        }
    return found
