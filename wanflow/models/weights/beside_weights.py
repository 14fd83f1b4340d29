"""What stands beside weights in 8 bits: their scales, marks, and scales of what comes in."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_reads import read_bytes
from wanflow.models.weights.quantised_layers import NOTE

WEIGHT = ".weight"
NUMBERS = ".weight._data"  # quanto's
SCALES = (".scale_weight", ".weight_scale", ".weight._scale")
INPUTS = (".scale_input", ".input_scale", ".output_scale")  # of what comes in: not needed
TAKE = "take the bf16 or fp16 variant of the file"
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def is_marker(name: str) -> bool:
    """Whether it is ComfyUI's first mark of fp8 weights."""
    return name.rpartition(".")[2] == "scaled_fp8"


@attrs.define
class Beside:
    """What stands beside weights: scales by the name of their weight, and what is not a weight."""

    entries: Mapping[str, Entry]
    numbers: dict[str, Entry] = attrs.field(factory=dict, init=False)
    scales: dict[str, tuple[str, Entry]] = attrs.field(factory=dict, init=False)
    beside: set[str] = attrs.field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        for name, entry in self.entries.items():
            if name.endswith(WEIGHT):
                self._put(name, entry)
            elif name.endswith(NUMBERS):
                self._put(name.removesuffix("._data"), entry)
                self.beside.add(name)
            elif end := next((end for end in SCALES if name.endswith(end)), None):
                self._scale(f"{name.removesuffix(end)}{WEIGHT}", name, entry)
            elif name.endswith((NOTE, *INPUTS)) or is_marker(name):
                self.beside.add(name)

    def _put(self, name: str, entry: Entry) -> None:
        if name in self.numbers:
            raise WeightsError(
                f"{entry.path}: weight {name!r} is in it twice, once for quanto", code="same-tensor"
            )
        self.numbers[name] = entry

    def _scale(self, weight: str, name: str, entry: Entry) -> None:
        if weight in self.scales:
            raise WeightsError(
                f"{entry.path}: tensors {self.scales[weight][0]!r} and {name!r} both scale "
                f"{weight!r}",
                code="same-tensor",
            )
        self.scales[weight] = name, entry
        self.beside.add(name)

    @property
    def marked(self) -> bool:
        """Whether all 8-bit weights have scales: some have, or a marker says so."""
        return bool(self.scales) or any(is_marker(name) for name in self.entries)

    def check_used(self, *, has_any: bool) -> None:
        """WeightsError for a scale of nothing, and for a mark of weights that are not there."""
        for weight, (name, entry) in self.scales.items():
            if weight not in self.numbers:
                raise WeightsError(
                    f"{entry.path}: tensor {name!r} scales {weight!r}, which is not there",
                    code="missing-tensor",
                )
        marker = next((name for name in self.entries if is_marker(name)), None)
        if marker is not None and not has_any:
            raise WeightsError(
                f"{self.entries[marker].path}: tensor {marker!r} says that weights are fp8, and "
                "none is",
                code="bad-weights",
            )

    def inputs(self) -> tuple[str, ...]:
        """Say what is left out; WeightsError for a scale that quanto would apply."""
        names = [name for name in self.entries if name.endswith(INPUTS)]
        for name in names:
            entry = self.entries[name]
            if f"{name.rpartition('.')[0]}{NUMBERS}" in self.entries and _number(entry) != 1:
                raise WeightsError(
                    f"{entry.path}: tensor {name!r} is {_number(entry)}: quantised activations are "
                    "not read",
                    hint=TAKE,
                    code="unread-format",
                )
        calibrated = [name for name in names if name.endswith(INPUTS[:2])]
        if not calibrated or self._has(NUMBERS):
            return ()
        like = f"{len(calibrated)} tensors like {calibrated[0]!r}"
        return (f"{like} are not needed: activations are not quantised",)

    def _has(self, end: str) -> bool:
        return any(name.endswith(end) for name in self.entries)

    def format(self) -> str:
        """Say which of the formats with numbers in 8 bits it is."""
        ends = {"quanto": NUMBERS, **{end[1:]: end for end in (*SCALES[:2], NOTE)}}
        named = [kind for kind, end in ends.items() if self._has(end)]
        return " and ".join(named) or "fp8, a plain cast"


def _number(entry: Entry) -> float:
    """The one number of a tensor, NaN where it has several."""
    if set(entry.shape) > {1} or entry.dtype not in FLOATS:
        return float("nan")
    return float(torch.frombuffer(bytearray(read_bytes(entry)), dtype=entry.dtype)[0])
