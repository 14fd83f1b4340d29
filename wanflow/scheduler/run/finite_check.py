"""See that what a step leaves is finite, for one reduction a value and no wait of its own.

Looked at are values that outlive the step that makes them, states aside (what is wrong with one
shows in the step's values), and what a call is about to lose (`last_look.py`). The reduction is to
the least and the largest element: these can't overflow and are NaN where any element is. A card
keeps them, 512 bytes for all, until they are read when the step is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import torch

from wanflow.errors import StageFailed
from wanflow.scheduler.footprint.costs import CallRecord, Footprint
from wanflow.scheduler.program import Tensors

_SLOTS = 64  # answers that a card keeps at once
_DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}

Tell = Callable[[str], None]


def outliving(footprint: Footprint) -> frozenset[int]:
    """The numbers of the values that are read after the step that makes them, states aside."""
    calls = footprint.calls
    home = {v.value: (c.stage, c.step) for c in calls for v in c.makes if not v.is_state}
    read = {
        n for c in calls for n in c.reads if home.get(n, (c.stage, c.step)) != (c.stage, c.step)
    }
    return frozenset(read | (footprint.keeps & home.keys()))


def extremes(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and largest element: one isn't finite where any of them isn't; no copy is made."""
    if not tensor.is_contiguous():
        tensor = tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    if tensor.is_contiguous():
        return torch.aminmax(tensor)
    magnitude = torch.linalg.vector_norm(tensor, ord=math.inf)  # slower; of a view with gaps
    return magnitude, magnitude


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every element is; a device is waited for."""
    return tensor.numel() == 0 or all(math.isfinite(end) for end in extremes(tensor))


@attrs.frozen
class _Answer:
    """A value's extremes: numbers, or the slot of a card that has them."""

    name: str
    call: CallRecord
    ends: tuple[float, float] | torch.Tensor

    @property
    def wrong(self) -> str:
        """Say what is wrong with them."""
        ends = self.ends.tolist() if isinstance(self.ends, torch.Tensor) else self.ends
        if any(map(math.isnan, ends)):
            return "NaN"
        return "infinity" if any(map(math.isinf, ends)) else ""


@attrs.define
class FiniteCheck:
    """Looks at the values of one run; *tell* is told of the first step that is wrong.

    Without *tell* that step ends the run.
    """

    footprint: Footprint
    tell: Tell | None = None
    call: CallRecord = attrs.field(init=False)  # the one that runs
    _values: frozenset[int] = attrs.field(init=False)
    _slots: torch.Tensor | None = attrs.field(default=None, init=False)
    _open: list[_Answer] = attrs.field(factory=list, init=False)
    _told: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.call = self.footprint.calls[0]
        self._values = outliving(self.footprint)

    def made(self, tensors: Tensors) -> None:
        """Look at what the call has made, where it outlives the step."""
        for value in self.call.makes:
            if value.value in self._values:
                self.look(tensors[value.name], value.name)

    def lost(self, tensor: torch.Tensor) -> None:
        """Look at what the call is about to clamp."""
        names = [value.name for value in self.call.makes if not value.is_state]
        self.look(tensor, names[0] if names else self.call.kind)

    def look(self, tensor: torch.Tensor, name: str) -> None:
        """Ask for a tensor's extremes; a device is not waited for."""
        if self._told or not tensor.is_floating_point() or tensor.numel() == 0:
            return
        if len(self._open) == _SLOTS:
            self.settle()
        ends = extremes(tensor)
        if not tensor.is_cuda:
            self._open.append(_Answer(name, self.call, (ends[0].item(), ends[1].item())))
            return
        if self._slots is None:
            self._slots = torch.empty(_SLOTS, 2, device=tensor.device)
        slot = self._slots[len(self._open)]
        for place, end in zip(slot, ends, strict=True):
            place.copy_(end)
        self._open.append(_Answer(name, self.call, slot))

    def settle(self) -> None:
        """Read the answers, at the end of a step; StageFailed (exit 1) for the first bad one."""
        answers, self._open = self._open, []
        bad = next((answer for answer in answers if answer.wrong), None)
        if bad is None or self._told:
            return
        self._told = True
        message = self._message(bad)
        if self.tell is None:
            raise StageFailed(message, hint=self._hint(bad), code="not-finite")
        self.tell(message)

    def _message(self, bad: _Answer) -> str:
        stage, step = bad.call.stage, bad.call.step + 1
        steps = next(s.steps for s in self.footprint.stages if s.stage == stage)
        return f"stage {stage!r}, step {step} of {steps}: {bad.wrong} in {bad.name}"

    def _hint(self, bad: _Answer) -> str:
        stage = bad.call.stage
        model = next(s.model for s in self.footprint.stages if s.stage == stage)
        dtype = self.footprint.dtypes.get(stage, "")
        if model is not None and dtype == "float16":
            cure = f"fp16 ends at 65504: take bf16 or fp32 (--precision {model}=bf16)"
        elif model is not None:
            named = _DTYPES.get(dtype, dtype)
            cure = f"in {named} that is seldom rounding: the weights of {model!r} may be damaged"
        else:
            cure = "what it was given is not finite"
        return f"{cure}; to go on all the same: --allow-nonfinite"
