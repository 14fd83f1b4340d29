"""Turn what PyTorch, CUDA's libraries and the system raise into one message of ours.

Memory that runs out has many names, told apart here and nowhere else. Each message is raised
outside its `except`: an exception keeps its frames, and they the tensors that filled the device.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

import torch

from wanflow.errors import OutOfMemory, StageFailed, WanflowError
from wanflow.scheduler.program import Placed, Tensors

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

HOST_FULL = "host-oom"  # the `code` of an OutOfMemory that a smaller share of the host may mend
# What first lines say, in lower case. Where it is the host's memory:
_HOST_IS_FULL = (
    "defaultcpuallocator",
    "std::bad_alloc",
    "host_allocation_failed",  # cuDNN 9
)
# cuDNN's convolutions: PyTorch drops what each of its plans raised, and then says one of these, of
# full memory as of a dtype or a shape that the card has no kernel for (Conv_v8.cpp, Conv_v7.cpp).
_NO_KERNEL_OR_NO_ROOM = (
    "unable to find an engine",
    "unable to find a valid cudnn algorithm",
    "no valid execution plans",  # cuDNN's front end, attention too
)
_DEVICE_IS_FULL = (
    "out of memory",  # PyTorch's allocator, CUDA's runtime and driver, HIP
    "alloc_failed",  # cuBLAS, cuSOLVER, cuDNN 8
    "allocation_failed",  # cuDNN 9
    "status_not_initialized",  # a library's handle found no room: its first call on a full card
    "when calling `cublascreate",
    "when calling `cusolverdncreate",
    "nvml_success ==",  # the allocator fails while it tells of it (pytorch#112377, #185240)
    *_NO_KERNEL_OR_NO_ROOM,
)
_DEVICE_WORDS = ("cuda ", "cudnn", "cublas", "cusolver", "hip ", "nvrtc")


def first_line(error: BaseException) -> str:
    """What an error says, without PyTorch's advice."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def exhausted(error: BaseException) -> Literal["host", "device"] | None:
    """Which memory an error says is full, None for any other error."""
    if isinstance(error, OSError):
        return "host" if error.errno == errno.ENOMEM else None
    if isinstance(error, MemoryError):
        return "host"
    if isinstance(error, torch.OutOfMemoryError):
        return "device"
    if not isinstance(error, RuntimeError):
        return None
    said = first_line(error).lower()
    if any(words in said for words in _HOST_IS_FULL):
        return "host"
    return "device" if any(words in said for words in _DEVICE_IS_FULL) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller plan may mend it."""
    return exhausted(error) is not None


def making_room(
    name: str, act: Callable[_Given, None], *given: _Given.args, **named: _Given.kwargs
) -> None:
    """Make memory for *name*; OutOfMemory when there is none."""
    try:
        act(*given, **named)
    except (RuntimeError, MemoryError, OSError) as error:
        problem = _out_of_memory(f"no room for {name}", error)
        if problem is None:
            raise
    else:
        return
    raise problem


def reported(
    where: str | Placed, act: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs
) -> _Result:
    """Do it; OutOfMemory where memory ran out, StageFailed where the device failed.

    Both say *where*. A kernel's failure shows at any later call, so at any move of bytes too.
    """
    try:
        return act(*given, **named)
    except (RuntimeError, MemoryError, OSError) as error:
        place = where if isinstance(where, str) else where_of(where)
        problem = _out_of_memory(place, error) or _device_failed(place, error)
        if problem is None:
            raise
    raise problem


def guarded(placed: Placed, inputs: Tensors) -> Tensors:
    """Run the call; what a stage raises becomes one message with the stage and the call in it."""
    try:
        return placed.call.run(inputs)
    except WanflowError:
        raise
    except (RuntimeError, ValueError, TypeError, MemoryError, OSError) as error:
        where = where_of(placed)
        problem = (
            _out_of_memory(where, error) or _device_failed(where, error) or _failed(where, error)
        )
    raise problem


def where_of(placed: Placed) -> str:
    """Name a call in a message."""
    return f"stage {placed.program.stage!r} ({placed.call.kind}, step {placed.call.step})"


def _out_of_memory(where: str, error: BaseException) -> WanflowError | None:
    memory, said = exhausted(error), first_line(error)
    if memory is None:
        return None
    if memory == "host":
        said = said.rpartition("DefaultCPUAllocator: ")[2]
        return OutOfMemory(f"{where}: the RAM is full ({said})", code=HOST_FULL)
    hint = ""
    if any(words in said.lower() for words in _NO_KERNEL_OR_NO_ROOM):
        hint = (
            "free memory that other programs hold; cuDNN says this too of a dtype that the card "
            "can't do: --precision fp16, or fp32"
        )
    return OutOfMemory(f"{where}: {said}", hint=hint, code="oom")


def _device_failed(where: str, error: BaseException) -> WanflowError | None:
    said = first_line(error)
    is_device = isinstance(error, RuntimeError) and said.lower().startswith(_DEVICE_WORDS)
    if not is_device and not isinstance(error, torch.AcceleratorError):
        return None
    hint = ""
    if said.startswith("CUDA driver error"):
        hint = "PYTORCH_ALLOC_CONF=expandable_segments:False, where the driver can't map memory"
    return StageFailed(f"{where}: {said}", hint=hint, code="device-failed")


def _failed(where: str, error: Exception) -> WanflowError:
    if not isinstance(error, OSError):
        return StageFailed(f"{where} failed: {error}", code="stage-failed")
    path = f": {error.filename}" if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    return StageFailed(f"{where}: {reason}{path}", code="stage-io")
