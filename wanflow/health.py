"""What this machine offers to a run: packages, devices, memory, codecs, folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs

from wanflow import __version__

PACKAGES = ("torch", "diffusers", "transformers", "av", "safetensors", "msgpack")
_CGROUP = Path("/sys/fs/cgroup")


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


def devices() -> list[DeviceReport]:
    """List the CPU and every CUDA device; this is what loads torch."""
    reports = [host()]
    try:
        import torch  # seconds, and only asked for here
    except (ImportError, OSError):  # OSError: a library of its own is missing
        return reports
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        kind = f"{about.name}, compute {about.major}.{about.minor}"
        reports.append(DeviceReport(f"cuda:{index}", kind, total, free))
    return reports


def host() -> DeviceReport:
    """Measure the RAM that this process may use, a container's limit included."""
    total, available = total_ram_bytes(), available_ram_bytes()
    return DeviceReport("cpu", f"{os.cpu_count()} cores", total, available)


def total_ram_bytes() -> int:
    """Give the RAM of the machine, or of the container we are in."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(physical, _number(_CGROUP / "memory.max") or physical)


def available_ram_bytes() -> int:
    """Give what can be had without swapping; where nobody says, half of the total."""
    bounds = [total_ram_bytes()]
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        bounds.append(max(0, limit - used))
    bounds.append(_meminfo("MemAvailable") or bounds[0] // 2)
    return min(bounds)


def encoders() -> dict[str, bool]:
    """Say which video encoders PyAV carries."""
    import av

    return {name: name in av.codecs_available for name in ("libx264", "h264_nvenc", "libsvtav1")}


def folder(path: Path) -> Folder:
    """Try to write into *path*, or into the nearest folder above that is there."""
    there = next((p for p in (path, *path.absolute().parents) if p.is_dir()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=there):
            writable = True
    except OSError:
        writable = False
    return Folder(str(path), writable, shutil.disk_usage(there).free)


def _number(path: Path) -> int | None:
    """Read a file that holds one number; `max` in it means none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values[name].split()[0]) * 1024 if name in values else None
