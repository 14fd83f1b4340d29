"""What the system and NVIDIA's driver say of this computer, whatever PyTorch makes of it. No torch.

The driver is asked through its own library (NVML), which comes with it, and by the files that it
leaves under `/proc` and `/dev`. All that is asked of either goes through `look`.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

_ROOT = Path("/")
_VERSION = re.compile(r"\s(\d+\.\d+(?:\.\d+)?)\s")
_TEXT_BYTES = 96  # nvml.h: what a name, a UUID or a version needs at most


@attrs.frozen
class SeenCard:
    """A card as the driver sees it, hidden from PyTorch or not; MIG's parts are not listed."""

    name: str
    uuid: str  # `GPU-...`
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int


@attrs.frozen
class Driver:
    """NVIDIA's driver: its version, the newest CUDA that it runs, its cards, or what is wrong."""

    version: str = ""
    cuda: tuple[int, int] | None = None
    cards: tuple[SeenCard, ...] = ()
    problem: str = ""


@attrs.frozen
class System:
    """A computer: `nodes` says whether a card can be opened here, where the driver is there."""

    driver: Driver
    nodes: bool
    wsl: bool
    container: bool

    @property
    def has_card(self) -> bool:
        """Whether there is a card of NVIDIA's, or its driver, usable or not."""
        return bool(self.driver.version or self.driver.cards) or self.nodes


def look(root: Path = _ROOT, library: str = "libnvidia-ml.so.1") -> System:
    """Look at this computer; files are read below *root*, the driver is asked by its *library*."""
    kernel = _text(root / "proc/version").lower()
    wsl = "microsoft" in kernel
    driver = ask_driver(library)
    version = _VERSION.search(_text(root / "proc/driver/nvidia/version"))
    if not driver.version and version is not None:
        driver = attrs.evolve(driver, version=version[1])
    cards = any(path.name[6:].isdecimal() for path in root.glob("dev/nvidia*"))
    # In WSL the card is behind a node of Windows', which is there for any maker's card.
    nodes = cards or (wsl and (root / "dev/dxg").exists() and bool(driver.version))
    container = any((root / name).exists() for name in (".dockerenv", "run/.containerenv"))
    return System(driver, nodes, wsl, container)


def ask_driver(library: str) -> Driver:
    """Ask NVML; a driver that is not there, or does not answer, says nothing of itself."""
    try:
        nvml = ctypes.CDLL(library)
        with _started(nvml):
            cuda = ctypes.c_int()
            _check(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda)))
            return Driver(
                _string(nvml, nvml.nvmlSystemGetDriverVersion),
                (cuda.value // 1000, cuda.value % 1000 // 10),
                tuple(_cards(nvml)),
            )
    except _NvmlError as error:
        return Driver(problem=str(error))
    except (OSError, AttributeError):  # no such library here, or one of another age
        return Driver()


class _NvmlError(Exception):
    """What the driver answered instead."""


class _CardMemory(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


@contextmanager
def _started(nvml: ctypes.CDLL) -> Iterator[None]:
    nvml.nvmlErrorString.restype = ctypes.c_char_p
    _check(nvml, nvml.nvmlInit_v2())
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _check(nvml: ctypes.CDLL, code: int) -> None:
    if code:
        raise _NvmlError(nvml.nvmlErrorString(code).decode("utf-8", "replace"))


def _cards(nvml: ctypes.CDLL) -> Iterator[SeenCard]:
    count = ctypes.c_uint()
    _check(nvml, nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
    for index in range(count.value):
        card = ctypes.c_void_p()
        _check(nvml, nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(card)))
        yield _seen(nvml, card)


def _seen(nvml: ctypes.CDLL, card: ctypes.c_void_p) -> SeenCard:
    memory, major, minor = _CardMemory(), ctypes.c_int(), ctypes.c_int()
    _check(nvml, nvml.nvmlDeviceGetMemoryInfo(card, ctypes.byref(memory)))
    capability = nvml.nvmlDeviceGetCudaComputeCapability
    _check(nvml, capability(card, ctypes.byref(major), ctypes.byref(minor)))
    name = _string(nvml, nvml.nvmlDeviceGetName, card)
    uuid = _string(nvml, nvml.nvmlDeviceGetUUID, card)
    return SeenCard(name, uuid, (major.value, minor.value), memory.total, memory.free)


def _string(nvml: ctypes.CDLL, ask: Callable[..., int], *of: ctypes.c_void_p) -> str:
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    _check(nvml, ask(*of, text, ctypes.c_uint(_TEXT_BYTES)))
    return text.value.decode("utf-8", "replace")


def _text(path: Path) -> str:
    """Read a file of the kernel; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
