"""Write frames to an H.264 file as they come: a part file, renamed when it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageProgram
from wanflow.stages.frames import bytes_call

# x264's output depends on its thread count: one count everywhere, so that files repeat.
_THREADS = 2
_OPTIONS = {"crf": "18", "preset": "medium"}
# With AVX-512 its macroblock tree reads memory that nothing was written to (core 165): the same
# frames then make another video each time. Every CPU with AVX-512 has AVX2.
_NO_AVX512 = {"x264-params": "asm=avx2"}


class _Encoder:
    """An open container; made at the first frame, whose size it takes."""

    def __init__(self, path: Path, fps: Fraction, recipe: Mapping[str, object]) -> None:
        self.path, self._fps, self._recipe = path, fps, recipe
        self._container: Any = None
        self._stream: Any = None
        self._began = False

    def write(self, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Encode `[n, H, W, 3]`."""
        import av

        for frame in frames:
            if self._container is None:
                self._open(frame.shape[1], frame.shape[0])
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            self._container.mux(self._stream.encode(picture))

    def _open(self, width: int, height: int) -> None:
        import av

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._began = True
        options = {"movflags": "use_metadata_tags"}
        self._container = av.open(str(self.path), "w", format="mp4", options=options)
        self._container.metadata["comment"] = json.dumps(self._recipe, ensure_ascii=False)
        self._stream = self._container.add_stream("libx264", rate=self._fps, options=_options())
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = _THREADS

    def finish(self, final: Path) -> None:
        """Flush, close and rename: the final name never holds half a video."""
        self._container.mux(self._stream.encode())
        self._shut()
        self.path.replace(final)
        self._began = False

    def _shut(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def put_away(self) -> None:
        """After a failure: close the container and remove the part file, if there is one."""
        if self._began:
            with suppress(OSError):  # on a full disk closing fails too: the first failure is told
                self._shut()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _options() -> dict[str, str]:
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return _OPTIONS | (_NO_AVX512 if has_avx512 else {})


@attrs.frozen
class WriteVideo(StageProgram):
    """Makes the file `file`; the recipe of the run is in the container's comment tag."""

    @property
    def consumes(self) -> str:
        """The stage that streams the frames."""
        return self.setup.source("frames").split(".")[0]

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield, for each chunk: its bytes, then their encoding; at the end the renaming."""
        del knobs, shape
        out = self.setup.around.out or Path()
        final = out / str(self.setup.param("name"))
        fps = Fraction(str(self.setup.param("fps"))).limit_denominator(1001)
        encoder = _Encoder(final.with_name(final.name + ".part"), fps, self.setup.around.recipe)
        chunks = self.setup.around.latent_shape[2]
        try:
            for chunk in range(1, chunks + 1):
                yield bytes_call(self.setup, chunk)
                yield self._encode(encoder, chunk)
            yield self._finish(encoder, final, step=chunks - 1)
        finally:
            encoder.put_away()

    def _encode(self, encoder: _Encoder, chunk: int) -> Call:
        name = self.setup.own("bytes")

        def run(values: Tensors) -> Tensors:
            encoder.write(values[name].numpy())
            return {}

        step = chunk - 1
        return Call("encode", run, (name,), step=step, chunk=chunk, stand_in=lambda _values: {})

    def _finish(self, encoder: _Encoder, final: Path, *, step: int) -> Call:
        """Rename the file: a part of the last step, else the first would end with the stage."""

        def run(_values: Tensors) -> Tensors:
            encoder.finish(final)
            return {}

        return Call("finish", run, step=step, chunk=1 << 30, stand_in=lambda _values: {})
