"""Peaks of a VAE's encode by profile: diffusers' own, and every setting of the stage's strips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import attrs
import torch

from benchmarks.lib.programs import SPACE, Calls, vae_stage
from wanflow.graph import PortRef, Size
from wanflow.graph.configs import known_config
from wanflow.graph.values import Value
from wanflow.models.segments.cut import DTYPES
from wanflow.models.segments.upstream import build_upstream
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call, Program, Tensors

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


def _plain(case: Encode) -> Program:
    """A program of one call: the module's own `encode`, all of the encoder's weights there."""
    module = build_upstream("vae", known_config("wan2.1-t2v-1.3b", "vae"))
    dtype, size = DTYPES[case.precision], case.size

    def encode(_values: Tensors) -> Tensors:
        for name, parameter in list(module.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            if not name.startswith(("decoder.", "post_quant_conv.")):
                made = torch.nn.Parameter(torch.empty(parameter.shape, dtype=dtype))
                setattr(module.get_submodule(owner), leaf, made)
        clip = torch.zeros(1, 3, case.frames, size.height, size.width, dtype=dtype)
        return {"see.latents": cast("Any", module).encode(clip).latent_dist.mode()}

    return Calls("see", (Call("encode", encode),))


def program(case: Encode) -> Program:
    """Make the stage."""
    shape = SPACE.shape(case.size.width, case.size.height, case.frames)
    inputs: dict[str, Value | PortRef] = {
        "video": "(video)",
        "size": case.size,
        "frames": case.frames,
    }
    return vae_stage("see", "encode_frames", inputs, shape, case.precision)


def footprint(case: Encode, strips: str) -> Footprint:
    """Profile the stage at a setting, as it is for a card; `plain` is diffusers' own."""
    if strips == "plain":
        return Profiler("cuda").profile((_plain(case),), {}, lambda _name: True)
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
        flops = sum(sum(step.cost.flops.values()) for step in found.calls)
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
