"""Memory that kernels take for themselves, invisible from Python: a table by device and kernel.

The CPU entries are read off ATen (`aten/src/ATen/native/cpu/FlashAttentionKernel.cpp`,
`ConvolutionMM3d.cpp`, `mkldnn/Conv.cpp`) and hold against torch.profiler's memory events, most of
them to the byte (tests/scheduler/profile/test_kernel_workspace.py). The CUDA entries are estimates
until a run measures them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from wanflow.environment import ONEDNN_ISA
from wanflow.scheduler.profile.attention_backend import meant
from wanflow.scheduler.profile.tensor_layouts import suggested

_SPLITS = ((768, 256), (192, 64))  # query length from which a block of so many rows is used
_KEY_SPLIT = 512
# oneDNN blocks channels by the width of a vector: of AVX-512, or of AVX2.
_CHANNEL_BLOCK = 16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 8
_NUMBER_BYTES = 8  # of a Python number as a tensor
_GEMM_COLUMNS, _GEMM_INNER, _GEMM_ROWS = 64, 1024, 256
_GEMM_TABLE_BYTES = 1024
_TILE_COLUMNS = 768  # of the sums at most, a thread
_BF16_GEMM = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - the only way to ask
# Tiles: oneDNN packs whole operands for them. It may be held to less from outside.
_TILES = (
    _BF16_GEMM
    and torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - the only way to ask
    and "AMX" in (ONEDNN_ISA.value or "AMX").upper()
)
# Instructions for bf16, which AVX-512 by itself lacks: oneDNN then sums all of a product in fp32.
_BF16_NATIVE = (
    torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - the only way to ask
    and any(word in (ONEDNN_ISA.value or "BF16").upper() for word in ("BF16", "FP16", "AMX", "ALL"))
)
_SUMS_ALIGNMENT_BYTES = 64
_PACKED_BYTES = 3 << 19  # of a right side at most, a thread
_TILE_SCRATCH_BYTES = 8 << 10
_ATTENTION_PACKS = 6  # times a packed block of keys: what a thread was seen to take at most
_TILE_CONVOLUTION_BYTES = 512 << 10
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_SCRATCH_BYTES = 20 << 10  # what oneDNN takes at most beside a weight where channels are last
_FLASH_WIDTH = 256  # of a head at most
# Of GeForce RTX 30 to 50, of A100, H100 and H200, B200 and of the cards for workstations.
_MULTIPROCESSORS = (
    20, 24, 28, 30, 34, 36, 38, 46, 48, 50, 56, 58, 60, 66, 68, 70, 76, 80, 82, 84, 108, 114, 128,
    132, 142, 148, 170, 188,
)  # fmt: skip
_ALIGNMENT_BYTES = 128  # around oneDNN's scratchpad, which holds a bias that had to be padded

Kernel = Callable[[tuple[Any, ...], Mapping[str, Any], Any], int]


def _tensor_bytes(tensor: torch.Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())


def cpu_attention(args: tuple[Any, ...], _kwargs: Mapping[str, Any], _out: object) -> int:
    """Per-thread score block, row maxima and sums, and accumulator, in fp32; bf16 adds a block.

    With tiles its matrix products pack what they read: an upper bound.
    """
    query, key = args[0], args[1]
    queries, keys, width = query.shape[2], key.shape[2], query.shape[3]
    rows = min(next((rows for length, rows in _SPLITS if queries >= length), 32), queries)
    columns = min(_KEY_SPLIT, keys)
    per_thread = (rows * columns + 2 * rows + rows * width) * 4
    if query.dtype in (torch.bfloat16, torch.float16):
        per_thread += rows * columns * 2
    if query.dtype == torch.bfloat16 and _TILES:
        per_thread += _ATTENTION_PACKS * _packed(width, columns) + 2 * _TILE_SCRATCH_BYTES
    return int(torch.get_num_threads() * per_thread)


def cpu_convolution(args: tuple[Any, ...], _kwargs: Mapping[str, Any], out: torch.Tensor) -> int:
    """Columns of the slow path, or oneDNN's blocked copies of input, weight and output.

    Before either, ATen copies what is not contiguous, and keeps the copies to the end.
    """
    data, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args[:9]
    backend = str(
        torch._C._select_conv_backend(  # noqa: SLF001 - the only way to ask which kernel runs
            data, weight, bias, stride, padding, dilation, transposed, output_padding, groups,
            None if bias is None else list(bias.shape),
        )
    )  # fmt: skip
    copies = sum(_tensor_bytes(t) for t in (data, weight) if not t.is_contiguous())
    form = _LAST.get(data.dim(), torch.contiguous_format)
    last = not data.is_contiguous() and data.is_contiguous(memory_format=form)
    if "Slow" in backend:
        kernel = math.prod(weight.shape[2:])
        if kernel == 1 and all(s == 1 for s in stride):
            return copies
        positions = out.shape[0] * math.prod(out.shape[2:])
        return copies + int(weight.shape[1] * groups * kernel * positions * data.element_size())
    if last:  # read and written as it lies; the weight is put in order, and then in blocks
        more = _TILE_CONVOLUTION_BYTES * torch.get_num_threads()
        more = more if _TILES and data.dtype == torch.bfloat16 else _SCRATCH_BYTES
        return _tensor_bytes(weight) + _blocked(weight, (0, 1)) + more
    return copies + _onednn_bytes(data, weight, bias, out)


def _onednn_bytes(
    data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor
) -> int:
    """Blocked input, weight and output while it computes; then blocked output and output."""
    blocked_out = _blocked(out, (1,))
    scratch = 0
    if bias is not None and out.shape[1] % _CHANNEL_BLOCK:
        scratch = _blocked(bias, (0,)) + _ALIGNMENT_BYTES
    computing = _blocked(data, (1,)) + _blocked(weight, (0, 1)) + blocked_out + scratch
    return max(computing - _tensor_bytes(out), blocked_out)


def _blocked(tensor: torch.Tensor, channels: tuple[int, ...]) -> int:
    """Bytes of oneDNN's layout: each of the dimensions *channels* rounded up to a block."""
    nbytes = _tensor_bytes(tensor)
    for dim in channels:
        size = tensor.shape[dim]
        nbytes = nbytes // size * math.ceil(size / _CHANNEL_BLOCK) * _CHANNEL_BLOCK
    return nbytes


