"""What this machine offers to a run: packages, RAM, codecs, folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs

from wanflow import __version__
from wanflow.memory_limits import RAM, MemoryLimit, pinned_bytes, tightest_free, tightest_total
from wanflow.units import format_bytes

PACKAGES = ("torch", "diffusers", "transformers", "av", "safetensors", "msgpack")


@attrs.frozen
class DeviceReport:
    """A place to compute, with the memory that is there and what of it is free now."""

    name: str
    about: str
    total_bytes: int
    free_bytes: int


@attrs.frozen
class Folder:
    """A folder we write to: whether we may, and the room on its disk."""

    path: str
    writable: bool
    free_bytes: int


def package_versions() -> dict[str, str]:
    """Name what is installed, without importing any of it."""
    versions = {"wanflow": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def host() -> DeviceReport:
    """Measure the RAM that this process may use, a container's limit included."""
    total, free = tightest_total(), tightest_free()
    about = ", ".join([f"{os.cpu_count()} cores", *sorted(limits_said(total, free))])
    return DeviceReport("cpu", about, total.total_bytes, free.free_bytes)


def limits_said(*limits: MemoryLimit) -> set[str]:
    """Name what limits the RAM but the RAM itself."""
    return {f"limited by {limit.name}" for limit in limits if limit.name != RAM}


def pinned() -> str:
    """Say how much memory may be pinned; drivers differ in whether they count it."""
    nbytes = pinned_bytes()
    return "unlimited" if nbytes is None else f"{format_bytes(nbytes)} (ulimit -l)"


def encoders() -> dict[str, bool]:
    """Say which video encoders PyAV carries."""
    import av

    return {name: name in av.codecs_available for name in ("libx264", "h264_nvenc", "libsvtav1")}


def folder(path: Path) -> Folder:
    """Try to write into *path*, or into the nearest folder above that is there."""
    there = next(p for p in (path, *path.absolute().parents) if os.path.exists(p))  # noqa: PTH110  may be forbidden
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))  # on a full disk an empty file is possible
            writable = True
    except OSError:
        writable = False
    return Folder(str(path), writable, shutil.disk_usage(there).free)
