"""The card that the emulator poses as, with its driver and its build of PyTorch."""

from __future__ import annotations

import attrs

from wanflow.units import GIB, MIB

_CU130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")  # wheels of torch 2.11 and later


@attrs.define
class Faults:
    """What the driver refuses; a test may change it while the card runs."""

    refuses_registering: bool = False  # cudaHostRegister
    refuses_pinned: bool = False  # pin_memory=True
    refuses_expandable_segments: bool = False


@attrs.frozen
class Card:
    """What `torch.cuda` and the driver tell; by default an RTX 4060 that does all it is asked.

    Where PyTorch can't use the card, `unusable` has its words (empty: this build has no CUDA).
    """

    name: str = "NVIDIA GeForce RTX 4060"
    capability: tuple[int, int] = (8, 9)
    total_bytes: int = 8 * GIB
    processors: int = 24
    count: int = 1
    context_bytes: int = 256 * MIB
    kernels_bytes: int = 144 * MIB  # by how much the context grows with the first kernel
    used_bytes: int = 0  # by other programs
    driver: str = "580.95.05"  # empty: none of NVIDIA's
    driver_cuda: tuple[int, int] = (13, 0)
    cuda: str | None = "13.0"  # torch.version.cuda
    hip: str | None = None  # torch.version.hip
    cudnn: int | None = 91900
    arch_list: tuple[str, ...] = _CU130
    unusable: str | None = None
    wsl: bool = False
    defers: bool = True  # asynchronous copies happen as late as their order allows
    faults: Faults = attrs.field(factory=Faults)


_TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 12040). "
    "Please update your GPU driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to "
    "install a PyTorch version that has been compiled with your version of the CUDA driver. "
    "(Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:119.)"
)

CARDS = {
    "rtx4060": Card(),
    "rtx2080": Card(
        name="NVIDIA GeForce RTX 2080", capability=(7, 5), processors=46, total_bytes=8 * GIB
    ),
    "p40": Card(name="Tesla P40", capability=(6, 1), processors=30, total_bytes=24 * GIB),
    "t4": Card(name="Tesla T4", capability=(7, 5), processors=40, total_bytes=15 * GIB),
    "h200": Card(name="NVIDIA H200", capability=(9, 0), processors=132, total_bytes=140 * GIB),
    "mi300x": Card(
        name="AMD Instinct MI300X", capability=(9, 4), processors=304, total_bytes=192 * GIB,
        driver="", cuda=None, hip="7.0.51831", cudnn=3004000,
        arch_list=("gfx90a", "gfx942", "gfx1100"),
    ),
    "cpu-wheel": Card(cuda=None, cudnn=None, arch_list=(), unusable=""),
    "old-driver": Card(driver="550.54.14", driver_cuda=(12, 4), unusable=_TOO_OLD),
    "wsl": Card(
        wsl=True, faults=Faults(refuses_registering=True, refuses_expandable_segments=True)
    ),
}  # fmt: skip
