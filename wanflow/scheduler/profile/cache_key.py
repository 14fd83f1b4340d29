"""What decides the cost of every call and is no part of it: kernels, versions, our own sources."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

from wanflow import __version__
from wanflow.files.folders import PACKAGE
from wanflow.scheduler.profile.kernels_here import kernels_here
from wanflow.scheduler.profile.kind_cache import folder

_DECIDING = (
    "models",
    "scheduler",
    "session/planning",
    "stages",
)  # sources that shape, count, choose


def conditions(device: str) -> dict[str, object]:
    """Give what a profile for *device* (`cpu`, `cuda`) rests on, as plain data.

    Kernels choose their workspaces by the processor's instructions and the number of threads.
    """
    return {
        "device": device,
        "versions": _versions(),
        "sources": sources_digest(PACKAGE),
        **kernels_here(folder()),
    }


@functools.cache
def _versions() -> dict[str, str]:
    names = ("torch", "diffusers", "transformers", "numpy")
    return {
        "wanflow": __version__, "python": platform.python_version(),
        **{name: version(name) for name in names},
    }  # fmt: skip


@functools.cache
def sources_digest(package: Path) -> str:
    """Digest the sources of *package* that decide costs: their names, sizes and contents."""
    digest = hashlib.sha256()
    for part in _DECIDING:
        for path in sorted((package / part).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()
