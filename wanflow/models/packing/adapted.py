"""A Linear that adapters change in the call: LoRA, and what replaces or weighs its weight anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import attrs
import torch

from wanflow.models.packing.form import Pieces
from wanflow.models.packing.linear import Apply, OpenLinear, opened

Shapes = Mapping[str, tuple[int, ...]]


class Adapter(Protocol):
    """What one adapter does to one Linear. Equal changes have the same calls at the same cost."""

    @property
    def pieces(self) -> Shapes:
        """Its tensors, in the dtype that the Linear computes in."""


@runtime_checkable
class WeightChange(Adapter, Protocol):
    """A change of the weight itself, which is opened for it."""

    def changed(self, weight: torch.Tensor, pieces: Pieces) -> torch.Tensor:
        """Give the weight `[out, in]` changed; *weight* is new memory and may be used."""


@attrs.frozen
class LowRank:
    """Add `up(down(x)) * scale`, in the order and the dtypes of peft's Linear.

    https://github.com/huggingface/peft, tuners/lora/layer.py. Its `[out]` bias is scaled with it.
    """

    shape: tuple[int, int]
    rank: int
    scale: float
    has_bias: bool = False

    @property
    def pieces(self) -> Shapes:
        """`down` `[rank, in]`, `up` `[out, rank]`, and `up_bias` `[out]` if it has one."""
        outputs, inputs = self.shape
        bias = {"up_bias": (outputs,)} if self.has_bias else {}
        return {"down": (self.rank, inputs), "up": (outputs, self.rank), **bias}

    def add(self, y: torch.Tensor, x: torch.Tensor, pieces: Pieces, columns: slice) -> torch.Tensor:
        """Add it for the outputs *columns* to *y*, in place."""
        bias = pieces["up_bias"][columns] if self.has_bias else None
        inner = torch.nn.functional.linear(x, pieces["down"])
        outer = torch.nn.functional.linear(inner, pieces["up"][columns], bias)
        return y.add_(outer.mul_(self.scale))


class AdaptedLinear(torch.nn.Module):
    """Stands in for a Linear, plain or packed: it has its parameters, and those of *changes*.

    The changes are made in their order, those of the weight before those of what comes out.
    """

    def __init__(self, base: torch.nn.Module, changes: Sequence[tuple[str, Adapter]]) -> None:
        super().__init__()
        self._base = (base,)  # in a tuple: it is no submodule, its parameters lie here
        self._parameters = base._parameters  # noqa: SLF001 - the same ones, whoever binds them
        self.changes = tuple(changes)
        dtype = self.weight.dtype
        for prefix, change in self.changes:
            for leaf, shape in change.pieces.items():
                empty = torch.empty(shape, dtype=dtype, device="meta")
                parameter = torch.nn.Parameter(empty, requires_grad=False)
                self.register_parameter(f"{prefix}_{leaf}", parameter)

    @property
    def base(self) -> Any:
        """The Linear that is changed."""
        return self._base[0]

    @property
    def weight(self) -> torch.Tensor:
        """The weight of the base; of a packed one its dtype alone."""
        weight: torch.Tensor = self.base.weight
        return weight

    @property
    def in_features(self) -> int:
        """How many inputs it has."""
        return int(self.base.in_features)

    @property
    def out_features(self) -> int:
        """How many outputs it has."""
        return int(self.base.out_features)

    def opened(self, columns: slice | None = None, *, once: bool = False) -> Apply:
        """Open it, or what makes some of its outputs, to be applied several times."""
        first = self._changed(columns) or opened(self.base, columns, once=once)
        part = columns or slice(None)
        adding = [(c, self._pieces(p, c)) for p, c in self.changes if isinstance(c, LowRank)]

        def apply(x: torch.Tensor) -> torch.Tensor:
            y = first(x)
            for change, pieces in adding:
                y = change.add(y, x, pieces, part)
            return y

        return apply

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it to `[..., in]`."""
        return self.opened(once=True)(x)

    def _changed(self, columns: slice | None) -> Apply | None:
        """What applies the weight once it is changed; None where nothing changes it."""
        changes = [(p, c) for p, c in self.changes if isinstance(c, WeightChange)]
        if not changes:
            return None
        base, bias = self.base, self.base.bias
        if isinstance(base, OpenLinear):
            weight = base.form.open(base.pieces, base.weight.dtype).whole()
        else:
            weight = base.weight.clone()
        for prefix, change in changes:
            weight = change.changed(weight, self._pieces(prefix, change))
        if columns is not None:
            weight, bias = weight[columns], None if bias is None else bias[columns]
        return lambda x: torch.nn.functional.linear(x, weight, bias)

    def _pieces(self, prefix: str, change: Adapter) -> Pieces:
        return {leaf: self.get_parameter(f"{prefix}_{leaf}") for leaf in change.pieces}


def adapt(module: torch.nn.Module, changes: Mapping[str, Sequence[tuple[str, Adapter]]]) -> None:
    """Let the Linears at the paths of *changes* be changed."""
    for path, own in changes.items():
        above, _, leaf = path.rpartition(".")
        base = module.get_submodule(path)
        setattr(module.get_submodule(above), leaf, AdaptedLinear(base, own))


def adapters_of(module: torch.nn.Module, path: str) -> list[str]:
    """Name the parameters of the adapters of a Linear."""
    linear: Any = module.get_submodule(path)
    if not isinstance(linear, AdaptedLinear):
        return []
    return [f"{path}.{p}_{leaf}" for p, change in linear.changes for leaf in change.pieces]
