"""Fit what cards reach of their datasheets to published runs, and say how far off these are then.

    python -m scripts.fit_cards            print what cards reach by scripts/cards/shares.json,
                                           and the page's part
    python -m scripts.fit_cards --fit      fit the shares anew before, and keep them there
    python -m scripts.fit_cards --write    the part into docs/machines.md
    python -m scripts.fit_cards --costs    plan the graphs whose costs scripts/cards/ lacks before

Every third run of an architecture is held out: in the order of cards, graphs, sizes, frames and
sources the second, the fifth and so on. Fitted by least squares on the logarithm of the seconds are
shares: of the half-precision rate that attention reaches, one a kind of card and kernel; of the
products that a card reaches for a moment, and of the memory's rate, one each for the cards with HBM
and those with GDDR; and of the TF32 rate that convolutions reach, one for all.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import attrs
import numpy as np
import yaml

from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import between
from wanflow.scheduler.footprint.costs import CLASSES
from wanflow.scheduler.machine.cards import CARDS, REACHED, Reached
from wanflow.scheduler.machine.figures import Machine
from wanflow.session import Request
from wanflow.session.planning.planned import plan

RUNS = ROOT / "scripts" / "cards" / "published.yaml"
COSTS = ROOT / "scripts" / "cards" / "costs.json"
SHARES = ROOT / "scripts" / "cards" / "shares.json"
PAGE = ROOT / "docs" / "machines.md"
MARKS = ("<!-- published runs -->\n", "<!-- end of published runs -->")
_LEFT_OUT = ("noise", "write")  # next to nothing
_DENOISING = ("denoise", "high", "low")
_NEVER_BELOW = 10  # percent: publications of the same run differ by as much
_NOT_PROVEN = (8, 6)  # no run of such chips

# Lowest and highest. Attention by single kernels: SageAttention2++ (arXiv 2505.21136) has
# FlashAttention 2 at 164 TFLOP/s on a 4090 and 215 on a 5090, sgl-project/sglang pull 36494 has
# PyTorch's at 356 on an RTX PRO 6000, FlashAttention 3 (arXiv 2407.08608) has itself at 620 on an
# H100 and its predecessor at 370, FlashAttention 2 (arXiv 2307.08691) itself at 225 on an A100.
# Convolutions by what zysno1/Wan2.2-Enhanced says of decoding alone: 0.27 to 0.48. Memory: counted
# are half to two thirds of the bytes that move.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "products.hbm": (0.85, 1), "products.gddr": (0.85, 1), "conv": (0.3, 0.4),
    "memory.hbm": (0.3, 0.6), "memory.gddr": (0.3, 0.6),
    "ampere.flash2": (0.6, 0.75), "geforce.flash2": (0.9, 1.05),
    "workstation.flash2": (0.55, 0.75), "l20.flash2": (0.8, 1.05), "hopper.flash2": (0.33, 0.42),
    "hopper.flash3": (0.55, 0.68), "h20.flash2": (0.55, 0.8), "h20.flash3": (0.85, 1),
}  # fmt: skip
_HBM = ("ampere", "hopper", "h20")
Shares = Mapping[str, float]


@attrs.frozen
class Run:
    """A published run. `source` is its number on the page."""

    card: str
    graph: str
    size: str
    frames: int
    steps: int
    seconds: float
    attention: str
    covers: str
    source: int
    held_out: bool = False

    @property
    def kind(self) -> str:
        """What its card is like."""
        return CARDS[self.card].kind

    @property
    def key(self) -> str:
        """Where its costs are."""
        return f"{self.graph}:{self.size}:{self.frames}"

    @property
    def order(self) -> tuple[object, ...]:
        """The order in which every third is held out."""
        return self.card, self.graph, math.prod(map(int, self.size.split("*"))), self.frames

    @property
    def what(self) -> str:
        """Size, frames and steps, and what of the run its seconds cover."""
        part = "" if self.covers == "run" else f" ({self.covers})"
        return f"{self.size}, {self.frames}, {self.steps}{part}"

    def amounts(self, costs: Mapping[str, Any]) -> dict[str, float]:
        """The work by the figure of the machine that its seconds come from."""
        stages = costs[self.key]
        steps = sum(stages[name]["steps"] for name in _DENOISING if name in stages)
        amounts: dict[str, float] = {}
        for name, cost in stages.items():
            share = self.steps / steps if name in _DENOISING else 1.0
            if not self._covers(name):
                continue
            for kind in CLASSES:
                figure = f"{kind}.{cost['dtype']}"
                amounts[figure] = amounts.get(figure, 0.0) + cost.get(kind, 0.0) * share
            amounts["memory_rate"] = amounts.get("memory_rate", 0.0) + cost["memory"] * share
        return amounts

    def _covers(self, stage: str) -> bool:
        decodes = stage == "decode" and self.covers == "denoise and decode"
        return self.covers == "run" or stage in _DENOISING or decodes


def runs_of(sources: Sequence[Mapping[str, Any]]) -> Iterator[Run]:
    """Read the runs of *sources*, which are numbered from 1."""
    for number, source in enumerate(sources, 1):
        for card, graph, size, frames, steps, seconds, *kernel in source["rows"]:
            attention = kernel[0] if kernel else source.get("attention", "")
            yield Run(
                card, graph, size, frames, steps, seconds, attention, source["covers"], number
            )


def split(runs: Iterator[Run]) -> tuple[Run, ...]:
    """Hold every third run of an architecture out."""
    architectures: dict[tuple[int, int], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.order):  # a stable sort: sources in their order
        architectures.setdefault(CARDS[run.card].capability, []).append(run)
    return tuple(
        attrs.evolve(run, held_out=position % 3 == 1)
        for group in architectures.values()
        for position, run in enumerate(group)
    )


def reached(kind: str, kernel: str, shares: Shares, products: Mapping[str, float]) -> Reached:
    """What such a card reaches by *shares*, with an attention kernel."""
    memory = "hbm" if kind in _HBM else "gddr"
    peaks = [rate / CARDS[c].half for c, rate in products.items() if CARDS[c].kind == kind]
    return Reached(
        gemm=round(median(peaks) * shares[f"products.{memory}"], 3),
        attention=shares[f"{kind}.{kernel}"],
        conv=shares["conv"],
        memory=shares[f"memory.{memory}"],
    )


def seconds_on(machine: Machine, amounts: Mapping[str, float]) -> float:
    """What the work takes."""
    return sum(amount / machine.figure(figure) for figure, amount in amounts.items())


def fit(runs: Sequence[Run], costs: Mapping[str, Any], products: Mapping[str, float]) -> Shares:
    """Find the shares inside their bounds, by Levenberg's and Marquardt's method."""
    work = [run.amounts(costs) for run in runs]

    def off(point: np.ndarray) -> np.ndarray:
        shares = dict(zip(BOUNDS, point, strict=True))
        seconds = [
            seconds_on(
                CARDS[run.card].machine(reached(run.kind, run.attention, shares, products)), amounts
            )
            for run, amounts in zip(runs, work, strict=True)
        ]
        return np.log(np.array(seconds) / [run.seconds for run in runs])

    low, high = np.array(list(BOUNDS.values())).T
    point, damping, change = (low + high) / 2, 1.0, 1e-3
    errors = off(point)
    while damping < 1e9:
        slopes = [(off(point * (1 + change * unit)) - errors) / change for unit in np.eye(len(low))]
        slope = np.array(slopes).T
        pull = slope.T @ errors
        free = ~((point <= low) & (pull > 0) | (point >= high) & (pull < 0))
        curve = (slope.T @ slope)[np.ix_(free, free)] + 1e-2 * damping * np.eye(free.sum())
        step = np.zeros(len(point))
        step[free] = np.linalg.solve(curve, -pull[free])
        other = np.clip(point * np.exp(step), low, high)
        gain = errors @ errors - off(other) @ off(other)
        if gain > 0:
            point, errors, damping = other, off(other), damping / 2
        if gain <= 1e-13:
            damping *= 8
    return {name: round(float(share), 3) for name, share in zip(BOUNDS, point, strict=True)}


@attrs.frozen
class Fit:
    """The shares, and the runs, with what is predicted of each."""

    shares: Shares
    data: Mapping[str, Any]
    costs: Mapping[str, Any]
    runs: tuple[Run, ...]

    @classmethod
    def of_files(cls) -> Fit:
        """Read what is in `scripts/cards`."""
        data = yaml.safe_load(RUNS.read_text(encoding="utf-8"))
        costs, shares = (json.loads(p.read_text(encoding="utf-8")) for p in (COSTS, SHARES))
        return cls(shares, data, costs, split(runs_of(data["used"])))

    def again(self) -> Shares:
        """Fit the shares to the runs that aren't held out."""
        runs = [run for run in self.runs if not run.held_out]
        return fit(runs, self.costs, self.data["products"])

    def seconds(self, run: Run) -> float:
        """What is predicted of a run, with the attention kernel that it had."""
        share = reached(run.kind, run.attention, self.shares, self.data["products"])
        return seconds_on(CARDS[run.card].machine(share), run.amounts(self.costs))

    def off(self, run: Run) -> float:
        """How far a prediction is off, as a share of what was published."""
        return self.seconds(run) / run.seconds - 1

    def reached(self) -> dict[str, Reached]:
        """What each kind of card reaches, as `wanflow/scheduler/machine/cards.py` has to say."""
        # On Hopper PyTorch takes cuDNN's attention, which is about as fast as FlashAttention 3.
        return {
            kind: reached(
                kind,
                "flash3" if f"{kind}.flash3" in BOUNDS else "flash2",
                self.shares,
                self.data["products"],
            )
            for kind in REACHED
        }

    def off_percent(self) -> dict[str, int]:
        """How far off each card may be: as far as its kind, or as far as any without runs."""
        kinds: dict[str, float] = {}
        for run in self.runs:
            kinds[run.kind] = max(kinds.get(run.kind, 0.0), abs(self.off(run)))
        farthest = max(kinds.values())
        known = {run.card for run in self.runs}
        return {
            name: max(
                math.ceil(100 * (kinds[card.kind] if name in known else farthest) / 5) * 5,
                _NEVER_BELOW,
            )
            for name, card in CARDS.items()
            if card.capability != _NOT_PROVEN
        }


