"""Turn what PyTorch and the system raise into one message of ours.

Each is raised outside its `except`: an exception keeps its frames, and they the tensors that filled
the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from wanflow.errors import OutOfMemory, StageFailed, WanflowError
from wanflow.scheduler.program import Placed, Tensors


def first_line(error: BaseException) -> str:
    """What an error says, without PyTorch's advice."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def making_room(name: str, act: Callable[[], None]) -> None:
    """Make memory for *name*; OutOfMemory when there is none."""
    try:
        act()
    except (torch.OutOfMemoryError, MemoryError) as error:
        problem = OutOfMemory(f"no room for {name}: {first_line(error)}", code="oom")
    else:
        return
    raise problem


def guarded(placed: Placed, inputs: Tensors) -> Tensors:
    """Run the call; what a stage raises becomes one message with the stage and the call in it."""
    where = f"stage {placed.program.stage!r} ({placed.call.kind}, step {placed.call.step})"
    try:
        return placed.call.run(inputs)
    except WanflowError:
        raise
    except torch.OutOfMemoryError as error:
        problem: WanflowError = OutOfMemory(f"{where}: {first_line(error)}", code="oom")
    except MemoryError:
        problem = OutOfMemory(f"{where}: there is no memory left", code="oom")
    except OSError as error:
        path = f": {error.filename}" if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        problem = StageFailed(f"{where}: {reason}{path}", code="stage-io")
    except (RuntimeError, ValueError, TypeError) as error:
        if "DefaultCPUAllocator" in str(error):
            problem = OutOfMemory(f"{where}: the RAM is full", code="oom")
        else:
            problem = StageFailed(f"{where} failed: {error}", code="stage-failed")
    raise problem
