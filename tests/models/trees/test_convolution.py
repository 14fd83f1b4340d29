"""A convolution by columns: PyTorch's own bits and no more memory, wherever it would write them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from wanflow.models.trees import convolution
from wanflow.models.trees.convolution import conv3d, strip_conv3d
from wanflow.models.wan.strip import channels_last
from wanflow.scheduler.run.meter import AllocationMeter

_LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def _tensors(
    channels: int, outputs: int, taps: tuple[int, ...], size: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    maker = torch.Generator().manual_seed(sum(size))
    shapes = (1, channels, *size), (outputs, channels, *taps), (outputs,)
    clip, weight, bias = (torch.randn(shape, generator=maker) for shape in shapes)
    return clip, weight, bias


@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize("size", [(3, 10, 10), (6, 34, 18), (3, 5, 66), (4, 12, 7)])
@pytest.mark.parametrize(("channels", "outputs"), [(32, 32), (16, 3), (33, 17), (64, 8)])
@pytest.mark.parametrize("taps", [(3, 3, 3), (3, 1, 1), (1, 3, 3), (2, 3, 1)])
def test_bits(
    layout: torch.memory_format,
    size: tuple[int, ...],
    channels: int,
    outputs: int,
    taps: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are those of `F.conv3d`, as the tensor lies."""
    monkeypatch.setattr(convolution, "_LEAST", 0)
    clip, weight, bias = _tensors(channels, outputs, taps, size)
    clip = clip.contiguous(memory_format=layout)
    theirs, ours = F.conv3d(clip, weight, bias), conv3d(clip, weight, bias)
    assert torch.equal(theirs, ours)
    assert theirs.stride() == ours.stride()


def test_part_of_a_clip() -> None:
    """What lies in a larger tensor is read where it lies."""
    clip, weight, bias = _tensors(32, 32, (3, 3, 3), (4, 20, 20))
    part = clip[:, :, 1:, 3:17, 2:18]
    assert torch.equal(F.conv3d(part, weight, bias), conv3d(part, weight, bias))


@pytest.mark.parametrize("size", [(3, 18, 18), (6, 34, 34)])
def test_memory(size: tuple[int, ...]) -> None:
    """It takes what PyTorch's takes, which is what is planned."""
    tensors = _tensors(32, 32, (3, 3, 3), size)
    peaks = []
    for run in (F.conv3d, conv3d):
        with AllocationMeter() as meter:
            run(*tensors)
        peaks.append(meter.peak_bytes)
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.bfloat16, (3, 18, 18)), (torch.float32, (12, 66, 34))]
)
def test_another_kernel(dtype: torch.dtype, size: tuple[int, ...]) -> None:
    """Where PyTorch takes oneDNN's convolution, so do we."""
    clip, weight, bias = (t.to(dtype) for t in _tensors(32, 8, (3, 3, 3), size))
    assert torch.equal(F.conv3d(clip, weight, bias), conv3d(clip, weight, bias))


def _strip(channels: int, outputs: int, size: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """A strip as it lies in a decode, weights and bias."""
    clip, weight, bias = _tensors(channels, outputs, (3, 3, 3), size)
    return channels_last(clip, clip.shape).copy_(clip), weight, bias


def _theirs(clip: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.conv3d(clip, weight, bias, padding=(0, 1, 0))


_STRIPS = [(3, 8, 3), (6, 64, 10), (3, 66, 5), (4, 12, 30), (4, 1, 4)]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", _STRIPS)
@pytest.mark.parametrize(("channels", "outputs"), [(32, 32), (16, 3), (33, 17), (8, 8)])
def test_bits_of_a_strip(
    channels: int,
    outputs: int,
    size: tuple[int, ...],
    turned: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are those of PyTorch's convolution with a row of zeros at both ends."""
    monkeypatch.setattr(convolution, "_LEAST_OF_A_STRIP", 0)
    clip, weight, bias = _strip(channels, outputs, size)
    weight = weight.transpose(-1, -2) if turned else weight
    theirs, ours = _theirs(clip, weight, bias), strip_conv3d(clip, weight, bias)
    assert torch.equal(theirs, ours)
    assert theirs.stride() == ours.stride()


@pytest.mark.parametrize("size", _STRIPS)
def test_memory_of_a_strip(size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what PyTorch's takes, which is what is planned."""
    monkeypatch.setattr(convolution, "_LEAST_OF_A_STRIP", 0)
    strip = _strip(8, 8, size)
    peaks = []
    for run in (_theirs, strip_conv3d):
        with AllocationMeter() as meter:
            run(*strip)
        peaks.append(meter.peak_bytes)
    assert peaks[0] == peaks[1]


def test_columns_of_a_strip_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own way to write them is not taken where there are many."""
    strip = _strip(8, 8, (6, 64, 10))
    monkeypatch.setattr(F, "conv3d", None)
    assert strip_conv3d(*strip).shape == (1, 8, 4, 64, 8)
