"""What every stage is made from: its id, its place in the graph, its model, the graph's shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from wanflow.files.pictures import Picture, read_picture
from wanflow.files.videos import Video, open_video
from wanflow.graph import BoundStage, PortRef
from wanflow.graph.values import parse_paths
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.ranks import Exchange, Rank
from wanflow.stages.preview_map import Previewing

if TYPE_CHECKING:
    import torch

    from wanflow.models.segments.cut import BoundModule


@attrs.frozen
class LatentSpace:
    """How a clip is laid out in latents: channels, and the VAE's factors in space and time."""

    channels: int
    spatial: int
    temporal: int

    def shape(self, width: int, height: int, frames: int) -> tuple[int, ...]:
        """Shape `[1, C, F, h, w]` of the latents of a clip, in elements."""
        latent_frames = (frames - 1) // self.temporal + 1
        return (1, self.channels, latent_frames, height // self.spatial, width // self.spatial)


@attrs.frozen
class Tokens:
    """What decides an encoded prompt besides the model: its `ids`, and how long it is encoded."""

    ids: tuple[int, ...]  # without padding
    count: int  # with the padding that the layers see


class KeptText(Protocol):
    """An encoded prompt that is at hand, whatever happens to its file meanwhile."""

    def read_into(self, rows: torch.Tensor) -> None:
        """Fill contiguous CPU *rows* `[ids, width]`; StageFailed when they can't be read."""


class KeptTexts(Protocol):
    """Prompts that were encoded before. What is found once stays found."""

    def find(self, tokens: Tokens) -> KeptText | None:
        """Look for a prompt."""

    def keep(self, tokens: Tokens, rows: torch.Tensor) -> None:
        """Keep the rows of a prompt's own tokens, or don't: nothing depends on it."""


@attrs.frozen
class Surroundings:
    """What a stage may know of the run: where kernels run, where files go, how prompts are read.

    `tokenize` turns text into ids; None while planning without a tokenizer on disk. `out` is None
    while planning. `texts` are prompts that need no encoding, `more_prompts` those to encode
    instead of the graph's own, by names with places; `files` are pictures and videos that were
    checked, by path. `recipe` goes into a video; None for none. `rank` is which of several ranks
    this is, None on one device, and `exchange` what carries tensors between them. `previewing` says
    how previews look, where a stage makes any.
    """

    device: torch.device
    latent_space: LatentSpace
    latent_shape: tuple[int, ...]
    out: Path | None
    recipe: Mapping[str, object] | None
    tokenize: Callable[[str, int], tuple[list[int], list[int]]] | None
    wants_negative: bool
    texts: KeptTexts | None = None
    more_prompts: Mapping[str, str] = attrs.field(factory=dict)
    files: Mapping[str, Picture | Video] = attrs.field(factory=dict)
    rank: Rank | None = None
    exchange: Exchange | None = None
    previewing: Previewing = attrs.field(factory=Previewing)

    def picture(self, path: str) -> Any:
        """Decode a picture as it is meant: a PIL image, RGB."""
        picture = self.files.get(path)
        return (picture if isinstance(picture, Picture) else read_picture(Path(path))).shown()

    def video(self, path: str) -> Video:
        """Give a video that was looked through."""
        video = self.files.get(path)
        return video if isinstance(video, Video) else open_video(Path(path))


@attrs.frozen
class StageSetup:
    """The arguments of every stage's constructor."""

    bound: BoundStage
    model: BoundModule | None
    around: Surroundings

    def value(self, port: str) -> object:
        """The literal given to an input port."""
        literal = self.bound.inputs[port]
        if isinstance(literal, PortRef):
            msg = f"{self.bound.name}.{port} is a reference"
            raise TypeError(msg)
        return literal

    def source(self, port: str) -> str:
        """The name of the value that another stage's output port is."""
        ref = self.bound.inputs[port]
        if not isinstance(ref, PortRef):
            msg = f"{self.bound.name}.{port} is no reference"
            raise TypeError(msg)
        return f"{ref.stage}.{ref.port}"

    def paths(self, port: str) -> tuple[str, ...]:
        """The files that are given to a port which takes several, or may take none."""
        return parse_paths(str(self.bound.inputs.get(port) or ""))

    def param(self, name: str) -> object:
        """A parameter's value, defaults filled in."""
        return self.bound.params[name]

    def own(self, name: str) -> str:
        """The name of one of the stage's own values."""
        return f"{self.bound.name}.{name}"

    def module(self) -> BoundModule:
        """The stage's model; graph checks have made sure there is one."""
        if self.model is None:
            msg = f"{self.bound.name} has no model"
            raise TypeError(msg)
        return self.model


@attrs.frozen
class StageProgram:
    """What programs have in common: one step, no stream and no knobs, unless a stage says so."""

    setup: StageSetup

    @property
    def stage(self) -> str:
        """The stage's id."""
        return self.setup.bound.name

    @property
    def op(self) -> str:
        """The kind of stage."""
        return self.setup.bound.op.name

    @property
    def steps(self) -> int:
        """How often the stage repeats."""
        return 1

    @property
    def model(self) -> BoundModule | None:
        """The weights it uses."""
        return self.setup.model

    @property
    def bound_model(self) -> BoundModule:
        """The weights of a stage that can't do without."""
        return self.setup.module()

    @property
    def module(self) -> Any:
        """Their module, upstream's."""
        return self.bound_model.module

    @property
    def consumes(self) -> str | None:
        """The stage whose stream it consumes."""
        return None

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What the planner may choose."""
        return ()
