"""The VAE's norm by channels: PyTorch's own bits and no more memory, wherever they lie apart."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from wanflow.models.trees import channel_norm
from wanflow.models.trees.channel_norm import normalize
from wanflow.scheduler.run.meter import AllocationMeter


@pytest.mark.parametrize("scale", [1e-22, 1e-7, 1.0, 1e15])
@pytest.mark.parametrize(
    "shape",
    [(1, 8, 4, 64, 64), (1, 33, 1, 90, 47), (2, 16, 5, 31, 43), (1, 1, 4, 64, 17), (1, 3, 1, 2, 2)],
)
def test_bits(shape: tuple[int, ...], scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of `F.normalize`, from lengths that vanish to those that overflow."""
    monkeypatch.setattr(channel_norm, "_LEAST_PIXELS", 2)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale
    x[:, :, 0, 0, 0] = 0
    theirs, ours = F.normalize(x, dim=1), normalize(x)
    assert torch.equal(theirs, ours)
    assert theirs.stride() == ours.stride()


def test_what_is_no_number() -> None:
    """It stays where it is: a run tells of it."""
    x = torch.randn(1, 8, 2, 64, 64)
    x[0, 3, 1, 5, 5], x[0, 2, 0, 7, 7] = torch.nan, torch.inf
    assert torch.equal(F.normalize(x, dim=1).isnan(), normalize(x).isnan())


@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
def test_layouts(layout: torch.memory_format) -> None:
    """Channels that lie next to each other are PyTorch's: it sums them in another order."""
    x = torch.randn(1, 32, 2, 64, 64).contiguous(memory_format=layout)
    assert torch.equal(F.normalize(x, dim=1), normalize(x))


def test_memory() -> None:
    """It takes what PyTorch's takes, which is what is planned."""
    x = torch.randn(1, 16, 4, 64, 64)
    peaks = []
    for run in (partial(F.normalize, dim=1), normalize):
        with AllocationMeter() as meter:
            run(x)
        peaks.append(meter.peak_bytes)
    assert peaks[1] <= peaks[0]
