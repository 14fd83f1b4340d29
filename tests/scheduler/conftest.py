"""PyTorch's profiler keeps quiet."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # read when the profiler is first used
