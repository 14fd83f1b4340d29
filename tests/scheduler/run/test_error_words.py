"""What PyTorch, CUDA's libraries and the system say is told apart: full memory, and whose."""

from __future__ import annotations

import errno

import pytest
import torch

from wanflow.errors import OutOfMemory, StageFailed
from wanflow.scheduler.run.error_words import (
    HOST_FULL,
    exhausted,
    is_out_of_memory,
    making_room,
    reported,
)

ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call"
DEVICE_IS_FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has ..."),
    torch.AcceleratorError(f"CUDA error: out of memory{ADVICE}"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("HIP out of memory. Tried to allocate 2.00 MiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`"),
    RuntimeError(
        "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`"
    ),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No valid execution plans built."),
    RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "c10/cuda/CUDACachingAllocator.cpp"'),
]
HOST_IS_FULL = [
    MemoryError(),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
]
CARD_FAILED = [
    torch.AcceleratorError(f"CUDA error: an illegal memory access was encountered{ADVICE}"),
    torch.AcceleratorError(f"CUDA error: no kernel image is available for execution{ADVICE}"),
    RuntimeError("CUDA driver error: operation not supported"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]
OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    RuntimeError("a stage's own words\nwhich say out of memory further down"),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("out of memory"),
]


def raising(error: Exception) -> None:
    """Raise it."""
    raise error


class TestExhausted:
    """Which memory is full."""

    @pytest.mark.parametrize("error", DEVICE_IS_FULL, ids=str)
    def test_device(self, error) -> None:
        """The card's, whoever found no room there."""
        assert exhausted(error) == "device"

    @pytest.mark.parametrize("error", HOST_IS_FULL, ids=repr)
    def test_host(self, error) -> None:
        """The RAM."""
        assert exhausted(error) == "host"

    def test_host_for_real(self) -> None:
        """As PyTorch says it."""
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1 << 50)

        assert exhausted(caught.value) == "host"

    @pytest.mark.parametrize("error", [*CARD_FAILED, *OTHERS], ids=str)
    def test_none(self, error) -> None:
        """A smaller plan is no help."""
        assert not is_out_of_memory(error)


class TestReported:
    """One message with where it was."""

    @pytest.mark.parametrize("error", DEVICE_IS_FULL, ids=str)
    def test_device_is_full(self, error) -> None:
        """What was said is kept, without the advice."""
        with pytest.raises(OutOfMemory) as caught:
            reported("stage 's'", raising, error)

        assert caught.value.message == f"stage 's': {str(error).splitlines()[0]}"
        assert caught.value.code != HOST_FULL

    def test_no_kernel_or_no_room(self) -> None:
        """What cuDNN says of both has a hint for both."""
        error = RuntimeError("GET was unable to find an engine to execute this computation")
        with pytest.raises(OutOfMemory) as caught:
            reported("stage 's'", raising, error)

        assert "--precision fp16" in caught.value.hint

    @pytest.mark.parametrize("error", HOST_IS_FULL, ids=repr)
    def test_host_is_full(self, error) -> None:
        """The code tells the ladder whose memory it was."""
        with pytest.raises(OutOfMemory, match=r"^stage 's': the RAM is full") as caught:
            reported("stage 's'", raising, error)

        assert caught.value.code == HOST_FULL

    @pytest.mark.parametrize("error", CARD_FAILED, ids=str)
    def test_card_failed(self, error) -> None:
        """Exit 1, not 70: no bug of ours."""
        with pytest.raises(StageFailed, match=r"^stage 's': (CUDA|cuDNN)") as caught:
            reported("stage 's'", raising, error)

        assert "asynchronously" not in caught.value.message

    @pytest.mark.parametrize("error", OTHERS, ids=str)
    def test_others(self, error) -> None:
        """They are left as they are."""
        with pytest.raises(type(error)) as caught:
            reported("stage 's'", raising, error)
        assert caught.value is error

        if not isinstance(error, ValueError):
            with pytest.raises(type(error)) as caught:
                making_room("a slab", lambda: raising(error))
            assert caught.value is error

    def test_frames_are_let_go(self) -> None:
        """The message doesn't hold what was raised, whose frames hold tensors."""
        with pytest.raises(OutOfMemory) as caught:
            reported("stage 's'", raising, MemoryError())

        assert (caught.value.__context__, caught.value.__cause__) == (None, None)
