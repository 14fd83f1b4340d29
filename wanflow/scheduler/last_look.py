"""Show a tensor to whoever watches a run, before its call loses what is wrong with it.

A clamp makes an infinity one, rounding to bytes makes NaN black: nobody could see it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

# What one look takes: the two ends. On a card these have blocks of 512 bytes, there are the ends of
# earlier looks, and the reduction has partial results: an estimate.
ANSWER_BYTES = {"cpu": 8, "cuda": 64 << 10}

Watcher = Callable[[torch.Tensor], None]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Have every last look go to *watcher*, which changes and keeps nothing."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def last_look(tensor: torch.Tensor) -> torch.Tensor:
    """Show *tensor*, if somebody watches, and give it back."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(tensor)
    return tensor
