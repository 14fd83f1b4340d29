"""Fake tensors: those of a CPU without the bytes, on which code runs to see what it would take.

PyTorch has such, `FakeTensor`, made to be traced and compiled: an operation takes 0.3 ms there, and
to import them imports its compiler. These know no symbols and no values, and cost a tenth.

A fake has a meta tensor inside, and an operation is done on that: its kernels for `meta` know
shapes, strides, dtypes and which storage is whose. Outside it is on `cpu`, so that operations that
are chosen by their device (attention, convolution) are those of a CPU, not taken apart.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wanflow.scheduler.footprint.call_kinds import Layout
from wanflow.scheduler.profile.fake_rules import RULES
from wanflow.scheduler.profile.recorder import flatten

_aten = torch.ops.aten
_CPU, _META = torch.device("cpu"), torch.device("meta")


Way = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


class Fake(torch.Tensor):
    """A tensor on `cpu` without bytes; its layout, and the storage that it is in, are `meta`'s."""

    meta: torch.Tensor

    # PyTorch's way to make a subclass that wraps another tensor.
    def __new__(cls, meta: torch.Tensor) -> Self:
        """Wrap a meta tensor."""
        fake: Self = torch.Tensor._make_wrapper_subclass(  # noqa: SLF001
            cls, meta.shape, meta.stride(), meta.storage_offset(), dtype=meta.dtype, device=_CPU
        )
        fake.meta = meta
        return fake

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # noqa: SLF001

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do an operation on what is inside."""
        return faked(func, args, kwargs or {})

    @functools.cached_property
    def way(self) -> Way:
        """Its shape, strides and dtype."""
        return tuple(self.shape), self.stride(), self.dtype

    def untyped_storage(self) -> torch.UntypedStorage:
        """Return the storage of what is inside."""
        return self.meta.untyped_storage()

    def __repr__(self) -> str:  # type: ignore[override]
        """Say what there is to say of it."""
        return f"Fake({tuple(self.shape)}, {self.dtype})"


class FakeMode(TorchDispatchMode):
    """All operations are on fakes: what is made without a tensor is one, too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Don't have PyTorch's compiler told, which would be imported for that."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do an operation on what is inside."""
        return faked(func, args, kwargs or {})


def way_of(tensor: torch.Tensor) -> Way:
    """Give the shape, strides and dtype of any tensor."""
    if isinstance(tensor, Fake):
        return tensor.way
    return tuple(tensor.shape), tensor.stride(), tensor.dtype


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Fake:
    """Make a fake, contiguous, in a storage of its own."""
    return Fake(torch.empty(shape, dtype=dtype, device=_META))


def like(tensor: torch.Tensor) -> Fake:
    """Make a fake that lies as *tensor* does, in a storage of its own."""
    return Fake(
        torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_META)
    )


def of_layout(layout: Layout) -> Fake:
    """Make a fake of *layout* in a storage of its own."""
    dtype = getattr(torch, layout.dtype)
    storage = torch.empty(layout.storage_bytes // dtype.itemsize, dtype=dtype, device=_META)
    return Fake(storage.as_strided(layout.shape, layout.stride, layout.offset))


def faked(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Do an operation on fakes, and on real tensors as if they were; what it makes is fake.

    AssertionError for a meta tensor (a weight that is not bound), and for one that would need
    values.
    """
    own: dict[int, Fake] = {}
    inside = [_inside(item, own) for item in args]
    named = {name: _inside(item, own) for name, item in kwargs.items()}
    if _takes_device(func):
        named["device"] = _META
    if func in _VALUES:
        msg = f"{func} on a fake tensor: what a call takes may not depend on values"
        raise AssertionError(msg)
    rule = RULES.get(func)
    made: Any = rule(*inside, **named) if rule is not None else None
    if made is None:
        made = func(*inside, **named)
    if func is _aten.convolution.default:
        made = _laid_out(made, args)
    return _outside(made, own)


def as_given(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Do an operation on what it is given: on fakes where there are any, else for real."""
    if any(isinstance(each, Fake) for each in flatten([args, kwargs])):
        return faked(func, args, kwargs)
    return func(*args, **kwargs)


_VALUES = frozenset({_aten._local_scalar_dense.default, _aten.nonzero.default})  # noqa: SLF001


@functools.cache
def _takes_device(func: Any) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)  # noqa: SLF001


def _inside(item: Any, own: dict[int, Fake]) -> Any:
    """Take the meta tensors out of an argument; *own* gets the fakes by the ids of theirs."""
    if isinstance(item, Fake):
        own[id(item.meta)] = item
        return item.meta
    if isinstance(item, torch.Tensor):
        return _of_real(item)
    if isinstance(item, (list, tuple)):
        return [_inside(each, own) for each in item]
    return item


def _outside(made: Any, own: Mapping[int, Fake]) -> Any:
    """Wrap what an operation made; what it was given and returns stays the tensor it was."""
    if isinstance(made, torch.Tensor):
        known = own.get(id(made))
        return Fake(made) if known is None else known
    if isinstance(made, (list, tuple)):
        return type(made)(_outside(each, own) for each in made)
    return made


def _laid_out(made: torch.Tensor, args: tuple[Any, ...]) -> torch.Tensor:
    """Give what a convolution makes the layout of the kernel that a CPU would take."""
    data, weight, bias, *how = args[:9]
    sizes = None if bias is None else list(bias.shape)
    chosen = torch._C._select_conv_backend(data, weight, bias, *how, sizes)  # noqa: SLF001
    layout = torch._C._conv_determine_backend_memory_format(data, weight, chosen)  # noqa: SLF001
    return made.to(memory_format=layout)


# Meta storages by that of a real tensor: while there is a fake of one view, another shares it.
_stored: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}


def _of_real(tensor: torch.Tensor) -> torch.Tensor:
    """Make a meta tensor of a real one; views of one storage share one."""
    if tensor.is_meta:
        msg = f"a meta tensor {tuple(tensor.shape)} among fakes: a weight of no bound segment?"
        raise AssertionError(msg)
    storage = tensor.untyped_storage()
    key = int(storage._cdata)  # noqa: SLF001 - the storage's identity
    real, meta = _stored.get(key, (None, None))
    there = meta() if meta is not None and real is not None and real() is storage else None
    if there is None:
        there = torch.UntypedStorage(storage.nbytes(), device=_META)
        _stored[key] = (weakref.ref(storage), weakref.ref(there, lambda _: _stored.pop(key, None)))
    empty = torch.empty(0, dtype=tensor.dtype, device=_META)
    return empty.set_(there, tensor.storage_offset(), tensor.shape, tensor.stride())
