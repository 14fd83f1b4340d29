"""The transformer by rows, as the stage runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.resuming import frames_of
from wanflow.models.wan import dit_heads, dit_rows
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.session import Request
from wanflow.session.planning.footprints import KnobProfiler
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

LONG = {"prompt": "x", "size": "720*512", "frames": 21, "steps": 2}
SMALL = {"prompt": "x", "size": "32*32", "frames": 5, "steps": 2}


def frames(rows: str, split: str, out: Path) -> torch.Tensor:
    """The frames at a setting of the two knobs."""
    pins = (f"denoise.rows={rows}", f"denoise.split={split}", "decode.strips=whole")
    return frames_of(Request("t2v-tiny", SMALL, device="cpu", pins=pins), out)


@pytest.mark.parametrize("rows", ["1024", "grouped"])
def test_block_in_parts(rows: str, tmp_path: Path) -> None:
    """Three calls with a part of the weights each make the bits of one call with all of them."""
    whole, parts = (frames(rows, split, tmp_path / split) for split in ("whole", "parts"))

    assert torch.equal(whole, parts)


def footprint(rows: str) -> Footprint:
    """What a long sequence costs on a card, with what its allocator takes beside."""
    knobs = {"denoise": {"cfg": "serial", "split": "whole", "rows": rows}}
    request = Request("t2v-tiny", LONG, machine="rtx4090")
    return KnobProfiler(prepare(request, find_place(request), to_run=False), "cuda").footprint(
        knobs
    )


@pytest.mark.parametrize("rows", ["1024", "grouped"])
def test_turns_left_out_of_the_profile(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loops over chunks cost what all of their turns cost together: time, peak and slack."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "short"))
    short = footprint(rows)
    for module in (dit_rows, dit_heads):
        monkeypatch.setattr(module, "passes", iter)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "whole"))
    whole = footprint(rows)

    for left, right in zip(short.calls, whole.calls, strict=True):
        for fact in ("workspace_bytes", "slack_bytes", "flops", "memory_bytes", "kernels"):
            assert getattr(left.cost, fact) == getattr(right.cost, fact), (left.kind, fact)
    assert any(
        len(left.cost.requests) < len(right.cost.requests)
        for left, right in zip(short.calls, whole.calls, strict=True)
    )
