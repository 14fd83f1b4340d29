"""A short run of the bundled tiny model: what starting calls takes, and small kernels, here.

A kernel that is repeated by itself starts in a fraction of the time that one in a model takes,
with the Python between them. So the calls themselves run, by the executor that every run has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import attrs
import torch

from wanflow.files.folders import PACKAGE
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.call_times import CallTimes
from wanflow.scheduler.machine.figures import Machine, Source
from wanflow.scheduler.machine.learn import learn
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.run.executor import Executor
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session.preparing.place import place_on
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.request import Request
from wanflow.trace.events import Event

_WEIGHTS = PACKAGE / "bundled" / "wan-tiny"
_INPUTS: Mapping[str, str | int] = {
    "prompt": "a red circle grows",
    "size": "64*64",
    "frames": 5,
    "steps": 1,
}
_KNOBS = {
    "encode": {"tokens": "real"},
    "denoise": {"cfg": "serial", "split": "whole", "rows": "4096"},
    "decode": {"strips": "strips.1"},
}


class OutOfTime(Exception):
    """The run took longer than it may."""


@attrs.define
class _Listener:
    """A sink that hears what calls take."""

    times: CallTimes = attrs.field(factory=CallTimes, init=False)

    def emit(self, event: Event) -> None:
        """Keep it."""
        self.times.hear(event)


def prepare_tiny(base: Machine) -> Prepared:
    """Make the run ready, which loads what any plan loads."""
    device = torch.device("cpu")
    request = Request("t2v-tiny", dict(_INPUTS), weights=(str(_WEIGHTS),), prompt_cache=False)
    return prepare(request, place_on(base, device, request), to_run=True)


def tiny_run(
    machine: Machine,
    prepared: Prepared,
    folder: Path,
    source: Source,
    more: Callable[[], bool] = lambda: True,
) -> Machine:
    """Return *machine*, a CPU, with what the run taught, known from *source*.

    It goes on while there is *more* time; what was heard until then counts.
    """

    def stop() -> None:
        if not more():
            raise OutOfTime

    listener = _Listener()
    with suppress(OutOfTime):
        profiler = Profiler("cpu", real=True)
        footprint = profiler.profile(prepared.programs(None), _KNOBS, lambda _name: False, stop)
        with suppress(OutOfTime):
            _executor(prepared, footprint, folder, listener, stop).run()
        learned = learn(machine, footprint, listener.times)
        new = {n: learned.figure(n) for n in learned.was.keys() - machine.was.keys()}
        return machine.with_figures(new, source)
    return machine


def _executor(
    prepared: Prepared,
    footprint: Footprint,
    folder: Path,
    listener: _Listener,
    stop: Callable[[], None],
) -> Executor:
    place = prepared.place
    models = {name: located.model for name, located in prepared.models.items()}
    found = {name: located.source for name, located in prepared.models.items()}
    sources = {name: source for name, source in found.items() if source is not None}
    return Executor(
        plan=plan([footprint], place.machine, None), programs=prepared.programs(folder),
        streamer=Streamer(models, sources, place.open_device(place.device)),
        ledger=place.open_ledger({place.tier: place.machine.capacity_bytes}, listener),
        sink=listener, device=place.device, tier=place.tier, stop=stop,
    )  # fmt: skip
