"""Freed tensors leave the process."""

import subprocess
import sys

import pytest

SCRIPT = """
import re, sys, torch
from pathlib import Path
from wanflow.scheduler.heap import return_freed_memory

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
