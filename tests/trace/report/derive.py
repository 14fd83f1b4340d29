"""Every number that a report may tell, derived from the events alone by the simplest means."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

from wanflow.trace.events import Kind, Move, Step, Transfer, Verb, Workspace
from wanflow.units import format_bytes, format_seconds

KINDS = (Kind.WEIGHTS, Kind.VALUE, Kind.STATE, Kind.WORKSPACE)


def instants(events, tier):
    """Yield at every change of the tier: event, objects by kind and name, workspace, slack."""
    there = defaultdict(int)
    for event in events:
        if isinstance(event, Workspace) and event.tier == tier:
            yield event, dict(there), event.nbytes - event.slack_bytes, event.slack_bytes
        if isinstance(event, Move) and event.tier == tier:
            sign = -1 if event.verb is Verb.FREE else 1
            there[event.kind, event.name] += sign * event.nbytes
            yield event, dict(there), 0, 0


def comes(event):
    """Whether it brings something, which may be for a later stage."""
    brings = isinstance(event, Move) and event.verb in (Verb.PLACE, Verb.STREAM)
    return brings and (event.kind is Kind.WEIGHTS or event.source != "")


def turns(changes):
    """Give the event that says whose turn each instant is in: its own, or the next that is one."""
    own, turn = [], None
    for event, *_ in reversed(changes):
        turn = turn if comes(event) else event
        own.append(turn)
    return own[::-1]


def total(held, work, slack):
    """Add up what is there."""
    return sum(held.values()) + work + slack


def kinds_of(held, work, slack):
    """Add up what is there by kind, the allocator's last."""
    found = [sum(n for (kind, _), n in held.items() if kind is each) for each in KINDS]
    found[3] += work
    return [*found, slack]


