"""Weights that the disk doesn't give: told with their file, as those that can't be opened."""

from pathlib import Path

import pytest
import torch

from wanflow.errors import WeightsError
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_reads import fill, opened, read_bytes
from wanflow.models.weights.identity import identity
from wanflow.models.weights.sample import sample

BROKEN = Path("/proc/self/mem")  # a file that is opened, and whose first bytes are an I/O error


def some(nbytes: int) -> Entry:
    """Bytes of it."""
    return Entry(BROKEN, 0, torch.uint8, (nbytes,))


class TestIoErrors:
    """Of each way to read."""

    @pytest.mark.parametrize("nbytes", [8, 3 << 20])
    def test_sample(self, nbytes) -> None:
        """What tells weights from others."""
        with pytest.raises(WeightsError, match=r"^/proc/self/mem: Input/output error$"):
            sample(some(nbytes))

    def test_data(self) -> None:
        """What is brought to the device, and what is small."""
        with (
            pytest.raises(WeightsError, match=r"^/proc/self/mem: Input/output error$"),
            opened(BROKEN) as handle,
        ):
            fill(handle, 0, torch.empty(8, dtype=torch.uint8), BROKEN)
        with pytest.raises(WeightsError, match=r"^/proc/self/mem: Input/output error$"):
            read_bytes(some(8))

    def test_identity(self) -> None:
        """Of all that is compared before a run goes on."""
        checkpoint = Checkpoint(BROKEN, {"x": some(8)})
        with pytest.raises(WeightsError, match=r"^/proc/self/mem: Input/output error$"):
            identity(checkpoint)
