"""Write the table of what each full-size graph needs at least, and how long it takes then.

    python -m scripts.budgets [--write]

Plans every shipped graph of a full-size model on three named cards, without weights, at 480p and at
720p. Prints the table as Markdown; with --write it goes into docs/budgets.md, between its marks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import between
from wanflow.session import Request, plan
from wanflow.units import format_bytes, format_seconds

PAGE = ROOT / "docs" / "budgets.md"
MARKS = ("<!-- budgets -->\n", "<!-- end of budgets -->")
CARDS = ("rtx4090", "rtx4070s", "rtx4060")
RAM = "32GiB"
SIZES = {"480p": "832*480", "720p": "1280*720", "704p": "1280*704", "1024p": "1024*1024"}
GRAPHS: Mapping[str, tuple[str, ...]] = {  # and the sizes that its model is made for
    "t2v-1.3b": ("480p",),
    "t2v-14b": ("480p", "720p"),
    "i2v-14b-480p": ("480p",),
    "i2v-14b-720p": ("720p",),
    "flf2v-14b": ("480p", "720p"),
    "t2v-a14b": ("480p", "720p"),
    "i2v-a14b": ("480p", "720p"),
    "ti2v-5b": ("704p",),
    "vace-1.3b": ("480p",),
    "vace-14b": ("480p", "720p"),
    "v2v-1.3b": ("480p",),
    "v2v-14b": ("480p", "720p"),
    "t2i-14b": ("720p", "1024p"),
}
HEAD = "| graph | size | minimum | what needs it | " + " | ".join(CARDS) + " |\n"
HEAD += "|---" * (4 + len(CARDS)) + "|\n"


def row(graph: str, size: str) -> str:
    """The minimum, with context, and the predicted time on each card with all of its memory."""
    reports = [_report(graph, size, card) for card in CARDS]
    first = reports[0]
    cells = [f"`{graph}`", size, format_bytes(first["minimum_bytes"])]
    cells += [str(first["minimum_cause"]).partition(" (")[0]]
    cells += [
        format_seconds(report["predicted_seconds"]) if report["feasible"] else "does not fit"
        for report in reports
    ]
    return f"| {' | '.join(cells)} |\n"


def _report(graph: str, size: str, card: str) -> dict[str, Any]:
    inputs = {"size": SIZES[size], "prompt": ""}
    return dict(plan(Request(graph, inputs, machine=card, ram=RAM)).report)


def rows() -> Iterator[str]:
    """Every graph at the sizes of its model."""
    for graph, sizes in GRAPHS.items():
        for size in sizes:
            yield row(graph, size)


def main(given: argparse.Namespace) -> None:
    """Print the table, or write it into the page."""
    made = HEAD + "".join(rows())
    print(made, end="")
    if given.write:
        PAGE.write_text(between(MARKS, PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/budgets.md")
    main(parser.parse_args())
