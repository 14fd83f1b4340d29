"""What the commonest operations make of meta tensors, without PyTorch's own kernels for `meta`.

Those are written in Python, for symbols as well as numbers: one takes up to a millisecond, and the
first of them imports PyTorch's compiler. The rules are for what is common, and leave the rest to
those kernels: a rule that returns None says nothing. A test holds them against real tensors of one
dtype: where a CPU computes in another, it copies its operands first, and a card does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from wanflow.scheduler.profile.tensor_layouts import broadcast, iterated, suggested

Rule = Callable[..., "torch.Tensor | tuple[torch.Tensor, ...] | None"]
Shape = tuple[int, ...]
_aten = torch.ops.aten
_META = torch.device("meta")
_LAST = torch.channels_last


def _made(shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype, device=_META)


def _plain(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=_META)


def _pointwise(operands: Sequence[Any], dtype: torch.dtype) -> torch.Tensor | None:
    """Make what is computed number by number; None for nothing."""
    tensors = [each for each in operands if isinstance(each, torch.Tensor)]
    shape = tensors[0].shape
    if all(each.shape == shape for each in tensors):
        if all(each.is_contiguous() for each in tensors):
            return _plain(shape, dtype)
        if len(shape) == 4 and all(each.is_contiguous(memory_format=_LAST) for each in tensors):
            return torch.empty(shape, dtype=dtype, device=_META, memory_format=_LAST)
    whole = broadcast([each.shape for each in tensors])
    if whole is None or 0 in whole:
        return None
    return _made(whole, iterated(whole, [(each.shape, each.stride()) for each in tensors]), dtype)


def _arithmetic(left: Any, right: Any, *_: Any, **__: Any) -> torch.Tensor | None:
    return _pointwise((left, right), torch.result_type(left, right))


def _quotient(left: Any, right: Any) -> torch.Tensor | None:
    dtype = torch.result_type(left, right)
    return _pointwise((left, right), dtype) if dtype.is_floating_point else None


def _comparison(left: Any, right: Any) -> torch.Tensor | None:
    return _pointwise((left, right), torch.bool)


def _opposite(tensor: torch.Tensor) -> torch.Tensor | None:
    return _pointwise((tensor,), torch.bool)


def _kept(tensor: torch.Tensor) -> torch.Tensor | None:
    return _pointwise((tensor,), tensor.dtype)


def _of_floats(tensor: torch.Tensor, *given: Any, **_: Any) -> torch.Tensor | None:
    """Compute floats from floats and from numbers."""
    if not tensor.dtype.is_floating_point or any(isinstance(g, torch.Tensor) for g in given):
        return None
    return _pointwise((tensor,), tensor.dtype)


def _chosen(where: Any, left: Any, right: Any) -> torch.Tensor | None:
    return _pointwise((where, left, right), torch.result_type(left, right))


def _in_place(changed: torch.Tensor, *given: Any, **_: Any) -> torch.Tensor | None:
    tensors = [each.shape for each in given if isinstance(each, torch.Tensor)]
    return changed if not tensors or broadcast([changed.shape, *tensors]) == changed.shape else None


def _reduced(
    tensor: torch.Tensor, dims: Any, *, keep: bool, dtype: torch.dtype | None
) -> torch.Tensor | None:
    if not tensor.dtype.is_floating_point or dims is None:
        return None
    count = tensor.dim()
    gone = {dim % count for dim in ([dims] if isinstance(dims, int) else dims)}
    if not gone:
        return None
    shape = [1 if d in gone else n for d, n in enumerate(tensor.shape) if keep or d not in gone]
    return _plain(shape, dtype or tensor.dtype)


def _mean(
    tensor: torch.Tensor, dims: Any, keep: bool = False, *, dtype: torch.dtype | None = None
) -> torch.Tensor | None:
    return _reduced(tensor, dims, keep=keep, dtype=dtype)


def _norm(
    tensor: torch.Tensor,
    _order: float = 2,
    dims: Any = None,
    keep: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor | None:
    return _reduced(tensor, dims, keep=keep, dtype=dtype)


def _layer_norm(
    tensor: torch.Tensor, shape: Sequence[int], *_: Any
) -> tuple[torch.Tensor, ...] | None:
    if not tensor.is_contiguous():
        return None
    kept = tensor.dim() - len(shape)
    ends = (*tensor.shape[:kept], *(1 for _ in shape))
    # A CPU keeps what it found in the dtype it was given.
    return (
        _plain(tensor.shape, tensor.dtype),
        _plain(ends, tensor.dtype),
        _plain(ends, tensor.dtype),
    )


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor | None:
    if left.shape[-1] != right.shape[-2] or left.dtype != right.dtype:
        return None
    return _plain((*left.shape[:-1], right.shape[-1]), left.dtype)


def _sum_and_product(
    bias: torch.Tensor, left: torch.Tensor, right: torch.Tensor, **_: Any
) -> torch.Tensor | None:
    made = _product(left, right)
    if made is None or broadcast([made.shape, bias.shape]) != made.shape:
        return None
    return made if bias.dtype == made.dtype else None


def _convolution(
    data: torch.Tensor,
    weight: torch.Tensor,
    _bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
) -> torch.Tensor | None:
    sides = data.dim() - 2
    if transposed or data.shape[1] != weight.shape[1] * groups or data.dtype != weight.dtype:
        return None
    steps, pads, gaps = (
        list(each) * sides if len(each) == 1 else list(each) for each in (stride, padding, dilation)
    )
    sizes = [
        (n + 2 * pad - gap * (kernel - 1) - 1) // step + 1
        for n, kernel, step, pad, gap in zip(
            data.shape[2:], weight.shape[2:], steps, pads, gaps, strict=True
        )
    ]
    if min(sizes, default=0) < 1:
        return None
    return _plain((data.shape[0], weight.shape[0], *sizes), data.dtype)


def _joined(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor | None:
    first = tensors[0]
    dim %= max(first.dim(), 1)
    if any(t.dtype != first.dtype or t.dim() != first.dim() or not t.dim() for t in tensors):
        return None
    around = [(*t.shape[:dim], *t.shape[dim + 1 :]) for t in tensors]
    if any(each != around[0] for each in around) or first.shape == (0,):
        return None
    shape = (*first.shape[:dim], sum(t.shape[dim] for t in tensors), *first.shape[dim + 1 :])
    forms = {suggested(t.shape, t.stride()) for t in tensors}
    form = forms.pop() if len(forms) == 1 else torch.contiguous_format
    return torch.empty(shape, dtype=first.dtype, device=_META, memory_format=form)


def _stacked(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor | None:
    first = tensors[0]
    if any(t.shape != first.shape or t.dtype != first.dtype for t in tensors):
        return None
    dim %= first.dim() + 1
    if all(t.is_contiguous() for t in tensors):
        return _plain((*first.shape[:dim], len(tensors), *first.shape[dim:]), first.dtype)
    return _joined([t.unsqueeze(dim) for t in tensors], dim)


def _flipped(tensor: torch.Tensor, _dims: Sequence[int]) -> torch.Tensor | None:
    return _pointwise((tensor,), tensor.dtype)


def _masked(tensor: torch.Tensor, mask: torch.Tensor, _value: float) -> torch.Tensor | None:
    fits = broadcast([tensor.shape, mask.shape]) == tensor.shape
    return _plain(tensor.shape, tensor.dtype) if fits and tensor.is_contiguous() else None


def _power(base: float, tensor: torch.Tensor) -> torch.Tensor | None:
    floats = tensor.dtype.is_floating_point and not isinstance(base, complex)
    return _plain(tensor.shape, tensor.dtype) if floats else None


def _looked_up(weight: torch.Tensor, ids: torch.Tensor, *_: Any) -> torch.Tensor | None:
    return _plain((*ids.shape, weight.shape[1]), weight.dtype) if weight.dim() == 2 else None


def _padded(data: torch.Tensor, pads: Sequence[int], *_: Any) -> torch.Tensor | None:
    if min(pads) < 0 or 0 in data.shape:
        return None
    if not any(pads):
        return _pointwise((data,), data.dtype)
    shape = list(data.shape)
    for number, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True), 1):
        shape[-number] += before + after
    form = suggested(data.shape, data.stride())
    return torch.empty(shape, dtype=data.dtype, device=_META, memory_format=form)


def _enlarged(data: torch.Tensor, sizes: Sequence[int] | None, *_: Any) -> torch.Tensor | None:
    if sizes is None or data.dim() != 4 or 0 in data.shape:
        return None
    shape, form = (*data.shape[:2], *sizes), suggested(data.shape, data.stride())
    return torch.empty(shape, dtype=data.dtype, device=_META, memory_format=form)


def _counted(
    first: float,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: torch.dtype | None = None,
    **_: Any,
) -> torch.Tensor:
    start, stop = (0, first) if stop is None else (first, stop)
    whole = all(type(bound) is int for bound in (start, stop, step))
    kind = dtype or (torch.int64 if whole else torch.get_default_dtype())
    return _plain((max(math.ceil((stop - start) / step), 0),), kind)


def _filled(shape: Sequence[int], *, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
    return _plain(shape, dtype or torch.get_default_dtype())


def _full(
    shape: Sequence[int], value: float, *, dtype: torch.dtype | None = None, **_: Any
) -> torch.Tensor | None:
    given = dtype or (torch.get_default_dtype() if type(value) is float else None)
    return None if given is None else _plain(shape, given)


def _like(
    tensor: torch.Tensor,
    *_: Any,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    **__: Any,
) -> torch.Tensor | None:
    kind = dtype or tensor.dtype
    if memory_format not in (None, torch.preserve_format):
        return torch.empty(tensor.shape, dtype=kind, device=_META, memory_format=memory_format)
    return _pointwise((tensor,), kind)


def _attention(query: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, ...] | None:
    made = _pointwise((query,), query.dtype)
    if made is None or query.dtype == torch.float64:
        return None
    batch, heads, rows = query.shape[:3]
    return made, _plain((batch, rows, heads), torch.float32).transpose(1, 2)


_ARITHMETIC = ("add", "sub", "mul", "maximum", "minimum")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_FLOATS = (
    "round", "clamp", "clamp_min", "clamp_max", "reciprocal", "sqrt", "rsqrt", "sin",
    "cos", "exp", "log", "tanh", "sigmoid", "silu", "gelu",
)  # fmt: skip
_CHANGED = (
    "add", "sub", "mul", "div", "clamp", "clamp_min", "clamp_max", "reciprocal", "silu", "pow",
    "masked_fill", "fill", "zero", "neg", "exp",
)  # fmt: skip


def _rules() -> dict[Any, Rule]:
    named: list[tuple[str, tuple[str, ...], Rule]] = [
        *((name, ("Tensor", "default"), _arithmetic) for name in _ARITHMETIC),
        *((name, ("Tensor", "Scalar"), _comparison) for name in _COMPARISONS),
        *((name, ("default",), _of_floats) for name in _FLOATS),
        *((f"{name}_", ("Tensor", "Scalar", "default"), _in_place) for name in _CHANGED),
        ("abs", ("default",), _kept),
        ("neg", ("default",), _kept),
        ("pow", ("Tensor_Scalar",), _of_floats),
        ("div", ("Tensor",), _quotient),
        ("logical_not", ("default",), _opposite),
        ("where", ("self",), _chosen),
        ("mean", ("dim",), _mean),
        ("linalg_vector_norm", ("default",), _norm),
        ("native_layer_norm", ("default",), _layer_norm),
        ("_scaled_dot_product_flash_attention_for_cpu", ("default",), _attention),
        ("mm", ("default",), _product),
        ("addmm", ("default",), _sum_and_product),
        ("convolution", ("default",), _convolution),
        ("embedding", ("default",), _looked_up),
        ("constant_pad_nd", ("default",), _padded),
        ("upsample_nearest2d", ("default",), _enlarged),
        ("_upsample_nearest_exact2d", ("default",), _enlarged),
        ("cat", ("default",), _joined),
        ("stack", ("default",), _stacked),
        ("flip", ("default",), _flipped),
        ("masked_fill", ("Scalar",), _masked),
        ("pow", ("Scalar",), _power),
        ("arange", ("default", "start", "start_step"), _counted),
        ("zeros", ("default",), _filled),
        ("ones", ("default",), _filled),
        ("full", ("default",), _full),
        ("clone", ("default",), _like),
        *((f"{name}_like", ("default",), _like) for name in ("empty", "zeros", "ones", "full")),
    ]
    return {
        getattr(getattr(_aten, name), overload): rule
        for name, overloads, rule in named
        for overload in overloads
        if overload in getattr(_aten, name).overloads()
    }


RULES: Mapping[Any, Rule] = _rules()
