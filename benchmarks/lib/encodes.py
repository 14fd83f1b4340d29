"""Peaks of a VAE's encode by profile: diffusers' own, and every setting of the stage's strips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch

from wanflow.graph import PortRef, Size
from wanflow.graph.bind import BoundStage
from wanflow.graph.configs import known_config
from wanflow.graph.ops import OPS
from wanflow.graph.values import Value
from wanflow.models.bound import segmentation_of
from wanflow.models.build import build
from wanflow.models.segments import DTYPES, BoundModule
from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.lifetimes import lifetimes
from wanflow.scheduler.machine_names import named_machine
from wanflow.scheduler.planner import plan
from wanflow.scheduler.profiler import Profiler
from wanflow.scheduler.program import Call, Knob, Model, Program, ShapeOf, Tensors
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program

_SPACE = LatentSpace(channels=16, spatial=8, temporal=4)
_RAM_BYTES = 64 * 2**30


@attrs.frozen
class Encode:
    """A clip of *frames* frames, all of them given, and the precision of Wan 2.1's VAE."""

    size: Size
    frames: int
    precision: str


_480P, _720P = Size(832, 480), Size(1280, 720)
CASES = {
    **{f"encode-480p-{n}": Encode(_480P, n, "bf16") for n in (17, 81, 161)},
    **{f"encode-720p-{n}": Encode(_720P, n, "fp32") for n in (17, 81, 161)},
}


@attrs.frozen
class _Plain:
    """A program of one call: the module's own `encode`, all of the encoder's weights there."""

    case: Encode
    module: Any
    stage: str = "see"
    op: str = "encode_frames"
    steps: int = 1
    model: Model | None = None
    consumes: str | None = None
    knobs: tuple[Knob, ...] = ()

    def calls(self, _knobs: Mapping[str, str], _shape: ShapeOf) -> Iterator[Call]:
        yield Call("encode", self._encode)

    def _encode(self, _values: Tensors) -> Tensors:
        dtype, size = DTYPES[self.case.precision], self.case.size
        for name, parameter in list(self.module.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            if not name.startswith(("decoder.", "post_quant_conv.")):
                made = torch.nn.Parameter(torch.empty(parameter.shape, dtype=dtype))
                setattr(self.module.get_submodule(owner), leaf, made)
        clip = torch.zeros(1, 3, self.case.frames, size.height, size.width, dtype=dtype)
        return {"see.latents": self.module.encode(clip).latent_dist.mode()}


def program(case: Encode) -> Program:
    """Make the stage."""
    module = build("vae", known_config("wan2.1-t2v-1.3b", "vae"))
    found = segmentation_of("vae", module, {"encode_frames"})
    model = BoundModule("vae", module, found, 0, case.precision)
    shape = _SPACE.shape(case.size.width, case.size.height, case.frames)
    around = Surroundings(
        torch.device("cpu"), _SPACE, shape, None, {}, None, wants_negative=False
    )  # fmt: skip
    inputs: dict[str, Value | PortRef] = {
        "video": "(video)",
        "size": case.size,
        "frames": case.frames,
    }
    bound = BoundStage("see", OPS["encode_frames"], None, inputs, {})
    return make_program(StageSetup(bound, model, around))


def footprint(case: Encode, strips: str) -> Footprint:
    """Profile the stage at a setting, as it is for a card; `plain` is diffusers' own."""
    if strips == "plain":
        module = build("vae", known_config("wan2.1-t2v-1.3b", "vae"))
        programs: tuple[Program, ...] = (_Plain(case, module),)
        return Profiler("cuda").profile(programs, {}, lambda _name: True)
    knobs = {"see": {"strips": strips}}
    return Profiler("cuda").profile((program(case),), knobs, lambda name: name == "see.latents")


def measure(name: str) -> list[dict[str, Any]]:
    """Profile every way to encode a clip."""
    (knob,) = program(CASES[name]).knobs
    rows = measured(CASES[name], ("plain", *knob.choices))
    return [{"model": name, **row} for row in rows]


def measured(case: Encode, settings: Sequence[str]) -> list[dict[str, Any]]:
    """Profile some; `peak_bytes` is of the smallest plan, weights included.

    `host_bytes` and `traffic_bytes`, each way, are of the same plan: what waits on the host. Shares
    are of the first setting's.
    """
    rows: list[dict[str, Any]] = []
    for strips in settings:
        found = footprint(case, strips)
        spills = {} if strips == "plain" else {"see": "all"}
        made = plan([found], named_machine("rtx4090"), 1, None, _RAM_BYTES, spills)
        flops = sum(sum(step.cost.flops.values()) for step in found.steps)
        rows.append(
            {
                "strips": strips, "peak_bytes": made.minimum_bytes,
                "peak_without_host_bytes": max(lifetimes(found).need_bytes), "flops": flops,
                "host_bytes": made.host.nbytes,
                "traffic_bytes": sum(stage.spilled_bytes for stage in made.stages),
            }
        )  # fmt: skip
        for what in ("peak_bytes", "flops"):
            share = rows[-1][what] / rows[0][what]
            rows[-1][f"{what.removesuffix('_bytes')}_over_plain"] = round(share, 4)
    return rows