def _up(size: int, block: int) -> int:
    return math.ceil(size / block) * block


def _packed(inner: int, columns: int) -> int:
    """Bytes of a right side packed for tiles, at most: blocks may reach a quarter further."""
    return _up(inner, 32) * 5 // 4 * _up(columns, 64) * 2


def cpu_gemm(args: tuple[Any, ...], _kwargs: Mapping[str, Any], _out: object) -> int:
    """OneDNN's packed block of the right side and its sums in fp32, a thread each; bf16 only.

    Measured with oneDNN 3.11 on AVX-512 with bf16; a block has at most 1,024 by 64 and 256 by 64.
    On AVX-512 without it the sums of one product are there whole.
    With tiles (AMX) it packs up to 1.5 MiB of the right side, and sums a long inner side in fp32:
    an upper bound, at one thread and at two (tests/scheduler/tiles.py).
    """
    left = args[-2]  # of `mm` the first of two, of `addmm` the second of three
    if left.dtype != torch.bfloat16 or not _BF16_GEMM:
        return 0
    rows, inner = left.shape[-2], left.shape[-1]
    if not _BF16_NATIVE:
        at_once = min(left.shape[0], torch.get_num_threads()) if left.dim() == 3 else 1
        sums = _up(4 * rows * args[-1].shape[-1], _SUMS_ALIGNMENT_BYTES) + _ALIGNMENT_BYTES
        return int(at_once * sums)
    if _TILES:
        threads, columns = torch.get_num_threads(), args[-1].shape[-1]
        sums = 4 * _up(rows, 16) * min(_up(columns, 64), _TILE_COLUMNS * threads)
        packed = min(_packed(inner, columns), _PACKED_BYTES) + _TILE_SCRATCH_BYTES
        return int(threads * packed + (sums if inner > _GEMM_INNER else 0))
    packed = 2 * _GEMM_COLUMNS * min(math.ceil(inner / 32) * 32, _GEMM_INNER)
    sums = 4 * _GEMM_COLUMNS * min(rows, _GEMM_ROWS)
    return int(torch.get_num_threads() * (packed + sums + _GEMM_TABLE_BYTES))


def cuda_convolution(args: tuple[Any, ...], _kwargs: Mapping[str, Any], out: torch.Tensor) -> int:
    """Copies into the layout that cuDNN is called with, and an estimate of its own workspace.

    Where input or weight lies channels last, PyTorch calls it so, and copies what lies otherwise:
    a strip is turned, the weights are not (`aten/src/ATen/native/cudnn/ConvShared.cpp`). The
    estimate is a channels-last copy of input and output.
    """
    data, weight = args[:2]
    last = _LAST.get(data.dim(), torch.contiguous_format)
    layouts = {suggested(tensor.shape, tensor.stride()) for tensor in (data, weight)}
    form = last if last in layouts else torch.contiguous_format
    copies = sum(
        _tensor_bytes(t) for t in (data, weight) if not t.is_contiguous(memory_format=form)
    )
    return copies + _tensor_bytes(data) + _tensor_bytes(out)


