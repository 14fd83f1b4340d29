"""In a process that may use AMX: what bf16 kernels take, against the table; 1 if it is short."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import conv3d, scaled_dot_product_attention

from tests.scheduler.measured import peak_bytes
from wanflow.scheduler.profile.kernel_workspace import workspace_of

ATEN = torch.ops.aten
SIZES = (1, 5, 16, 17, 31, 64, 100, 128, 200, 300, 512, 700, 1024, 1536, 2048, 4096)


def noise(*shape: int) -> torch.Tensor:
    """Numbers between 0 and 1."""
    return torch.rand(shape).bfloat16()


def above(op: Any, args: tuple[Any, ...], run: Callable[[], torch.Tensor], more: int = 0) -> int:
    """How far the measured peak is above output, *more* and the table's entry."""
    out = run()
    return peak_bytes(run) - out.nbytes - more - int(workspace_of("cpu")(op)(args, {}, out))


def products(count: int) -> list[tuple[str, int]]:
    """Products of random shapes, the right side as it is or transposed."""
    draw, found = random.Random(1), []  # noqa: S311 - no secret
    while len(found) < count:
        rows, inner, columns = draw.choice(SIZES), draw.choice(SIZES[2:]), draw.choice(SIZES[2:])
        if rows * inner * columns > 4e9:
            continue
        left, right = noise(rows, inner), noise(inner, columns)
        if len(found) % 2:
            right = noise(columns, inner).t()
        over = above(ATEN.mm.default, (left, right), lambda a=left, b=right: torch.mm(a, b))
        found.append((f"{rows}x{inner}x{columns}", over))
    return found


def other_products() -> list[tuple[str, int]]:
    """A bias added, and products in batches: a transformer's linear layers, an attention's own."""
    found = []
    for rows, inner, columns in ((80, 128, 256), (300, 256, 64), (1, 2048, 512)):
        left, right, bias = noise(rows, inner), noise(columns, inner).t(), noise(columns)
        over = above(
            ATEN.addmm.default, (bias, left, right),
            lambda c=bias, a=left, b=right: torch.addmm(c, a, b),
        )  # fmt: skip
        found.append((f"addmm {rows}x{inner}x{columns}", over))
        many, more = noise(4, rows, inner), noise(4, inner, columns)
        over = above(ATEN.bmm.default, (many, more), lambda a=many, b=more: torch.bmm(a, b))
        found.append((f"bmm 4x{rows}x{inner}x{columns}", over))
    return found


def attentions() -> list[tuple[str, int]]:
    """Attention of several lengths and widths."""
    op, found = ATEN._scaled_dot_product_flash_attention_for_cpu.default, []
    for queries in (16, 64, 200, 800):
        for keys in (40, 64, 512, 700):
            for width in (16, 64, 128):
                parts = noise(1, 2, queries, width), noise(1, 2, keys, width)
                args = (*parts, parts[1].clone())
                over = above(op, args, lambda a=args: scaled_dot_product_attention(*a), queries * 8)
                found.append((f"attention {queries} {keys} {width}", over))
    return found


def convolutions() -> list[tuple[str, int]]:
    """Convolutions of data whose channels lie next to each other."""
    found = []
    for shape in ((96, 96, 3, 3, 3), (3, 96, 3, 3, 3), (192, 96, 1, 3, 3)):
        data = noise(1, 96, 5, 60, 20).contiguous(memory_format=torch.channels_last_3d)
        weight, bias, ones, zeros = noise(*shape), noise(shape[0]), (1,) * 3, (0,) * 3
        args = (data, weight, bias, ones, zeros, ones, False, zeros, 1)
        over = above(
            ATEN.convolution.default, args, lambda d=data, w=weight, b=bias: conv3d(d, w, b)
        )
        found.append((f"convolution {shape}", over))
    return found


def main() -> int:
    """Print what is above its bound."""
    every = products(100) + other_products() + attentions() + convolutions()
    bad = [f"{name}: {over} bytes above" for name, over in every if over > 0]
    print("\n".join(bad) or f"{len(every)} shapes, none above its bound")  # noqa: T201
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
