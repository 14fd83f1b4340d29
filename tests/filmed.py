"""Videos for tests, written frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_UNIT = Fraction(1, 1000)


def film(
    path: Path,
    frames: int,
    size: tuple[int, int] = (64, 48),
    rate: Fraction | int = 16,
    *,
    codec: str = "libx264",
    turn: int | None = None,
    lasts: tuple[int, ...] = (),
) -> str:
    """Write so many frames, each brighter than the one before; its path.

    *turn* is how far a player turns them; *lasts* are milliseconds that each stays, over and over.
    """
    rng, now = np.random.default_rng(5), 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        is_odd = size[0] % 2 or size[1] % 2
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv444p" if is_odd else "yuv420p"
        if turn is not None:
            stream.set_display_rotation(turn)
        if lasts:
            stream.time_base = stream.codec_context.time_base = _UNIT
        for number in range(frames):
            pixels = rng.integers(0, 32, (size[1], size[0], 3), dtype=np.uint8)
            pixels += np.uint8(number * 223 // frames)
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if lasts:
                picture.pts, picture.time_base = now, _UNIT
                now += lasts[number % len(lasts)]
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return str(path)
