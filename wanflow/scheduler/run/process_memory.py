"""What NVML says that this process takes on a card, where it says so by process."""

from __future__ import annotations

import os
import shutil
import subprocess

import torch

_SECONDS = 10  # a driver that has to wake a card up may take one or two


def process_bytes(device: torch.device) -> int | None:
    """Ask nvidia-smi; None where it doesn't tell: no driver's tools, a container, Windows, MIG.

    In a container NVML knows the process by the number that it has outside.
    """
    tool = shutil.which("nvidia-smi")
    card = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if tool is None or card is None:
        return None
    what = ["--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits"]
    command = [tool, f"--id=GPU-{card}", *what]
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own tool
            command, check=True, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return _own(done.stdout)


def _own(table: str) -> int | None:
    """Find our line among `PID, MIB`; a figure that is not available is no number."""
    rows = (line.split(",") for line in table.splitlines())
    found = [row[1].strip() for row in rows if row[0].strip() == str(os.getpid()) and len(row) == 2]
    return int(found[0]) << 20 if found and found[0].isdecimal() else None
