"""LoRA files that are damaged, or lie, or are none."""

import pytest
import torch

from tests.loras import located, random, save
from wanflow.errors import WeightsError
from wanflow.models.adapters.lora_file import open_lora

STEM = "diffusion_model.blocks.0.self_attn.q"
PAIR = {f"{STEM}.lora_A.weight": random(4, 24), f"{STEM}.lora_B.weight": random(24, 4)}


def refused(path, told):
    """It is exit 4, with these words."""
    with pytest.raises(WeightsError, match=told) as raised:
        _ = located("t2v", None, [(path, 1.0)]).model
    assert raised.value.exit_code == 4


def test_cut(tmp_path) -> None:
    file = save(PAIR, tmp_path / "lora.safetensors")
    file.write_bytes(file.read_bytes()[:-7])
    refused(file, "is cut")


def test_no_file(tmp_path) -> None:
    refused(tmp_path / "nowhere.safetensors", "no such LoRA file")
    refused(tmp_path, "is a folder")
    (tmp_path / "page").write_text("<html><title>Login</title>")
    refused(tmp_path / "page", "HTML page")


def test_a_whole_model(tmp_path) -> None:
    """Is said to be none, with the option for it."""
    file = save({"blocks.0.attn1.to_q.weight": random(24, 24)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="is no LoRA") as raised:
        open_lora(file)
    assert "--weights" in raised.value.hint


@pytest.mark.parametrize(
    ("alpha", "told"),
    [
        (torch.tensor(float("nan")), "is nan"),
        (torch.ones(3), r"\[3\] of float32, not one number"),
        (torch.tensor(1j), r"\[\] of complex64, not one number"),
    ],
)
def test_alpha(tmp_path, alpha, told) -> None:
    refused(save(PAIR | {f"{STEM}.alpha": alpha}, tmp_path / "lora.safetensors"), told)


def test_one_module_under_two_names(tmp_path) -> None:
    """Which of them is meant nobody knows."""
    twice = PAIR | {"transformer.blocks.0.attn1.to_q.lora_A.weight": random(4, 24)}
    refused(save(twice, tmp_path / "lora.safetensors"), "which is the same")
    again = PAIR | {f"{STEM}.lora_A.default.weight": random(4, 24)}
    refused(save(again, tmp_path / "again.safetensors"), "are the same of")


def test_numbers_that_are_no_floats(tmp_path) -> None:
    """Packed matrices without a scale that is known are not taken for numbers."""
    packed = {name: tensor.to(torch.int8) for name, tensor in PAIR.items()}
    good = {"diffusion_model.head.diff_m": random(1, 2, 24)}
    refused(save(good | packed, tmp_path / "lora.safetensors"), "is int8, not floats")


def test_names_are_shown_as_they_can_be(tmp_path) -> None:
    """A terminal is not told what to do, nor flooded."""
    hostile = {"\x1b[2J" + "a" * 5000 + ".lora_A.weight": random(4, 24)}
    file = save(PAIR | hostile, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError) as raised:
        _ = located("t2v", None, [(file, 1.0)]).model
    assert "\x1b" not in raised.value.message
    assert len(raised.value.message) < 600


def test_a_pickle(tmp_path) -> None:
    """A `.pth` of tensors is read as safetensors are, nothing of it executed."""
    torch.save(PAIR, tmp_path / "lora.pth")
    found = located("t2v", None, [(tmp_path / "lora.pth", 1.0)])
    assert list(found.adapters.linears) == ["blocks.0.attn1.to_q"]
    torch.save({**PAIR, "hook": print}, tmp_path / "bad.pth")
    refused(tmp_path / "bad.pth", "bad.pth")
