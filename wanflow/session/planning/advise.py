"""Advice for a recorded run: plan it again with one change at a time, and keep what pays."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from wanflow.errors import WanflowError
from wanflow.scheduler.knobs import ProgramOutline
from wanflow.scheduler.plan.schedule import Plan
from wanflow.session.planning.planned import Planned, at_budget, plan, replanned
from wanflow.session.request import Request
from wanflow.trace.report.advice import Advice, Advised, priority

_RUNGS = 6  # budgets between the smallest and the peak
_MOST = 8
_NEAR = 0.02  # of the peak: less of a difference is not worth a second line
_PICTURE = {"bitwise": "same", "rounding": "rounding"}
_RANKS = ("high", "medium", "low")
_PICTURES = ("same", "rounding", "other")


@attrs.frozen
class _Variation:
    """A request with a change, as words to add to the command, and what it does to the picture."""

    options: tuple[str, ...]
    picture: str
    request: Request


def advise(header: Mapping[str, Any], *, quick: bool = False) -> Advised:
    """Plan the request in a trace's header again, changed; with *quick* no knob that is slow to.

    A trace without a request, or one that can't be planned here, gives the reason and no advice; so
    does one of several ranks, whose settings were chosen for all of them together.
    """
    if header.get("ranks"):
        why = "wanflow plan --devices weighs the ways in which several devices share a video"
        return Advised("", "", 0, 0.0, (), why)
    try:
        request = read_request(header.get("request"))
        return advise_request(request, quick=quick)
    except WanflowError as error:
        return Advised("", "", 0, 0.0, (), error.message)
    except (TypeError, ValueError, KeyError) as error:
        return Advised("", "", 0, 0.0, (), f"the trace has no request to plan with: {error}")


def advise_request(request: Request, *, quick: bool = False) -> Advised:
    """Plan *request* and its changes; BudgetError when it does not fit as it is."""
    base = plan(request)
    if base.problem is not None:
        raise base.problem
    advice = [*_budgets(base), *_changed(base, quick=quick)]
    return Advised(
        _command(request), str(base.report["machine"]), _peak(base, base.plan),
        base.plan.predicted_seconds, tuple(_best(advice, _peak(base, base.plan))[:_MOST]),
    )  # fmt: skip


def read_request(fields: object) -> Request:
    """Take a header's request, whose values are anybody's; TypeError for what is none."""
    if not isinstance(fields, dict):
        msg = "it has none"
        raise TypeError(msg)
    graph, inputs = fields["graph"], fields["inputs"]
    if not isinstance(graph, str) or not isinstance(inputs, dict):
        msg = "graph or inputs"
        raise TypeError(msg)
    machine, ram = (None if fields[n] is None else str(fields[n]) for n in ("machine", "ram"))
    return Request(
        graph=graph,
        inputs={str(n): v for n, v in inputs.items() if isinstance(v, str | int | float)},
        vram=str(fields["vram"]),
        ram=ram,
        device=str(fields["device"]),
        precision=tuple(map(str, fields["precision"])),
        loras=tuple(map(str, fields.get("loras", ()))),
        lora_partial=bool(fields.get("lora_partial")),
        settings=tuple(map(str, fields["settings"])),
        pins=tuple(map(str, fields["pins"])),
        exact=bool(fields["exact"]),
        prompt_cache=False,  # its texts are not in the trace
        machine=machine,
        preview_every=max(int(fields.get("preview_every", 0)), 0),
    )


def _budgets(base: Planned) -> Iterator[Advice]:
    """Less memory at the same options, and more where more is to be had."""
    overhead = base.prepared.place.overhead_bytes
    low, high = base.plan.minimum_bytes, base.plan.predicted_peak_bytes
    rungs = {low + (high - low) * i // _RUNGS for i in range(_RUNGS)}
    if base.plan.resident_bytes + overhead <= base.prepared.place.machine.capacity_bytes:
        rungs.add(base.plan.resident_bytes)
    for budget in sorted(rungs):
        other = at_budget(base, budget)
        if other.feasible:
            words = ("--vram", f"{other.predicted_peak_bytes + overhead}B")
            yield from _advice(base, words, "same", base, other)


def _changed(base: Planned, *, quick: bool) -> Iterator[Advice]:
    for change in _changes(base, quick=quick):
        try:
            other = plan(change.request)
        except WanflowError:  # a pin that this graph can't take with its other options
            continue
        yield from _advice(base, change.options, change.picture, other, other.plan)
        least = other.plan.minimum_bytes
        if other.plan.feasible and least < base.plan.minimum_bytes:
            smaller = replanned(other, least)
            words = (*change.options, "--vram", f"{_peak(other, smaller)}B")
            yield from _advice(base, words, change.picture, other, smaller)


def _changes(base: Planned, *, quick: bool) -> Iterator[_Variation]:
    """One change each: a knob pinned otherwise, a model in half the bits, fewer frames."""
    request, prepared = base.prepared.request, base.prepared
    pinned = {text.partition("=")[0] for text in request.pins}
    fullest = max(base.plan.stages, key=lambda stage: stage.peak_bytes).stage
    for program in prepared.outlines:
        slow = quick or program.stage != fullest
        for words, picture in _pins(program, base.plan, slow=slow, exact=request.exact):
            if words.partition("=")[0] not in pinned:
                changed = attrs.evolve(request, pins=(*request.pins, words))
                yield _Variation(("--pin", words), picture, changed)
    for name, located in prepared.models.items():
        if located.precision == "fp32":
            words = f"{name}=bf16"
            others = tuple(p for p in request.precision if p.rpartition("=")[0] not in ("", name))
            changed = attrs.evolve(request, precision=(*others, words))
            yield _Variation(("--precision", words), "other", changed)
    frames = prepared.graph.inputs.get("frames")
    if isinstance(frames, int) and frames > 5:
        fewer = (frames // 2 - 1) // 4 * 4 + 1
        changed = attrs.evolve(request, inputs={**request.inputs, "frames": fewer})
        yield _Variation(("-i", f"frames={fewer}"), "other", changed)


def _pins(
    program: ProgramOutline, base: Plan, *, slow: bool, exact: bool
) -> Iterator[tuple[str, str]]:
    """Values of a stage's knobs that are not in force; of a knob that is slow to profile, one."""
    now = base.knobs.get(program.stage, {})
    for knob in program.knobs:
        values = list(knob.choices)
        if not knob.searched:
            values = [] if slow else [values[min(2, len(values) - 1)]]
        for value in values:
            mark = knob.choices[value]
            if value != now.get(knob.name) and (mark == "bitwise" or not exact):
                yield f"{program.stage}.{knob.name}={value}", _PICTURE[mark]


