"""Every compiled kernel that a transformer's blocks call, called once: compiled, or found on disk.

Afterwards a run compiles nothing, so that no call of it takes longer than the plan says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import torch

from wanflow.models.wan import kernels
from wanflow.models.wan.dit import every_block
from wanflow.models.wan.kernels import Product, takes_bias

ROWS = 2048  # how many there are, for the compiler; any other number will do later

DtypeOf = Callable[[str], torch.dtype]


@attrs.frozen
class _Norm:
    """What a kernel asks of a norm."""

    eps: float
    weight: torch.Tensor


@attrs.define
class FirstCalls:
    """The calls for one module, whose weights are not there: *dtype_of* says theirs by name.

    With *by_token* each token has a modulation of its own.
    """

    module: Any
    dtype_of: DtypeOf
    device: torch.device
    by_token: bool
    _made: set[tuple[object, ...]] = attrs.field(factory=set, init=False)
    _names: dict[int, str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._names = {id(each): name for name, each in self.module.named_modules()}

    def make(self) -> int:
        """Make those that differ, as `dit_compiled.py` makes them, and say how many they were."""
        with torch.no_grad():
            for block in every_block(self.module):
                self._attend(block)
                self._cross(block)
                self._feed(block)
        return len(self._made)

    def _attend(self, block: Any) -> None:
        attn = block.attn1
        self._modulated(block.norm1)
        self._turned(attn.to_q, attn.norm_q)
        self._turned(attn.to_k, attn.norm_k)
        self._add_gated(attn.to_out[0])

    def _cross(self, block: Any) -> None:
        attn, norm = block.attn2, block.norm2
        if not isinstance(norm, torch.nn.Identity) and self._is_new("normed", norm.eps):
            weight, bias = (self._weight_of(norm).weight for _ in range(2))  # never the same tensor
            kernels.normed(self._rows(self._width), weight, bias, norm.eps)
        self._rms_normed(attn.to_q, attn.norm_q)
        self._rms_normed(attn.to_k, attn.norm_k)
        linear = attn.to_out[0]
        if self._is_new("add", self._takes(linear)):
            kernels.add_(self._rows(self._width), self._product(linear))

    def _feed(self, block: Any) -> None:
        inner, outer = block.ffn.net[0], block.ffn.net[-1]
        self._modulated(block.norm3)
        if self._is_new("gelu", self._takes(inner.proj), inner.approximate):
            kernels.gelu_(self._product(inner.proj), inner.approximate)
        self._add_gated(outer)

    def _modulated(self, norm: Any) -> None:
        if self._is_new("modulated", norm.eps):
            kernels.modulated(self._rows(self._width), self._scale(), self._scale(), norm.eps)

    def _turned(self, linear: Any, norm: Any) -> None:
        if self._is_new("turned", self._takes(linear), norm.eps):
            width = self.module.config.attention_head_dim
            cos, sin = self._rows(width, torch.float32), self._rows(width, torch.float32)
            product, out = self._product(linear), self._rows(self._width)
            kernels.turned(product, self._weight_of(norm), cos, sin, out)

    def _rms_normed(self, linear: Any, norm: Any) -> None:
        if self._is_new("rms_normed", self._takes(linear), norm.eps):
            kernels.rms_normed(self._product(linear), self._weight_of(norm))

    def _add_gated(self, linear: Any) -> None:
        if self._is_new("add_gated", self._takes(linear)):
            kernels.add_gated_(self._rows(self._width), self._product(linear), self._scale())

    def _is_new(self, *key: object) -> bool:
        before = len(self._made)
        self._made.add(key)
        return len(self._made) > before

    def _takes(self, linear: Any) -> bool:
        return takes_bias(linear, self.device)

    @property
    def _dtype(self) -> torch.dtype:
        return self.dtype_of("patch_embedding.weight")

    def _product(self, linear: Any) -> Product:
        width = linear.out_features
        bias = self._weight(width, self._dtype) if self._takes(linear) else None
        return Product(self._rows(width), bias)

    @property
    def _width(self) -> int:
        config = self.module.config
        return int(config.num_attention_heads * config.attention_head_dim)

    def _weight_of(self, norm: Any) -> _Norm:
        dtype = self.dtype_of(f"{self._names[id(norm)]}.weight")
        return _Norm(norm.eps, self._weight(self._width, dtype))

    def _scale(self) -> torch.Tensor:
        if self.by_token:
            return self._rows(self._width, torch.float32)
        return self._given(1, self._width, dtype=torch.float32)

    def _rows(self, width: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        made = self._given(ROWS, width, dtype=dtype or self._dtype)
        torch._dynamo.mark_dynamic(made, 0)  # noqa: SLF001 - documented, and without another name
        return made

    def _weight(self, width: int, dtype: torch.dtype) -> torch.nn.Parameter:
        """A parameter, which is told from other tensors."""
        return torch.nn.Parameter(self._given(width, dtype=dtype), requires_grad=False)

    def _given(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.ones(shape, dtype=dtype, device=self.device)
