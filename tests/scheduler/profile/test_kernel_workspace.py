"""The table of workspaces against what PyTorch's profiler sees on this processor."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import conv2d, conv3d, scaled_dot_product_attention

from tests.scheduler.measured import peak_bytes
from wanflow.files.folders import PACKAGE
from wanflow.scheduler.profile.kernel_workspace import workspace_of
from wanflow.scheduler.profile.recorder import Recorder

ATEN = torch.ops.aten
CONVOLUTION = ATEN.convolution.default
ATTENTION = ATEN._scaled_dot_product_flash_attention_for_cpu.default
DTYPES = [torch.float32, torch.bfloat16]
# Which kernel convolves, and in what blocks, depends on the processor; this was read off AVX2.
avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX2", reason="the table was measured on AVX2"
)


@pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX512"), reason="they run as they are"
)
def test_in_a_process_held_to_avx2() -> None:
    """What is skipped here for newer instructions holds where these are turned off."""
    held = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-m", "pytest", "-q", __file__]
    done = subprocess.run(
        command, env={**os.environ, **held}, capture_output=True, text=True, check=False
    )
    said = done.stdout.splitlines()[-1] if done.stdout else done.stderr

    assert done.returncode == 0, done.stdout
    assert "passed, 3 skipped" in said


WIDE = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
TILES = WIDE and torch.cpu._is_amx_tile_supported()


@pytest.mark.skipif(not TILES, reason="this processor has no tiles")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_in_a_process_with_tiles(threads) -> None:
    """With AMX the table is an upper bound, for products, attention and convolutions in bf16."""
    given = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, "-m", "tests.scheduler.tiles"],
        env={**os.environ, **given, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "157 shapes, none above its bound" in done.stdout


def noise(shape, dtype) -> torch.Tensor:
    """Make a tensor of numbers between 0 and 1."""
    return torch.rand(shape, dtype=torch.float32).to(dtype)


def predicted(op, args, out: torch.Tensor, *more: int) -> int:
    """Sum the output, what else is made, and the table's entry."""
    return out.nbytes + sum(more) + workspace_of("cpu")(op)(args, {}, out)


class Convolution:
    """A convolution of given shapes, called and predicted."""

    def __init__(self, data, weight, dtype, padding=0, stride=1, bias=True) -> None:
        self.rank = len(weight) - 2
        self.data, self.weight = noise(data, dtype), noise(weight, dtype)
        self.bias = noise(weight[:1], dtype) if bias else None
        self.stride, self.padding = (stride,) * self.rank, (padding,) * self.rank

    def __call__(self) -> torch.Tensor:
        run = conv2d if self.rank == 2 else conv3d
        return run(self.data, self.weight, self.bias, self.stride, self.padding)

    def predicted(self) -> int:
        ones, zeros = (1,) * self.rank, (0,) * self.rank
        args = (self.data, self.weight, self.bias, self.stride, self.padding)
        return predicted(CONVOLUTION, (*args, ones, False, zeros, 1), self())


# Data, weight, padding, stride. The product of the data's first four sizes decides the kernel.
SLOW = {
    "2d": ((1, 3, 16, 16), (8, 3, 3, 3), 1, 1),
    "2d-stride": ((1, 3, 17, 19), (5, 3, 3, 3), 0, 2),
    "3d": ((1, 3, 3, 8, 8), (8, 3, 3, 3, 3), 1, 1),
    "3d-thin": ((1, 4, 3, 9, 2), (8, 4, 3, 3, 1), 0, 1),
    "3d-patches": ((1, 4, 3, 8, 8), (8, 4, 1, 2, 2), 0, 2),
    "2d-1x1": ((2, 16, 8, 8), (16, 16, 1, 1), 0, 1),
    "3d-1x1": ((1, 4, 3, 8, 8), (8, 4, 1, 1, 1), 0, 1),
    "2d-1x1-stride": ((1, 4, 8, 8), (8, 4, 1, 1), 0, 2),
}
BLOCKED = {
    "2d": ((1, 32, 40, 40), (16, 32, 3, 3), 1, 1),
    "2d-grows": ((1, 16, 40, 40), (48, 16, 3, 3), 1, 1),
    "2d-padded": ((1, 20, 40, 40), (24, 20, 3, 3), 1, 1),
    "2d-stride": ((1, 32, 40, 40), (32, 32, 3, 3), 1, 2),
    "3d": ((1, 32, 8, 96, 6), (16, 32, 3, 3, 3), 1, 1),
    "3d-grows": ((1, 16, 16, 96, 6), (32, 16, 1, 3, 3), 1, 1),
    "3d-padded": ((1, 20, 12, 96, 6), (12, 20, 3, 1, 1), 0, 1),
}