def part(result: Fit) -> Iterator[str]:
    """The page's part: how far off all are, each run, those that aren't used, the sources."""
    yield from _summary(result)
    yield "\n| card | graph | size, frames, steps | attention | published | predicted | off |"
    yield " third | source |\n" + "|---" * 9 + "|\n"
    for run in result.runs:
        third = "held out" if run.held_out else "fitted"
        yield (
            f"| {run.card} | `{run.graph}` | {run.what} | {run.attention} | {run.seconds:,.0f} s | "
            f"{result.seconds(run):,.0f} s | {result.off(run):+.1%} | {third} | {run.source} |\n"
        )
    yield "\nSources:\n\n"
    for number, source in enumerate(result.data["used"], 1):
        note = f"; {source['note']}" if "note" in source else ""
        yield f"{number}. {source['source']}. {source['engine'].capitalize()}{note}.\n"
    yield "\nNot used, for what they are, with what the named machine says of such a run:\n\n"
    yield "| card | graph | size, frames, steps | published | predicted | why not |\n"
    yield "|---" * 6 + "|\n"
    sources = result.data["listed"]
    for run in runs_of(sources):
        source = sources[run.source - 1]
        yield (
            f"| {run.card} | `{run.graph}` | {run.what} | {run.seconds:,.0f} s | "
            f"{_named(run, result.costs)} | {source['why']} ({source['source']}) |\n"
        )


