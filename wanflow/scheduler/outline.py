"""Outline any module that is cut into segments: its footprint from one fake forward of it.

The forward is followed from segment to segment: a *lap* begins where a module that lies in another
segment is called, or where an op takes a weight of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from wanflow.scheduler.faked import Touched, cpu_like, fake_copy, tables_of
from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.laps import Lap, Laps, Setting, footprint_of
from wanflow.scheduler.program import Segment
from wanflow.scheduler.recorder import Recorder, flatten, storage_key
from wanflow.scheduler.workspace import workspace_of


@attrs.frozen
class Asked:
    """What a footprint is wanted of: a forward's arguments, how often it runs, for which device."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    repeats: int
    device: str


def outline(
    module: torch.nn.Module,
    parts: Mapping[str, Segment],
    asked: Asked,
    settings: Sequence[Setting],
) -> tuple[Footprint, ...]:
    """Run *module* once on fake tensors, and write its laps down at each of *settings*.

    *parts* are the segments at their finest. Tensors among the arguments may be on any device,
    `meta` too. They, and what the module keeps besides its parameters, are there all the time.
    """
    laps = _follow(module, parts, asked)
    name = type(module).__name__
    return tuple(footprint_of(laps, name, asked.repeats, each) for each in settings)


class _Follower:
    """Follows a recorder from segment to segment."""

    def __init__(self, recorder: Recorder) -> None:
        self.done: list[Lap] = []
        self._recorder = recorder
        self._segment: str | None = None
        self._begin = self._entry_bytes = 0

    def go_to(self, segment: str) -> None:
        """Begin a lap, unless it goes on; what comes before any segment belongs to the first."""
        if self._segment is not None and segment != self._segment:
            self.end()
        self._segment = segment

    def end(self) -> None:
        """Put the lap away, and let the recorder count anew."""
        recorder, end = self._recorder, len(self._recorder.requests)
        self.done.append(
            Lap(
                self._segment, self._begin, end, self._entry_bytes, recorder.peak_bytes,
                recorder.flops, recorder.memory_bytes, recorder.kernels,
            )
        )  # fmt: skip
        self._begin = end
        self._entry_bytes = recorder.peak_bytes = recorder.live_bytes
        recorder.flops, recorder.memory_bytes, recorder.kernels = {}, 0, 0


def _follow(module: torch.nn.Module, parts: Mapping[str, Segment], asked: Asked) -> Laps:
    dtypes = {spec.name: spec.dtype for each in parts.values() for spec in each.tensors}
    homes = {spec.name: name for name, each in parts.items() for spec in each.tensors}
    given = {name: p.dtype for name, p in module.named_parameters()}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copied = fake_copy(module, mode, lambda name: dtypes.get(name, given[name]))
    with torch.no_grad(), mode:
        args, kwargs = cpu_like((list(asked.args), dict(asked.kwargs)))
        there = [*flatten([args, kwargs]), *tables_of(copied)]
        recorder = Recorder([*there, *copied.parameters()], workspace_of(asked.device))
        follower = _Follower(recorder)
        _hook(copied, "", homes, follower.go_to)
        with recorder, Touched(copied, lambda name: follower.go_to(homes[name])):
            made = copied(*args, **kwargs)
        follower.end()
        results = frozenset(recorder.origin(tensor) for tensor in flatten(made))
    storages = {storage_key(t): t.untyped_storage().nbytes() for t in there}
    return Laps(
        follower.done, recorder.requests, results, sum(storages.values()), recorder.by_dtype
    )


def _hook(
    module: torch.nn.Module, path: str, homes: Mapping[str, str], enter: Callable[[str], None]
) -> None:
    """Have *enter* told when a module is called whose weights are all in one segment."""
    names = (f"{path}{name}" for name, _ in module.named_parameters())
    found = {homes[name] for name in names if name in homes}
    if len(found) == 1:
        (segment,) = found
        module.register_forward_pre_hook(lambda *_: enter(segment))
        return
    for name, child in module.named_children():
        _hook(child, f"{path}{name}.", homes, enter)
