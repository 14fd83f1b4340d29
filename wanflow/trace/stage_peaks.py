"""The stages of a run with what each one's peak is made of, and the weights of each model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from wanflow.trace.by_kind import KINDS, ByKind
from wanflow.trace.events import Event, Kind, Move, Transfer, Verb
from wanflow.trace.levels import MORE, MOST_OBJECTS, Level, Residency
from wanflow.trace.plain import plain
from wanflow.trace.summary import StageSummary
from wanflow.trace.turns import TurnLevels

_NS = 1e9


@attrs.frozen
class StageLoad:
    """A stage with the level of the budget tier at its peak; None where it held nothing."""

    summary: StageSummary
    peak: Level | None

    def to_dict(self) -> dict[str, Any]:
        """Give one of the objects that `trace stages --json` lists."""
        held = {f"peak_{kind}_bytes": self.by_kind[kind] for kind in KINDS}
        return {**plain(self.summary), **held}

    @property
    def by_kind(self) -> ByKind:
        """What the peak is made of."""
        return ByKind() if self.peak is None else self.peak.by_kind


@attrs.frozen
class ModelLoad:
    """What one model weighs and how its weights came: `weights_bytes` counts each segment once."""

    model: str
    segments: int
    weights_bytes: int
    share: float
    most_bytes: int  # of it on the tier at once
    loads: int
    loaded_bytes: int
    waited_seconds: float


@attrs.define
class _ModelBytes:
    segments: dict[str, int] = attrs.field(factory=dict)
    now_bytes: int = 0
    most_bytes: int = 0
    loads: int = 0
    loaded_bytes: int = 0
    waited_ns: int = 0


@attrs.define
class Loads:
    """Follows events for one tier: the peak of each stage by kind, and the weights by model."""

    tier: str
    peaks: dict[str, Level] = attrs.field(factory=dict)
    _residency: Residency = attrs.field(factory=Residency, init=False)
    _turns: TurnLevels = attrs.field(init=False)
    _models: dict[str, _ModelBytes] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = TurnLevels(self.tier)

    def add(self, event: Event) -> None:
        """Count one event."""
        for level in self._turns.see(event, self._residency.see(event)):
            best = self.peaks.get(level.stage)
            if best is None or level.resident_bytes > best.resident_bytes:
                self.peaks[level.stage] = level
        if isinstance(event, Move) and event.tier == self.tier and event.kind is Kind.WEIGHTS:
            self._weights(event)
        elif isinstance(event, Transfer) and (model := self._model(event.name)):
            model.waited_ns += event.waited_ns

    def models(self) -> tuple[ModelLoad, ...]:
        """Give the models, the heaviest first."""
        total = sum(sum(model.segments.values()) for model in self._models.values())
        loads = [_model_load(name, model, total) for name, model in self._models.items()]
        return tuple(sorted(loads, key=lambda load: -load.weights_bytes))

    def _weights(self, move: Move) -> None:
        model = self._model(move.name)
        if model is None:
            return
        if move.verb is Verb.FREE:
            model.now_bytes = max(0, model.now_bytes - move.nbytes)
            return
        model.now_bytes += move.nbytes
        model.most_bytes = max(model.most_bytes, model.now_bytes)
        model.loads += 1
        model.loaded_bytes += move.nbytes
        if move.name in model.segments or len(model.segments) < MOST_OBJECTS:
            model.segments[move.name] = max(model.segments.get(move.name, 0), move.nbytes)

    def _model(self, name: str) -> _ModelBytes | None:
        """Find the model of a segment, `dit/block.7`; rows that are gathered are no segment."""
        model, slash, segment = name.partition("/")
        if not slash or segment.endswith(" rows"):
            return None
        if model not in self._models and len(self._models) >= MOST_OBJECTS:
            model = MORE
        return self._models.setdefault(model, _ModelBytes())


def stage_loads(
    events: Iterable[Event], stages: Iterable[StageSummary], tier: str
) -> tuple[StageLoad, ...]:
    """Join the summary's stages with what lay on the tier at each one's peak."""
    loads = Loads(tier)
    for event in events:
        loads.add(event)
    return tuple(StageLoad(stage, loads.peaks.get(stage.stage)) for stage in stages)


def _model_load(name: str, model: _ModelBytes, total: int) -> ModelLoad:
    weights = sum(model.segments.values())
    return ModelLoad(
        name, len(model.segments), weights, weights / total if total else 0.0, model.most_bytes,
        model.loads, model.loaded_bytes, model.waited_ns / _NS,
    )  # fmt: skip
