"""The tutorial's page as a list of commands, and the folder in which they run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import torch
from safetensors.torch import load_file

from tests.jobs import TINY
from tests.loras import random, save
from tests.official import write_official

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
REPO = "Wan-AI/Wan2.1-T2V-14B"
GRAPHS = ("t2v-14b-4step", "t2v-14b")  # the longer name first: it begins with the other
_BLOCK = re.compile(r"^```(sh|)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# The tiny model's shape for the large one's, and a clip that takes a second.
_SHAPES = {
    r"config: wan2\.1-t2v-14b": "config: wan-tiny",
    r"size, default: \d+\*\d+": "size, default: 64*64",
    r"int, default: 81\b": "int, default: 9",
    r"int, default: 50\b": "int, default: 12",
}
_WORDS = {"--vram 7GiB": "--vram 12MiB", "-i size=832*480": ""}


@attrs.frozen
class Command:
    """A line of the page: *text* without its comment, *remark*, and what is shown as printed."""

    text: str
    remark: str
    shown: tuple[str, ...]

    @property
    def is_planned(self) -> bool:
        """Whether it is about a named machine, so that it needs no stand-in."""
        return "--machine" in self.text


def commands() -> list[Command]:
    """Read the page; a block of output belongs to the first command of the block before it."""
    found: list[Command] = []
    blocks = [(m[1], m[2].splitlines()) for m in _BLOCK.finditer(PAGE.read_text())]
    for number, (language, lines) in enumerate(blocks):
        if language != "sh":
            continue
        after = blocks[number + 1 : number + 2]
        shown = after[0][1] if after and after[0][0] == "" else []
        for line in lines:
            text, _, remark = line.partition("    # ")
            found.append(Command(text.strip(), remark, tuple(shown)))
            shown = []
    return found


def stand_in(text: str) -> str:
    """Replace in a command what the page says is replaced."""
    for large, small in _WORDS.items():
        text = text.replace(large, small)
    for graph in GRAPHS:
        text = re.sub(rf"(?<= ){graph}(?= )", f"{graph}.yaml", text)
    return text


def furnish(folder: Path) -> Path:
    """Put graphs and LoRAs into *folder*; give the folder that the hub serves."""
    for graph in GRAPHS:
        text = (ROOT / "graphs" / f"{graph}.yaml").read_text()
        for large, small in _SHAPES.items():
            text = re.sub(large, small, text)
        (folder / f"{graph}.yaml").write_text(text)
    for name in ("style", "fewer-steps"):
        save(dict(_lora()), folder / f"{name}.safetensors")
    served = folder.parent / "hub"
    write_official(served, TINY)
    return served


def _lora() -> Iterator[tuple[str, torch.Tensor]]:
    weights = load_file(next((TINY / "transformer").glob("*.safetensors")))
    for name, weight in weights.items():
        if re.fullmatch(r"blocks\.\d+\.attn1\.to_q\.weight", name):
            stem = f"transformer.{name.removesuffix('.weight')}"
            yield f"{stem}.lora_A.weight", random(4, weight.shape[1])
            yield f"{stem}.lora_B.weight", random(weight.shape[0], 4) / 16


def prepared_venv(folder: Path, python: str) -> Path:
    """Make an environment that `make` takes for installed: it runs this checkout."""
    scripts = folder / "bin"
    scripts.mkdir(parents=True)
    for name, words in {"python": "", "wanflow": "-m wanflow"}.items():
        script = scripts / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{python}" {words} "$@"\n')
        script.chmod(0o755)
    (folder / ".installed").touch()
    shutil.copystat(ROOT / "Makefile", scripts)  # whatever its age, the stamp is the newest
    return folder
