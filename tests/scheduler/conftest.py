"""Helpers beside the tests are found, and PyTorch's profiler keeps quiet."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # read when the profiler is first used
sys.path.insert(0, str(Path(__file__).parent))
