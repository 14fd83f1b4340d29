"""The card of a run: which it is, what of it is free, and what its driver allows when it is tried.

What is tried is put back: a plan leaves the allocator as it was.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from wanflow import cards, system
from wanflow.environment import ALLOC_CONF, CUDA_ALLOC_CONF, VISIBLE_CARDS
from wanflow.errors import InputError
from wanflow.memory_limits import RAM, MemoryLimit
from wanflow.units import GIB, MIB

if TYPE_CHECKING:
    import torch

    from wanflow.scheduler.run.card_context import OwnContext

_EXPANDABLE = "expandable_segments"
_TRIED_BYTES = 32 * MIB  # two of the allocator's large segments
_PINNED_BYTES = GIB  # as much as a large model's buffers: some drivers refuse from 500 MB on


@attrs.frozen
class Trials:
    """What was tried on a card: why it was refused, empty where it wasn't."""

    expandable_refused: str = ""
    pinned_refused: str = ""


def find_card(index: int) -> torch.device:
    """Give the device of a card that can be used; InputError for another, with the way out."""
    problem = cards.unusable(cards.torch_card(index), cards.torch_build())
    if problem is not None:
        raise problem.error
    import torch

    device = torch.device("cuda", index)
    try:
        own_context(index)
    except RuntimeError as error:
        raise _unopened(device, error) from None
    return device


def why_none(words: str) -> cards.CardProblem | None:
    """Say why PyTorch, by its own *words*, shows no card on a computer that has one."""
    return cards.no_card(cards.torch_build(), system.look(), VISIBLE_CARDS.stated, words)


def _unopened(device: torch.device, error: RuntimeError) -> InputError:
    text = str(error).partition("\n")[0]
    alone = "busy or unavailable" in text
    return InputError(
        f"{device} can't be opened: {text}",
        hint="end the program that has it to itself, or: sudo nvidia-smi -c DEFAULT"
        if alone
        else "see what nvidia-smi says",
        code="card-busy" if alone else "card-unopened",
    )


def free_on(device: torch.device) -> MemoryLimit:
    """What of a card a budget may be taken from: what is free, and what our context takes of it."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return MemoryLimit(RAM, int(total), int(free) + own_context(device.index or 0).made_bytes)


@functools.cache
def own_context(index: int) -> OwnContext:
    """Make this process's context on a card, and measure it.

    The driver's library tells what is free without a context; the runtime makes one to tell it.
    """
    import torch

    from wanflow.scheduler.run.card_context import OwnContext

    uuid = cards.torch_card(index).uuid
    seen = [card for card in system.look().driver.cards if uuid and uuid in card.uuid]
    free, _ = torch.cuda.mem_get_info(index)
    before = seen[0].free_bytes if seen else None
    return OwnContext() if before is None else OwnContext(before, max(before - int(free), 0))


def users_allocator() -> str:
    """What the user has set CUDA's allocator to by the environment."""
    return ALLOC_CONF.value or CUDA_ALLOC_CONF.value


def expandable_segments() -> bool:
    """Whether CUDA's allocator is to use expandable segments: as the user has it, else it is."""
    words = users_allocator()
    return not words or f"{_EXPANDABLE}:True" in words.replace(" ", "")


def tried_on(device: torch.device, ram_bytes: int) -> Trials:
    """Try on a card what plans rest on; InputError where the user asks for what is refused."""
    import torch

    from wanflow.scheduler.run.devices import refused_pinning

    with torch.cuda.device(device):
        trials = Trials(
            refused_expandable(device) if expandable_segments() else "",
            refused_pinning(device, min(_PINNED_BYTES, ram_bytes // 4)),
        )
    if trials.expandable_refused and users_allocator():
        name = (ALLOC_CONF if ALLOC_CONF.value else CUDA_ALLOC_CONF).name
        raise InputError(
            f"{name} asks for expandable segments, which the driver of {device} refuses: "
            f"{trials.expandable_refused}",
            hint=f"unset {name}, or {name}={_EXPANDABLE}:False",
            code="no-expandable-segments",
        )
    return trials


def refused_expandable(device: torch.device) -> str:
    """Make an expandable segment and free it; say why that is refused, if it is.

    Drivers refuse the calls behind it in WSL (pytorch#192330), on vGPUs (xgboost#12217) and on
    Jetsons (unsloth-zoo#1235), and only when the first memory is asked for.
    """
    import torch

    with allocator_set(expandable=True):
        try:
            torch.empty(_TRIED_BYTES, dtype=torch.uint8, device=device)
        except torch.OutOfMemoryError:
            return ""  # a full card is another matter
        except RuntimeError as error:
            return str(error).partition("\n")[0]
        finally:
            torch.cuda.empty_cache()
    return ""


@contextmanager
def allocator_set(*, expandable: bool) -> Iterator[None]:
    """Have CUDA's allocator make such segments, unless the user has set it up, and put it back.

    Each setting replaces those before it, so that what is to stay is said again.
    """
    if users_allocator():
        yield
        return
    import torch

    # There is no public way, and older builds tell nothing.
    before: str = getattr(torch._C, "_accelerator_getAllocatorSettings", str)()  # noqa: SLF001
    _set_allocator(_with_expandable(before, expandable=expandable))
    try:
        yield
    finally:
        said = _EXPANDABLE in before
        _set_allocator(before if said else _with_expandable(before, expandable=False))


def _with_expandable(settings: str, *, expandable: bool) -> str:
    others = [word for word in settings.split(",") if word and _EXPANDABLE not in word]
    return ",".join([*others, f"{_EXPANDABLE}:{expandable}"])


def _set_allocator(settings: str) -> None:
    import torch

    torch._C._accelerator_setAllocatorSettings(settings)  # noqa: SLF001 - there is no public way
