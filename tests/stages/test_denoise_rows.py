"""The transformer by rows, as the stage runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.resuming import frames_of
from wanflow.session import Request

SMALL = {"prompt": "x", "size": "32*32", "frames": 5, "steps": 2}


def frames(rows: str, split: str, out: Path) -> torch.Tensor:
    """The frames at a setting of the two knobs."""
    pins = (f"denoise.rows={rows}", f"denoise.split={split}")
    return frames_of(Request("t2v-tiny", SMALL, device="cpu", pins=pins), out)


@pytest.mark.parametrize("rows", ["1024", "grouped"])
def test_block_in_parts(rows: str, tmp_path: Path) -> None:
    """Three calls with a part of the weights each make the bits of one call with all of them."""
    whole, parts = (frames(rows, split, tmp_path / split) for split in ("whole", "parts"))

    assert torch.equal(whole, parts)
