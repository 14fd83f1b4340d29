"""Fit the preview map that comes with wanflow: that of the tiny model, on clips of its own world.

Usage: python -m scripts.fit_preview        writes wanflow/stages/previews/VAE.json

For any other VAE: wanflow models fit-preview PATH.
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from scripts.train_tiny.drawing import draw
from scripts.train_tiny.world import FPS, FRAMES, SIDE, draw_scene
from wanflow.session.weights.fit_preview import fit_preview
from wanflow.stages.preview_map import bundled_at
from wanflow.stages.video_file import VideoFile

_MODEL = Path(__file__).resolve().parent.parent / "wanflow" / "bundled" / "wan-tiny"
_CLIPS, _SEED = 24, 2026


def main() -> None:
    """Draw the clips, fit the map, write it."""
    random = np.random.default_rng(_SEED)
    with tempfile.TemporaryDirectory() as name:
        clips = [Path(name) / f"{number}.mp4" for number in range(_CLIPS)]
        for clip in clips:
            sink = VideoFile(clip, Fraction(FPS), None)
            sink.write(draw(random, draw_scene(random, held=False)))
            sink.finish()
            sink.close()
        fitted = fit_preview(
            _MODEL, clips, size=f"{SIDE}*{SIDE}", frames=FRAMES, device="cpu", to=bundled_at,
            about=f"wan-tiny, {_CLIPS} clips of its world",
        )  # fmt: skip
    print(f"{fitted.path}: {fitted.map.psnr:.2f} dB on {fitted.map.pixels} latents")


if __name__ == "__main__":
    main()
