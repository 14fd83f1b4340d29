"""UMT5's table under one of its names or both: the encoder reads what it reads in transformers."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import UMT5EncoderModel

from wanflow.models.weights.layouts import open_part

SHARED, OWN = "shared.weight", "encoder.embed_tokens.weight"
CASES = {
    "shared alone": lambda table: {SHARED: table},
    "own alone": lambda table: {OWN: table},
    "equal": lambda table: {SHARED: table, OWN: table.clone()},
    "unequal": lambda table: {SHARED: table, OWN: table.flip(0).contiguous()},
    "another shape": lambda table: {SHARED: table[:7].clone(), OWN: table},
}


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny / "text_encoder", tmp_path / "text_encoder")


@pytest.mark.parametrize("case", CASES)
def test_as_transformers(folder, case):
    """The table is that of `UMT5EncoderModel`'s encoder; it is said where another was there."""
    path = folder / "model.safetensors"
    state = load_file(path)
    table = state.pop(SHARED)
    save_file(state | CASES[case](table), path, metadata={"format": "pt"})
    checkpoint = open_part("text_encoder", folder)
    read = torch.empty_like(table)
    checkpoint.read_into(SHARED, read, None)
    if case != "another shape":  # which transformers refuses
        theirs = UMT5EncoderModel.from_pretrained(folder).encoder.embed_tokens.weight
        assert torch.equal(read, theirs)
    assert OWN not in checkpoint.entries
    notes = (f"{SHARED} and {OWN} differ: as in transformers the second is used",)
    assert checkpoint.notes == (notes if case in ("unequal", "another shape") else ())
