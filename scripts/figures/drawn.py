"""The figures, from what was planned, what ran and what the benchmarks have kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.lib.report import RESULTS
from scripts.figures.style import BLUE, GREEN, GREY, LINES, ORANGE, PURPLE, drawing, keep
from wanflow.units import GIB, MIB, format_bytes, format_seconds

Row = Mapping[str, Any]
_TINY = "-tiny"
_KINDS = (
    ("weights", "weights", BLUE, ""),
    ("value", "values", ORANGE, "//"),
    ("state", "state", GREEN, ".."),
    ("workspace", "a call's workspace", PURPLE, "xx"),
)


@attrs.frozen
class Peak:
    """A run's predicted and measured peak, and where that is written."""

    group: str
    predicted_bytes: int
    measured_bytes: int


def budgets(swept: Sequence[Row], folder: Path) -> None:
    """Budget against time: a panel a graph, how much longer than at its best."""
    shown = [row for row in swept if not row["graph"].endswith(_TINY)]
    columns = 4
    rows = -(-len(shown) // columns)
    with drawing(10, 1.9 * rows + 0.7, rows, columns) as (figure, axes):
        most = max(map(_longest, shown))
        for panel, row in zip(axes.flat, shown, strict=False):
            _budget_panel(panel, row, most)
        for panel in axes.flat[len(shown) :]:
            panel.set_axis_off()
        figure.supxlabel("budget, GiB (from the smallest to everything resident)")
        figure.supylabel("longer than at best, %")
        keep(figure, folder, "budgets")


def _longest(row: Row) -> float:
    seconds: list[float] = [point[1] for point in row["points"]]
    return 100 * (max(seconds) / min(seconds) - 1)


def _budget_panel(panel: Any, row: Row, most: float) -> None:
    sizes = [point[0] / GIB for point in row["points"]]
    best = min(point[1] for point in row["points"])
    longer = [100 * (point[1] / best - 1) for point in row["points"]]
    panel.plot(sizes, longer, "-o", color=BLUE, markersize=3.5, clip_on=False)
    panel.set_title(f"{row['graph']}, {format_seconds(best)}", fontsize=9)
    panel.set_ylim(0, max(most * 1.08, 1))
    panel.set_xlim(0, None)


def one_budget(swept: Row, planned: Sequence[Row], folder: Path) -> None:
    """One graph: the planner's line, and configurations that are pinned as points."""
    name = swept["graph"]
    with drawing(7.4, 4.2) as (figure, ((axes,),)):
        points = [(size / GIB, seconds / 60) for size, seconds in swept["points"]]
        points.append((_WIDEST_GIB, points[-1][1]))  # more room than all needs changes nothing
        axes.plot(*zip(*points, strict=True), "-", color=BLUE, linewidth=2, label="the planner")
        for label, color, marker, rows in _configurations(planned):
            xs = [row["predicted_peak_bytes"] / GIB for row in rows]
            ys = [row["predicted_seconds"] / 60 for row in rows]
            axes.plot(xs, ys, marker, color=color, label=label, markersize=7)
        for (x, y), words in _together(planned).items():
            axes.annotate(
                words, (x, y), xytext=(-7, 3), textcoords="offset points", ha="right", fontsize=8
            )
        axes.set_xlim(0, _WIDEST_GIB)
        axes.set_ylim(0, 1.15 * max(row["predicted_seconds"] / 60 for row in planned))
        axes.set_xlabel("peak on the card, GiB")
        axes.set_ylabel("minutes")
        axes.set_title(f"{name}, 81 frames at 832*480, on an RTX 4090, as planned")
        axes.legend(loc="lower right")
        keep(figure, folder, f"budget-{name}")


_WIDEST_GIB = 12


def _configurations(planned: Sequence[Row]) -> Iterator[tuple[str, str, str, list[Row]]]:
    """The pinned rows of the memory tables: whole frames, and strips."""
    pinned = [row for row in planned if not row["scenario"].startswith("planner")]
    strips = [row for row in pinned if row["scenario"].endswith("strips")]
    whole = [row for row in pinned if row not in strips]
    yield "pinned, whole frames", ORANGE, "s", whole
    yield "pinned, frames in strips", GREEN, "^", strips


def _together(planned: Sequence[Row]) -> dict[tuple[float, float], str]:
    """The names of rows with whole frames by where they lie; those of strips are on the line."""
    *_, whole = next(_configurations(planned))
    found: dict[tuple[float, float], list[str]] = {}
    for row in whole:
        at = round(row["predicted_peak_bytes"] / GIB, 2), round(row["predicted_seconds"] / 60, 2)
        found.setdefault(at, []).append(row["scenario"].replace("-", " "))
    return {at: ", ".join(names) for at, names in found.items()}


def over_time(ran: Mapping[str, Any], folder: Path) -> None:
    """Memory over time of a resident and of a tight run, side by side, of one height."""
    with drawing(10, 3.9, 1, 2) as (figure, ((left, right),)):
        for axes, run, name in (
            (left, ran["over_time"][0], "everything resident, whole frames"),
            (right, ran["over_time"][1], "the smallest budget"),
        ):
            _memory_panel(axes, run, name)
        top = max(run["budget_bytes"] for run in ran["over_time"]) / MIB
        for axes in (left, right):
            axes.set_ylim(0, top * 1.16)
        left.set_ylabel("memory, MiB")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        keep(figure, folder, "memory-over-time")


def _memory_panel(axes: Any, run: Row, name: str) -> None:
    cells = len(run["weights"])
    times = [run["seconds"] * n / (cells - 1) for n in range(cells)]
    heights = [[round(nbytes / MIB, 3) for nbytes in run[kind]] for kind, *_ in _KINDS]
    drawn = axes.stackplot(times, *heights, labels=[label for _, label, *_ in _KINDS])
    for area, (_, _, color, hatch) in zip(drawn, _KINDS, strict=True):
        area.set(facecolor=color, hatch=hatch, edgecolor="white", linewidth=0)
    budget = run["budget_bytes"] / MIB
    axes.axhline(budget, color=GREY, linestyle="--", linewidth=1.2, label="budget")
    axes.set_title(f"{name}: {format_bytes(run['budget_bytes'])}")
    axes.set_xlabel("seconds")
    axes.set_xlim(0, run["seconds"])
    for stage, first, last in run["stages"]:
        if last - first >= cells // 8:
            middle = run["seconds"] * (first + last) / 2 / cells
            words = "decode and write" if stage == "write" else stage  # these take turns
            axes.text(middle, budget * 1.02, words, ha="center", va="bottom", color=GREY)


def recorded(results: Path) -> Iterator[Peak]:
    """Every run that the benchmarks have kept with both peaks, by the file's benchmark."""
    for path in sorted(results.rglob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        name = str(report.get("benchmark", path.stem))
        for row in report.get("rows", [report]):
            if {"predicted_peak_bytes", "peak_bytes"} <= row.keys():
                yield Peak(name, row["predicted_peak_bytes"], row["peak_bytes"])


def full_size(results: Path, folder: Path) -> None:
    """The process over time of each full-size run, and of the plain script beside it."""
    runs = [json.loads(path.read_text()) for path in sorted(results.glob("full_size-*.json"))]
    ours = [run for run in runs if "stages" in run]
    with drawing(7.4, 3.6 * len(ours), len(ours)) as (figure, rows):
        for (axes,), run in zip(rows, ours, strict=True):
            plain = [r for r in runs if r["graph"] == run["graph"] and "stages" not in r]
            _process_panel(axes, run, plain)
        keep(figure, folder, "full-size")


def _process_panel(axes: Any, run: Row, plain: Sequence[Row]) -> None:
    weights = sum(stage["weights_bytes"] for stage in run["stages"].values())
    budget = run["budget_bytes"] / GIB
    for one, color, name in ((run, BLUE, "wanflow"), *((p, ORANGE, "diffusers") for p in plain)):
        at, resident, _anonymous = zip(*one["process"]["curve"], strict=True)
        minutes, sizes = [t / 60 for t in at], [nbytes / GIB for nbytes in resident]
        axes.plot(minutes, sizes, "-", color=color, linewidth=1.6, label=f"{name}, resident memory")
        if one["exit_code"]:
            words = f"stopped after {format_seconds(at[-1])}"
            axes.annotate(words, (minutes[-1], sizes[-1]), fontsize=8, xytext=(4, -3),
                          textcoords="offset points")  # fmt: skip
    axes.axhline(budget, color=GREY, linestyle="--", linewidth=1.2, label="the budget")
    axes.set_ylim(0, None)
    axes.set_xlabel("minutes")
    axes.set_ylabel("GiB")
    axes.set_title(
        f"{run['graph']} at {run['size']}, {run['frames']} frames, {run['steps']} steps on a CPU; "
        f"weights of {format_bytes(weights)} as computed with",
        fontsize=10,
    )
    axes.legend(loc="center right")


def peaks(found: Sequence[Peak], folder: Path) -> None:
    """Predicted against measured peaks of all runs, on the line where both are the same."""
    groups: dict[str, list[Peak]] = {}
    for peak in found:
        groups.setdefault(peak.group, []).append(peak)
    with drawing(6.4, 4.6) as (figure, ((axes,),)):
        for (name, members), color, (_, marker) in zip(
            groups.items(), (BLUE, ORANGE, GREEN, PURPLE) * 4, LINES * 4, strict=False
        ):
            axes.loglog(
                [m.predicted_bytes / MIB for m in members],
                [m.measured_bytes / MIB for m in members],
                marker, color=color, markersize=8, fillstyle="none", markeredgewidth=1.4,
                label=f"{name}, {len(members)} runs" if len(members) > 1 else f"{name}, 1 run",
            )  # fmt: skip
        low = min(m.predicted_bytes for m in found) / MIB / 2
        high = max(m.predicted_bytes for m in found) / MIB * 2
        axes.plot([low, high], [low, high], "--", color=GREY, linewidth=1, label="the same")
        off = max(abs(m.predicted_bytes / m.measured_bytes - 1) for m in found)
        told = f"the farthest {off:.2%} off" if off else "all as predicted, to the byte"
        axes.set_title(f"{len(found)} runs: {told}")
        axes.set_xlabel("predicted peak, MiB")
        axes.set_ylabel("measured peak, MiB")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="upper left")
        keep(figure, folder, "peaks")


def everything(
    swept: Sequence[Row], ran: Mapping[str, Any], planned: Mapping[str, Any], folder: Path,
    results: Path = RESULTS,
) -> None:  # fmt: skip
    """Draw all figures into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    budgets(swept, folder)
    (graph,) = (row for row in swept if row["graph"] == "t2v-1.3b")
    feasible = [row for row in planned["rows"] if row["feasible"]]
    one_budget(graph, feasible, folder)
    over_time(ran, folder)
    full_size(results, folder)
    own = [
        Peak(f"{ran['graph']}, for these figures", r["predicted_peak_bytes"], r["peak_bytes"])
        for r in ran["rows"]
    ]
    peaks([*recorded(results), *own], folder)
