"""The measure of the budget's tests counts what is made while it looks, and nothing else."""

from __future__ import annotations

import torch

from tests.measure import peak_allocated_bytes

MEBIBYTE = 1 << 20


def make(kept: list[torch.Tensor], nbytes: int) -> None:
    """Keep a tensor of so many bytes."""
    kept.append(torch.empty(nbytes, dtype=torch.uint8))


def test_peak() -> None:
    """Of two tensors that are not there together, the larger one."""
    kept: list[torch.Tensor] = []

    def run() -> None:
        make(kept, MEBIBYTE)
        kept.clear()
        make(kept, 2 * MEBIBYTE)

    assert peak_allocated_bytes(run) == 2 * MEBIBYTE


def test_what_was_there_before() -> None:
    """Its end is no room gained, though another profile saw it being made."""
    kept: list[torch.Tensor] = []
    peak_allocated_bytes(lambda: make(kept, MEBIBYTE))

    def run() -> None:
        kept.clear()
        make(kept, 2 * MEBIBYTE)

    assert peak_allocated_bytes(run) == 2 * MEBIBYTE
