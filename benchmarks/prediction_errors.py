"""How far off were the predictions? Every row of every file below benchmarks/results/, in a table.

    python benchmarks/prediction_errors.py [--write]

Prints the table as Markdown. With --write it goes into docs/benchmarks.md, between its marks.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import RESULTS, between, error
from wanflow.units import format_bytes, format_seconds

PAGE = ROOT / "docs" / "benchmarks.md"
MARKS = ("<!-- prediction errors -->\n", "<!-- end of prediction errors -->")
_COLUMNS = (
    "script", "device", "case", "budget", "predicted peak", "measured", "off", "predicted time",
    "measured", "off",
)  # fmt: skip
HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n"
NONE = "There are no results yet.\n"
Row = dict[str, Any]


def seconds_of(row: Row) -> tuple[float, float] | None:
    """Predicted and measured: of the stage where it was timed by itself, else of the run."""
    for predicted, measured in (
        ("predicted_stage_seconds", "stage_seconds"),
        ("predicted_seconds", "seconds"),
    ):
        if predicted in row and measured in row:
            took = row[measured]
            return row[predicted], took["median"] if isinstance(took, dict) else took
    return None


def cells(report: Row, row: Row) -> list[str]:
    """Say one row of a benchmark."""
    case = row["case"] + (" over a link" if report.get("link_bytes_per_second") else "")
    found = [report["benchmark"], str(report["machine"]["device"]), case]
    found.append(f"{row.get('budget', '')} {format_bytes(row['budget_bytes'])}".strip())
    predicted, measured = row["predicted_peak_bytes"], row.get("peak_bytes")
    found.append(format_bytes(predicted))
    if measured is None:  # behind a link the device's memory is not measured
        found += ["", ""]
    else:
        found += [format_bytes(measured), f"{error(predicted, measured):+.1%}"]
    seconds = seconds_of(row)
    if seconds is None:
        return [*found, "", "", ""]
    return [*found, *map(format_seconds, seconds), f"{error(*seconds):+.0%}"]


def rows_of(results: Path) -> Iterator[list[str]]:
    """Every row with a prediction and its measure, of every file in the order of names."""
    for path in sorted(results.rglob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        for row in report.get("rows", []):
            if "predicted_peak_bytes" in row and ("peak_bytes" in row or seconds_of(row)):
                yield cells(report, row)


def table(results: Path = RESULTS) -> str:
    """All of it as Markdown."""
    rows = "".join(f"| {' | '.join(row)} |\n" for row in rows_of(results))
    return HEAD + rows if rows else NONE


def main(given: argparse.Namespace) -> None:
    """Print the table, or write it into the page."""
    made = table(given.results)
    print(made, end="")
    if given.write:
        PAGE.write_text(between(MARKS, PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help="put it into docs/benchmarks.md")
    main(parser.parse_args())
