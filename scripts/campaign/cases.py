"""What is stopped and broken: every tiny graph, and the commands around a run, in small sizes."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import attrs
import numpy as np
from PIL import Image

from scripts.campaign.forks import Disk

OUT = "run"
_ALL = f"--device cpu --vram 64MiB --exact --json --out {OUT}"
_SIZES = "-i steps=3 -i size=32*32"
_ROWS = [{"seed": 1}, {"prompt": "a blue square moves left", "seed": 2}]


@attrs.frozen
class Case:
    """A command that makes a run folder; `model` is made for it, and `until` is asked for first."""

    name: str
    words: str
    model: tuple[str, bool] | None = None  # a configuration, whether it has two experts
    until: str = ""

    def command(self, models: Path) -> list[str]:
        """Give the words of its first command."""
        words = f"{self.words} {_ALL}".split()
        if self.model is not None:
            words += ["--weights", str(models / model_name(*self.model))]
        return [*words, "--until", self.until] if self.until else words


def _run(graph: str, more: str = "", *, frames: bool = True) -> str:
    return f"run {graph} {_SIZES} {'-i frames=5' * frames} {more}"


_PROMPT = "--prompt circle"
CASES = {
    case.name: case
    for case in (
        Case("t2v", _run("t2v-tiny")),
        Case("t2v-streamed", _run("t2v-tiny", "--pin denoise.weights=stream")),
        Case("t2v-preview", _run("t2v-tiny", "--preview")),
        Case("t2v-until", _run("t2v-tiny", "--preview-every 2"), until="denoise:2"),
        Case("t2i", _run("t2i-tiny", frames=False)),
        Case("i2v", _run("i2v-tiny", f"{_PROMPT} -i image=picture.png")),
        Case("ti2v", _run("ti2v-tiny", "-i image=picture.png"), ("wan-tiny-ti2v", False)),
        Case("vace", _run("vace-tiny", f"{_PROMPT} -i video=clip.mp4"), ("wan-tiny-vace", False)),
        Case("v2v", _run("v2v-tiny", "-i video=clip.mp4 -i strength=1")),
        Case("t2v-a14b", _run("t2v-a14b-tiny"), ("wan-tiny", True)),
        Case("i2v-a14b", _run("i2v-a14b-tiny", "-i image=picture.png"), ("wan-tiny-i2v", True)),
        Case("batch", f"batch t2v-tiny rows.jsonl {_SIZES} -i frames=5"),
        Case("batch-preview", f"batch t2v-tiny rows.jsonl {_SIZES} -i frames=5 --preview"),
    )
}


def model_name(config: str, experts: bool) -> str:
    """Name the folder of a made model."""
    return f"{config}{'-experts' * experts}"


def make_model(models: Path, config: str, *, experts: bool) -> None:
    """Write the model of a case once, weights from a seed."""
    folder = models / model_name(config, experts)
    if folder.exists():
        return
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    importlib.import_module("tests.folders").make_model(config, part, experts=experts)
    part.rename(folder)


def fill(disk: Disk) -> None:
    """Put what cases read where their commands are given: a picture, a clip, rows."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(disk.work / "picture.png")
    importlib.import_module("tests.filmed").film(disk.work / "clip.mp4", 5, (32, 32), 8)
    lines = [json.dumps(row) for row in _ROWS]
    (disk.work / "rows.jsonl").write_text("\n".join(lines) + "\n")
