"""A loop under a recorder takes two passes of equal ones and counts all."""

import pytest
import torch

from wanflow.scheduler.profile.fakes import FakeMode
from wanflow.scheduler.profile.folded_loops import passes
from wanflow.scheduler.profile.kernel_workspace import workspace_of
from wanflow.scheduler.profile.recorder import Recorder

PARTS = [slice(0, 8), slice(8, 16), slice(16, 24), slice(24, 32), slice(32, 35)]


def recorded(loop) -> Recorder:
    with FakeMode():
        weight, x = torch.empty(6, 6), torch.empty(40, 6)
        recorder = Recorder([weight, x], workspace_of("cpu"))
        with recorder:
            for part in loop(PARTS):
                x[part] = torch.relu(x[part] @ weight)
    return recorder


class TestTurns:
    def test_all_of_them(self) -> None:
        """Where something is computed nothing is left out."""
        assert list(passes(PARTS)) == PARTS

    def test_two_of_equal_ones(self) -> None:
        """Under a recorder: the first and second of equally long ones, and the odd one."""
        with Recorder([], workspace_of("cpu")):
            assert list(passes(PARTS)) == [PARTS[0], PARTS[1], PARTS[4]]

    def test_counts(self) -> None:
        """FLOPs, kernels and memory traffic are those of the whole loop, and so is the peak."""
        whole, short = recorded(iter), recorded(passes)

        assert whole.flops == short.flops == {"gemm": 2 * 35 * 6 * 6}
        assert whole.by_dtype == short.by_dtype
        assert (whole.kernels, whole.memory_bytes) == (short.kernels, short.memory_bytes)
        assert whole.peak_bytes == short.peak_bytes
        assert len(short.requests) < len(whole.requests)

    def test_a_loop_in_a_loop(self) -> None:
        """Counts multiply."""
        recorder = Recorder([], workspace_of("cpu"))
        with FakeMode(), recorder:
            for _ in passes(PARTS):
                for _ in passes(PARTS[:4]):
                    torch.empty(3)
        assert recorder.kernels == 5 * 4

    def test_a_loop_that_is_left(self) -> None:
        """What comes after a loop that ended early counts once."""
        recorder = Recorder([], workspace_of("cpu"))

        def fails() -> None:
            for part in passes(PARTS):
                if part.start:
                    message = "in the second pass"
                    raise ValueError(message)

        with FakeMode(), recorder:
            with pytest.raises(ValueError, match="second"):
                fails()
            torch.empty(3)
        assert recorder.kernels == 1

    def test_after_a_recorder(self) -> None:
        """A recorder's end is the end of it."""
        with Recorder([], workspace_of("cpu")):
            pass
        assert list(passes(PARTS)) == PARTS
