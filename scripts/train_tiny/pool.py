"""The clips that the transformer learns from, as latents: drawn and encoded shard by shard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from scripts.train_tiny.captions import caption
from scripts.train_tiny.drawing import draw
from scripts.train_tiny.loop import wait_for
from scripts.train_tiny.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Scene, draw_scene

SHARD = 250
_CAPTIONS = 4  # drawn for each clip; a step takes one of them
_TABLES = (tuple(BACKGROUNDS), MOTIONS, ("1", "2"), SHAPES, tuple(COLOURS), SHAPES, tuple(COLOURS))
CLASSES = tuple(len(table) for table in _TABLES)


def answers(scene: Scene) -> list[int]:
    """What a caption of the scene says, as a class a question; -1 where there is no answer."""
    first, second = scene.things[0], scene.things[1] if len(scene.things) == 2 else None
    said = (
        scene.background, scene.motion, str(len(scene.things)), first.shape, first.colour,
        second and second.shape, second and second.colour,
    )  # fmt: skip
    found = zip(_TABLES, said, strict=True)
    return [table.index(word) if word is not None else -1 for table, word in found]


@attrs.define
class Pool:
    """Latents `[n, 16, 5, 8, 8]` as the encoder gives them, and captions."""

    latents: torch.Tensor
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.captions)


def read_pool(folder: Path, count: int) -> Pool:
    """The first *count* shards."""
    paths = [folder / f"shard-{number:03d}.pt" for number in range(count)]
    shards = [torch.load(path, weights_only=True) for path in paths]
    return Pool(
        torch.cat([s["latents"] for s in shards]),
        [texts for s in shards for texts in s["captions"]],
    )


@torch.no_grad()
def make_shard(vae: Any, folder: Path, seed: int, number: int, quiet: Path | None) -> None:
    """Draw and encode a shard, unless it is there."""
    path = folder / f"shard-{number:03d}.pt"
    if path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng((seed, number))
    scenes = [draw_scene(random, held=False) for _ in range(SHARD)]
    captions = [
        [caption(random, scene, ("en", "zh")[turn % 2]) for turn in range(_CAPTIONS)]
        for scene in scenes
    ]
    found = []
    for start in range(0, SHARD, 10):
        wait_for(quiet)
        clips = np.stack([draw(random, scene) for scene in scenes[start : start + 10]])
        pixels = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            found.append(vae.encode(pixels).latent_dist.mode().float())
    made = {
        "latents": torch.cat(found),
        "captions": captions,
    }
    torch.save(made, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