@avx2
class TestConvolution:
    """`convolution` on a processor."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("case", SLOW)
    def test_slow_path_is_exact(self, case, bias, dtype) -> None:
        """Columns of all positions, or nothing for a plain matrix product."""
        data, weight, padding, stride = SLOW[case]
        conv = Convolution(data, weight, dtype, padding, stride, bias)

        assert conv.predicted() == peak_bytes(conv)

    @pytest.mark.parametrize("case", BLOCKED)
    def test_onednn_is_exact(self, case) -> None:
        """Its copies of input, weight and output in blocks of channels."""
        data, weight, padding, stride = BLOCKED[case]
        conv = Convolution(data, weight, torch.float32, padding, stride, bias=False)

        assert math.prod(data[:4]) > 20480
        assert conv.predicted() == peak_bytes(conv)

    @pytest.mark.parametrize("case", BLOCKED)
    def test_onednn_with_bias_is_close(self, case) -> None:
        """A bias may be copied too, with some bytes around it."""
        data, weight, padding, stride = BLOCKED[case]
        conv = Convolution(data, weight, torch.float32, padding, stride)
        measured = peak_bytes(conv)

        assert measured <= conv.predicted() <= measured + 4096

    @pytest.mark.parametrize("channels", [(17, 20), (3, 32), (32, 3), (4, 64), (12, 12)])
    def test_odd_channels_are_never_too_little(self, channels) -> None:
        """Channels that fill no block are rounded up, whether oneDNN does so or not."""
        data, weight = (1, channels[0], 70, 100), (channels[1], channels[0], 3, 3)
        conv = Convolution(data, weight, torch.float32, 1)
        measured = peak_bytes(conv)

        assert measured <= conv.predicted() <= measured * 1.02 + 4096


class TestCopies:
    """What a convolution copies before it begins, on any processor."""

    @pytest.mark.parametrize("operand", ["data", "weight"])
    @pytest.mark.parametrize("case", [SLOW["3d"], SLOW["3d-1x1"], BLOCKED["2d"], BLOCKED["3d"]])
    def test_what_is_not_contiguous_is_copied(self, case, operand) -> None:
        """Every other channel of a tensor takes its bytes once more, on either path."""
        data, weight, padding, stride = case
        conv = Convolution(data, weight, torch.float32, padding, stride, bias=False)
        predicted, measured = conv.predicted(), peak_bytes(conv)
        used = getattr(conv, operand)
        setattr(conv, operand, used.repeat_interleave(2, 1)[:, ::2])

        assert used.nbytes == conv.predicted() - predicted == peak_bytes(conv) - measured


class TestChannelsLast:
    """`convolution` of data whose channels lie next to each other."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("weight", [(96, 96, 3, 3, 3), (3, 96, 3, 3, 3), (192, 96, 1, 3, 3)])
    def test_only_the_weight_is_copied(self, weight, dtype) -> None:
        """Nothing of the data's size is taken."""
        conv = Convolution((1, 96, 5, 60, 20), weight, dtype)
        conv.data = conv.data.contiguous(memory_format=torch.channels_last_3d)
        conv()
        measured = peak_bytes(conv)

        assert measured <= conv.predicted() <= measured + 20480

    def test_slow_path_copies_the_data(self) -> None:
        """Columns, and the data as the slow kernel wants it."""
        conv = Convolution((1, 16, 3, 8, 8), (8, 16, 3, 3, 3), torch.float32)
        conv.data = conv.data.contiguous(memory_format=torch.channels_last_3d)

        assert conv.predicted() == peak_bytes(conv)


# Rows, inner, columns.
PRODUCTS = [
    (16, 64, 64), (1, 64, 128), (16, 48, 32), (300, 200, 64), (700, 64, 64), (64, 2048, 512),
]  # fmt: skip


class TestGemm:
    """Matrix products on a processor: bf16 needs room where it has instructions for it."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("case", PRODUCTS, ids=str)
    def test_never_too_little(self, case, dtype) -> None:
        """A packed block and its sums, of the largest size that a block may have."""
        rows, inner, columns = case
        left, right = noise((rows, inner), dtype), noise((inner, columns), dtype)
        measured = peak_bytes(lambda: torch.mm(left, right))
        wanted = predicted(ATEN.mm.default, (left, right), torch.mm(left, right))

        assert measured <= wanted <= measured + 66_000 * torch.get_num_threads()


# Batch, heads, queries, keys, width.
ATTENTIONS = [
    (1, 2, 16, 16, 16),
    (1, 4, 64, 64, 32),
    (2, 3, 200, 200, 16),
    (1, 2, 800, 800, 64),
    (1, 2, 100, 512, 128),
    (1, 1, 191, 700, 8),
    (1, 12, 1000, 40, 16),
    (1, 4, 1, 600, 16),
    (1, 2, 5, 5, 33),
]


class TestAttention:
    """`scaled_dot_product_attention` on a processor."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("mask", [None, "added", "boolean"])
    @pytest.mark.parametrize("sizes", ATTENTIONS, ids=str)
    def test_is_exact(self, sizes, mask, dtype) -> None:
        """Output, logsumexp and the threads' blocks; a boolean mask is made into numbers."""
        batch, heads, queries, keys, width = sizes
        query = noise((batch, heads, queries, width), dtype)
        key, value = (noise((batch, heads, keys, width), dtype) for _ in range(2))
        masks = noise((batch, 1, queries, keys), dtype)
        given = {None: None, "added": masks, "boolean": masks > 0.3}[mask]

        def attend() -> torch.Tensor:
            return scaled_dot_product_attention(query, key, value, attn_mask=given)

        logsumexp = batch * heads * queries * 4
        made = masks.nbytes if mask == "boolean" else 0
        total = predicted(ATTENTION, (query, key, value), attend(), logsumexp, made)
        measured = peak_bytes(attend)

        assert measured <= total <= measured + 4096
        if mask != "boolean":
            assert total == measured


