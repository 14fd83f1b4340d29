"""How large tensors lie in the process: they leave it when they are freed, in large pages."""

import mmap
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wanflow.scheduler.run.devices import open_device

SCRIPT = """
import re, sys, torch
from pathlib import Path
from wanflow.scheduler.run.malloc import return_freed_memory

def rss_bytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

if sys.argv[1] == "on":
    return_freed_memory()
torch.ones(7 << 20)  # 28 MiB, freed: glibc's own limit rises to that
before = rss_bytes()
tensors, small = [], []
for _ in range(32):
    tensors.append(torch.ones(1 << 20))
    small.append(torch.ones(4000))
tensors.clear()
print(rss_bytes() - before)
"""


def left_bytes(how: str) -> int:
    """What 128 MiB of tensors leave behind when they are freed, small ones between them alive."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
class TestReturnFreedMemory:
    def test_nothing_is_left(self) -> None:
        """But for the small ones and a little."""
        assert left_bytes("on") < 16 << 20


def flags_at(address: int) -> list[str]:
    """What the kernel says of the mapping that an address is in (`VmFlags`, see proc(5))."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        place = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if place is not None:
            inside = int(place[1], 16) <= address < int(place[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    return []


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no large pages there"
)
class TestPreferLargePages:
    def test_a_large_slab_asks_for_them(self) -> None:
        """A CPU's slab of weights may lie in large pages, from its first whole page on."""
        slab = open_device(torch.device("cpu")).slab(64 << 20)

        assert "hg" in flags_at(slab.data_ptr() + mmap.PAGESIZE)
        assert slab.fill_(7).sum(dtype=torch.int64) == 7 * slab.numel()

    def test_a_small_one_does_not(self) -> None:
        """Norms and tables share their pages with others."""
        slab = open_device(torch.device("cpu")).slab(1 << 16)

        assert "hg" not in flags_at(slab.data_ptr())
