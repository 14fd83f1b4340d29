"""The linear map of a VAE's latents to colours: fitted from what it decodes, found by its weights.

It is kept for latents as the decoder takes them. A run has them normalised, by the mean and the
deviation of each channel in the VAE's configuration, which are put into the map then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from wanflow.errors import InputError
from wanflow.files.folders import PACKAGE, config_folder
from wanflow.files.whole import write_json

_VERSION = 1
# What is no text, nested too deep, a number past what floats hold, or of another form.
_NO_MAP = (ValueError, RecursionError, OverflowError, LookupError, TypeError)
_BUNDLED = PACKAGE / "stages" / "previews"


@attrs.frozen
class Colours:
    """From latents to RGB in [0, 1]: `weights` `[channels][3]` and a `bias` `[3]`."""

    weights: Sequence[Sequence[float]]
    bias: Sequence[float]

    @classmethod
    def black(cls, channels: int) -> Self:
        """A map that costs what any other does, to plan without weights."""
        return cls(((0.0,) * 3,) * channels, (0.0,) * 3)

    def of_normalised(self, mean: Sequence[float], deviation: Sequence[float]) -> Colours:
        """The same for latents that have lost their *mean* and *deviation* by channel."""
        rows = [[d * w for w in row] for d, row in zip(deviation, self.weights, strict=True)]
        shift = [
            sum(m * row[c] for m, row in zip(mean, self.weights, strict=True)) for c in range(3)
        ]
        return Colours(rows, [b + s for b, s in zip(self.bias, shift, strict=True)])


@attrs.frozen
class PreviewMap:
    """A fitted map: whose it is, from how many latent pixels, and how near it comes to them.

    `vae` is the identity of the VAE's tensors. `psnr` is of the fitted pixels against the decoded
    frames in the latents' size, in dB.
    """

    vae: str
    colours: Colours
    pixels: int
    psnr: float
    about: str = ""

    @property
    def channels(self) -> int:
        """Of the latents."""
        return len(self.colours.weights)

    def write(self, path: Path) -> None:
        """Keep it; StageFailed where it can't be written."""
        data = {
            "wanflow_preview": _VERSION, "vae": self.vae, "about": self.about,
            "pixels": self.pixels, "psnr": round(self.psnr, 2),
            "weights": [[round(w, 6) for w in row] for row in self.colours.weights],
            "bias": [round(b, 6) for b in self.colours.bias],
        }  # fmt: skip
        write_json(path, data)

    @classmethod
    def read(cls, path: Path) -> PreviewMap:
        """Read one; OSError where there is none, InputError where it is damaged."""
        content = path.read_bytes()
        try:
            return cls._of(json.loads(content.decode("utf-8")))
        except _NO_MAP as error:
            raise InputError(
                f"{path}: is no preview map: {error}",
                hint="remove it, and fit it anew",
                code="bad-preview-map",
            ) from None

    @classmethod
    def _of(cls, data: dict[str, Any]) -> PreviewMap:
        weights = [[float(w) for w in row] for row in data["weights"]]
        bias = [float(b) for b in data["bias"]]
        if data["wanflow_preview"] != _VERSION or {len(row) for row in [*weights, bias]} != {3}:
            raise ValueError("another version, or not three numbers a colour")
        about = (int(data["pixels"]), float(data["psnr"]), str(data["about"]))
        return cls(str(data["vae"]), Colours(weights, bias), *about)


def kept_at(vae: str) -> Path:
    """Where the user's own map of a VAE is."""
    return config_folder() / "previews" / f"{vae[:16]}.json"


def bundled_at(vae: str) -> Path:
    """Where the map of a VAE is that comes with wanflow, if one does."""
    return _BUNDLED / f"{vae[:16]}.json"


def find_map(vae: str) -> PreviewMap | None:
    """Find the map of a VAE by its identity: the user's own, else one that comes with wanflow."""
    for path in (kept_at(vae), bundled_at(vae)):
        try:
            found = PreviewMap.read(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if found.vae == vae:
            return found
    return None


@attrs.frozen
class Previewing:
    """How the previews of a run look: the map (None: any, to plan), and how long a frame stays."""

    normalised: Colours | None = None
    frame_ms: int = 250

    def colours(self, channels: int) -> Colours:
        """The map for latents of so many *channels*."""
        return self.normalised or Colours.black(channels)
