"""What a block does between its products and its attention, compiled: a kernel for each such place.

The products are none of it. So weights are arguments, whichever segment is bound, and all blocks of
a model share a kernel. The number of rows is symbolic: chunks of any size, and videos of any, share
it too. A kernel makes its output and a few numbers a row, and that is what is counted for it where
memory is predicted: there nothing is compiled, and nothing computed.

Bits differ from op by op: a sum is rounded once where it was rounded twice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import attrs
import torch

from wanflow.models.packing.linear import Apply
from wanflow.scheduler.profile.folded_loops import is_counted

Bias = torch.Tensor | None
_GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715 * _GELU_LINEAR
_NUMBERS_A_ROW = 2  # in fp32: what a norm sums


@attrs.frozen
class Product:
    """A Linear's output `[rows, width]` before its bias, which the kernel after it adds."""

    rows: torch.Tensor
    bias: Bias

    @classmethod
    def of(cls, linear: Apply, x: torch.Tensor) -> Product:
        """Apply to `[rows, width]`; a bias that the product adds itself is none here."""
        if takes_bias(linear, x.device):
            plain = cast("torch.nn.Linear", linear)
            return cls(torch.nn.functional.linear(x, plain.weight), plain.bias)
        return cls(linear(x), None)


def takes_bias(linear: Any, device: torch.device) -> bool:
    """Whether a kernel should add it: before a CPU's product it is copied into every row."""
    return device.type == "cpu" and type(linear) is torch.nn.Linear and linear.bias is not None


def modulated(
    x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Norm in fp32, scale and shift by `[1 or rows, width]`."""
    return _made(_modulated, x, scale, shift, epsilon)


def normed(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Norm in fp32, with weights."""
    return _made(_normed, x, weight, bias, epsilon)


def rms_normed(product: Product, norm: Any) -> torch.Tensor:
    """Norm queries or keys by their root mean square."""
    return _made(_rms_normed, product.rows, product.bias, norm.weight, norm.eps)


def turned(
    product: Product, norm: Any, cos: torch.Tensor, sin: torch.Tensor, out: torch.Tensor
) -> None:
    """Norm queries or keys and turn them, into *out* `[rows, width]`.

    The tables `[rows, head width]` are those of `WholeRope`.
    """
    if is_counted():
        _scratch(product.rows)
        return
    compiled(_turned)(product.rows, product.bias, norm.weight, norm.eps, cos, sin, out)


def gelu_(product: Product, approximate: str) -> torch.Tensor:
    """Activate what a product made, in place."""
    _in_place(_gelu, product.rows, product.bias, approximate)
    return product.rows


def add_gated_(x: torch.Tensor, product: Product, gate: torch.Tensor) -> None:
    """Add what a product made to *x* in place, gated by `[1 or rows, width]`, in fp32."""
    _in_place(_add_gated, x, product.rows, product.bias, gate)


def add_(x: torch.Tensor, product: Product) -> None:
    """Add what a product made to *x* in place."""
    _in_place(_add, x, product.rows, product.bias)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function compiled; compiling itself waits for its first call."""
    return torch.compile(function, fullgraph=True)


def _made(function: Callable[..., Any], x: torch.Tensor, *given: Any) -> torch.Tensor:
    if is_counted():
        _scratch(x)
        return torch.empty_like(x)
    return torch.as_tensor(compiled(function)(x, *given))


def _in_place(function: Callable[..., Any], *given: Any) -> None:
    if not is_counted():
        compiled(function)(*given)


def _scratch(x: torch.Tensor) -> None:
    """Take what a norm of the rows of *x* may, for a moment."""
    x.new_empty((x.shape[0], _NUMBERS_A_ROW), dtype=torch.float32)


def _modulated(
    x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, epsilon: float
) -> torch.Tensor:
    made = torch.nn.functional.layer_norm(x.float(), (x.shape[-1],), eps=epsilon)
    return (made * scale + shift).to(x.dtype)


def _normed(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float
) -> torch.Tensor:
    weights = (weight.float(), bias.float())
    return torch.nn.functional.layer_norm(x.float(), (x.shape[-1],), *weights, epsilon).to(x.dtype)


def _with(rows: torch.Tensor, bias: Bias) -> torch.Tensor:
    return rows if bias is None else rows + bias


def _rms_normed(
    rows: torch.Tensor, bias: Bias, weight: torch.Tensor, epsilon: float
) -> torch.Tensor:
    wide = _with(rows, bias).float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return (wide * scale * weight).to(rows.dtype)


def _turned(
    rows: torch.Tensor,
    bias: Bias,
    weight: torch.Tensor,
    epsilon: float,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
) -> None:
    heads = _rms_normed(rows, bias, weight, epsilon).unflatten(-1, (-1, cos.shape[-1])).float()
    # Read in another order: written so, half of each pair at a time, stores could not be vectors.
    swapped = heads.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    out.copy_((heads * cos[:, None] + swapped * sin[:, None]).flatten(-2))


def _gelu(rows: torch.Tensor, bias: Bias, approximate: str) -> None:
    x = _with(rows, bias)
    if approximate == "tanh":  # the same as with tanh: an exponential less a number
        wide = x.float()
        rows.copy_(wide * torch.sigmoid(wide * (_GELU_LINEAR + _GELU_CUBIC * wide * wide)))
    else:
        rows.copy_(torch.nn.functional.gelu(x, approximate=approximate))


def _add_gated(x: torch.Tensor, rows: torch.Tensor, bias: Bias, gate: torch.Tensor) -> None:
    x.copy_(x.float() + _with(rows, bias).float() * gate)


def _add(x: torch.Tensor, rows: torch.Tensor, bias: Bias) -> None:
    x.copy_(x + _with(rows, bias))
