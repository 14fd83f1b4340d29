"""Which attention kernel is meant while calls are profiled: fake tensors all go to one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_meant: ContextVar[str] = ContextVar("meant", default="native")


def meant() -> str:
    """Name it, as diffusers does."""
    return _meant.get()


@contextmanager
def meaning(backend: str) -> Iterator[None]:
    """Mean another one inside."""
    token = _meant.set(backend)
    try:
        yield
    finally:
        _meant.reset(token)


def with_meant(backend: str, run: Callable[P, T]) -> Callable[P, T]:
    """Have *run* mean a backend."""

    @functools.wraps(run)
    def inside(*args: P.args, **named: P.kwargs) -> T:
        with meaning(backend):
            return run(*args, **named)

    return inside
