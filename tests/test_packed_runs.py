"""Runs from files with packed weights: the same bits streamed as resident, frames near enough."""

import attrs
import pytest
import torch

from tests.jobs import MeasuredRuns, run_watched
from tests.packed_files import write
from tests.test_packed import SMALL
from wanflow.session import Request, plan

# The least PSNR in decibels. Two steps of the tiny model are no measure of a format: an edge of its
# circle that falls on the other side of a pixel is a lot.
BOUNDS = {
    "gguf-Q4_K": 30, "gguf-Q8_0": 33, "comfy-int8": 45, "comfy-fp8": 27, "musubi-block": 27,
    "quanto": 45,
}  # fmt: skip
NARROW, *OTHERS = BOUNDS


def request(*weights, **options) -> Request:
    """A small job with a file for a part."""
    return Request("t2v-tiny", SMALL, device="cpu", weights=weights, prompt_cache=False, **options)


def psnr(frames: torch.Tensor, others: torch.Tensor) -> float:
    """Of frames in uint8."""
    error = (frames.float() - others.float()).square().mean() / 255**2
    return float(-10 * torch.log10(error))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The frames of the weights as they were."""
    return run_watched(request(), tmp_path_factory.mktemp("plain") / "run").frames


@pytest.mark.parametrize(
    "kind", [NARROW, *(pytest.param(kind, marks=pytest.mark.wide) for kind in OTHERS)]
)
def test_streamed_is_resident(kind, tmp_path, plain) -> None:
    """At the smallest budget as with all of it, bit for bit."""
    roomy = request(f"dit={write(kind, tmp_path / 'dit.bin')}")
    tight = attrs.evolve(roomy, vram=f"{plan(roomy).plan.minimum_bytes}B")
    whole, streamed = (run_watched(job, tmp_path / "run").frames for job in (roomy, tight))
    assert whole.equal(streamed)
    assert BOUNDS[kind] <= psnr(whole, plain) < 70


@pytest.mark.wide
@pytest.mark.parametrize("kind", BOUNDS)
def test_measured_peak(kind, tmp_path) -> None:
    """It is the planned one, at the smallest budget: opening takes no more than the plan knows."""
    roomy = request(f"dit={write(kind, tmp_path / 'dit.bin')}")
    minimum_bytes = plan(roomy).plan.minimum_bytes
    tight = MeasuredRuns(tmp_path)(attrs.evolve(roomy, vram=f"{minimum_bytes}B"))
    tight.assert_within(minimum_bytes)
