"""The tests that want a card, on this one."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.lib.environment import ROOT
from scripts.gpu_check.checking import Checking

PART = "tests"


def suite(check: Checking) -> None:
    """Run them in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    said = lines[-1] if lines else done.stderr.strip()[-300:]
    check.add(PART, "pytest -m gpu", "all pass", said, done.returncode == 0, output=done.stdout)
