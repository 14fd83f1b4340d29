"""One picture, an 8-bit PNG file, the recipe in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np


@attrs.frozen
class PictureFile:
    """A sink of one frame."""

    path: Path
    recipe: Mapping[str, object] | None
    kind = "picture"

    def write(self, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Write the frame of `[1, H, W, 3]`."""
        from PIL import Image, PngImagePlugin

        text = PngImagePlugin.PngInfo()
        if self.recipe is not None:
            text.add_itxt("Comment", json.dumps(self.recipe, ensure_ascii=False))
        (frame,) = frames
        Image.fromarray(frame).save(self.path, format="PNG", pnginfo=text)

    def finish(self) -> None:
        """It is whole already."""

    def close(self) -> None:
        """It is closed."""
