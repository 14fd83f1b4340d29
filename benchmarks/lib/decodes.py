"""Peaks of a VAE's decode by profile: the stage whole and in strips, as on a card with a host.

A peak counts the weights (a part of the decoder at a time, as the plan may have it), values, states
and what kernels take. With `resident` nothing waits on the host; with `spilled` all that waits for
its next use does, or of it only the line buffers, strips and finished rows (`lines`).
"""

from __future__ import annotations

from typing import Any

import attrs
import torch

from benchmarks.lib.programs import SPACE, Calls, vae_stage
from wanflow.graph import PortRef
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.plan.spill import Gap, gaps_of
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call, Program

_LINES = ("state.line.", "state.wait.", "strip@", "rows@")


@attrs.frozen
class Decode:
    """A clip, the precision of Wan 2.1's VAE, and the settings of the stage to look at."""

    width: int
    height: int
    frames: int
    precision: str
    settings: tuple[str, ...]


_480P = ("strips.16", "strips.8", "strips.4")
_720P = ("strips.32", "strips.8", "strips.4")
CASES = {
    **{f"decode-480p-{n}": Decode(832, 480, n, "bf16", _480P) for n in (17, 81, 161)},
    **{f"decode-720p-{n}": Decode(1280, 720, n, "fp32", _720P) for n in (17, 81, 161)},
}


def program(case: Decode) -> Program:
    """Make the stage."""
    ports = {"latents": PortRef("denoise", "latents")}
    return vae_stage("decode", "decode_frames", ports, _latent_shape(case), case.precision)


def _latent_shape(case: Decode) -> tuple[int, ...]:
    return SPACE.shape(case.width, case.height, case.frames)


def footprint(case: Decode, setting: str) -> Footprint:
    """Profile the stage at a setting, its latents given."""
    made = Call("given", lambda _values: {"denoise.latents": torch.zeros(_latent_shape(case))})
    given = Calls("denoise", (made,))
    knobs = {"decode": {"strips": setting}}
    return Profiler("cuda").profile((given, program(case)), knobs, lambda _name: False)


def row(name: str, case: Decode, setting: str) -> dict[str, Any]:
    """Give a setting's peaks, the bytes on the host and those that go there; as many come back."""
    found = footprint(case, setting)
    gaps = gaps_of(found)
    lines = [gap for gap in gaps if gap.name.partition(".")[2].startswith(_LINES)]
    told: dict[str, Any] = {"model": name, "rows": setting, "calls": len(found.calls)}
    for what, away in (("resident", []), ("lines", lines), ("spilled", gaps)):
        told |= {
            f"{what}_peak_bytes": max(lifetimes(found).without(away).need_bytes),
            f"{what}_host_bytes": _host_bytes(away, len(found.calls)),
            f"{what}_traffic_bytes": sum(gap.nbytes for gap in away),
        }
    told["flops"] = sum(sum(step.cost.flops.values()) for step in found.calls)
    return told


def measure(name: str) -> list[dict[str, Any]]:
    """Profile every setting of a case, the plain one first."""
    case = CASES[name]
    rows = [row(name, case, setting) for setting in ("whole", *case.settings)]
    for each in rows:
        each["flops_over_plain"] = round(each["flops"] / rows[0]["flops"], 4)
    return rows


def _host_bytes(gaps: list[Gap] | tuple[Gap, ...], calls: int) -> int:
    changes = [0] * (calls + 2)
    for gap in gaps:
        changes[gap.leaves] += gap.nbytes
        changes[gap.comes] -= gap.nbytes
    most = now = 0
    for change in changes:
        now += change
        most = max(most, now)
    return most
