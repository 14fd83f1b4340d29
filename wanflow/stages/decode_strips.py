"""The decoder's calls where the frame is cut into strips, each (frame, strip) once, no halo.

    order `frames`: for each frame, its strips: caches wait, one a strip; chunks go on at once
    order `strips`: for each strip, all frames: line buffers wait, one a frame; the clip's bytes
                    wait too, and its chunks go on at the end

What waits is a value as any other, so that it may spill to the host: the uint8 clip as well. A
name's `@` begins the place that tells it from the others of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import attrs
import torch

from wanflow.models import vae, vae_lines
from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.frames import to_levels
from wanflow.stages.strip_schedule import Turn, schedule

WHOLE = "whole"
_SETTINGS = ("frames.8", "frames.2", "strips.8", "strips.4", "strips.2")


def settings(longer: int) -> tuple[str, ...]:
    """Every way to cut a frame of *longer* latent rows that gives more than one strip."""
    return tuple(name for name in _SETTINGS if int(name.partition(".")[2]) < longer)


@attrs.frozen
class Strips:
    """One setting's calls, for a VAE and for latents of a shape `[1, C, F, h, w]`."""

    setup: StageSetup
    setting: str
    shape: tuple[int, ...]
    _schedule: list[list[Turn]] = attrs.field(init=False)

    @_schedule.default
    def _made_schedule(self) -> list[list[Turn]]:
        module = self.setup.module().module
        parts = [(part, vae_lines.scale(module, part)) for part in vae_lines.parts(module)]
        behind = partial(vae_lines.rows_out, module)
        return schedule(parts, behind, self._height, self.shape[self._axis])

    @property
    def _height(self) -> int:
        return int(self.setting.partition(".")[2])

    @property
    def _axis(self) -> int:
        return vae_lines.axis_of(self.shape)

    @property
    def _by_frames(self) -> bool:
        return self.setting.startswith("frames.")

    @property
    def _bounds(self) -> list[tuple[int, int]]:
        """Latent rows, from and up to, of every strip."""
        height, total = self._height, self.shape[self._axis]
        return [(start, min(start + height, total)) for start in range(0, total, height)]

    def calls(self) -> Iterator[Call]:
        """Yield every call after the clip's first convolution."""
        frames, strips = range(self.shape[2]), range(len(self._schedule))
        if self._by_frames:
            for frame in frames:
                yield from self._open(frame)
                for strip in strips:
                    yield from self._strip(frame, strip)
                yield self._emit(frame)
            return
        for frame in frames:
            yield from self._open(frame)
        for strip in strips:
            for frame in frames:
                yield from self._strip(frame, strip)
        for frame in frames:
            yield self._emit(frame)

    def _place(self, frame: int, strip: int) -> str:
        """Tell a strip of a frame: by the strip alone where frames come one after the other."""
        return str(strip) if self._by_frames else f"{frame}-{strip}"

    def _kind(self, part: str, frame: int) -> str:
        return f"{part}.{self.setting}.{min(frame, 2)}"

    def _segment(self, part: str) -> str:
        return self.setup.module().segment_of(*vae.paths(part))

    def _step(self, frame: int) -> int:
        return frame if self._by_frames else 0

    def _open(self, frame: int) -> Iterator[Call]:
        """The parts that see a whole frame, which is small there."""
        own, module = self.setup.own, self.setup.module().module
        inner = (own("latents"), "in", own("opened")), (own("opened"), "mid", own("strip"))
        places = tuple(self._place(frame, strip) for strip in range(len(self._bounds)))
        for reads, part, makes in inner:
            kept = [own(f"state.{part}.{i}") for i in range(vae.cache_places(module, part))]

            def run(
                values: Tensors,
                reads: str = reads,
                part: str = part,
                makes: str = makes,
                kept: list[str] = kept,
            ) -> Tensors:
                x = values[reads]
                x = x[:, :, frame : frame + 1] if part == "in" else x
                cache = vae.fill_cache([values.get(name) for name in kept], frame)
                out = vae.run(module, part, x, cache, first=frame == 0)
                left = zip(kept, cache, strict=True)
                made = {makes: out} if part == "in" else self._cut(out, makes, places)
                return {**made, **{n: t for n, t in left if isinstance(t, torch.Tensor)}}

            yield Call(
                self._kind(part, frame), run, (reads, *kept), segment=self._segment(part),
                step=self._step(frame), places=places,
            )  # fmt: skip

    def _cut(self, whole: torch.Tensor, name: str, places: tuple[str, ...]) -> Tensors:
        return {
            f"{name}@{place}": whole.narrow(self._axis, start, stop - start).clone()
            for place, (start, stop) in zip(places, self._bounds, strict=True)
        }

    def _strip(self, frame: int, strip: int) -> Iterator[Call]:
        place, own = self._place(frame, strip), self.setup.own
        features = own(f"strip@{place}")
        for turn in self._schedule[strip]:
            made = own(f"rows@{place}") if turn.part == "head" else own("features")
            yield self._part(turn, frame, strip, features if turn.fed else None, made)
            features = made

    def _part(self, turn: Turn, frame: int, strip: int, reads: str | None, makes: str) -> Call:
        module, axis, part = self.setup.module().module, self._axis, turn.part
        lines, cache = self._kept(part, "line", frame), self._kept(part, "cache", strip)
        old_lines = {n: v for n, v in lines.items() if _has_line(n, turn)}
        old_cache = {n: v for n, v in cache.items() if frame > (n == "time")}

        def run(values: Tensors) -> Tensors:
            here = vae_lines.Strip(
                axis, turn.bottom, frame == 0,
                {n: values[v] for n, v in old_lines.items() if v in values},
                {n: values[v] for n, v in old_cache.items() if v in values},
            )  # fmt: skip
            x = values[reads] if reads is not None else None
            out = vae_lines.run(module, part, x, here, turn.takes)
            if part == "head":
                out = to_levels(vae.to_frames(module, out))
            return {
                **({makes: out} if turn.makes else {}),
                **{lines[name]: tensor for name, tensor in here.made_lines.items()},
                **{cache[name]: tensor for name, tensor in here.made_cache.items()},
            }

        names = (*old_lines.values(), *old_cache.values())
        new, end = (reads,) if reads is not None else (), ".end" if turn.bottom else ""
        return Call(
            self._kind(part, frame) + f".{turn.takes}{end}", run, (*new, *names),
            segment=self._segment(part), step=self._step(frame),
            places=(self._place(frame, strip), str(frame)),
        )  # fmt: skip

    def _kept(self, part: str, what: str, index: int) -> dict[str, str]:
        """Name what a part keeps: of its lines or its cache, those that have to wait are many."""
        waits = what == ("cache" if self._by_frames else "line")
        place = f"@{index}" if waits else ""
        names = vae_lines.kept_names(self.setup.module().module, part)
        return {name: self.setup.own(f"state.{what}.{part}.{name}{place}") for name in names}

    def _emit(self, frame: int) -> Call:
        """Put a chunk together: uint8 `[1 or 4, 3, H, W]`."""
        own, axis = self.setup.own, self._axis - 1
        last = (turns[-1] for turns in self._schedule)
        made = [s for s, turn in enumerate(last) if turn.part == "head" and turn.makes]
        places = tuple(self._place(frame, strip) for strip in made)
        names = tuple(own(f"rows@{place}") for place in places)

        def run(values: Tensors) -> Tensors:
            return {own("frames"): torch.cat([values[name] for name in names], axis)}

        kind = self._kind("emit", frame)
        return Call(kind, run, names, step=frame, emits=True, places=places)


def _has_line(name: str, turn: Turn) -> bool:
    """Whether a part has kept this since the frame began: an older frame's may still be there."""
    if name == "pending":
        return turn.waiting > 0
    if name == "up":
        return turn.made > 0
    number, _, what = name.partition(".")
    behind = 2 * int(number) if what == "short" else 0  # rows lost on the way to its block
    return turn.taken > behind
