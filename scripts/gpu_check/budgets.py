"""Tiny graphs at three budgets, with every knob that matters on a card: bits, budgets, retries."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
from PIL import Image, ImageDraw

from scripts.gpu_check.checking import Checking
from wanflow.session import Request, plan, run
from wanflow.units import format_bytes

PART = "budgets"
# What rounds is the same at every budget of a way: none of it, or what it is pinned to.
_WAYS: dict[str, tuple[str, ...]] = {
    "exact": (),
    "exact, all spilled": ("denoise.spill=all", "decode.spill=all"),
    "in strips": ("encode.tokens=all", "denoise.rows=all", "decode.strips=strips.1"),
    "by rows": ("encode.tokens=all", "denoise.rows=grouped", "decode.strips=whole"),
}
_GRAPHS = ("t2v-tiny", "i2v-tiny")
_PRECISIONS = ("fp32", "bf16")
_CLOSE = 2e-3  # fp32 without TF32, of pixels in 0 to 1: kernels of a card sum in another order
_INPUTS: dict[str, str | int] = {"prompt": "a red circle grows", "frames": 9, "steps": 3}


@attrs.frozen
class Ran:
    """A run's report, the digest of its frames, and the frames `[n, 3, H, W]` on the CPU."""

    report: dict[str, Any]
    digest: str
    frames: torch.Tensor


@attrs.frozen
class Case:
    """A graph at a precision, with pins."""

    graph: str
    precision: str
    way: str

    @property
    def name(self) -> str:
        """For the page."""
        return f"{self.graph} {self.precision}, {self.way}"

    @property
    def exact(self) -> bool:
        """Whether nothing rounds otherwise than on the CPU."""
        return self.way.startswith("exact")

    def request(self, device: str, vram: str, picture: Path) -> Request:
        """Ask for it at a budget."""
        inputs = {**_INPUTS, "image": str(picture)} if self.graph == "i2v-tiny" else dict(_INPUTS)
        return Request(
            self.graph, inputs, vram=vram, device=device, precision=(self.precision,),
            pins=_WAYS[self.way], exact=self.exact, prompt_cache=False,
        )  # fmt: skip


def cases(*, shrink: bool) -> Iterator[Case]:
    """All of them; a shrunken check has the first graph's."""
    graphs = _GRAPHS[:1] if shrink else _GRAPHS
    for graph, precision, way in itertools.product(graphs, _PRECISIONS, _WAYS):
        yield Case(graph, precision, way)


def budgets(check: Checking) -> None:
    """Run each case at its budgets: the same frames, and never above one."""
    for case in cases(shrink=check.shrink):
        if check.late:
            check.leave(case.name)
            continue
        with check.trying(PART, case.name):
            _case(check, case)


def _case(check: Checking, case: Case) -> None:
    report: Any = plan(case.request(check.device, "auto", _picture(check))).report
    least, most = report["minimum_bytes"], report["resident_bytes"]
    sizes = dict.fromkeys((least, (least + most) // 2, most, least))  # in this order
    runs = [_run(check, case, f"{nbytes}B") for nbytes in sizes]
    runs.append(_run(check, case, f"{least}B"))
    digests = {ran.digest for ran in runs}
    check.add(
        PART, f"{case.name}: frames at {len(sizes)} budgets, and twice", "the same bits",
        "the same" if len(digests) == 1 else f"{len(digests)} different", len(digests) == 1,
        digests=[ran.digest for ran in runs],
    )  # fmt: skip
    _kept(check, case, runs)
    if case.precision == "fp32" and case.way == "exact":
        _beside_the_cpu(check, case, most)


def _picture(check: Checking) -> Path:
    """A red disc on white, for the graph that begins with a picture."""
    path = check.folder / "first.png"
    if not path.exists():
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).ellipse((16, 16, 48, 48), fill="red")
        picture.save(path)
    return path


def _kept(check: Checking, case: Case, runs: list[Ran]) -> None:
    """What each run took of the card, context and all, beside what it was allowed."""
    over = [max(r.report["peak_bytes"] - r.report["budget_bytes"], 0) for r in runs]
    said = f"{format_bytes(max(over))} over" if any(over) else "within"
    facts = [
        {key: ran.report[key] for key in ("budget_bytes", "predicted_peak_bytes", "peak_bytes")}
        for ran in runs
    ]
    check.add(
        PART, f"{case.name}: all it takes", "within the budget", said, not any(over), runs=facts
    )
    tries = max(ran.report["tries"] for ran in runs)
    check.add(PART, f"{case.name}: tries", "1", str(tries), tries == 1)


def _run(check: Checking, case: Case, vram: str) -> Ran:
    return _watched(case.request(check.device, vram, _picture(check)), check.folder / "run")


def _watched(request: Request, out: Path) -> Ran:
    chunks: list[torch.Tensor] = []

    def watch(_stage: str, name: str, tensor: torch.Tensor) -> None:
        if name == "decode.frames":
            chunks.append(tensor.detach().float().cpu())

    report: Any = run(request, out=out, force=True, watch=watch)
    frames = torch.cat(chunks)
    return Ran(report, hashlib.sha256(frames.numpy().tobytes()).hexdigest(), frames)


def _beside_the_cpu(check: Checking, case: Case, most: int) -> None:
    """How far the card's frames are from the CPU's, with TF32 in convolutions and without."""
    plain = _watched(case.request("cpu", "auto", _picture(check)), check.folder / "run").frames
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    try:
        for allowed in (False, True):
            cudnn.allow_tf32 = allowed
            frames = _run(check, case, f"{most}B").frames
            apart = float((frames - plain).abs().max())
            check.add(
                PART, f"{case.name}: frames beside the CPU's, TF32 {'on' if allowed else 'off'}",
                "" if allowed else f"within {_CLOSE:g}", f"{apart:.2g}",
                None if allowed else apart <= _CLOSE,
            )  # fmt: skip
    finally:
        cudnn.allow_tf32 = before
