"""In a process of its own: tensors of two devices are refused, numbers and indices are not."""

import sys
from pathlib import Path

import pytest
import torch

from tests.cuda_emulator.card import Card
from tests.cuda_emulator.emulated import emulated

with emulated(Path(sys.argv[1]), Card(count=2)):
    here, there = torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1")
    for other, name in ((torch.ones(2), "cpu"), (there, "cuda:1")):
        with pytest.raises(RuntimeError, match=f"found at least two devices.*{name}"):
            here + other
    assert (here + torch.tensor(1.0)).tolist() == [2.0, 2.0]  # a number may lie anywhere
    assert here[torch.tensor([1])].device == here.device  # and so may indices
    assert there.to("cuda:0").add(here).tolist() == [2.0, 2.0]
sys.stdout.write("refused\n")
