"""What the driver says that a process takes on a card, sampled while it runs."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import Any, Self

import torch

_EVERY_SECONDS = 0.02


class Driver:
    """Samples the card from a thread; on a CPU it does nothing.

    By process where NVML says; else what was free before the context less what is free now, which
    other processes on the card disturb.
    """

    def __init__(self, device: str) -> None:
        self._index = None if device == "cpu" else torch.device(device).index or 0
        self._nvml = None if self._index is None else _Nvml.open(self._index)
        self._before = None if self._index is None else _free_bytes(self._index)
        self._by_process = self._by_free = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def peak_bytes(self) -> int:
        """The most that was ever seen."""
        return self._by_process or self._by_free

    @property
    def source(self) -> str:
        """Who saw it: `nvml`, `free` (memory before less memory now) or `none`."""
        return "nvml" if self._by_process else "free" if self._by_free else "none"

    def forget(self) -> None:
        """Look for the most from now on."""
        self._by_process = self._by_free = 0

    def __enter__(self) -> Self:
        if self._index is not None:
            self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._index is not None:
            self._stop.set()
            self._thread.join()

    def _sample(self) -> None:
        while True:
            if self._nvml is not None:
                self._by_process = max(self._by_process, self._nvml.used_bytes())
            if torch.cuda.is_initialized():
                free, total = torch.cuda.mem_get_info(self._index)
                before = total if self._before is None else self._before
                self._by_free = max(self._by_free, before - free)
            if self._stop.wait(_EVERY_SECONDS):
                return


class _Nvml:
    """NVML's figure for this process. A container may know the process by another number."""

    def __init__(self, module: Any, index: int) -> None:
        module.nvmlInit()
        self._module = module
        self._handle = module.nvmlDeviceGetHandleByIndex(index)
        self._others = {process.pid for process in self._processes()}

    @classmethod
    def open(cls, index: int) -> _Nvml | None:
        """None without the module, a driver or the right to ask."""
        try:
            import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

            return cls(pynvml, index)
        except Exception:  # noqa: BLE001 - whatever is missing, the other way of asking is left
            return None

    def _processes(self) -> list[Any]:
        return list(self._module.nvmlDeviceGetComputeRunningProcesses(self._handle))

    def used_bytes(self) -> int:
        """Bytes of this process, or of whoever has come since."""
        found = [p for p in self._processes() if p.pid not in self._others]
        ours = [p for p in found if p.pid == os.getpid()] or found
        return sum(int(p.usedGpuMemory or 0) for p in ours)


def _free_bytes(index: int) -> int | None:
    """Ask without making a context, which would take memory itself."""
    what = ["--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    command = ["nvidia-smi", f"--id={index}", *what]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
        return int(done.stdout.split()[0]) << 20
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None
