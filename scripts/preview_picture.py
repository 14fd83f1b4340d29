"""Make the picture of docs/previews.md: previews of some steps above the frames of the video.

Usage: python -m scripts.preview_picture FILE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import attrs
import numpy as np
from PIL import Image

from scripts.train_tiny.judge import read_video
from wanflow.files.preview_files import GAP, STRIP
from wanflow.session import Request, run
from wanflow.trace.events import Event, Preview

_STEPS = (0, 1, 3, 7)  # of eight
_EVERY = 4  # frames of the video to a latent frame, after the first
_REQUEST = Request("t2v-tiny", {"steps": 8}, device="cpu", preview_every=1)


@attrs.define
class _Strips:
    """A sink of events that keeps the strip of each preview."""

    folder: Path
    kept: dict[int, Image.Image] = attrs.field(factory=dict)

    def emit(self, event: Event) -> None:
        """See one."""
        if isinstance(event, Preview):
            with Image.open(self.folder / STRIP) as strip:
                self.kept[event.step] = strip.convert("RGB")


def main(path: Path) -> None:
    """Run, and put the rows below each other."""
    with tempfile.TemporaryDirectory() as name:
        strips = _Strips(Path(name))
        run(_REQUEST, out=strips.folder, force=True, sink=strips)
        frames = read_video(strips.folder / "video.mp4")[::_EVERY]
    rows = [np.asarray(strips.kept[step]) for step in _STEPS]
    high, wide = rows[0].shape[:2]
    video = np.full_like(rows[0], 24)
    for number, frame in enumerate(frames):
        x = number * (frame.shape[1] + GAP)
        video[:, x : x + frame.shape[1]] = frame
    whole = np.full(((high + GAP) * (len(rows) + 1) - GAP, wide, 3), 24, dtype=np.uint8)
    for number, row in enumerate((*rows, video)):
        whole[number * (high + GAP) : number * (high + GAP) + high] = row
    Image.fromarray(whole).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
