"""Graph files and random weights for a transformer by itself: text, noise, denoise, latents out."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from scripts.make_checkpoint import make_part
from wanflow.graph.configs import known_config
from wanflow.session import Request

_TEXT = {"vocab_size": 1024, "d_kv": 64, "d_ff": 256, "num_layers": 1, "num_heads": 4}
_GRAPH = """\
wanflow: 1
name: {name}
about: A benchmark's transformer by itself
inputs:
  prompt: {{type: text, default: a red circle moves right on a blue background}}
  size: {{type: size, default: {size}}}
  frames: {{type: int, default: {frames}}}
  steps: {{type: int, default: {steps}}}
  guidance: {{type: float, default: {guidance}}}
models:
  text: {{part: text_encoder, config: {text}, path: {path}, precision: {precision}}}
  dit: {{part: transformer, config: {config}, path: {path}, precision: {precision}}}
stages:
  encode:
    op: encode_text
    model: text
    in: {{prompt: $prompt, negative_prompt: $negative_prompt}}
    params: {{max_tokens: {tokens}}}
  noise:
    op: noise
    in: {{size: $size, frames: $frames, seed: $seed}}
  denoise:
    op: denoise
    model: dit
    in: {{text: encode.text, latents: noise.latents}}
    params: {{steps: $steps, sampler: unipc, shift: 5.0, guidance: $guidance}}
outputs:
  latents: denoise.latents
"""


@attrs.frozen
class Case:
    """A known transformer at one size, or some of its *layers*.

    The text encoder has its width and next to nothing else.
    """

    name: str
    config: str
    size: str
    frames: int
    steps: int
    guidance: float
    precision: str = "bf16"
    stored: str = "bf16"
    tokens: int = 512
    layers: int | None = None

    def files(self, scratch: Path) -> tuple[Path, Path]:
        """Make the weights unless they are there; return the graph file and the transformer's."""
        dit = known_config(self.config, "transformer")
        name, config = self.config, self.config
        if self.layers is not None:
            dit = {**dit, "num_layers": self.layers}
            name, config = f"{self.config}-{self.layers}-layers", json.dumps(dit)
        weights = (scratch / f"{name}-{self.stored}").resolve()
        text = known_config(self.config, "text_encoder") | _TEXT
        make_part(weights, "text_encoder", text, self.stored)
        folder = make_part(weights, "transformer", dit, self.stored)
        told = {**attrs.asdict(self), "text": json.dumps(text), "path": json.dumps(str(weights))}
        told["config"] = config
        graph = scratch / f"{self.name}.yaml"
        graph.write_text(_GRAPH.format(**told))
        return graph, folder

    def request(self, graph: Path, device: str, vram: str, pins: tuple[str, ...] = ()) -> Request:
        """Ask for it, exactly."""
        return Request(
            str(graph), vram=vram, device=device, pins=pins, exact=True, prompt_cache=False
        )


def tiny(case: Case) -> Case:
    """The same question, to be answered in a second: for the suite."""
    return attrs.evolve(
        case, config="wan-tiny", size="64*64", frames=17, precision="fp32", tokens=16, layers=None
    )
