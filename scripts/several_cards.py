"""Write the tables of one video on several cards: what is planned, and what others publish.

    python -m scripts.several_cards [--write]

Plans without weights and without a GPU. Prints the tables as Markdown; with --write they go into
docs/several-cards.md, between their marks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import between
from wanflow.session import Request, plan_ranks
from wanflow.units import format_bytes, format_seconds

PAGE = ROOT / "docs" / "several-cards.md"
PLANNED = ("<!-- planned -->\n", "<!-- end of planned -->")
PUBLISHED = ("<!-- published -->\n", "<!-- end of published -->")
COUNTS = (1, 2, 4, 8)
CARDS = ("h100", "rtx4090")


@attrs.frozen
class Steps:
    """Seconds a step that somebody publishes for one card and for eight; None: out of memory."""

    who: str
    card: str
    one: float | None
    eight: float


# Wan2.1-I2V-14B, 480p, 81 frames, with guidance: the README of ModelTC/LightX2V, 2025-12-01. Those
# of the other engines are its measurements, not theirs.
STEPS = (
    Steps("LightX2V", "h100", 5.18, 0.75),
    Steps("SGLang Diffusion", "h100", 6.13, 1.19),
    Steps("xDiT", "h100", 8.93, 2.70),
    Steps("FastVideo", "h100", 7.35, 2.94),
    Steps("LightX2V", "rtx4090d", 20.26, 4.75),
)
_STEPS_ALONE = ("decode.share=first",)  # who decodes is of no matter to a step


def report(graph: str, size: str, devices: str, *pins: str) -> dict[str, Any]:
    """What `plan --devices --json` says."""
    inputs = {"size": size, "prompt": ""}
    return dict(plan_ranks(Request(graph, inputs, devices=devices, pins=pins)).report)


def a_step(planned: dict[str, Any]) -> float:
    """Seconds of a step of the stage that denoises, on the rank that takes longest.

    What is waited for weights, once, is left out: others measure steps when all is there.
    """
    steps = next(int(s["steps"]) for s in planned["stages"] if s["stage"] == "denoise")
    stages = [s for rank in planned["ranks"] for s in rank["stages"] if s["stage"] == "denoise"]
    return float(max(stage["seconds"] - stage["waiting_seconds"] for stage in stages)) / steps


def decoding(planned: dict[str, Any]) -> float:
    """Seconds of the stage that decodes, on the rank that takes longest."""
    stages = [s for rank in planned["ranks"] for s in rank["stages"] if s["stage"] == "decode"]
    return float(max(stage["seconds"] for stage in stages))


def shared_by(planned: dict[str, Any]) -> str:
    """How ranks share what denoises, and the strips of frames if they do."""
    return str(planned["share"]) + (", strips" if planned["decode"] == "strips" else "")


def planned_rows() -> Iterator[str]:
    """T2V-14B at 720p on so many of each card."""
    head = ("cards", "shared by", "whole", "a step", "decoding", "peak a rank", "a rank is sent",
            "exchanging", "times as fast")  # fmt: skip
    yield f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n"
    for card in CARDS:
        for count in COUNTS:
            yield planned_row(card, count)


def planned_row(card: str, count: int) -> str:
    """One row: the whole video, and what a rank takes and is sent."""
    planned = report("t2v-14b", "1280*720", f"{card}*{count}")
    ranks = planned["ranks"]
    exchanged = max(rank["exchanged_bytes"] for rank in ranks)
    exchanging = max(rank["exchange_seconds"] for rank in ranks)
    seconds, alone = planned["predicted_seconds"], planned["alone"]["predicted_seconds"]
    cells = (
        f"{count} `{card}`", shared_by(planned) if count > 1 else "-", format_seconds(seconds),
        f"{a_step(planned):.2f} s", f"{decoding(planned):.1f} s",
        format_bytes(max(r["predicted_peak_bytes"] for r in ranks)),
        format_bytes(exchanged) if exchanged else "-",
        format_seconds(exchanging) if exchanged else "-", f"{alone / seconds:.2f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def published_rows() -> Iterator[str]:
    """I2V-14B at 480p on one card and on eight: a step as published and as planned."""
    yield "| engine | card | one | eight | times | planned: one | eight | times |\n"
    yield "|---|---|---|---|---|---|---|---|\n"
    ours: dict[str, Sequence[float]] = {}
    for row in STEPS:
        if row.card not in ours:
            ours[row.card] = [
                a_step(report("i2v-14b-480p", "832*480", f"{row.card}*{count}", *_STEPS_ALONE))
                for count in (1, 8)
            ]
        one, eight = ours[row.card]
        published = "-" if row.one is None else f"{row.one:.2f} s"
        times = "-" if row.one is None else f"{row.one / row.eight:.1f}"
        yield (
            f"| {row.who} | `{row.card}` | {published} | {row.eight:.2f} s | {times} "
            f"| {one:.2f} s | {eight:.2f} s | {one / eight:.1f} |\n"
        )


def main(given: argparse.Namespace) -> None:
    """Print the tables, or write them into the page."""
    for marks, rows in ((PLANNED, planned_rows()), (PUBLISHED, published_rows())):
        made = "".join(rows)
        print(made, flush=True)
        if given.write:
            page = PAGE.read_text(encoding="utf-8")
            PAGE.write_text(between(marks, page, made), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/several-cards.md")
    main(parser.parse_args())