PROMOTIONS = {
    "number": lambda x, half: x * 2.5,
    "number in half": lambda x, half: half + 1,
    "number in place": lambda x, half: x.clone().div_(7),
    "half and single": lambda x, half: x * half,
    "row of halves": lambda x, half: x + half[0],
    "whole numbers": lambda x, half: x.long() / 3,
    "comparison": lambda x, half: x < 0.5,
    "maximum": torch.maximum,
    "mean": lambda x, half: x.mean(-1, keepdim=True),
}


class TestPromotion:
    """Operands of two dtypes on a processor."""

    @pytest.mark.parametrize("case", PROMOTIONS)
    def test_is_exact(self, case) -> None:
        """What hasn't the common dtype is copied, and a number becomes a tensor."""
        run, x = PROMOTIONS[case], torch.rand(64, 48)
        half = x.to(torch.bfloat16)
        recorder = Recorder([x, half], workspace_of("cpu"))
        with recorder:
            run(x, half)

        assert recorder.peak_bytes == peak_bytes(lambda: run(x, half))


class TestTable:
    """Looking an op up."""

    def test_unknown_op_needs_nothing(self) -> None:
        """Only kernels that take room for themselves are in the table."""
        assert workspace_of("cpu")(ATEN.relu.default)((), {}, None) == 0


class TestCard:
    """The table for a card, which no profiler here can see: by PyTorch's sources."""

    def convolution(self, data, weight) -> int:
        """What it says of a convolution, beside cuDNN's copies of input and output."""
        out = torch.empty(1, 8, 8, 8)
        room = workspace_of("cuda")(CONVOLUTION)((data, weight), {}, out)
        return room - data.nbytes - out.nbytes

    def test_a_convolution_of_plain_tensors(self) -> None:
        """Nothing is copied first."""
        data, weight = torch.empty(1, 4, 8, 8), torch.empty(8, 4, 3, 3)

        assert self.convolution(data, weight) == 0

    def test_a_convolution_of_a_strip(self) -> None:
        """Channels lie last there: the weight is copied; of a slice of rows the input too."""
        weight = torch.empty(8, 4, 3, 3)
        data = torch.empty(1, 4, 8, 8).to(memory_format=torch.channels_last)
        rows = data[:, :, :5]

        assert self.convolution(data, weight) == weight.nbytes
        assert (
            self.convolution(rows[:, :, :, 1:], weight) == weight.nbytes + rows[:, :, :, 1:].nbytes
        )

    def test_a_convolution_of_a_turned_frame(self) -> None:
        """Neither one nor the other: the input is put in order, the weight is."""
        data, weight = torch.empty(1, 4, 9, 7).transpose(2, 3), torch.empty(8, 4, 3, 3)

        assert self.convolution(data, weight) == data.nbytes

    def attention(self, heads, queries, keys, width, dtype=torch.bfloat16) -> int:
        """What it says of an attention."""
        query, key = (torch.empty(1, heads, n, width, dtype=dtype) for n in (queries, keys))
        return workspace_of("cuda")(ATTENTION)((query, key, key), {}, query)

    def test_flash_that_fills_a_card(self) -> None:
        """Takes nothing: all of 14B's heads, or 4,096 rows of 1.3B's."""
        assert self.attention(40, 1024, 32760, 128) == 0
        assert self.attention(12, 4096, 32760, 128) == 0

    def test_flash_that_does_not(self) -> None:
        """Sums in parts: 1,024 rows of 1.3B's heads in up to five, on cards of 114 and of 188."""
        part = 4 * 12 * 1024 * (128 + 1)

        assert self.attention(12, 1024, 32760, 128) == 5 * part
        assert self.attention(12, 1024, 512, 128) == 4 * part  # there are no more blocks of keys

    def test_other_kernels(self) -> None:
        """In fp32 the sums are the result; heads too wide for flash are summed beside it."""
        assert self.attention(12, 1024, 32760, 128, torch.float32) == 0
        assert self.attention(1, 1536, 1536, 384) == 4 * 1536 * 384
