"""How tensors lie in the process: freed memory is used again or leaves, in large pages."""

import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wanflow.scheduler.run.devices import open_device
from wanflow.units import MIB

SCRIPT = """
import re, resource, sys
from pathlib import Path
from wanflow.heap import ask_for_large_pages, give_back, settle_heap

early = sys.argv[1] == "early"
if early:
    ask_for_large_pages()
import torch
if not early:
    ask_for_large_pages()
settle_heap()

def rss_bytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def fill(small):
    tensors = []
    for number in range(12):
        tensors.append(torch.ones(1 << 20))
        if len(small) < 12:
            small.append(torch.ones(4000 + number))

before, small = rss_bytes(), []
fill(small)
left = rss_bytes() - before
fill(small)  # half of the blocks find that a small one took what aligning them would need
first = faults()
fill(small)
again = faults() - first
give_back()
print(left, again, rss_bytes() - before)
"""


def told(when: str) -> tuple[int, int, int]:
    """Fill 48 MiB of tensors three times, in a process of its own; small ones between them stay.

    Bytes that the first leave when they are freed, faults of the third, bytes left at the end.
    """
    environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, when],
        check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    left, again, end = map(int, done.stdout.split())
    return left, again, end


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
class TestSettleHeap:
    def test_freed_memory_is_used_again(self) -> None:
        """Hardly a page of it is new a second time, and all of it can be given back."""
        left, again, end = told("early")

        assert left <= 64 * MIB
        assert again * mmap.PAGESIZE < 4 * MIB  # a large page or two may be taken from us meanwhile
        assert end < 8 * MIB

    def test_nothing_is_left_where_blocks_would_not_fit(self) -> None:
        """Where PyTorch was loaded before, it aligns nothing: each block leaves with its free."""
        left, _again, end = told("late")

        assert max(left, end) < 8 * MIB


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
