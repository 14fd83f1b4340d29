"""What decides the cost of every call and is no part of it: kernels, versions, our own sources."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from wanflow import __version__
from wanflow.files.folders import PACKAGE

_DECIDING = ("models", "scheduler", "stages")  # folders of sources that shape calls or count them


def conditions(device: str) -> dict[str, object]:
    """Give what a profile for *device* (`cpu`, `cuda`) rests on, as plain data.

    Kernels choose their workspaces by the processor's instructions and the number of threads.
    """
    mkldnn = torch.ops.mkldnn
    return {
        "device": device,
        "versions": _versions(),
        "sources": sources_digest(PACKAGE),
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "onednn": [torch._C._get_mkldnn_enabled(), bool(mkldnn._is_mkldnn_bf16_supported())],  # noqa: SLF001
        "threads": torch.get_num_threads(),
        "default_dtype": str(torch.get_default_dtype()),
    }


@functools.cache
def _versions() -> dict[str, str]:
    names = ("diffusers", "transformers", "numpy")
    return {
        "wanflow": __version__, "torch": torch.__version__, "python": platform.python_version(),
        **{name: version(name) for name in names},
    }  # fmt: skip


@functools.cache
def sources_digest(package: Path) -> str:
    """Digest the sources of *package* that decide costs: their names, sizes and contents."""
    digest = hashlib.sha256()
    for folder in _DECIDING:
        for path in sorted((package / folder).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
