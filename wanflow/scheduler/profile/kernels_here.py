"""What PyTorch says of its kernels on this computer; kept, so that it is known without PyTorch.

Loading it takes longer than a plan whose footprints are kept. What is kept is named by all that
PyTorch looks at when it decides: its build, the processor, how much of it we may use, and the
variables of the environment that its libraries read.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgpack

from wanflow.files.cache import Store, digest, plain

_KEY = b"kernels"
_VARIABLES = re.compile(r"(OMP|GOMP|KMP|MKL|DNNL|ONEDNN|ATEN|TORCH|PYTORCH)_")
_PROCESSOR = re.compile(
    r"^(?:vendor_id|model name|flags|Features|cpu cores|siblings)\s*:.*", re.MULTILINE
)


def kernels_here(folder: Path) -> dict[str, Any]:
    """Give what decides CPU kernels' workspaces, as plain data; asked of PyTorch where it's loaded.

    What is found out is kept in *folder*.
    """
    if "torch" in sys.modules:  # somebody may have changed its threads
        return _asked()
    store = Store(folder / f"{_computer()}.kernels")
    packed = store.find(_KEY)
    try:
        kept = None if packed is None else plain(packed)
    except ValueError:
        kept = None
    if isinstance(kept, dict):
        return {n: list(v) if isinstance(v, tuple) else v for n, v in kept.items()}
    found = _asked()
    store.add(_KEY, msgpack.packb(found))
    store.keep()
    return found


def _asked() -> dict[str, Any]:
    import torch

    mkldnn = torch.ops.mkldnn
    return {
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "onednn": [torch._C._get_mkldnn_enabled(), bool(mkldnn._is_mkldnn_bf16_supported())],  # noqa: SLF001
        "bf16": torch.cpu._is_avx512_bf16_supported(),  # noqa: SLF001
        "threads": torch.get_num_threads(),
        "default_dtype": str(torch.get_default_dtype()),
    }


@functools.cache
def _computer() -> str:
    """Name what a fresh PyTorch would find: digested, as it names a file."""
    try:
        told = sorted(set(_PROCESSOR.findall(Path("/proc/cpuinfo").read_text(encoding="utf-8"))))
    except OSError:
        told = [platform.processor()]
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    variables = {n: v for n, v in os.environ.items() if _VARIABLES.match(n)}
    versions = [version("torch"), platform.python_version(), platform.machine()]
    return digest([versions, told, os.cpu_count(), cpus, variables]).hex()
