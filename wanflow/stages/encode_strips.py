"""The encoder's calls where the frame is cut into strips, each (chunk, strip) once, no halo.

    order `frames`: for each chunk, its strips: caches wait, one a strip
    order `strips`: for each strip, all chunks: line buffers wait, one a chunk, and the pixels

Down to the latents' size all parts are one call, which updates its lines for the next strip and its
cache for the next chunk; what is small, below, sees whole frames. A state that waits for its turn
has its chunk or its strip in its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from wanflow.models.wan import encoder_strips, vae_encoder
from wanflow.models.wan.strip import StripPlace, is_turned, turn
from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.clip import Clip


def chunk_shape(clip: Clip, chunk: int) -> tuple[int, ...]:
    """Shape `[1, 3, n, H, W]` of a chunk's pixels."""
    return (1, 3, clip.count(chunk), clip.size.height, clip.size.width)


def pixels_calls(
    setup: StageSetup, clip: Clip, axis: int = 0, step: int | None = None
) -> Iterator[Call]:
    """Yield a call for each chunk in which something is given: it reads `pixels`.

    With *step* they are cut along *axis* of `[3, n, H, W]` into strips of so many rows.
    """
    pictures = clip.read(setup.around)
    for chunk in range(clip.chunks):
        if clip.given(chunk):
            total = clip.shape(chunk)[axis]
            starts = range(0, total, step or total)
            places = [str(chunk) if step is None else f"{chunk}-{s}" for s in range(len(starts))]
            strips = dict(zip(places, starts, strict=True))
            yield _pixels(setup, clip, chunk, pictures, _Cut(axis, step or total, strips))


@attrs.frozen
class _Cut:
    """Cuts along an axis into strips of *size* rows: where each place begins."""

    axis: int
    size: int
    starts: Mapping[str, int]

    def of(self, frames: torch.Tensor) -> Tensors:
        end = frames.shape[self.axis]
        return {
            place: frames.narrow(self.axis, at, min(self.size, end - at)).clone()
            for place, at in self.starts.items()
        }


def _pixels(
    setup: StageSetup, clip: Clip, chunk: int, pictures: Iterator[torch.Tensor], cut: _Cut
) -> Call:
    own, device = setup.own, setup.around.device

    def run(_values: Tensors) -> Tensors:
        strips = cut.of(next(pictures))
        return {own(f"pixels@{place}"): strip.to(device) for place, strip in strips.items()}

    def stand_in(_values: Tensors) -> Tensors:
        strips = cut.of(torch.empty(clip.shape(chunk), dtype=clip.fit.dtype))
        return {own(f"pixels@{place}"): strip for place, strip in strips.items()}

    channels, count = clip.shape(chunk)[:2]
    kind = f"pixels.{channels}.{count}.{clip.fit.dtype}.{cut.axis}.{cut.size}"
    return Call(kind, run, stand_in=stand_in, places=tuple(cut.starts))


def part_call(
    setup: StageSetup, part: str, frame: int, reads: tuple[str, ...], axis: int = 0
) -> Call:
    """Run a part on a chunk's whole frames; *reads* are strips of them along *axis*, or one.

    What it has kept is of the clip before where a clip begins.
    """
    own, model = setup.own, setup.module()
    states = [own(f"state.{part}.{i}") for i in range(vae_encoder.cache_places(model.module, part))]
    makes = own(f"moments@{frame}") if part == "head" else own("features")

    def run(values: Tensors) -> Tensors:
        strips = [values[name] for name in reads]
        x = strips[0] if len(strips) == 1 else torch.cat(strips, axis)
        cache = [values.get(name) for name in states]
        out = vae_encoder.run(model.module, part, x, cache)
        left = zip(states, cache, strict=True)
        return {makes: out, **{n: t for n, t in left if t is not None}}

    places = (*(name.partition("@")[2] for name in reads if "@" in name), str(frame))
    return Call(
        f"{part}.{min(frame, 2)}", run, (*reads, *(states if frame else ())),
        segment=model.segment_of(*vae_encoder.paths(part), part=True), places=places,
    )  # fmt: skip


