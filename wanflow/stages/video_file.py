"""An H.264 file in mp4: BT.709 colours with their tags, the index in front, the recipe in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wanflow.errors import StageFailed

# x264's output depends on its thread count: one count everywhere, so that files repeat.
_THREADS = 2
_OPTIONS = {"crf": "18", "preset": "medium", "chroma_sample_location": "center"}
# With AVX-512 its macroblock tree reads memory that nothing was written to (core 165): the same
# frames then make another video each time. Every CPU with AVX-512 has AVX2.
_NO_AVX512 = {"x264-params": "asm=avx2"}
_BT709, _LIMITED = 1, 1  # the numbers of ITU-T H.273 for each of the tags; the range of 16 to 235
_BROADCAST = (24, 30, 48, 60, 120, 240)  # rates that 1000/1001 of are in use
_LARGEST_DENOMINATOR = 1_000_000


def frame_rate(fps: object) -> Fraction:
    """Give the rate that a number means: 29.97, rounded, is 30000/1001; others are exact."""
    text = str(fps)
    rate, places = Fraction(text), len(text.partition(".")[2])
    for whole in _BROADCAST:
        broadcast = Fraction(whole * 1000, 1001)
        if places > 1 and round(broadcast, places) == rate:
            return broadcast
    return rate.limit_denominator(_LARGEST_DENOMINATOR)


def load_encoder() -> None:
    """Load what encodes, before a run that needs it; StageFailed where that can't be."""
    try:
        import av.video.reformatter  # noqa: F401 - a twentieth of a second
    except (ImportError, OSError) as error:
        raise StageFailed(
            f"no video can be written, PyAV doesn't load: {error}",
            hint="pip install --force-reinstall av, or a graph that writes pictures",
            code="no-encoder",
        ) from None


class VideoFile:
    """A sink of frames; opened at the first, whose size it takes."""

    kind = "encode"

    def __init__(self, path: Path, fps: Fraction, recipe: Mapping[str, object] | None) -> None:
        self.path, self._fps, self._recipe = path, fps, recipe
        self._count = 0
        self._container: Any = None
        self._stream: Any = None
        self._reformatter: Any = None

    def write(self, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Encode `[n, H, W, 3]`."""
        import av

        for frame in frames:
            if self._container is None:
                self._open(frame.shape[1], frame.shape[0])
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = self._to_bt709(rgb)
            picture.pts, picture.duration, picture.time_base = self._count, 1, 1 / self._fps
            self._count += 1
            self._container.mux(self._stream.encode(picture))

    def _to_bt709(self, rgb: Any) -> Any:
        """Convert to yuv420p, a sample of colour the mean of four pixels, as its tag says.

        The same numbers on every processor (bitexact), none off by more than a half (accurate_rnd).
        """
        from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

        self._reformatter = self._reformatter or VideoReformatter()
        return self._reformatter.reformat(
            rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=_LIMITED,
            interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
        )  # fmt: skip

    def _open(self, width: int, height: int) -> None:
        import av

        options = {"movflags": "use_metadata_tags+faststart"}
        self._container = av.open(str(self.path), "w", format="mp4", options=options)
        if self._recipe is not None:
            self._container.metadata["comment"] = json.dumps(self._recipe, ensure_ascii=False)
        self._stream = self._container.add_stream("libx264", rate=self._fps, options=_options())
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.thread_count = _THREADS
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED

    def finish(self) -> None:
        """Encode the frames that are waiting."""
        self._container.mux(self._stream.encode())

    def close(self) -> None:
        """Close the container, which puts the index in front of the frames."""
        container, self._container = self._container, None
        if container is not None:
            container.close()


def _options() -> dict[str, str]:
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return _OPTIONS | (_NO_AVX512 if has_avx512 else {})
