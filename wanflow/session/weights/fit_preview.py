"""Fit a VAE's preview map: clips go through its encoder and decoder, least squares does the rest.

The pairs are the latents of the clips, a pixel each, and what the decoder makes of them, averaged
over the frames and pixels that a latent stands for. Encoding and decoding are a run of a graph like
any other: planned, inside the budget, on a card if there is one.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import torch

from wanflow.errors import StageFailed
from wanflow.files.whole import unwritable
from wanflow.models.bound import LocatedModel
from wanflow.models.weights.identity import identity
from wanflow.session.preparing.place import FindPlace
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.previews import normalising
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.request import Request
from wanflow.session.running.run import run
from wanflow.session.weights.preview_clips import FRAMES, write_clip
from wanflow.stages.preview_map import Colours, PreviewMap, kept_at

CLIPS = 4  # drawn, where none are given
_SIDES = {8: 128, 16: 192}  # pixels, by how many of them a latent stands for
_GRAPH = """
wanflow: 1
name: fit-preview
about: Clips through a VAE and back
inputs:
  video: {type: video}
  size: {type: size, default: SIZE}
  frames: {type: int, default: FRAMES}
models:
  vae: {part: vae, path: vae, precision: fp32}
stages:
  given: {op: encode_frames, model: vae, in: {video: $video, size: $size, frames: $frames}}
  decode: {op: decode_frames, model: vae, in: {latents: given.latents}}
  write: {op: write_video, in: {frames: decode.frames}, params: {fps: 8}}
outputs: {video: write.file}
"""


@attrs.frozen
class FittedMap:
    """A map, the file that it is kept in, and the seconds that it took."""

    map: PreviewMap
    path: Path
    seconds: float


@attrs.define
class _Pairs:
    """A watch that keeps latents, as the decoder takes them, and their colours: a row a pixel."""

    mean: torch.Tensor
    deviation: torch.Tensor
    latents: list[torch.Tensor] = attrs.field(factory=list)
    colours: list[torch.Tensor] = attrs.field(factory=list)
    _size: tuple[int, ...] = attrs.field(default=(), init=False)

    @classmethod
    def of(cls, vae: LocatedModel) -> _Pairs:
        """Begin with the channels of a VAE."""
        config = vae.config
        mean, deviation = normalising(vae, int(config.get("z_dim", 16)))
        return cls(torch.tensor(mean).double(), torch.tensor(deviation).double())

    def see(self, _stage: str, name: str, tensor: torch.Tensor) -> None:
        """See a value of the run."""
        if name == "given.latents":
            (latents,) = tensor.cpu().double()
            self._size = tuple(latents.shape[2:])
            self.latents.append(latents.flatten(1).T * self.deviation + self.mean)
        elif name == "decode.frames":
            self.colours.append(_shrunk(tensor.cpu(), self._size))

    def fitted(self) -> tuple[Colours, float]:
        """Solve for the map; give it, and the peak signal to noise of what it makes, in dB."""
        latents, colours = torch.cat(self.latents), torch.cat(self.colours)
        if not bool(latents.isfinite().all() and colours.isfinite().all()):
            raise StageFailed("the VAE gives NaN or infinity: nothing is fitted", code="not-finite")
        given = torch.cat([latents, torch.ones(len(latents), 1).double()], 1)
        found = torch.linalg.lstsq(given, colours, driver="gelsd").solution
        error = float(((given @ found).clamp(0, 1) - colours).square().mean())
        psnr = -10 * math.log10(max(error, 1e-12))
        return Colours(found[:-1].tolist(), found[-1].tolist()), psnr


def _shrunk(frames: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Average `[n, 3, H, W]` over its frames and down to a *size*: `[pixels, 3]` in [0, 1]."""
    height, width = size
    scale = 255 if frames.dtype == torch.uint8 else 1
    mean = (frames.double() / scale).mean(0, keepdim=True)
    return torch.nn.functional.adaptive_avg_pool2d(mean, (height, width))[0].flatten(1).T


def fit_preview(
    path: Path,
    clips: Sequence[Path] = (),
    *,
    size: str = "",
    frames: int = FRAMES,
    vram: str = "auto",
    device: str = "auto",
    to: Callable[[str], Path] = kept_at,
    about: str = "",
    watch: Callable[[int, int], None] | None = None,
    on: FindPlace = probed_place,
) -> FittedMap:
    """Fit the map of the VAE at *path* on *clips*, else on drawn ones, and keep it.

    *to* gives the file by the VAE's identity: where a run finds it. *watch* is told of each clip,
    from 1, and how many there are. WeightsError where there is no VAE at *path*, BudgetError where
    the budget can't hold it.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="wanflow-preview-") as name:
        fit = _ClipRuns(Path(name), path, vram, device, frames)
        vae = fit.vae(on)
        shown, pairs = clips or [*fit.drawn(vae)], _Pairs.of(vae)
        for number, clip in enumerate(shown, 1):
            if watch is not None:
                watch(number, len(shown))
            request = fit.request(clip, size or fit.size_of(vae))
            run(request, out=fit.folder / f"run-{number}", watch=pairs.see, on=on)
        whose = _identity_of(vae)
    colours, psnr = pairs.fitted()
    about = about or ", ".join(clip.name for clip in clips) or f"{CLIPS} drawn clips"
    fitted = PreviewMap(whose, colours, sum(map(len, pairs.latents)), psnr, about)
    target = to(whose)
    _keep(fitted, target)
    return FittedMap(fitted, target, time.perf_counter() - began)


@attrs.frozen
class _ClipRuns:
    """The runs of a fit, in a folder of their own."""

    folder: Path
    weights: Path
    vram: str
    device: str
    frames: int

    def vae(self, on: FindPlace) -> LocatedModel:
        """Find the VAE; WeightsError where there is none."""
        side = min(_SIDES.values())
        clip = write_clip(self.folder / "first.mp4", 0, side)
        request = self.request(clip, f"{side}*{side}")
        return prepare(request, on(request), to_run=True).models["vae"]

    def size_of(self, vae: LocatedModel) -> str:
        """Give the size of the drawn clips, as text."""
        side = _side_of(vae)
        return f"{side}*{side}"

    def drawn(self, vae: LocatedModel) -> Iterator[Path]:
        """Yield clips to fit on."""
        for seed in range(CLIPS):
            yield write_clip(self.folder / f"{seed}.mp4", seed, _side_of(vae))

    def request(self, clip: Path, size: str) -> Request:
        """Ask for a clip to go through and back."""
        graph = self.folder / "fit-preview.yaml"
        text = _GRAPH.replace("SIZE", size).replace("FRAMES", str(self.frames))
        graph.write_text(text, encoding="utf-8")
        return Request(
            str(graph), {"video": str(clip.resolve())}, vram=self.vram, device=self.device,
            weights=(f"vae={self.weights.resolve()}",),
        )  # fmt: skip


def _side_of(vae: LocatedModel) -> int:
    pixels = int(vae.config.get("scale_factor_spatial", min(_SIDES)))
    return _SIDES.get(pixels, max(_SIDES.values()))


def _identity_of(vae: LocatedModel) -> str:
    if vae.checkpoint is None:
        msg = "a run has weights"
        raise AssertionError(msg)
    return identity(vae.checkpoint)


def _keep(fitted: PreviewMap, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from None
    fitted.write(path)
