"""What `models inspect` says of a LoRA."""

import json

import torch
from typer.testing import CliRunner

from tests.loras import random, save
from wanflow.cli.app import app
from wanflow.session.weights.inspect_lora import inspect_lora, is_lora


def wide(stem, out=5120, width=5120, rank=8):
    """A low rank of a 14B model."""
    pair = {"down.weight": random(rank, width), "up.weight": random(out, rank)}
    tensors = {f"{stem}.lora_{name}": tensor for name, tensor in pair.items()}
    return tensors | {f"{stem}.alpha": torch.tensor(4.0)}


def test_of_a_14b(tmp_path) -> None:
    """Its naming, rank and alpha; it fits every model of the width that has its modules."""
    file = save(wide("lora_unet_blocks_39_self_attn_q"), tmp_path / "lora.safetensors")
    made = CliRunner().invoke(app, ["models", "inspect", str(file), "--json"])
    told = json.loads(made.output)
    assert made.exit_code == 0
    assert told["naming"] == "kohya, musubi (lora_unet_)"
    assert (told["ranks"], told["alphas"], told["kinds"]) == ({"8": 1}, {"4.0": 1}, {"low rank": 1})
    assert {"wan2.1-t2v-14b", "wan2.1-i2v-14b", "wan2.2-i2v-a14b"} <= set(told["fits"])
    assert not {"wan2.1-t2v-1.3b", "wan-tiny", "wan2.2-ti2v-5b"} & set(told["fits"])


def test_that_fits_none(tmp_path) -> None:
    """The model that it is nearest to is named, with what that does not take."""
    stems = "diffusion_model.blocks.0.self_attn.q", "diffusion_model.blocks.0.cross_attn.x"
    file = save(wide(stems[0]) | wide(stems[1]), tmp_path / "lora.safetensors")
    lora = inspect_lora(file)
    assert lora.fits == ()
    assert lora.nearest
    assert len(lora.refused) == 3
    assert "cross_attn.x" in lora.refused_in_words


def test_a_model_is_none(tmp_path) -> None:
    """Nor is a file of anything else."""
    assert not is_lora(save({"blocks.0.self_attn.q.weight": random(4, 4)}, tmp_path / "a.st"))
    (tmp_path / "text").write_text("hello")
    assert not is_lora(tmp_path / "text")
