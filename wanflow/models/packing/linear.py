"""A Linear whose weight is packed, and opened in the call that uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from wanflow.models.packing.form import Form, Pieces
from wanflow.units import MIB

Apply = Callable[[torch.Tensor], torch.Tensor]

_FEW_ROWS = 512  # a prompt has no more tokens
_OPENED_BYTES = 12 * MIB  # less than `heap.MAPPED_BYTES`
_BLOCK = 64  # outputs that kernels take at once


class OpenLinear(torch.nn.Module):
    """Stands in for `torch.nn.Linear`: its parameters are the pieces of *form*, and the bias.

    It is opened in new memory whenever it is used: once for as long as what `opened` gives is held.
    """

    def __init__(self, form: Form, bias: torch.nn.Parameter | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = form.shape
        self.form = form
        self._like = torch.empty((), dtype=dtype, device="meta")
        for name, piece in form.pieces.items():
            empty = torch.empty(piece.shape, dtype=piece.dtype, device="meta")
            self.register_parameter(name, torch.nn.Parameter(empty, requires_grad=False))
        self.register_parameter("bias", bias)

    @property
    def weight(self) -> torch.Tensor:
        """What the weight's dtype is when it is open: upstream asks for that, and for no number."""
        return self._like

    @property
    def pieces(self) -> Pieces:
        """The pieces that are bound."""
        return {name: self.get_parameter(name) for name in self.form.pieces}

    def opened(self, columns: slice | None = None) -> Apply:
        """Open it, or what makes some of its outputs, to be applied several times."""
        form, pieces = self.form, self.pieces
        bias = cast("torch.Tensor | None", self.bias)
        if columns is not None:
            form, pieces = form.part(columns), form.cut(pieces, columns)
            bias = None if bias is None else bias[columns]
        opened = form.open(pieces, self._like.dtype)
        return lambda x: opened.linear(x, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply it to `[..., in]`, some outputs at a time where *x* has few rows.

        Of few rows opening takes longer than the product, and most of that is memory that is new to
        the process: what is opened at a time is small enough to lie where the last was.
        """
        step = self._outputs_at_once(x.shape[:-1].numel())
        if step >= self.out_features:
            return self.opened()(x)
        made = x.new_empty((*x.shape[:-1], self.out_features), dtype=self._like.dtype)
        for start in range(0, self.out_features, step):
            columns = slice(start, min(start + step, self.out_features))
            made[..., columns] = self.opened(columns)(x)
        return made

    def _outputs_at_once(self, rows: int) -> int:
        if rows > _FEW_ROWS:
            return self.out_features
        fit = _OPENED_BYTES // (self.in_features * self._like.dtype.itemsize)
        return max(fit // _BLOCK, 1) * _BLOCK


def is_opened(linear: Any) -> bool:
    """Whether a Linear is opened for each use: it is packed, or adapters change it."""
    return hasattr(linear, "opened")


def opened(linear: Any, columns: slice | None = None, *, once: bool = False) -> Apply:
    """Make a Linear, or some of its outputs, ready to be applied several times.

    What is applied but *once* is open no longer than that.
    """
    if columns is None and (once or not is_opened(linear)):
        return linear  # type: ignore[no-any-return]
    if is_opened(linear):
        return linear.opened(columns)  # type: ignore[no-any-return]
    weight = linear.weight[columns]
    bias = None if linear.bias is None else linear.bias[columns]
    return lambda x: torch.nn.functional.linear(x, weight, bias)


def put_in(module: torch.nn.Module, forms: Mapping[str, Form], dtype: torch.dtype) -> None:
    """Let the Linears whose weights *forms* names have packed ones, which open in *dtype*."""
    for name, form in forms.items():
        path = name.removesuffix(".weight")
        above, _, leaf = path.rpartition(".")
        linear: Any = module.get_submodule(path)
        setattr(module.get_submodule(above), leaf, OpenLinear(form, linear.bias, dtype))


def packed_in(module: torch.nn.Module) -> dict[str, Form]:
    """The weights of *module* that are packed, by name, and how."""
    return {
        f"{path}.weight": linear.form
        for path, inside in module.named_modules()
        if (linear := packed(inside)) is not None
    }


def packed(linear: torch.nn.Module) -> OpenLinear | None:
    """A packed Linear, which adapters may change; None for any other module."""
    base = getattr(linear, "base", linear)
    return base if isinstance(base, OpenLinear) else None


def pieces_of(module: torch.nn.Module, name: str) -> list[str]:
    """Name the parameters that are the pieces of a packed weight."""
    path = name.removesuffix(".weight")
    linear = packed(module.get_submodule(path))
    if linear is None:
        raise AssertionError(f"{name} is not packed")
    return [f"{path}.{leaf}" for leaf in linear.form.pieces]
