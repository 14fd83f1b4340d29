"""One device that rows are run on, with its weights where the last row left them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from wanflow.models.bound import LocatedModel
from wanflow.scheduler.run.call_meter import Peaks
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session.batch import text_pass
from wanflow.session.planning.cut_prompts import cut_prompts
from wanflow.session.planning.footprints import graph_steps
from wanflow.session.planning.planned import Planned, plan_prepared
from wanflow.session.preparing.compiling import check_compiler
from wanflow.session.preparing.place import FindPlace, Place
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.request import Request
from wanflow.session.running.job import Job
from wanflow.session.running.retry import streamer_of
from wanflow.session.running.run import Part, run_in
from wanflow.session.running.run_folder import make_folder
from wanflow.session.running.saved_state import StateStore
from wanflow.trace import TraceSink

_LESSONS = 3  # rows of a plan that teach of the machine: the others would say the same


@attrs.define
class Seat:
    """Runs rows of *request*, each in its folder inside *folder*.

    Models are built once. The plan is made once for rows that ask for the same calls, and what it
    leaves on the device the next row finds there.
    """

    request: Request
    folder: Path
    place: Place
    _models: dict[str, LocatedModel] = attrs.field(factory=dict, init=False)
    _streamer: Streamer | None = attrs.field(default=None, init=False)
    _planned: tuple[object, Planned] | None = attrs.field(default=None, init=False)
    _taught: int = attrs.field(default=0, init=False)  # rows of the plan that were begun
    _peaks: Peaks = attrs.field(factory=dict, init=False)  # of its calls, as they were measured

    @classmethod
    def at(cls, request: Request, folder: Path, on: FindPlace) -> Seat:
        """Take the place that *on* finds."""
        return cls(request, folder, on(request))

    def prepare(self, inputs: Mapping[str, str | int | float]) -> Prepared:
        """Bind a row; its models are those of the rows before it."""
        given = attrs.evolve(self.request, inputs={**self.request.inputs, **inputs})
        prepared = prepare(given, self.place, to_run=True, made=self._models)
        new = {n: model for n, model in prepared.models.items() if n not in self._models}
        if new:
            self._models |= new
            self.close()  # what brings weights knows its models from the start
        return text_pass.with_texts(attrs.evolve(prepared, repeated=True), self.folder)

    def encode(self, rows: Sequence[Prepared], sink: TraceSink | None) -> None:
        """Encode the prompts of *rows* in one pass; the device is theirs alone meanwhile."""
        for group in _by_stages(rows):
            text_pass.encode(group, self.folder, sink, self.close)

    def run(
        self, prepared: Prepared, folder: Path, sink: TraceSink | None, *, last: bool
    ) -> dict[str, object]:
        """Make a row or go on with it; give what its `run.json` holds. *last*: none comes after."""
        planned = self._plan(prepared, folder)
        if last:
            planned = attrs.evolve(planned, plan=planned.plan.as_last())
        if not folder.exists():
            make_folder(folder, prepared.graph.name, force=True)
        if self._streamer is None:
            device = self.place.open_device(self.place.device)
            self._streamer = streamer_of(attrs.evolve(prepared, models=self._models), device)
        self._taught += 1
        part = Part(teaches=self._taught <= _LESSONS, peaks=self._peaks)
        return run_in(planned, folder, sink, self._streamer, part=part)

    def _plan(self, prepared: Prepared, folder: Path) -> Planned:
        """Plan a row, or take the plan of one that asks for the same calls."""
        begun = StateStore(folder / "state").holds_any
        key = _calls_key(prepared)
        if begun or self._planned is None or self._planned[0] != key:
            self.close()  # planning profiles the models, which has them hold nothing
        if begun:  # at the settings that its first part was rounded at, if they fit
            kept = plan_prepared(prepared.keeping(Job.read(folder).knobs()))
            if kept.problem is None:
                return kept
        if self._planned is None or self._planned[0] != key:
            planned = plan_prepared(prepared)
            if planned.problem is not None:
                raise planned.problem
            check_compiler(planned.plan.knobs, self.place.device)
            self._planned, self._taught, self._peaks = (key, planned), 0, {}
        planned = self._planned[1]
        report = {**planned.report, "cut_prompts": cut_prompts(prepared)}
        return attrs.evolve(planned, prepared=prepared, report=report)

    def close(self) -> None:
        """Let the device's memory go."""
        if self._streamer is not None:
            self._streamer.close()
            self._streamer = None


def _by_stages(rows: Sequence[Prepared]) -> list[list[Prepared]]:
    """Rows with the same stages at work, in their order."""
    groups: dict[tuple[str, ...], list[Prepared]] = {}
    for row in rows:
        groups.setdefault(tuple(stage.name for stage in row.graph.stages), []).append(row)
    return [*groups.values()]


def _calls_key(prepared: Prepared) -> object:
    """All of a row that decides its calls: what footprints are kept by, and its steps."""
    return (prepared.identities(), graph_steps(prepared.graph), prepared.decided_texts())
