"""Less of something for a while, by the system's own limits."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    """Have less of something for a while."""
    was = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, was)


@contextmanager
def no_more_files() -> Iterator[None]:
    """Have every file that is opened refused."""
    with limited(resource.RLIMIT_NOFILE, 0):
        yield
