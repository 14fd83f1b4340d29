"""What a transformer is given beside noise and text: latents of given frames, pictures' tokens.

    36 channels in, 16 out   noise, mask and condition beside each other
    as many in as out        frames of the condition in place of the noise's, at a time of zero

Tokens of given frames have a timestep of their own then. There are two timesteps in all, so their
embeddings are projected once and each token takes the row that it names.

The order of operations is `WanImageToVideoPipeline.__call__`'s.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch

from wanflow.errors import InputError
from wanflow.graph import PortRef
from wanflow.scheduler.program import Tensors
from wanflow.stages.base import StageSetup

# Rows of the two timesteps' embeddings, each many times: of so many rows MKL's fp32 products give
# each row the bits that it has among those of all tokens, which is what upstream projects.
_REPEATS = 8


@attrs.frozen
class Conditions:
    """The names of the values that condition a stage; "" where there is none."""

    latents: str = ""
    mask: str = ""
    image: str = ""
    times: str = ""  # which of two timesteps a token has, where upstream gives it a row of its own

    @classmethod
    def of(cls, setup: StageSetup) -> Conditions:
        """Read the ports of a stage; InputError where its model takes something else."""
        ports = {"latents": "condition", "mask": "mask", "image": "image"}
        inputs = setup.bound.inputs
        given = {n: setup.source(p) for n, p in ports.items() if isinstance(inputs.get(p), PortRef)}
        own = setup.param("token_timesteps") == "own"
        own = own or ("latents" in given and "mask" not in given)
        made = cls(**given, times=setup.own("times") if own else "")
        made.check(setup)
        return made

    def check(self, setup: StageSetup) -> None:
        """InputError when the model has no place for what is given, or wants more."""
        config: Any = setup.module().module.config
        wider = config.in_channels != config.out_channels
        wants = {
            "condition": wider or bool(self.latents),
            "mask": wider,
            "image": config.image_dim is not None,
        }
        found = {"condition": self.latents, "mask": self.mask, "image": self.image}
        for port, name in found.items():
            if bool(name) is not wants[port]:
                message = f"stage '{setup.bound.name}': its model "
                message += f"takes no {port}" if name else f"wants a {port}"
                raise InputError(message, code="model-mismatch")
        space = setup.around.latent_space
        channels = 2 * space.channels + space.temporal
        if wider and config.in_channels != channels:
            raise InputError(
                f"stage '{setup.bound.name}': noise, mask and condition have {channels} channels, "
                f"its model takes {config.in_channels}",
                code="model-mismatch",
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that the first call of a forward reads."""
        return tuple(name for name in (self.latents, self.mask, self.image) if name)

    @property
    def replaces(self) -> bool:
        """Whether frames of the condition stand in the place of the noise's."""
        return bool(self.latents) and not self.mask

    def joined(self, values: Tensors, latents: str) -> torch.Tensor:
        """What the transformer takes for the noisy *latents*."""
        noisy = values[latents]
        if not self.latents:
            return noisy
        if self.replaces:
            return self.replaced(values, latents)
        return torch.cat([noisy, values[self.mask], values[self.latents]], dim=1)

    def replaced(self, values: Tensors, latents: str) -> torch.Tensor:
        """Put the condition's frames into the latents."""
        noisy = values[latents]
        free = self.free(values, noisy)
        return (1 - free) * values[self.latents] + free * noisy

    def free(self, values: Tensors, noisy: torch.Tensor) -> torch.Tensor:
        """One where a latent is denoised, zero where it is given: `[1, 1, F, h, w]`."""
        made = torch.ones_like(noisy[:, :1])
        if self.replaces:
            made[:, :, : values[self.latents].shape[2]] = 0
        return made

    def distinct(self, at: torch.Tensor) -> torch.Tensor:
        """Give the timesteps of a forward: `[1]`, or zero and *at* by turns, of which tokens take.

        What is given has zero.
        """
        if not self.times:
            return at.expand(1)
        return torch.stack([torch.zeros_like(at), at]).float().repeat(_REPEATS)

    @property
    def timed(self) -> tuple[str, ...]:
        """The value that every call reads which wants a token's timestep."""
        return (self.times,) if self.times else ()

    def named(self, values: Tensors) -> torch.Tensor | None:
        """That value, `[1, tokens]`; None where all tokens share a timestep."""
        return values[self.times] if self.times else None

    def index(self, values: Tensors, latents: str) -> torch.Tensor:
        """Which of the distinct timesteps a token has: `[1, tokens]` int64."""
        free = self.free(values, values[latents])[0][0][:, ::2, ::2]
        return free.flatten().unsqueeze(0).long()

    def seen(self, values: Tensors) -> torch.Tensor | None:
        """The pictures' tokens."""
        return values[self.image] if self.image else None