def _summary(result: Fit) -> Iterator[str]:
    for held_out, name in ((False, "Fitted"), (True, "Held out")):
        off = [abs(result.off(run)) for run in result.runs if run.held_out == held_out]
        yield f"{name}: {len(off)} runs, median {median(off):.1%} off, farthest {max(off):.1%}. "
    yield f"{len({run.card for run in result.runs})} cards.\n"


def _named(run: Run, costs: Mapping[str, Any]) -> str:
    if run.card not in CARDS:
        return "-"
    seconds = seconds_on(CARDS[run.card].machine(), run.amounts(costs))
    return f"{seconds:,.0f} s ({seconds / run.seconds - 1:+.0%})"


def costs_of(graph: str, size: str, frames: int) -> dict[str, dict[str, Any]]:
    """The costs of a graph by stage, where everything stays on the card."""
    inputs: dict[str, str | int] = {"size": size, "frames": frames, "prompt": ""}
    footprint = plan(Request(graph, inputs, machine="h200", ram="128GiB")).plan.footprint
    stages: dict[str, dict[str, Any]] = {
        facts.stage: {"dtype": footprint.dtypes[facts.stage], "steps": facts.steps, "memory": 0}
        for facts in footprint.stages
        if facts.stage not in _LEFT_OUT
    }
    for call in footprint.calls:
        stage = stages.get(call.stage)
        if stage is not None:
            stage["memory"] += call.cost.memory_bytes
            for kind, flops in call.cost.flops.items():
                stage[kind] = stage.get(kind, 0) + flops
    return stages


def _add_costs() -> None:
    data = yaml.safe_load(RUNS.read_text(encoding="utf-8"))
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    for run in runs_of((*data["used"], *data["listed"])):
        if run.key not in costs:
            costs[run.key] = costs_of(run.graph, run.size, run.frames)
    COSTS.write_text(json.dumps(dict(sorted(costs.items())), indent=1) + "\n", encoding="utf-8")


def main(options: argparse.Namespace) -> None:
    """Print the shares and the page's part, or write it into the page."""
    if options.costs:
        _add_costs()
    result = Fit.of_files()
    if options.fit:
        result = attrs.evolve(result, shares=result.again())
        SHARES.write_text(json.dumps(result.shares, indent=1) + "\n", encoding="utf-8")
    for kind, share in result.reached().items():
        print(kind, share)
    print(result.off_percent())
    text = "".join(part(result))
    print(text, end="")
    if options.write:
        PAGE.write_text(between(MARKS, PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--fit", action="store_true", help="fit the shares anew, and keep them")
    parser.add_argument("--costs", action="store_true", help="plan what scripts/cards lacks")
    parser.add_argument("--write", action="store_true", help="into docs/machines.md")
    main(parser.parse_args())
