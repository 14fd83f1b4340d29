"""What every call of a graph costs, for chosen knobs: the planner's whole view of the work.

Plain ints and strings: a footprint can be made on one machine and planned on another.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

CLASSES = ("gemm", "attention", "conv")  # of kernels whose FLOPs are counted
DTYPES = ("bfloat16", "float16", "float32")


@attrs.frozen
class Cost:
    """What a kind of call costs: `workspace_bytes` is its peak over what was there on entry.

    The workspace includes what the call makes. FLOPs by kernel class (`gemm`, `attention`, `conv`);
    `memory_bytes` is the traffic of everything else; `kernels` is how many are started in all.
    `requests` are those to the allocator, in order: bytes that are taken, or minus the number (from
    1) of the one that is given back; `origins` has the number of the request for each value that
    the call makes, 0 for one made elsewhere. `slack_bytes` is what a card's allocator reserves
    beyond all that is asked for, here and by the values there (`allocator/slack.py`).
    `exchanged_bytes` is what other ranks send in it, in so many `exchanges`.
    """

    workspace_bytes: int
    flops: Mapping[str, float]
    memory_bytes: int
    kernels: int = 0
    requests: tuple[int, ...] = ()
    origins: tuple[int, ...] = ()
    slack_bytes: int = 0
    exchanged_bytes: int = 0
    exchanges: int = 0

    @property
    def running_bytes(self) -> int:
        """What a call needs free to run, besides its weights."""
        return self.workspace_bytes + self.slack_bytes


@attrs.frozen
class Made:
    """A tensor that a call makes. `value` is its number; a rewritten name gets a new one."""

    value: int
    name: str
    nbytes: int
    is_state: bool
    shape: tuple[int, ...] = ()


@attrs.frozen
class CallRecord:
    """A call in the order of the whole graph. `segment` is `model/segment`, or None.

    `gathered_bytes` are the rows it asked for. `renames` are values that it passes on by a new
    name.
    """

    stage: str
    kind: str
    step: int
    cost: Cost
    segment: str | None
    gathered_bytes: int
    reads: tuple[int, ...]
    makes: tuple[Made, ...]
    renames: tuple[tuple[str, int], ...] = ()

    def costing(self, cost: Cost) -> CallRecord:
        """The same call at another cost; `attrs.evolve` takes four times as long."""
        return CallRecord(
            self.stage, self.kind, self.step, cost, self.segment, self.gathered_bytes, self.reads,
            self.makes, self.renames,
        )  # fmt: skip


@attrs.frozen
class SegmentUse:
    """A segment of a model and its bytes on the device; `file_bytes` are read for it.

    These are more where floats are packed on their way.
    """

    name: str
    nbytes: int
    file_bytes: int = attrs.field(
        default=attrs.Factory(lambda self: self.nbytes, takes_self=True), kw_only=True
    )


@attrs.frozen
class StageFacts:
    """What the plan says of a stage besides its calls."""

    stage: str
    op: str
    model: str | None
    steps: int
    weights_bytes: int
    knobs: Mapping[str, str]
    rounding: tuple[str, ...]  # knobs whose chosen value rounds differently


Rounding = frozenset[tuple[str, str, str]]  # stage, knob, value


@attrs.frozen
class Footprint:
    """A whole graph at one setting of its knobs. `keeps` are values that live to the end.

    `staging_bytes` is a buffer for reading tensors whose dtype changes on the way in; the one
    buffer is there for the whole run.
    """

    stages: tuple[StageFacts, ...]
    calls: tuple[CallRecord, ...]
    segments: Mapping[str, SegmentUse]
    keeps: frozenset[int]
    dtypes: Mapping[str, str]  # stage -> the dtype its kernels run in
    staging_bytes: int = 0

    @property
    def rounding(self) -> Rounding:
        """The choices that round otherwise than the plain way."""
        return frozenset(
            (facts.stage, name, facts.knobs[name])
            for facts in self.stages
            for name in facts.rounding
        )