def _advice(
    base: Planned, words: tuple[str, ...], picture: str, by: Planned, other: Plan
) -> Iterator[Advice]:
    if not other.feasible:
        return
    was, peak = _peak(base, base.plan), _peak(by, other)
    seconds = base.plan.predicted_seconds
    saves, costs = was - peak, other.predicted_seconds - seconds
    rank = priority(saves, costs, was, seconds, picture)
    if rank is not None:
        yield Advice(words, picture, peak, other.predicted_seconds, saves, costs, rank)


def _best(advice: list[Advice], peak_bytes: int) -> list[Advice]:
    """Leave out what another one beats: as much saved, or nearly, for no more."""
    near = peak_bytes * _NEAR
    best: list[Advice] = []
    for new in sorted(advice, key=lambda a: (_PICTURES.index(a.picture), a.costs_seconds)):
        beaten = any(
            old.saves_bytes >= new.saves_bytes - near and old.costs_seconds <= new.costs_seconds
            for old in best
        )
        if not beaten:
            best.append(new)
    ends = [end for group in _alike(best) for end in dict.fromkeys((group[0], group[-1]))]
    return sorted(ends, key=lambda a: (_RANKS.index(a.priority), -a.saves_bytes))


def _alike(advice: list[Advice]) -> Iterable[list[Advice]]:
    """Group by the change, whatever the budget; of each the cheapest comes first."""
    groups: dict[tuple[str, ...], list[Advice]] = {}
    for item in advice:
        words = item.options[:-2] if "--vram" in item.options else item.options
        groups.setdefault(words, []).append(item)
    return groups.values()


def _peak(planned: Planned, plan_there: Plan) -> int:
    return plan_there.predicted_peak_bytes + planned.prepared.place.overhead_bytes


def _command(request: Request) -> str:
    """The run as words for the command line."""
    words = ["wanflow", "plan", request.graph]
    for name, value in request.inputs.items():
        words += ["-i", f"{name}={value}"]
    words += ["--vram", request.vram] if request.vram != "auto" else []
    words += ["--ram", request.ram] if request.ram else []
    words += ["--device", request.device] if request.device != "auto" else []
    words += ["--machine", request.machine] if request.machine else []
    for option, values in (("--precision", request.precision), ("--lora", request.loras),
                           ("--set", request.settings), ("--pin", request.pins)):  # fmt: skip
        words += [word for value in values for word in (option, value)]
    words += ["--lora-partial"] if request.lora_partial else []
    words += ["--exact"] if request.exact else []
    every = request.preview_every
    words += ["--preview-every", str(every)] if every else []
    return shlex.join(words)
