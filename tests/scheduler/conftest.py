"""Helpers beside the tests are found, and PyTorch's profiler keeps quiet."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # read when the profiler is first used
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    """Run as a careful user does."""
    monkeypatch.setenv("WANFLOW_CHECK", "1")
