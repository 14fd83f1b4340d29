"""docs/memory-tables.md: the frame with the tables in it, from what was planned and what ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import RESULTS, error
from scripts.memory_tables.measured import Measured, measured_in
from scripts.memory_tables.planned import scenarios_of
from scripts.memory_tables.published import LOGGED, LOGGED_SECONDS
from wanflow.scheduler.machine.cards import OFF_PERCENT
from wanflow.session.scenarios.spec import Scenario
from wanflow.units import MIB, format_bytes, format_seconds

PAGE = ROOT / "docs" / "memory-tables.md"
FRAME = Path(__file__).with_name("frame.md")
BASELINE = "baseline"
# What the README before this project advised, by the memory of a card in GiB from which on it did.
ADVICE = ((24, "nothing, or slicing"), (12, "slicing, perhaps offload"), (0, "offload, T5 on CPU"))
Row = Mapping[str, Any]


def render(planned: Mapping[str, Any], results: Path = RESULTS) -> str:
    """The whole page; KeyError where *planned* lacks a scenario that is there now."""
    ran = measured_in(results)
    rows = {row["scenario"]: row for row in planned["rows"]}
    page = FRAME.read_text(encoding="utf-8")
    tables = {
        "rows": _table(
            _ROWS,
            (*_old_code(planned), *_configurations(scenarios_of("rows"), rows, ran)),
        ),
        "said": _table(("configuration", "pins, else the planner's"), _said(scenarios_of("rows"))),
        "cards": _table(_CARDS, _cards(scenarios_of("cards"), planned["cards"])),
        "published": _table(_PUBLISHED, _published(planned)),
        "ran": _table(_RAN, map(_ran, ran)),
    }
    for name, text in (tables | _words(planned, rows)).items():
        page = page.replace("{{" + name + "}}", text)
    return page


_ROWS = ("configuration", "T5", "DiT", "VAE", "activations", "peak", "time", "measured")
_CARDS = ("card", "memory", "advice was", "peak", "time", "what is planned")
_PUBLISHED = ("what", "README, GiB", "its log, MiB", "calculated, MiB", "off")
_RAN = ("file", "device", "case", "budget", "planned peak", "measured", "off", "planned time",
        "measured", "off")  # fmt: skip


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def _old_code(planned: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """The published configurations in the code that they were of: calculated, and as it logged."""
    loaded, decode = planned["loaded"], planned["upstream_decode_bytes"]
    parts = {name: format_bytes(loaded[name]) for name in ("t5", "dit", "vae", "vae_alone")}
    whole = loaded["t5"] + loaded["vae"] + loaded["dit"] + decode
    less = loaded["vae_alone"] + decode
    for name, models, peak, logged, seconds in (
        ("baseline", (parts["t5"], parts["dit"], parts["vae"]), whole, "later peak", "whole"),
        ("CPU offload", ("-", "-", parts["vae_alone"]), less, "offload peak", "offload whole"),
    ):
        measured = format_bytes(int(LOGGED[logged] * MIB))
        took = format_seconds(LOGGED_SECONDS[seconds])
        yield (f"*The old code:* {name}", *models, format_bytes(decode), format_bytes(peak), "-",
               f"{measured}, {took} on an L40S")  # fmt: skip


def _configurations(
    scenarios: Sequence[Scenario], rows: Mapping[str, Row], ran: Sequence[Measured]
) -> Iterator[Sequence[str]]:
    """A row a scenario that fits: most of each model, of activations, of all; seconds."""
    for scenario in scenarios:
        row = rows[scenario.name]
        if row["feasible"]:
            parts = [row["weights_bytes"][model] for model in ("text", "dit", "vae")]
            sizes = (*parts, row["activation_bytes"], row["predicted_peak_bytes"])
            seconds = format_seconds(row["predicted_seconds"])
            yield (scenario.about, *map(format_bytes, sizes), seconds, _beside(scenario, row, ran))


def _beside(scenario: Scenario, row: Row, ran: Sequence[Measured]) -> str:
    """What a run of the whole graph took that was given this budget and nothing pinned."""
    like = [m for m in ran if m.is_full_size and m.budget_bytes == row["budget_bytes"]]
    if scenario.request.pins or not like:
        return "-"
    return ", ".join(f"{format_bytes(m.peak_bytes)} on {m.device}" for m in like)


def _said(scenarios: Sequence[Scenario]) -> Iterator[Sequence[str]]:
    """The pins of a scenario: those of the baseline whole, of another what differs from them."""
    plain: tuple[str, ...] = ()
    for scenario in scenarios:
        request = scenario.request
        if scenario.name == BASELINE:
            plain = request.pins
        pins = [pin for pin in request.pins if pin not in plain or scenario.name == BASELINE]
        words = [f"`--pin {pin}`" for pin in pins]
        words += [f"`--precision {text}`" for text in request.precision]
        words += [] if request.pins else [f"`--vram {request.vram}`"]
        also = "as the baseline, with " if request.pins and scenario.name != BASELINE else ""
        yield scenario.about, also + " ".join(words)


def _cards(scenarios: Sequence[Scenario], rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    for scenario, row in zip(scenarios, rows, strict=True):
        if scenario.name != row["scenario"]:
            raise KeyError(scenario.name)
        gib = int(scenario.about.split()[0])
        advice = next(text for least, text in ADVICE if gib >= least)
        yield (f"`{scenario.request.machine}`", scenario.about, advice,
               format_bytes(row["predicted_peak_bytes"]), format_seconds(row["predicted_seconds"]),
               _plan_in_words(row))  # fmt: skip


def _plan_in_words(row: Row) -> str:
    """How much of the DiT stays, how many rows and strips at a time."""
    stages = {stage["stage"]: stage for stage in row["stages"]}
    denoise, decode = stages["denoise"], stages["decode"]
    kept = denoise["resident_weights_bytes"] / denoise["weights_bytes"]
    return f"DiT {kept:.0%} kept, `rows={denoise['knobs']['rows']}`, `{decode['knobs']['strips']}`"


def _published(planned: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """What was published beside what is calculated of the same moment."""
    loaded, logged = planned["loaded"], LOGGED
    models = loaded["t5"] + loaded["vae"] + loaded["dit"]
    decode = planned["upstream_decode_bytes"]
    for what, readme, log, calculated in (
        ("T5", "10.58", logged["t5"], loaded["t5"]),
        ("VAE, after T5", "0.47", logged["vae"], loaded["vae"]),
        ("DiT, after both", "5.31", logged["dit"], loaded["dit"]),
        ("models", "16.37", logged["models"], models),
        ("VAE alone", "", logged["vae alone"], loaded["vae_alone"]),
        ("DiT alone", "", logged["dit alone"], loaded["dit_alone"]),
        ("peak of loading", "(23.12)", logged["loading peak"], loaded["peak"]),
        ("activations, decoding", "9.9", _later_rest(), decode),
        ("total, decoding", "26.27", logged["later peak"], models + decode),
    ):
        told = f"{calculated / MIB:,.2f}"
        off = "to the digit" if told == f"{log:,.2f}" else f"{error(calculated / MIB, log):+.1%}"
        yield what, readme, f"{log:,.2f}", told, off


def _later_rest() -> float:
    """MiB that a later log has at most beside the models."""
    return LOGGED["later peak"] - LOGGED["models"]


def _ran(row: Measured) -> Sequence[str]:
    seconds = ("", "", "")
    if row.seconds is not None:
        predicted, measured = map(format_seconds, row.seconds)
        seconds = (predicted, measured, f"{error(*row.seconds):+.0%}")
    return (f"`{row.file}`", row.device, row.case, format_bytes(row.budget_bytes),
            format_bytes(row.predicted_bytes), format_bytes(row.peak_bytes),
            f"{error(row.predicted_bytes, row.peak_bytes):+.1%}", *seconds)  # fmt: skip


def _words(planned: Mapping[str, Any], rows: Mapping[str, Row]) -> dict[str, str]:
    """The figures in the sentences between the tables."""
    base, wide, tight = rows[BASELINE], rows["planner-24"], rows["planner-2"]
    int8, least = rows["t5-int8"], rows["planner-1"]
    stripped = [rows[f"{name}-strips"] for name in (BASELINE, "attention-slicing", "both")]
    peaks = [format_bytes(row["predicted_peak_bytes"]) for row in stripped]
    saved = base["predicted_peak_bytes"] - stripped[0]["predicted_peak_bytes"]
    loaded, decode = planned["loaded"], planned["upstream_decode_bytes"] / MIB
    offload_rest = LOGGED["offload peak"] - LOGGED["vae alone"]
    smallest = min(row["predicted_peak_bytes"] for row in planned["cards"])
    plain = next(row for row in planned["cards"] if row["scenario"] == "l40s-plain")
    took = {stage["stage"]: f"{stage['seconds']:.1f}" for stage in plain["stages"]}
    return {
        "percent": str(OFF_PERCENT["rtx4090"]),
        "overhead": format_bytes(base["overhead_bytes"]),
        "t5": format_bytes(base["weights_bytes"]["text"]),
        "dit": format_bytes(base["weights_bytes"]["dit"]),
        "vae": format_bytes(base["weights_bytes"]["vae"]),
        "int8_longer": format_seconds(_longer(int8, base)),
        "decode": format_bytes(base["activation_bytes"]),
        "strips": format_bytes(saved),
        "strip_peaks": f"{peaks[0]}, {peaks[1]} and {peaks[2]}",
        "planner": format_bytes(wide["predicted_peak_bytes"]),
        "faster": f"{1 - wide['predicted_seconds'] / base['predicted_seconds']:.0%}",
        "slower": format_seconds(_longer(tight, wide)),
        "minimum": format_bytes(least["minimum_bytes"]),
        "smallest_card": format_bytes(smallest),
        "dit_alone": f"{loaded['dit_alone'] / MIB:,.2f}",
        "loading": f"{loaded['peak'] / MIB:,.2f}",
        "loading_logged": f"{LOGGED['loading peak']:,.2f}",
        "a_step": f"{LOGGED['a step']}",
        "later": f"{LOGGED['later peak']:,.2f}",
        "later_rest": f"{_later_rest():,.2f}",
        "offload": f"{LOGGED['offload peak']:,.2f}",
        "offload_rest": f"{offload_rest:,.2f}",
        "l40s_seconds": f"{plain['predicted_seconds']:.1f}",
        "l40s_denoise": took["denoise"],
        "l40s_decode": took["decode"],
        "log_seconds": f"{LOGGED_SECONDS['whole']:.1f}",
        "log_dit": f"{LOGGED_SECONDS['dit']:.1f}",
        "log_vae": f"{LOGGED_SECONDS['vae']:.1f}",
        "upstream": f"{decode:,.2f}",
        "upstream_off": f"{abs(error(decode, offload_rest)):.1%}",
    }


def _longer(row: Row, other: Row) -> float:
    return float(row["predicted_seconds"] - other["predicted_seconds"])
