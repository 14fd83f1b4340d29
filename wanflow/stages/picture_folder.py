"""A folder of numbered 8-bit PNG files, `00000.png` on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np


@attrs.define
class PictureFolder:
    """A sink of frames; the folder is made with the first."""

    folder: Path
    kind = "files"
    _count: int = attrs.field(default=0, init=False)

    def write(self, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Write a file for each of `[n, H, W, 3]`."""
        from PIL import Image

        if self._count == 0:
            self.folder.mkdir()
        for number, frame in enumerate(frames, self._count):
            Image.fromarray(frame).save(self.folder / f"{number:05d}.png")
        self._count += len(frames)

    def finish(self) -> None:
        """Every file is whole already."""

    def close(self) -> None:
        """None is open."""
