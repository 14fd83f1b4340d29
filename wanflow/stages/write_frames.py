"""Write frames as numbered 8-bit PNG files into a folder that appears when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageProgram
from wanflow.stages.frames import bytes_call


@attrs.frozen
class WriteFrames(StageProgram):
    """Makes the folder `folder` with `00000.png` on."""

    @property
    def consumes(self) -> str:
        """The stage that streams the frames."""
        return self.setup.source("frames").split(".")[0]

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield, for each chunk: its bytes, then their files; at the end the renaming."""
        del knobs, shape
        out = self.setup.around.out or Path()
        final = out / str(self.setup.param("name"))
        part = final.with_name(final.name + ".part")
        chunks = self.setup.around.latent_shape[2]
        done, temporal = False, self.setup.around.latent_space.temporal
        try:
            for chunk in range(1, chunks + 1):
                yield bytes_call(self.setup, chunk)
                first = 0 if chunk == 1 else 1 + temporal * (chunk - 2)
                yield self._files(part, first, chunk)
            yield self._rename(part, final, step=chunks - 1)
            done = True
        finally:
            if not done and self.setup.around.out is not None:
                shutil.rmtree(part, ignore_errors=True)

    def _files(self, part: Path, first: int, chunk: int) -> Call:
        name = self.setup.own("bytes")

        def run(values: Tensors) -> Tensors:
            from PIL import Image

            if first == 0:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
            for number, frame in enumerate(values[name].numpy(), first):
                Image.fromarray(frame).save(part / f"{number:05d}.png")
            return {}

        step = chunk - 1
        return Call("files", run, (name,), step=step, chunk=chunk, stand_in=lambda _values: {})

    def _rename(self, part: Path, final: Path, *, step: int) -> Call:
        def run(_values: Tensors) -> Tensors:
            if final.exists():
                shutil.rmtree(final)
            part.replace(final)
            return {}

        return Call("finish", run, step=step, chunk=1 << 30, stand_in=lambda _values: {})