class Derived:
    """What the numbers of a report must be."""

    def __init__(self, events, header) -> None:
        self.events, self.tier = events, header["budget_tier"]
        self.budget, self.aside = header["budget_bytes"], header["overhead_bytes"]
        self.seconds = (
            max(max(getattr(e, "ended_ns", 0), getattr(e, "at_ns", 0)) for e in events) / 1e9
        )
        self.all = list(instants(events, self.tier))
        self.turns = turns(self.all)
        self.turn_of = {id(e[0]): turn for e, turn in zip(self.all, self.turns, strict=True)}
        self.top = max(self.all, key=lambda each: total(*each[1:]))
        self.top_turn = self.turns[self.all.index(self.top)]
        self.peak = total(*self.top[1:])

    def said_of_peak(self):
        """The peak, by kind, stage and object."""
        event, held, work, slack = self.top
        yield format_bytes(self.peak)
        yield format_bytes(self.peak + self.aside)
        yield format_bytes(self.aside)
        yield format_seconds(event.began_ns / 1e9)
        yield str(self.top_turn.step)
        stages = defaultdict(int)
        for (kind, name), nbytes in held.items():
            came = [
                e for e in self.events
                if isinstance(e, Move) and (e.kind, e.name, e.tier) == (kind, name, self.tier)
                and e.verb is not Verb.FREE and e.began_ns <= event.began_ns
            ]  # fmt: skip
            stages[came[-1].stage if came else ""] += nbytes
            yield format_bytes(nbytes)
            yield from {format_seconds(e.began_ns / 1e9) for e in came}
        stages[self.top_turn.stage] += work + slack
        for nbytes in [*kinds_of(held, work, slack), *stages.values(), work]:
            yield format_bytes(nbytes)
            yield f"{nbytes / self.peak:.1%}"

    def said_of_models(self):
        """Weights by model, each segment once."""
        sizes, loads, now, most, waited = (defaultdict(int) for _ in range(5))
        segments = defaultdict(dict)
        for e in self.events:
            model, slash, rest = getattr(e, "name", "").partition("/")
            if not slash or rest.endswith(" rows"):
                continue
            if isinstance(e, Move) and e.kind is Kind.WEIGHTS and e.tier == self.tier:
                sign = -1 if e.verb is Verb.FREE else 1
                now[model] += sign * e.nbytes
                most[model] = max(most[model], now[model])
                if sign > 0:
                    segments[model][e.name] = e.nbytes
                    loads[model] += e.nbytes
            if isinstance(e, Transfer):
                waited[model] += e.waited_ns
        sizes = {model: sum(each.values()) for model, each in segments.items()}
        yield format_bytes(sum(sizes.values()))
        for model, nbytes in sizes.items():
            yield str(len(segments[model]))
            yield from map(format_bytes, (nbytes, most[model], loads[model]))
            yield f"{nbytes / sum(sizes.values()):.1%}"
            yield format_seconds(waited[model] / 1e9)

    def said_of_stages(self):
        """Times, and the fullest instant of each stage by kind."""
        spans = {e.stage: e for e in self.events if type(e).__name__ == "StageSpan"}
        for stage, span in spans.items():
            seconds = (span.ended_ns - span.began_ns) / 1e9
            works = [e for e in self.events if isinstance(e, Workspace) and e.stage == stage]
            moves = [e for e in self.events if isinstance(e, Move | Transfer) and e.stage == stage]
            yield format_seconds(seconds)
            yield f"{seconds / self.seconds:.1%}"
            yield format_seconds(sum(e.ended_ns - e.began_ns for e in works) / 1e9)
            yield format_seconds(sum(e.waited_ns for e in moves) / 1e9)
            pairs = zip(self.all, self.turns, strict=True)
            here = [each for each, turn in pairs if turn is not None and turn.stage == stage]
            best = max(here, key=lambda each: total(*each[1:]), default=None)
            most = max(span.peak_bytes, total(*best[1:]) if best else 0)
            yield format_bytes(most + self.aside)
            yield from map(format_bytes, kinds_of(*best[1:]) if best else [])

    def said_of_steps(self):
        """Each turn: its time, what is there at its end, the most in it, and the difference."""
        steps = [e for e in self.events if isinstance(e, Step)]
        changes = [e for e in self.events if isinstance(e, Step | Move | Workspace)]
        for stage, group in groupby(sorted(steps, key=lambda e: e.stage), lambda e: e.stage):
            turns = list(group)
            yield str(len(turns))
            own = [e for e in changes if self.stage_at(e) == stage]
            before = self.before(stage)
            for turn in turns:
                cut = own.index(turn)
                most = max([e.resident_bytes for e in own[: cut + 1]], default=0)
                own = own[cut + 1 :]
                yield str(turn.index)
                yield format_seconds((turn.ended_ns - turn.began_ns) / 1e9)
                yield format_bytes(max(most, turn.resident_bytes))
                yield format_bytes(turn.resident_bytes)
                delta = turn.resident_bytes - before
                yield ("+" if delta > 0 else "") + format_bytes(delta)
                before = turn.resident_bytes
            yield str(max(0, len(turns) - 24))

    def stage_at(self, event):
        """Name the stage in whose turn something happened on the tier."""
        turn = event if isinstance(event, Step) else self.turn_of.get(id(event))
        return turn and turn.stage

    def before(self, stage):
        """What was there before the stage's first turn."""
        now = 0
        for event, *there in self.all:
            if self.stage_at(event) == stage:
                return now
            now = sum(there[0].values())
        return now

    def said_of_waiting(self):
        """By object, and of the whole run."""
        waited, loads = defaultdict(int), defaultdict(int)
        for e in self.events:
            if isinstance(e, Transfer):
                waited[e.name] += e.waited_ns
                loads[e.name] += 1
        whole = sum(e.waited_ns for e in self.events if isinstance(e, Move | Transfer))
        yield format_seconds(whole / 1e9)
        yield f"{whole / 1e9 / self.seconds:.1%}"
        yield from (format_seconds(n / 1e9) for n in waited.values())
        yield from map(str, loads.values())

    def everything(self, header):
        """All of it, and what the header says."""
        yield from map(format_bytes, (self.budget, header["predicted_peak_bytes"]))
        yield format_seconds(self.seconds)
        yield format_seconds(header["predicted_seconds"])
        yield f"{len(self.events):,}"
        yield format_seconds(0)
        yield format_bytes(abs(self.budget - self.peak - self.aside))
        for e in self.events:
            if type(e).__name__ == "Memory" and e.tier == self.tier:
                yield format_bytes(e.peak_bytes)
                yield format_bytes(abs(self.budget - max(e.peak_bytes, self.peak + self.aside)))
        for part in ("peak", "models", "stages", "steps", "waiting"):
            yield from getattr(self, f"said_of_{part}")()
