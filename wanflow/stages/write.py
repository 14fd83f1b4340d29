"""Write frames as they come, to a part that gets its final name when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np

from wanflow.files.whole import make_folders, replace_synced
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageProgram
from wanflow.stages.frames import bytes_call
from wanflow.stages.picture_file import PictureFile
from wanflow.stages.picture_folder import PictureFolder
from wanflow.stages.video_file import VideoFile, frame_rate


class FrameSink(Protocol):
    """What frames are put into: a file or a folder. `kind` is that of the calls that do so."""

    kind: str

    def write(self, frames: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Put `[n, H, W, 3]` behind what is there; OSError."""

    def finish(self) -> None:
        """Put what is left into it; OSError."""

    def close(self) -> None:
        """Let go of it, finished or not; OSError."""


@attrs.frozen
class WriteFrames(StageProgram):
    """Makes the video, the picture or the folder of pictures `name` in the run folder."""

    @property
    def consumes(self) -> str:
        """The stage that streams the frames."""
        return self.setup.source("frames").split(".")[0]

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield, for each chunk: its bytes, then their writing; at the end the renaming."""
        del knobs, shape
        out = self.setup.around.out
        final = (out or Path()) / str(self.setup.param("name"))
        part = final.with_name(final.name + ".part")
        sink = self._sink(part)
        chunks = self.setup.around.latent_shape[2]
        try:
            for chunk in range(1, chunks + 1):
                yield bytes_call(self.setup, chunk)
                yield self._write(sink, part, chunk)
            yield self._finish(sink, part, final, step=chunks - 1)
        finally:
            if out is not None:
                with suppress(OSError):  # on a full disk closing fails too: the first is told
                    sink.close()
                _remove(part)

    def _sink(self, part: Path) -> FrameSink:
        if self.op == "write_frames":
            return PictureFolder(part)
        if self.op == "write_picture":
            return PictureFile(part, self.setup.around.recipe)
        return VideoFile(part, frame_rate(self.setup.param("fps")), self.setup.around.recipe)

    def _write(self, sink: FrameSink, part: Path, chunk: int) -> Call:
        name = self.setup.own("bytes")

        def run(values: Tensors) -> Tensors:
            if chunk == 1:
                _remove(part)  # of a run that was killed
                make_folders(part.parent)
            sink.write(values[name].numpy())
            return {}

        step = chunk - 1
        return Call(sink.kind, run, (name,), step=step, chunk=chunk, stand_in=lambda _values: {})

    def _finish(self, sink: FrameSink, part: Path, final: Path, *, step: int) -> Call:
        """Sync and rename: a part of the last step, else the first would end with the stage."""

        def run(_values: Tensors) -> Tensors:
            sink.finish()
            sink.close()
            if part.is_dir() and final.is_dir():
                shutil.rmtree(final)
            replace_synced(part, final)
            return {}

        return Call("finish", run, step=step, chunk=1 << 30, stand_in=lambda _values: {})


def _remove(part: Path) -> None:
    """Have no part there, file or folder."""
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    with suppress(OSError):
        part.unlink(missing_ok=True)