@attrs.frozen
class EncodeStrips:
    """One setting's calls, for a VAE and a clip."""

    setup: StageSetup
    setting: str
    clip: Clip

    @property
    def _turned(self) -> bool:
        return is_turned(chunk_shape(self.clip, 0))

    @property
    def _axis(self) -> int:
        """The dimension of `[1, C, F, h, w]` along which a frame is cut: its longer side."""
        return 3 if self._turned else 4

    @property
    def _by_frames(self) -> bool:
        return self.setting.startswith("frames.")

    @property
    def _step(self) -> int:
        """Rows of pixels in a strip."""
        return int(self.setting.partition(".")[2]) * vae_encoder.spatial(self._module)

    @property
    def _module(self) -> Any:
        return self.setup.module().module

    @property
    def _total(self) -> int:
        return chunk_shape(self.clip, 0)[self._axis]

    @property
    def _strips(self) -> range:
        return range(-(-self._total // self._step))

    def calls(self) -> Iterator[Call]:
        """Yield every call up to the moments."""
        frames = range(self.clip.chunks)
        pixels = pixels_calls(self.setup, self.clip, self._axis - 1, self._step)
        parts = vae_encoder.whole_parts(self._module)
        if self._by_frames:
            for frame in frames:
                if self.clip.given(frame):
                    yield next(pixels)
                for strip in self._strips:
                    yield self._strip(frame, strip)
                for part in parts:
                    yield self._part(part, frame, parts[0])
            return
        yield from pixels
        for strip in self._strips:
            for frame in frames:
                yield self._strip(frame, strip)
        for frame in frames:
            for part in parts:
                yield self._part(part, frame, parts[0])

    def _part(self, part: str, frame: int, first: str) -> Call:
        """Run a part at the latents' size: the first one puts the strips together."""
        strips = [s for s in self._strips if self._rows(s) > self._rows(s - 1)]
        rows = tuple(self.setup.own(f"rows@{frame}-{s}") for s in strips)
        reads = rows if part == first else (self.setup.own("features"),)
        return part_call(self.setup, part, frame, reads, self._axis)

    def _rows(self, strip: int) -> int:
        """Latent rows that are made once a strip is done."""
        patch, seen = self._module.config.patch_size or 1, (strip + 1) * self._step
        if seen >= self._total:
            return self._total // vae_encoder.spatial(self._module)
        return encoder_strips.rows_out(self._module, seen // patch)

    def _strip(self, frame: int, strip: int) -> Call:
        own, here = self.setup.own, f"{frame}-{strip}"
        line = own("state.line" + ("" if self._by_frames else f"@{frame}"))
        cache = own("state.cache" + (f"@{strip}" if self._by_frames else ""))
        place, makes = self._place(frame, strip), self._rows(strip) > self._rows(strip - 1)
        pixels = own(f"pixels@{here}")

        def run(values: Tensors) -> Tensors:
            x = self._opened(values.get(pixels), frame, strip)
            sizes = encoder_strips.sizes(self._module, place, tuple(x.shape))
            buffers = place.buffers(x, sizes, [values.get(line), values.get(cache)])
            rows = encoder_strips.run(self._module, x, place, *buffers)
            return {
                **({own(f"rows@{here}"): turn(rows, turned=self._turned)} if makes else {}),
                **({} if place.bottom else {line: buffers[0]}),
                cache: buffers[1],
            }

        names = ((pixels, self.clip.given(frame)), (line, strip), (cache, frame))
        return Call(
            self._kind(place, frame, strip), run, tuple(n for n, is_there in names if is_there),
            segment=self.setup.module().segment_of("encoder.conv_in", "encoder.down_blocks.0"),
            places=(here, str(frame), str(strip)),
        )  # fmt: skip

    def _place(self, frame: int, strip: int) -> StripPlace:
        patch, taken = self._module.config.patch_size or 1, strip * self._step
        rows, bottom = min(self._step, self._total - taken), strip == self._strips[-1]
        return StripPlace(taken // patch, rows // patch, frame == 0, bottom, self._turned)

    def _kind(self, place: StripPlace, frame: int, strip: int) -> str:
        """Tell strips apart that cost different things: once rows are made they are alike."""
        before = "on" if self._rows(strip - 1) else str(place.taken)
        end = ".end" if place.bottom else ""
        return f"{self.setting}.{min(frame, 1)}.{before}+{place.rows}{end}"

    def _opened(self, pixels: torch.Tensor | None, frame: int, strip: int) -> torch.Tensor:
        """Give a strip's pixels as the encoder takes them, zeros where nothing is given."""
        module, shape = self._module, list(chunk_shape(self.clip, frame))
        shape[self._axis] = min(self._step, self._total - strip * self._step)
        x = self.clip.to_pixels(pixels, tuple(shape), module.encoder.conv_in.weight)
        return turn(vae_encoder.opened(module, x), turned=self._turned)
