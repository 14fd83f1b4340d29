"""A machine: its tiers with their capacities, and its rates. Probed or named; no torch.

Named machines carry datasheet figures, marked as estimates: dense tensor-core rates with fp32
accumulation (NVIDIA's architecture whitepapers), taken at a share that large kernels reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import attrs

from wanflow.errors import InputError
from wanflow.units import GIB, MIB

_T, _G = 1e12, 1e9
# Of its datasheet rate a large kernel reaches about so much.
_REACHED = {"gemm": 0.7, "attention": 0.5, "conv": 0.4}


@attrs.frozen
class Machine:
    """Capacities in bytes, rates in FLOP/s and bytes/s. `estimated`: nothing here was measured.

    `context_bytes` is what the driver takes before the first tensor. On a CPU the device is the RAM
    itself: there is no host tier, and `upload_rate` is not used.
    """

    name: str
    device: str  # cpu or cuda
    capacity_bytes: int
    context_bytes: int
    flops: Mapping[str, float]  # by dtype: bfloat16, float16, float32
    memory_rate: float
    upload_rate: float
    disk_rate: float
    estimated: bool = True

    def compute_seconds(self, flops: Mapping[str, float], memory_bytes: int, dtype: str) -> float:
        """Time of a call's kernels, one after the other."""
        peak = self.flops.get(dtype, self.flops["float32"])
        kernels = sum(amount / (peak * _REACHED[kind]) for kind, amount in flops.items())
        return kernels + memory_bytes / self.memory_rate

    def load_seconds(self, nbytes: int) -> float:
        """Time to bring weights from the disk to the device, nothing overlapped."""
        upload = nbytes / self.upload_rate if self.device == "cuda" else 0.0
        return nbytes / self.disk_rate + upload


def _gpu(
    name: str, gib: float, half: float, single: float, memory: float, upload: float
) -> Machine:
    """A named GPU: GiB, half and single TFLOP/s, memory and upload GB/s."""
    flops = {"bfloat16": half * _T, "float16": half * _T, "float32": single * _T}
    total_bytes = int(gib * GIB)
    context_bytes = 512 * MIB
    return Machine(
        name, "cuda", total_bytes, context_bytes, flops, memory * _G, upload * _G, 3.5 * _G
    )


_NAMED = {
    m.name: m
    for m in (
        _gpu("rtx3060", 12, 51, 12.7, 360, 22),
        _gpu("rtx4060", 8, 60, 15.1, 272, 12),
        _gpu("rtx4070s", 12, 142, 35.5, 504, 24),
        _gpu("rtx4090", 24, 165, 82.6, 1008, 24),
        _gpu("rtx5090", 32, 209, 104.8, 1792, 48),
        _gpu("a100-40g", 40, 312, 19.5, 1555, 24),
        _gpu("a100-80g", 80, 312, 19.5, 2039, 24),
        _gpu("h100", 80, 989, 67, 3350, 50),
        _gpu("h200", 141, 989, 67, 4800, 50),
    )
}


def cpu_machine(total_bytes: int) -> Machine:
    """This computer's processor and RAM, with rates of an ordinary two-core machine."""
    flops = {"float32": 180 * _G, "bfloat16": 400 * _G, "float16": 180 * _G}
    return Machine("cpu", "cpu", total_bytes, 0, flops, 10 * _G, 10 * _G, 2 * _G)


def named_machine(name: str) -> Machine:
    """Look a machine up by name; InputError lists the names."""
    if name == "cpu":
        return cpu_machine(16 * GIB)
    found = _NAMED.get(name.lower())
    if found is None:
        close = get_close_matches(name.lower(), [*_NAMED, "cpu"], n=1)
        did = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(
            f"--machine {name!r} is not known",
            hint=f"{did}known: cpu, {', '.join(_NAMED)}",
            code="unknown-machine",
        )
    return found