def cuda_attention(args: tuple[Any, ...], kwargs: Mapping[str, Any], _out: object) -> int:
    """Sums in fp32 of the fused kernels; Sage takes an int8 copy of queries, keys and values each.

    In half precision flash sums in parts where it has too few blocks to fill a card, and heads too
    wide for it go to a kernel that keeps its sums in fp32.
    """
    query, key = args[:2]
    if meant().startswith("sage"):
        return sum(int(tensor.numel()) for tensor in args[:3])
    if query.dtype == torch.float32 or kwargs.get("attn_mask") is not None:
        return 0
    batch, heads, queries, width = query.shape
    if width > _FLASH_WIDTH:
        return int(4 * query.numel())
    return _flash_sums(batch * heads, queries, key.shape[2], width)


@functools.cache
def _flash_sums(heads: int, queries: int, keys: int, width: int) -> int:
    """Partial outputs and their sums of weights, in fp32, on the card that splits the most.

    `set_params_splitkv` of `aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp`.
    """
    blocks = heads * math.ceil(queries / 64)
    key_blocks = math.ceil(keys / (256 if width <= 64 else 128 if width <= 128 else 64))
    most = max(_flash_splits(blocks, 2 * count, key_blocks) for count in _MULTIPROCESSORS)
    if most == 1:
        return 0
    return 4 * most * heads * queries * (_up(width, 32 if width <= 128 else 64) + 1)


def _flash_splits(blocks: int, slots: int, key_blocks: int) -> int:
    """The fewest parts of the keys that fill a card's *slots* nearly as well as the best number."""
    if blocks >= 0.8 * slots:
        return 1

    def filled(parts: int) -> float:
        waves = blocks * parts / slots
        return waves / math.ceil(waves)

    shares = {  # by the length of a part; more parts of the same length change nothing
        math.ceil(key_blocks / parts): parts for parts in range(min(128, slots, key_blocks), 0, -1)
    }
    best = max(map(filled, shares.values()))
    return min(parts for parts in shares.values() if filled(parts) >= 0.85 * best)


def nothing(_args: tuple[Any, ...], _kwargs: Mapping[str, Any], _out: object) -> int:
    """A kernel that needs no room of its own."""
    return 0


def cpu_promotion(args: tuple[Any, ...], _kwargs: Mapping[str, Any], out: torch.Tensor) -> int:
    """Copies of what hasn't the dtype in which it is computed; a number becomes a tensor first."""
    common = torch.result_type(*map(_of_its_kind, args[:2]))
    if out.is_floating_point() and not common.is_floating_point:
        common = torch.get_default_dtype()  # a quotient of whole numbers
    total = 0
    for operand in args[:2]:
        if not isinstance(operand, torch.Tensor):
            total += _NUMBER_BYTES + common.itemsize
        elif operand.dtype != common:
            total += operand.numel() * common.itemsize
    in_place = out is args[0]
    return total + (out.numel() * common.itemsize if in_place and out.dtype != common else 0)


def _of_its_kind(operand: Any) -> Any:
    """What is promoted as *operand* is: of a stand-in, PyTorch would import all of its DTensor."""
    if not isinstance(operand, torch.Tensor):
        return operand
    return torch.empty((1,) * bool(operand.dim()), dtype=operand.dtype)


def cpu_mean(_args: tuple[Any, ...], _kwargs: Mapping[str, Any], out: torch.Tensor) -> int:
    """The sum is divided by a number."""
    return int(_NUMBER_BYTES + out.element_size())


_aten = torch.ops.aten
_PROMOTING = (
    "add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum",
    "add_", "sub_", "mul_", "div_",
)  # fmt: skip


def _overloads(names: tuple[str, ...], kernel: Kernel) -> dict[Any, Kernel]:
    """Give every overload of these ops, but the one that writes into `out=`, a kernel."""
    packets = [getattr(_aten, name) for name in names]
    return {
        getattr(packet, overload): kernel
        for packet in packets
        for overload in packet.overloads()
        if overload in ("Tensor", "Scalar", "default", "dim")
    }


TABLE: Mapping[str, Mapping[Any, Kernel]] = {
    "cpu": {
        _aten._scaled_dot_product_flash_attention_for_cpu.default: cpu_attention,  # noqa: SLF001
        _aten.convolution.default: cpu_convolution,
        **_overloads(("mm", "addmm", "bmm", "baddbmm"), cpu_gemm),
        **_overloads(_PROMOTING, cpu_promotion),
        **_overloads(("mean",), cpu_mean),
    },
    "cuda": {
        _aten.convolution.default: cuda_convolution,
        _aten._scaled_dot_product_flash_attention_for_cpu.default: cuda_attention,  # noqa: SLF001
    },
}


def workspace_of(device: str) -> Callable[[Any], Kernel]:
    """Return the look-up for a device type (`cpu`, `cuda`): from an op to its workspace."""
    table = TABLE[device]
    return lambda op: table.get(op, nothing)
