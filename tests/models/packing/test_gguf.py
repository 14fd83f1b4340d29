"""GGUF's blocks open to the values that gguf-py gives them, in bits."""

import gguf
import numpy as np
import pytest
import torch

from wanflow.models.packing.form import PACKED
from wanflow.models.packing.gguf import Gguf
from wanflow.models.packing.gguf_blocks import TYPES

OUT, IN = 37, 1024


@pytest.fixture(params=TYPES)
def blocks(request):
    """Random blocks of a type: any bytes but for the scales, which are fp16 of either sign."""
    of, random = TYPES[request.param], np.random.default_rng(5)
    raw = random.integers(0, 256, (OUT * IN // of.numbers, of.nbytes), dtype=np.uint8)
    for at in of.halves:
        scales = random.normal(0, 0.01, len(raw)).astype(np.float16)
        raw[:, at : at + 2] = scales[:, None].view(np.uint8)
    return Gguf((OUT, IN), request.param), {PACKED: torch.from_numpy(raw.reshape(OUT, -1))}


def test_every_type_is_what_ggml_says() -> None:
    """Numbers and bytes of a block."""
    for name, of in TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        assert gguf.GGML_QUANT_SIZES[kind] == (of.numbers, of.nbytes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values(blocks, dtype) -> None:
    """Those of gguf-py in fp32, rounded once."""
    form, pieces = blocks
    kind = gguf.GGMLQuantizationType[form.type]
    wanted = torch.from_numpy(gguf.quants.dequantize(pieces[PACKED].numpy(), kind))
    assert wanted.std() > 0
    assert torch.equal(form.open(pieces, dtype).whole(), wanted.to(dtype))


def test_some_rows(blocks) -> None:
    """They are the rows of the whole, one row too."""
    form, pieces = blocks
    whole = form.open(pieces, torch.float32).whole()
    for rows in (slice(3, 20), slice(36, 37)):
        part = form.part(rows).open(form.cut(pieces, rows), torch.float32).whole()
        assert torch.equal(part, whole[rows])


def test_chunks(blocks, monkeypatch) -> None:
    """However many rows are opened at a time."""
    form, pieces = blocks
    whole = form.open(pieces, torch.float32).whole()
    monkeypatch.setattr("wanflow.models.packing.gguf._NUMBERS", 5 * IN)
    assert torch.equal(form.open(pieces, torch.float32).whole(), whole)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_damaged_block_is_found(blocks, bad) -> None:
    """By each of its scales, with its row."""
    form, pieces = blocks
    of = form.blocks
    assert form.damaged(pieces[PACKED]) is None
    for at in of.halves:
        raw = pieces[PACKED].clone()
        at_block = raw.view(-1, of.nbytes)[(20 * IN + 300) // of.numbers]
        at_block[at : at + 2] = torch.tensor([bad], dtype=torch.float16).view(torch.uint8)
        assert form.damaged(raw) == 20
