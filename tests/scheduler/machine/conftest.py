"""A machine of round figures."""

import attrs
import pytest

from wanflow.scheduler.machine.datasheets import cpu_machine
from wanflow.scheduler.machine.figures import FLOPS, Machine
from wanflow.units import GIB


@pytest.fixture
def cpu() -> Machine:
    """Make a machine of round figures."""
    rates = dict.fromkeys(FLOPS, 1e10) | {"gemm.bfloat16": 2e10}
    return attrs.evolve(
        cpu_machine(GIB), name="toy", flops=rates, memory_rate=1e9, disk_rate=1e9,
        cached_disk_rate=4e9, kernel_seconds=0.0, call_seconds=0.0,
    )  # fmt: skip
