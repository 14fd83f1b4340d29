"""The two files of a preview: its frames side by side, and one after another.

    preview.png    a strip, two pixels between two frames
    preview.webp   the same frames as an animation, without end

Frames of a few pixels are shown larger, edges kept hard. Each file appears whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanflow.files.whole import writing

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    Frames = np.ndarray[Any, np.dtype[np.uint8]]

STRIP, CLIP = "preview.png", "preview.webp"
GAP = 2  # pixels between two frames of the strip
_LEAST_SIDE = 64  # pixels: what is smaller is shown larger
_GROUND = (24, 24, 24)


def write_preview(folder: Path, frames: Frames, frame_ms: int) -> None:
    """Write both files of `[n, h, w, 3]` into *folder*; OSError.

    They are on the disk then: the step that is saved after them is not made again.
    """
    pictures = _pictures(frames)
    with writing(folder / STRIP, sync_folder=False) as part:
        _strip(pictures).save(part, format="PNG")
    with writing(folder / CLIP) as part:
        first, *others = pictures
        first.save(
            part, format="WEBP", save_all=True, append_images=others, duration=frame_ms, loop=0,
            quality=80, method=2,
        )  # fmt: skip


def read_strip(path: Path, frames: int) -> list[Image]:
    """Cut a strip of so many *frames* into them; OSError or ValueError where it is none."""
    from PIL import Image

    with Image.open(path) as file:
        strip = file.convert("RGB")
    width = (strip.width + GAP) // frames - GAP
    if width < 1 or (width + GAP) * frames - GAP != strip.width:
        raise ValueError(f"{path}: {strip.width} pixels are no {frames} frames")
    places = (number * (width + GAP) for number in range(frames))
    return [strip.crop((x, 0, x + width, strip.height)) for x in places]


def _pictures(frames: Frames) -> list[Image]:
    from PIL import Image

    _, height, width, _ = frames.shape
    times = max(_LEAST_SIDE // min(height, width), 1)
    size = (width * times, height * times)
    shown = (Image.fromarray(frame) for frame in frames)
    return [picture.resize(size, Image.Resampling.NEAREST) for picture in shown]


def _strip(pictures: list[Image]) -> Image:
    from PIL import Image

    width, height = pictures[0].size
    strip = Image.new("RGB", ((width + GAP) * len(pictures) - GAP, height), _GROUND)
    for number, picture in enumerate(pictures):
        strip.paste(picture, (number * (width + GAP), 0))
    return strip
