"""What ran, of all that is on the page: rows of committed results, of 1.3B or of its parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import attrs

from benchmarks.prediction_errors import seconds_of

FULL_SIZE = "full_size"  # files of runs at full size begin so
_PARTS = ("1.3b", "umt5-xxl")  # a case of another file is of the model where it has one of these


@attrs.frozen
class Measured:
    """A row of a file: what was asked, planned and measured, with the device that it ran on."""

    file: str
    device: str
    case: str
    budget_bytes: int
    predicted_bytes: int
    peak_bytes: int
    seconds: tuple[float, float] | None  # predicted and measured

    @property
    def is_full_size(self) -> bool:
        """Whether it is a run of the whole graph at the size of the tables."""
        return self.file.startswith(FULL_SIZE) and self.case.startswith("t2v-1.3b")


def measured_in(results: Path) -> list[Measured]:
    """Every row with a measured peak, in the order of files."""
    return [row for path in sorted(results.rglob("*.json")) for row in _rows(path)]


def _rows(path: Path) -> Iterator[Measured]:
    report = json.loads(path.read_text(encoding="utf-8"))
    device = str(report.get("machine", {}).get("device", ""))
    full = path.name.startswith(FULL_SIZE)
    for row in report.get("rows", [report] if full else []):
        case = str(row.get("case") or row.get("graph") or "")
        if not {"budget_bytes", "predicted_peak_bytes", "peak_bytes"} <= row.keys():
            continue
        if full or any(part in case for part in _PARTS):
            yield Measured(
                path.stem, device, case, row["budget_bytes"], row["predicted_peak_bytes"],
                row["peak_bytes"], seconds_of(row),
            )  # fmt: skip
