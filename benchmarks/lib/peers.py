"""Diffusers' and transformers' own way through one stage, with what they offer to save memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from benchmarks.lib.alone import Alone
from benchmarks.lib.stage_case import tokenize
from wanflow.models.segments.upstream import build_upstream
from wanflow.models.wan import vae
from wanflow.stages.clip import Clip

DIFFUSERS = "diffusers"
Took = Callable[[], None]  # is called as each step ends


@attrs.frozen
class Peer:
    """A stage's module in a pipeline of its own, and what is done with it."""

    alone: Alone
    part: str

    @classmethod
    def of(cls, alone: Alone) -> Peer:
        """Take the module that the stage has."""
        part = alone.program.setup.bound.op.model_part
        return cls(alone, str(part))

    @property
    def ways(self) -> tuple[str, ...]:
        """As it comes, and what saves memory."""
        offloads = ("model offload", "group offload")
        return (DIFFUSERS, *(("tiling",) if self.part == "vae" else ()), *offloads)

    def run(self, pipe: Any, way: str, took: Took) -> torch.Tensor:
        """Set a pipeline up in a way and do the stage's work; the result on the host."""
        _WAYS[way](pipe, self.alone.place.device)
        work = {
            "encode_text": self._encode, "denoise": self._denoise, "decode_frames": self._decode,
            "encode_frames": self._encode_frames,
        }  # fmt: skip
        with torch.no_grad():
            made = work[self.alone.program.op](pipe, took)
        pipe.remove_all_hooks()
        return made.cpu()

    def pipeline(self) -> Any:
        """Build the module in a pipeline that has nothing else, its weights in host memory."""
        from diffusers import UniPCMultistepScheduler, WanPipeline

        case, bound = self.alone.case, self.alone.model.module
        fields = {n: value for n, value in vars(bound.config).items() if value is not None}
        module = build_upstream(self.part, fields)
        self.alone.weights.fill(module, case.precision)
        shift = float(self.alone.program.setup.bound.params.get("shift", 1.0))
        scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
        )
        parts: dict[str, Any] = {"tokenizer": None, "text_encoder": None, "vae": None}
        pipe: Any = WanPipeline(**{**parts, self.part: module}, scheduler=scheduler)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _denoise(self, pipe: Any, took: Took) -> torch.Tensor:
        case, values = self.alone.case, self.alone.values
        width, height = map(int, case.size.split("*"))
        setup, device = self.alone.program.setup, self.alone.place.device

        def stepped(_pipe: Any, _step: int, _time: Any, given: dict[str, Any]) -> dict[str, Any]:
            given["latents"].cpu()  # waits for the card
            took()
            return given

        made = pipe(
            prompt_embeds=values[f"{setup.source('text')}.positive"].to(device),
            latents=values[setup.source("latents")].to(device), width=width, height=height,
            num_frames=case.frames, num_inference_steps=case.steps, guidance_scale=1.0,
            output_type="latent", callback_on_step_end=stepped,
        )  # fmt: skip
        return torch.as_tensor(made.frames)

    def _decode(self, pipe: Any, took: Took) -> torch.Tensor:
        setup, device, config = self.alone.program.setup, self.alone.place.device, pipe.vae.config
        latents = self.alone.values[setup.source("latents")].to(device, pipe.vae.dtype)
        mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1).to(latents)
        inverse = 1.0 / torch.tensor(config.latents_std).view(1, -1, 1, 1, 1).to(latents)
        decoded = pipe.vae.decode(latents / inverse + mean, return_dict=False)[0]
        made = vae.to_frames(pipe.vae, decoded).cpu()
        took()
        return made

    def _encode_frames(self, pipe: Any, took: Took) -> torch.Tensor:
        """Read the clip and encode it, as `WanImageToVideoPipeline.prepare_latents` does."""
        device, config = self.alone.place.device, pipe.vae.config
        setup = self.alone.program.setup
        pixels = torch.cat([*Clip.of(setup).read(setup.around)], 1).to(device)
        clip = (pixels[None].float() / 255 * 2 - 1).to(pipe.vae.dtype)
        mode = pipe.vae.encode(clip).latent_dist.mode().float()
        mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1).to(mode)
        inverse = 1.0 / torch.tensor(config.latents_std).view(1, -1, 1, 1, 1).to(mode)
        made = ((mode - mean) * inverse).cpu()
        took()
        return torch.as_tensor(made)

    def _encode(self, pipe: Any, took: Took) -> torch.Tensor:
        device = self.alone.place.device
        ids, mask = tokenize("", int(self.alone.program.setup.param("max_tokens")))
        given = (torch.tensor([row], device=device) for row in (ids, mask))
        made = pipe.text_encoder(*given).last_hidden_state
        made[:, sum(mask) :] = 0
        made = made.cpu()
        took()
        return torch.as_tensor(made)


def _resident(pipe: Any, device: torch.device) -> None:
    pipe.to(device)


def _tiled(pipe: Any, device: torch.device) -> None:
    pipe.to(device)
    pipe.vae.enable_tiling()


def _model_offload(pipe: Any, device: torch.device) -> None:
    pipe.enable_model_cpu_offload(device=device)


def _group_offload(pipe: Any, device: torch.device) -> None:
    """Leaf by leaf, the next one loaded ahead on a stream, which only a card has."""
    streams = device.type != "cpu"
    pipe.enable_group_offload(device, offload_type="leaf_level", use_stream=streams)


_WAYS: Mapping[str, Callable[[Any, torch.device], None]] = {
    DIFFUSERS: _resident, "tiling": _tiled, "model offload": _model_offload,
    "group offload": _group_offload,
}  # fmt: skip
