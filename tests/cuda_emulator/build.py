"""Build the emulator's library with g++ against the installed torch, once for every process."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import torch

_FOLDER = Path(__file__).parent
_SOURCES = ("memory.cpp", "pool.cpp", "operators.cpp", "driver.cpp")
_HEADERS = ("emulator.h", "pool.h")
_TORCH = Path(torch.__file__).parent


def why_not() -> str | None:
    """Say why this computer can't build it."""
    if torch.version.cuda is not None or torch.version.hip is not None:
        return "PyTorch here is built for cards: the CUDA emulator is in the place of its own CUDA"
    if shutil.which("g++") is None:
        return "the CUDA emulator is built with g++, which is not installed"
    if not (_TORCH / "include" / "ATen").is_dir():
        return "the CUDA emulator needs torch's headers, which this installation lacks"
    return None


def library(folder: Path) -> Path:
    """Return the built library in *folder*; another process that builds it is waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    built = folder / f"emulator-{_digest()}.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            _build(built)
    return built


def _digest() -> str:
    digest = hashlib.sha256(f"{torch.__version__} {_TORCH}".encode())
    for name in (*_SOURCES, *_HEADERS, Path(__file__).name):
        digest.update((_FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]


def _build(built: Path) -> None:
    """Compile all parts at once, link, and rename: a half-written library is never met."""
    objects = [built.with_name(f"{built.stem}-{name}.o") for name in _SOURCES]
    compilers = [
        subprocess.Popen(
            ["g++", "-O1", "-std=c++20", "-fPIC", "-c", _FOLDER / name, "-o", target,
             f"-I{_TORCH / 'include'}"]
        )
        for name, target in zip(_SOURCES, objects, strict=True)
    ]  # fmt: skip
    for compiler in compilers:
        if compiler.wait() != 0:
            raise RuntimeError("g++ can't compile the CUDA emulator; its words are above")
    part = built.with_suffix(".part")
    libraries = _TORCH / "lib"
    subprocess.run(
        ["g++", "-shared", *objects, "-o", part, f"-L{libraries}", f"-Wl,-rpath,{libraries}",
         "-ltorch_cpu", "-lc10"],
        check=True,
    )  # fmt: skip
    part.rename(built)
    for compiled in objects:
        compiled.unlink()
