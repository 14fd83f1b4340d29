"""The decoder's calls where the frame is cut into strips, each (frame, strip) once, no halo.

    order `frames`: for each frame, its strips: caches wait, one a strip; chunks go on at once
    order `strips`: for each strip, all frames: line buffers wait, one a frame; the clip's bytes
                    wait too, and its chunks go on at the end

What waits is a value as any other, so that it may spill to the host: the uint8 clip as well. A
name's `@` begins the place that tells it from the others of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import torch

from wanflow.models.wan import decoder_strips as lines
from wanflow.models.wan import vae
from wanflow.models.wan.strip import ROWS, StripPlace, channels_last, is_turned
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.frames import to_levels
from wanflow.stages.strip_schedule import StripTurn, schedule

WHOLE = "whole"
_SETTINGS = (
    "strips.32", "strips.16", "strips.12", "strips.8", "strips.4", "strips.2", "strips.1",
    "frames.8", "frames.2",
)  # fmt: skip
_MOST_STRIPS = 16  # of a setting that is searched: each is a call a part and latent frame


def settings(longer: int) -> tuple[str, ...]:
    """Every way to cut a frame of *longer* latent rows that gives more than one strip."""
    return tuple(name for name in _SETTINGS if _height(name) < longer)


def strips_knobs(setup: StageSetup, about: str) -> tuple[Knob, ...]:
    """The knob of a stage whose frames can be cut; none for a frame of a row or two."""
    longer = max(setup.around.latent_shape[3:])
    cuts = settings(longer)
    choices = {WHOLE: "bitwise", **dict.fromkeys(cuts, "rounding")}
    knob = Knob("strips", choices, about, levels=dict.fromkeys(searched(longer), 1))
    return (knob,) if cuts else ()


def searched(longer: int) -> tuple[str, ...]:
    """Of those the one that the planner tries by itself: the leanest of not too many strips."""
    few = [s for s in settings(longer) if s.startswith("strips.")]
    few = [s for s in few if -(-longer // _height(s)) <= _MOST_STRIPS]
    return tuple(few[-1:])


def _height(setting: str) -> int:
    return int(setting.partition(".")[2])


@attrs.frozen
class Strips:
    """One setting's calls, for a VAE and for latents of a shape `[1, C, F, h, w]`."""

    setup: StageSetup
    setting: str
    shape: tuple[int, ...]
    turns: list[list[StripTurn]] = attrs.field(init=False)

    @turns.default
    def _made_turns(self) -> list[list[StripTurn]]:
        module = self._module
        parts = [(part, lines.scale(module, part)) for part in lines.parts(module)]
        behind = partial(lines.rows_out, module)
        return schedule(parts, behind, _height(self.setting), self._total)

    @property
    def _module(self) -> Any:
        return self.setup.module().module

    @property
    def turned(self) -> bool:
        """Whether strips are cut along the height."""
        return is_turned(self.shape)

    @property
    def _total(self) -> int:
        """Latent rows along the longer side."""
        return max(self.shape[3:])

    @property
    def finishing(self) -> list[int]:
        """The strips that rows of frames come out of."""
        last = (turns[-1] for turns in self.turns)
        return [s for s, turn in enumerate(last) if turn.part == "head" and turn.makes]

    @property
    def _by_frames(self) -> bool:
        return self.setting.startswith("frames.")

    @property
    def _bounds(self) -> list[tuple[int, int]]:
        """Latent rows, from and up to, of every strip."""
        height, total = _height(self.setting), self._total
        return [(start, min(start + height, total)) for start in range(0, total, height)]

    def calls(self) -> Iterator[Call]:
        """Yield every call after the clip's first convolution."""
        frames, strips = range(self.shape[2]), range(len(self.turns))
        if self._by_frames:
            for frame in frames:
                yield from self.open(frame)
                for strip in strips:
                    yield from self.strip(frame, strip)
                yield self._emit(frame)
            return
        for frame in frames:
            yield from self.open(frame)
        for strip in strips:
            for frame in frames:
                yield from self.strip(frame, strip)
        for frame in frames:
            yield self._emit(frame)

    def place(self, frame: int, strip: int) -> str:
        """Tell a strip of a frame: by the strip alone where frames come one after the other."""
        return str(strip) if self._by_frames else f"{frame}-{strip}"

    def kind(self, part: str, frame: int) -> str:
        """Name a kind of call of this setting."""
        return f"{part}.{self.setting}.{frame}"

    def _segment(self, part: str) -> str:
        return self.setup.module().segment_of(*vae.paths(part))

    def _step(self, frame: int) -> int:
        return frame if self._by_frames else 0

    def open(self, frame: int, strips: Sequence[int] | None = None) -> Iterator[Call]:
        """Run the parts that see a whole frame, which is small there; cut *strips* out of it.

        None for all of them.
        """
        own, module = self.setup.own, self._module
        inner = (own("latents"), "in", own("opened")), (own("opened"), "mid", own("strip"))
        cut = range(len(self._bounds)) if strips is None else strips
        bounds = {self.place(frame, n): self._bounds[n] for n in cut if n < len(self._bounds)}
        for reads, part, makes in inner:
            states = [own(f"state.{part}.{i}") for i in range(vae.cache_places(module, part))]

            def run(
                values: Tensors,
                reads: str = reads,
                part: str = part,
                makes: str = makes,
                states: list[str] = states,
            ) -> Tensors:
                x = values[reads]
                x = x[:, :, frame : frame + 1] if part == "in" else x
                cache = vae.fill_cache([values.get(name) for name in states], frame)
                out = vae.run(module, part, x, cache, first=frame == 0)
                left = zip(states, cache, strict=True)
                outputs = {makes: out} if part == "in" else self._cut(out, makes, bounds)
                return {**outputs, **{n: t for n, t in left if isinstance(t, torch.Tensor)}}

            yield Call(
                self.kind(part, min(frame, 2)), run, (reads, *states), segment=self._segment(part),
                step=self._step(frame), places=tuple(bounds),
            )  # fmt: skip

    def _cut(
        self, features: torch.Tensor, name: str, bounds: Mapping[str, tuple[int, int]]
    ) -> Tensors:
        return {
            f"{name}@{place}": lines.cut(features, start, stop, turned=self.turned)
            for place, (start, stop) in bounds.items()
        }

    def strip(self, frame: int, strip: int) -> Iterator[Call]:
        """Run the other parts on a strip of a frame."""
        place, own = self.place(frame, strip), self.setup.own
        features = own(f"strip@{place}")
        for turn in self.turns[strip]:
            makes = own(f"rows@{place}") if turn.part == "head" else own("features")
            yield self._part(turn, frame, strip, features if turn.fed else None, makes)
            features = makes

    def _part(self, turn: StripTurn, frame: int, strip: int, reads: str | None, makes: str) -> Call:
        part, place = turn.part, self._rows_of(turn, frame)
        line, cache = self.kept(part, "line", frame), self.kept(part, "cache", strip)
        wait = self.kept(part, "wait", frame)
        old = [n for n, is_there in ((line, turn.taken), (cache, frame)) if is_there]

        def run(values: Tensors) -> Tensors:
            come = [values[n] for n in (wait, reads) if n is not None and n in values]
            x, left = _taken(come, turn.takes)
            sizes = lines.sizes(self._module, part, place, tuple(x.shape))
            buffers = place.buffers(x, sizes, [values.get(line), values.get(cache)])
            out = lines.run(self._module, part, x, place, *buffers)
            return {
                **({makes: self._finished(out) if part == "head" else out} if turn.makes else {}),
                **({} if turn.bottom else {line: buffers[0]}),
                **({} if left is None else {wait: left}),
                cache: buffers[1],
            }

        names = (*((wait,) if turn.waiting else ()), *((reads,) if reads is not None else ()), *old)
        return Call(
            self.kind(part, min(frame, 1)) + self._stretch(turn), run, names,
            segment=self._segment(part), step=self._step(frame),
            places=(self.place(frame, strip), str(frame)),
        )  # fmt: skip

    def _rows_of(self, turn: StripTurn, frame: int) -> StripPlace:
        return StripPlace(turn.taken, turn.takes, frame == 0, turn.bottom, self.turned)

    def _stretch(self, turn: StripTurn) -> str:
        """Tell turns apart that cost different things: far from both ends they are alike."""
        taken = min(turn.taken, lines.behind(self._module, turn.part) + 2)
        return f".{taken}+{turn.takes}{'.end' if turn.bottom else ''}"

    def _finished(self, decoded: torch.Tensor) -> torch.Tensor:
        """Rows of a chunk: uint8 `[1 or 4, 3, H, W]`."""
        decoded = decoded.transpose(3, 4) if self.turned else decoded
        return to_levels(vae.to_frames(self._module, decoded)).contiguous()

    def kept(self, part: str, what: str, index: int) -> str:
        """Name what a part keeps: of its lines or its caches, those that have to wait are many."""
        waits = what != "cache" if not self._by_frames else what == "cache"
        return self.setup.own(f"state.{what}.{part}" + (f"@{index}" if waits else ""))

    @property
    def row_axis(self) -> int:
        """The dimension of a chunk `[1 or 4, 3, H, W]` that strips follow one another in."""
        return 2 if self.turned else 3

    def rows_shape(self, strip: int, frame: int) -> tuple[int, ...]:
        """The shape `[1 or 4, 3, H, W]` of the rows of a chunk that come out of a *strip*."""
        space = self.setup.around.latent_space
        made = self.turns[strip][-1].makes * (self._module.config.patch_size or 1)
        shape = [
            1 if frame == 0 else space.temporal,
            3,
            *(n * space.spatial for n in self.shape[3:]),
        ]
        shape[self.row_axis] = made
        return tuple(shape)

    @property
    def rows(self) -> int:
        """Latent rows of a strip."""
        return _height(self.setting)

    def _emit(self, frame: int) -> Call:
        """Put a chunk together: uint8 `[1 or 4, 3, H, W]`."""
        own, axis = self.setup.own, self.row_axis
        places = tuple(self.place(frame, strip) for strip in self.finishing)
        names = tuple(own(f"rows@{place}") for place in places)

        def run(values: Tensors) -> Tensors:
            return {own("frames"): torch.cat([values[name] for name in names], axis)}

        kind = self.kind("emit", min(frame, 1))
        return Call(kind, run, names, step=frame, emits=True, places=places)


def _taken(come: list[torch.Tensor], count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Take *count* of the rows that have come; the rest waits."""
    x = come[0] if len(come) == 1 else torch.cat(come, ROWS)
    left = x.shape[ROWS] - count
    if not left:
        return x, None
    rest = x.narrow(ROWS, count, left)
    return x.narrow(ROWS, 0, count), channels_last(rest, rest.shape).copy_(rest)
