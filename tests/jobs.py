"""Run the tiny graph from a test and get its frames before they are encoded."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch

from wanflow.session import Request, plan, run

TINY = Path(__file__).resolve().parent.parent / "wanflow" / "bundled" / "wan-tiny"


@attrs.frozen
class Watched:
    """A finished run: what run.json holds, and the frames `[n, 3, H, W]` in [0, 1]."""

    report: dict[str, object]
    frames: torch.Tensor


def run_watched(request: Request, out: Path) -> Watched:
    """Run *request* into *out*, keeping each chunk of frames as it is made."""
    chunks: list[torch.Tensor] = []

    def watch(_stage: str, name: str, tensor: torch.Tensor) -> None:
        if name == "decode.frames":
            chunks.append(tensor.clone())

    report = run(request, out=out, force=True, watch=watch)
    return Watched(report, torch.cat(chunks))


def budgets(request: Request) -> tuple[int, int, int]:
    """The resident peak, halfway to the minimum, and the minimum, in bytes."""
    report = plan(request).report
    most, least = report["resident_bytes"], report["minimum_bytes"]
    assert isinstance(most, int)
    assert isinstance(least, int)
    return most, (most + least) // 2, least
