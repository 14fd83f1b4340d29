"""A block's weights on their way while kernels run: the link's rate, and what hides behind work.

The plan counts on both: that a segment arrives at the link's rate, and that a kernel and a copy
that are long enough run at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from scripts.gpu_check.checking import Checking
from wanflow.scheduler.run.devices import CudaDevice
from wanflow.units import GIB, MIB

PART = "uploads"
_BLOCK_BYTES = 670 * MIB  # of Wan's 14B in bf16
_ROUNDS = 20
_HIDDEN = 1.15  # both together, over the longer of the two


def uploads(check: Checking) -> None:
    """Copy a block twenty times, compute as long, and do both at once."""
    device = CudaDevice(check.torch_device)
    nbytes, rounds = (MIB, 3) if check.shrink else (_BLOCK_BYTES, _ROUNDS)
    try:
        slabs = [device.slab(nbytes) for _ in range(2)]
        host = device.host_buffer(nbytes)

        def copy() -> None:
            for number in range(rounds):
                slab = device.reuse(slabs[number % 2])
                device.upload(host, slab).wait()

        one_copy = _seconds(copy, check.torch_device) / rounds
        check.add(PART, "rate of the link", "", f"{nbytes / one_copy / GIB:.1f} GiB/s", None)
        compute = _work(check.torch_device, one_copy, shrink=check.shrink)
        work = _seconds(lambda: [compute() for _ in range(rounds)], check.torch_device) / rounds

        def both() -> None:
            tickets = [device.upload(host, slabs[0])]
            for number in range(rounds):
                tickets[-1].wait()
                tickets.append(device.upload(host, device.reuse(slabs[(number + 1) % 2])))
                compute()

        together = _seconds(both, check.torch_device) / (rounds + 1)
        share = together / max(one_copy, work)
        check.add(
            PART, f"{rounds} blocks computed while the next arrives, over the longer of the two",
            f"at most {_HIDDEN}", f"{share:.2f}", share <= _HIDDEN,
            copy_seconds=one_copy, work_seconds=work, together_seconds=together,
        )  # fmt: skip
    finally:
        device.settle()


def _work(device: torch.device, wanted: float, *, shrink: bool) -> Callable[[], None]:
    """Products that take about as long as *wanted*, in seconds."""
    width = 256 if shrink else 4096
    one = torch.ones(width, width, dtype=torch.float16, device=device)
    single = _seconds(lambda: one @ one, device)
    count = max(round(wanted / single), 1)

    def run() -> None:
        for _ in range(count):
            one @ one  # the product is the point

    return run


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The median of three runs after one to warm up."""
    times = []
    for _ in range(4):
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return median(times[1:])
