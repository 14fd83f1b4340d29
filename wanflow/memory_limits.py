"""How much RAM a process may have: the machine's, its control groups', its own `ulimit`s.

Control groups nest, each may have a limit, and the tightest of all counts. Where they are mounted,
and which is ours, the kernel says in `/proc/self`; the page cache that a group is charged for is
not used: the kernel gives it back (Linux, `admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import attrs

RAM = "RAM"
_ROOT = Path("/")
_USUAL = (("", "sys/fs/cgroup"), ("", "sys/fs/cgroup/unified"), ("memory", "sys/fs/cgroup/memory"))
_LIMITS = ("memory.high", "memory.max", "memory.limit_in_bytes")
_UNLIMITED = 2**62  # what version 1 says where nothing is set is a page less than 2**63
_ULIMITS = (  # with the column of `/proc/self/statm` that counts against it, in pages
    ("ulimit -v", resource.RLIMIT_AS, 0),
    ("ulimit -d", resource.RLIMIT_DATA, 5),
)


@attrs.frozen
class MemoryLimit:
    """What limits the RAM: how it is called, its bytes, and how many of them are free now."""

    name: str
    total_bytes: int
    free_bytes: int


def tightest_total(root: Path = _ROOT) -> MemoryLimit:
    """Give the limit with the fewest bytes; files of the kernel are read below *root*."""
    return min(_limits(root), key=lambda limit: limit.total_bytes)


def tightest_free(root: Path = _ROOT) -> MemoryLimit:
    """Give the limit that leaves the fewest bytes; files of the kernel are read below *root*."""
    return min(_limits(root), key=lambda limit: limit.free_bytes)


def pinned_bytes() -> int | None:
    """How much memory may be locked (`ulimit -l`); None for all."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft


def _limits(root: Path) -> Iterator[MemoryLimit]:
    yield _machine(root)
    yield from _ulimits(root)
    for folder in dict.fromkeys(_groups(root)):
        yield from _of_group(folder)


def _machine(root: Path) -> MemoryLimit:
    """The RAM there is; of it is free what can be had without swapping, else we guess a half."""
    values = _table(root / "proc/meminfo")
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    total = 1024 * values["MemTotal:"] if "MemTotal:" in values else physical
    free = 1024 * values["MemAvailable:"] if "MemAvailable:" in values else total // 2
    return MemoryLimit(RAM, total, free)


def _ulimits(root: Path) -> Iterator[MemoryLimit]:
    pages = [int(word) for word in _text(root / "proc/self/statm").split()] or [0] * 6
    for name, number, column in _ULIMITS:
        soft, _ = resource.getrlimit(number)
        if soft != resource.RLIM_INFINITY:
            used = pages[column] * resource.getpagesize()
            yield MemoryLimit(name, soft, max(0, soft - used))


def _groups(root: Path) -> Iterator[Path]:
    """Our control groups' folders and those above them, as far as they are mounted."""
    paths = {}  # of our group, by the controllers that it is for: none in version 2
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, own = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), PurePosixPath(own)))
    for controller, top, mount in _mounts(root):
        path = paths.get(controller, top)
        if ".." in path.parts or not path.is_relative_to(top):  # seen from another namespace
            path = top
        for group in (path, *path.parents):
            if group.is_relative_to(top):
                yield mount / group.relative_to(top)


def _mounts(root: Path) -> Iterator[tuple[str, PurePosixPath, Path]]:
    """Each mount of control groups for memory: its controller, its topmost group, its folder."""
    for controller, folder in _USUAL:
        yield controller, PurePosixPath("/"), root / folder
    for line in _text(root / "proc/self/mountinfo").splitlines():
        mount, _, about = line.partition(" - ")
        kind, _, options = about.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            top, folder = (word.replace("\\040", " ") for word in mount.split()[3:5])
            controller = "" if kind == "cgroup2" else "memory"
            yield controller, PurePosixPath(top), root / folder.lstrip("/")


def _of_group(folder: Path) -> Iterator[MemoryLimit]:
    """A group's limits: in version 2 `high`, where it is throttled, and `max`; in version 1 one.

    Version 1 says the tightest of the groups above as well, which a container may not see.
    """
    stat = _table(folder / "memory.stat")
    prefix = "total_" if "total_active_file" in stat else ""  # version 1: with the groups below
    cached = sum(stat.get(f"{prefix}{name}_file", 0) for name in ("inactive", "active"))
    usage = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    limits = {name: _number(folder / name) for name in _LIMITS}
    limits["hierarchical_memory_limit"] = stat.get("hierarchical_memory_limit")
    for name, total in limits.items():
        if total is not None and total < _UNLIMITED:
            free = min(total, max(0, total - usage + cached))
            yield MemoryLimit(f"cgroup {name}", total, free)


def _number(path: Path) -> int | None:
    """Read a file that holds one number; `max` in it means none."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _text(path: Path) -> str:
    """Read a file of the kernel; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
