"""What a process takes of a card beside its tensors: a child runs one kernel of each kind.

Kernels are loaded onto a card at their first use, outside of the allocator, so that the context
grows with every kind of kernel that a run comes to. This file is the child's program too, which
imports nothing of ours.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_BACKENDS = (
    SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION,
)  # fmt: skip
_MOST_SAID = 4000  # of what the child complains about


def taken_by_another_process(device: torch.device) -> tuple[int, int]:
    """Give the bytes of a context, and those that cuBLAS keeps of the allocator's memory.

    RuntimeError with the child's last words where it can't use the card.
    """
    torch.cuda.synchronize(device)
    before, _total = torch.cuda.mem_get_info(device)
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [sys.executable, __file__, str(device)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True,
        ) as child,
    ):  # fmt: skip
        said = child.stdout.readline() if child.stdout is not None else ""
        after, _total = torch.cuda.mem_get_info(device)
        child.communicate()  # its input ends, and it with it
        complaints.seek(0)
        words = complaints.read(_MOST_SAID).strip().splitlines()
    reserved, _, library = said.partition(" ")
    if not (reserved.isdigit() and library.strip().isdigit()):
        raise RuntimeError(words[-1] if words else "the process that measures it ended")
    return before - after - int(reserved), int(library)


def run_one_of_each(device: torch.device) -> None:
    """Run a product, a convolution, each kind of attention in each type, and a small solution.

    What a card has no kernel for is left out: no run comes to it either.
    """
    for dtype in _DTYPES:
        rows = torch.ones(1, 2, 64, 64, dtype=dtype, device=device)
        clip = torch.ones(1, 16, 3, 8, 8, dtype=dtype, device=device)
        with suppress(RuntimeError):
            F.linear(rows, rows[0, 0])
        with suppress(RuntimeError):
            F.conv3d(clip, clip.new_ones(16, 16, 3, 3, 3), padding=(0, 1, 1))
        for backend, mask in product(_BACKENDS, (None, rows.new_zeros(64, 64))):
            with suppress(RuntimeError), sdpa_kernel(backend):
                F.scaled_dot_product_attention(rows, rows, rows, mask)
    torch.linalg.solve(torch.eye(2, device=device), torch.ones(2, device=device))  # as UniPC does


def _kept_by_libraries(device: torch.device) -> int:
    """What the allocator's memory grows by at the first products, whose tensors are there."""
    operands = [torch.ones(64, 64, dtype=dtype, device=device) for dtype in _DTYPES]
    results = [torch.empty_like(operand) for operand in operands]
    before = torch.cuda.memory_reserved(device)
    for operand, result in zip(operands, results, strict=True):
        with suppress(RuntimeError):
            torch.mm(operand, operand, out=result)
    return torch.cuda.memory_reserved(device) - before


def _child(name: str) -> None:
    device = torch.device(name)
    torch.cuda.set_device(device)
    with torch.no_grad():
        library_bytes = _kept_by_libraries(device)
        run_one_of_each(device)
    torch.cuda.synchronize(device)
    sys.stdout.write(f"{torch.cuda.memory_reserved(device)} {library_bytes}\n")
    sys.stdout.flush()
    sys.stdin.read()  # until it was measured what this process takes


if __name__ == "__main__":
    _child(sys.argv[1])
