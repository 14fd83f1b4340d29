"""Play scenarios one after another: plan or run each, then hold it against what it must."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanflow.errors import InputError, Interrupted, WanflowError
from wanflow.graph.load import load
from wanflow.graph.values import PortRef
from wanflow.graph.wording import did_you_mean, quoted
from wanflow.session.planning.planned import plan
from wanflow.session.scenarios.expectations import Verdict
from wanflow.session.scenarios.outcome import ScenarioOutcome
from wanflow.session.scenarios.spec import Scenario

if TYPE_CHECKING:
    import torch

    from wanflow.trace.events import Event

_WRITERS = ("write_video", "write_picture", "write_frames")


@attrs.frozen
class ScenarioResult:
    """A scenario, what came of it, and whether each of its expectations holds."""

    scenario: Scenario
    played: ScenarioOutcome
    verdicts: tuple[Verdict, ...]

    @property
    def holds(self) -> bool:
        """Whether all of them do."""
        return all(verdict.holds for verdict in self.verdicts)

    @property
    def report(self) -> dict[str, object]:
        """The same as plain data."""
        scenario, played = self.scenario, self.played
        return {
            "scenario": scenario.name,
            "about": scenario.about,
            "did": "run" if scenario.runs else "plan",
            "graph": scenario.request.graph,
            "exit_code": played.exit_code,
            "error": played.error,
            "message": played.message,
            "fits": played.fits,
            "budget_bytes": played.planned.get("budget_bytes", played.detail.get("budget_bytes")),
            "minimum_bytes": played.minimum_bytes,
            "predicted_peak_bytes": played.planned.get("predicted_peak_bytes"),
            "predicted_seconds": played.planned.get("predicted_seconds"),
            "peak_stage": played.peak_stage,
            "peak_bytes": played.ran.get("peak_bytes"),
            "seconds": played.ran.get("seconds"),
            "out": played.ran.get("out"),
            "holds": self.holds,
            "verdicts": [attrs.asdict(v) | {"text": str(v)} for v in self.verdicts],
        }


def chosen(scenarios: tuple[Scenario, ...], names: tuple[str, ...]) -> tuple[Scenario, ...]:
    """Pick scenarios by name, with those that they are compared with; all without a name."""
    known = {scenario.name: scenario for scenario in scenarios}
    for name in names:
        if name not in known:
            raise InputError(
                f"no scenario {quoted(name)}", hint=did_you_mean(name, known), code="no-scenario"
            )
    picked = set(names) or set(known)
    waiting = list(picked)
    while waiting:
        more = {h.wanted for h in known[waiting.pop()].expects if h.compares} - picked
        picked |= more
        waiting += sorted(more)
    return tuple(scenario for scenario in scenarios if scenario.name in picked)


def play(
    scenarios: tuple[Scenario, ...],
    *,
    out: Path | None = None,
    force: bool = False,
    begins: Callable[[Scenario], None] = lambda _: None,
) -> list[ScenarioResult]:
    """Plan or run every scenario, then judge them.

    *out* keeps the run folders, each under its scenario's name; *force* lets them hold files.
    *begins* is told of each. What stops this process is raised, not judged.
    """
    played: dict[str, ScenarioOutcome] = {}
    with _folder(out) as folder:
        for scenario in scenarios:
            begins(scenario)
            where = folder / scenario.name
            played[scenario.name] = (
                _run(scenario, where, force) if scenario.runs else _plan(scenario)
            )
    return [
        ScenarioResult(s, played[s.name], tuple(h.judge(played[s.name], played) for h in s.expects))
        for s in scenarios
    ]


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="wanflow-scenarios-") as folder:
        yield Path(folder)


def _plan(scenario: Scenario) -> ScenarioOutcome:
    try:
        planned = plan(scenario.request)
    except WanflowError as error:
        return _failed(error, {})
    return (
        _failed(planned.problem, planned.report)
        if planned.problem
        else ScenarioOutcome(planned=planned.report)
    )


def _run(scenario: Scenario, folder: Path, force: bool) -> ScenarioOutcome:
    from wanflow.session.running.run import run

    seen = _PlanSeen()
    try:
        frames = _FrameDigest.of(scenario.request.graph)
        ran = run(scenario.request, out=folder, force=force, sink=seen, watch=frames)
    except Interrupted:
        raise
    except WanflowError as error:
        return _failed(error, seen.report)
    return ScenarioOutcome(planned=seen.report, ran=ran, frames=frames.digest)


def _failed(error: WanflowError, report: Mapping[str, Any]) -> ScenarioOutcome:
    return ScenarioOutcome(
        exit_code=error.exit_code, error=error.code, message=error.message, detail=error.detail,
        planned=report,
    )  # fmt: skip


@attrs.define
class _PlanSeen:
    """A sink of events that keeps none: a run tells its plan's report to it first."""

    report: Mapping[str, Any] = attrs.field(factory=dict)

    def start(self, report: Mapping[str, Any]) -> None:
        """See the plan's report."""
        self.report = report

    def emit(self, event: Event) -> None:
        """Let an event pass."""


@attrs.define
class _FrameDigest:
    """Digests what the writers of a graph take as it is made, however it is cut in chunks."""

    names: frozenset[str]
    _sums: dict[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of(cls, graph: str) -> _FrameDigest:
        """Watch the values that a graph's writers read."""
        writers = [s for s in load(graph).spec.stages.values() if s.op.name in _WRITERS]
        wires = [wire.value for stage in writers for wire in stage.inputs.values()]
        return cls(frozenset(str(value) for value in wires if isinstance(value, PortRef)))

    def __call__(self, _stage: str, name: str, value: torch.Tensor) -> None:
        """See a value `[frames, ..]`; its bytes go into memory that is none of torch's."""
        if name not in self.names:
            return
        import torch

        if name not in self._sums:
            self._sums[name] = hashlib.sha256(f"{value.dtype} {[*value.shape[1:]]}".encode())
        known = value.view(torch.int16) if value.dtype is torch.bfloat16 else value
        self._sums[name].update(known.cpu().numpy().tobytes())

    @property
    def digest(self) -> str:
        """All of it in one short text; "" where nothing was written."""
        sums = [f"{name} {digest.hexdigest()}" for name, digest in sorted(self._sums.items())]
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:16] if sums else ""
