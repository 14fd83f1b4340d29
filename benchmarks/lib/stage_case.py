"""What one stage is measured at, and the shipped graph that it is taken from."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import attrs
import av
import numpy as np
import yaml

from wanflow.graph import load
from wanflow.graph.configs import known_config
from wanflow.session import Request

ENCODE = "given"
_REAL_TOKENS = 64


@attrs.frozen
class Case:
    """A stage of a shipped graph at one size; *blocks* of its model's layers, None for all."""

    name: str
    graph: str
    stage: str
    size: str
    frames: int = 81
    steps: int = 1
    precision: str = "bf16"
    blocks: int | None = None

    def fields(self, part: str, config: str) -> dict[str, Any]:
        """A part's configuration with so many layers."""
        found = dict(known_config(config, part))
        layered = self.blocks is not None and "num_layers" in found
        return {**found, "num_layers": self.blocks} if layered else found

    def depth(self, model: str) -> int | None:
        """Layers of one of the graph's models as it is released, None for a VAE."""
        spec = self._graph()["models"][model]
        found = known_config(spec["config"], spec["part"]).get("num_layers")
        return None if found is None else int(str(found))

    def _graph(self) -> dict[str, Any]:
        return dict(yaml.safe_load(load(self.graph).source.text))

    def graph_file(self, scratch: Path) -> Path:
        """Write the graph with these models, which have no weights on any disk."""
        made = self._graph()
        for model in made["models"].values():
            model["config"] = self.fields(model["part"], model["config"])
            model |= {"precision": self.precision, "path": str(scratch / "nowhere")}
        if self.stage == ENCODE:  # no shipped graph encodes a whole video
            clip = {"video": str(_video(self, scratch)), "size": "$size", "frames": "$frames"}
            made["stages"][ENCODE] = {"op": "encode_frames", "model": "vae", "in": clip}
        path = scratch / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
        return path

    def request(self, scratch: Path, device: str, backend: str = "native") -> Request:
        """Ask for it, one pass a step."""
        inputs: dict[str, str | int | float] = {
            "size": self.size, "frames": self.frames, "steps": self.steps, "guidance": 1.0,
            "prompt": "none of it is read",
        }  # fmt: skip
        settings = (f"denoise.attention={backend}",)
        graph = str(self.graph_file(scratch))
        return Request(graph, inputs, device=device, settings=settings)


def tokenize(_prompt: str, count: int) -> tuple[list[int], list[int]]:
    """Give any prompt the same tokens: 64 of them, or half of what there is room for."""
    real = min(_REAL_TOKENS, count // 2)
    ids = [5 + 3 * index for index in range(real)]
    return ids + [0] * (count - real), [1] * real + [0] * (count - real)


def _video(case: Case, scratch: Path) -> Path:
    """Write a clip of the case's size: blocks of one colour each, so that any codec keeps them."""
    width, height = map(int, case.size.split("*"))
    path = scratch / f"{width}-{height}-{case.frames}.mp4"
    random = np.random.default_rng(zlib.crc32(path.name.encode()))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(case.frames):
            small = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(np.kron(small, np.ones((16, 16, 1), np.uint8)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
