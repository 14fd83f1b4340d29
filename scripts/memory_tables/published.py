"""The figures that were published, and the same calculated: modules on meta, the allocator played.

The README before this project says 10.58 + 0.47 + 5.31 = 16.37 of models, 9.9 of activations, 26.27
in all (GiB). The logs that it was made from are in the repository's reports: `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch

from benchmarks.lib.programs import SPACE, Calls
from wanflow.graph.configs import known_config
from wanflow.models.segments.upstream import build_upstream
from wanflow.scheduler.allocator.plain import Allocator, Block
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.profile.kernel_workspace import nothing
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call, Tensors

CONFIG = "wan2.1-t2v-1.3b"
WIDTH, HEIGHT, FRAMES, STEPS = 832, 480, 81, 50
BF16, FP32 = 2, 4  # bytes

# Of zysno1/Wan2.1-Enhanced: commit and file, which is what it says and no more.
SOURCES = {
    "parts": "10fb19a enhanced_memory_analysis_report.md",
    "baseline": "e0ef976 enhanced_memory_analysis_report_20250706_232012.md",
    "later baseline": "2c5e7fb enhanced_memory_analysis_report_20250708_081648.md",
    "offload": "2c5e7fb enhanced_memory_analysis_report_20250708_083546.md",
}

# MiB unless the name says otherwise.
LOGGED: Mapping[str, float] = {
    "t5": 10836.48,
    "vae": 485.95,
    "dit": 5439.81,
    "models": 16762.24,
    "loading peak": 23674.95,
    "vae alone": 505.75,
    "dit alone": 5413.04,
    "later peak": 24656.08,
    "offload peak": 8392.35,
    "a step": 64.5,
}
# Seconds of the later baseline, on an L40S; with offload T5 ran on the CPU.
LOGGED_SECONDS: Mapping[str, float] = {
    "whole": 233.63,
    "t5": 0.90,
    "dit": 223.40,
    "vae": 9.13,
    "offload whole": 645.46,
}


@attrs.frozen
class Loaded:
    """Bytes of blocks that PyTorch's allocator has in use for the models, as each is loaded.

    `peak` is the most while T5 is: its module is made in fp32 on the card and cast tensor by
    tensor, and the cached blocks that this leaves are where the other two find theirs.
    """

    t5: int
    vae: int
    dit: int
    peak: int
    vae_alone: int
    dit_alone: int

    @property
    def models(self) -> int:
        """All three."""
        return self.t5 + self.vae + self.dit


def numbers_of(part: str) -> list[int]:
    """How many numbers each parameter of a part has, in the module's order."""
    return [p.numel() for p in build_upstream(part, known_config(CONFIG, part)).parameters()]


def loaded() -> Loaded:
    """Play the loading of the published baseline, and of the run in which T5 was elsewhere."""
    text, vae, dit = map(numbers_of, ("text_encoder", "vae", "transformer"))
    card, fresh = Allocator(), Allocator()
    made = [card.take(FP32 * count) for count in text]
    peak = _cast(card, text, made)
    t5 = card.used_bytes
    beside = _more(card, vae), _more(card, dit)
    return Loaded(t5, *beside, peak, _more(fresh, vae), _more(fresh, dit))


def _cast(card: Allocator, counts: Sequence[int], made: Sequence[Block]) -> int:
    """Take each tensor in bf16 and give the fp32 one back; return the most in use meanwhile."""
    peak = card.used_bytes
    for count, block in zip(counts, made, strict=True):
        card.take(BF16 * count)
        peak = max(peak, card.used_bytes)
        card.give(block)
    return peak


def _more(card: Allocator, counts: Sequence[int]) -> int:
    """Bytes in use that a module in fp32 adds."""
    before = card.used_bytes
    for count in counts:
        card.take(FP32 * count)
    return card.used_bytes - before


def upstream_decode_bytes() -> int:
    """The most that diffusers' decode of whole frames has of tensors beside its weights, in fp32.

    By fake tensors, without what cuDNN takes for itself, which no card has been asked here.
    """
    module: Any = build_upstream("vae", known_config(CONFIG, "vae"))
    weights = FP32 * sum(numbers_of("vae"))

    def decode(values: Tensors) -> Tensors:
        for name, parameter in list(module.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            made = torch.nn.Parameter(torch.empty(parameter.shape), requires_grad=False)
            setattr(module.get_submodule(owner), leaf, made)
        return {"decode.frames": module.decode(values["denoise.latents"]).sample}

    shape = SPACE.shape(WIDTH, HEIGHT, FRAMES)
    given = Call("given", lambda _values: {"denoise.latents": torch.zeros(shape)})
    calls = Calls("decode", (given, Call("decode", decode, ("denoise.latents",))))
    profiler = Profiler("cuda")
    profiler._workspace = lambda _op: nothing  # noqa: SLF001 - of tensors alone
    found = profiler.profile((calls,), {}, lambda _name: False)
    return max(lifetimes(found).need_bytes) - weights
