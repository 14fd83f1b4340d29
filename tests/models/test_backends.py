"""The attention backend of a transformer."""

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName

from wanflow.errors import InputError
from wanflow.graph.configs import known_config
from wanflow.graph.ops import ATTENTION_BACKENDS
from wanflow.models import backends
from wanflow.models.backends import choose_backend
from wanflow.models.segments.build import build

CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def module():
    return build("transformer", known_config("wan-tiny", "transformer"))


def test_all_are_diffusers() -> None:
    """Every name that a graph may give is one there."""
    assert set(ATTENTION_BACKENDS) <= {each.value for each in AttentionBackendName}


def test_is_set_on_every_attention(module) -> None:
    """Self- and cross-attention, so that no variable of the environment decides."""
    choose_backend(module, "native", CPU, "stage denoise")

    found = [block.attn1.processor for block in module.blocks]
    found += [block.attn2.processor for block in module.blocks]
    assert {each._attention_backend for each in found} == {AttentionBackendName.NATIVE}


def test_needs_a_card(module) -> None:
    """On a CPU there is one."""
    with pytest.raises(InputError, match="stage denoise: attention=sage needs a CUDA device"):
        choose_backend(module, "sage", CPU, "stage denoise")


def test_needs_its_package(module) -> None:
    """What is missing is said by name, with the way out."""
    with pytest.raises(InputError, match="sageattention") as caught:
        choose_backend(module, "sage", CARD, "stage denoise")
    assert (caught.value.code, caught.value.exit_code) == ("attention-backend", 2)
    assert backends.NATIVE in str(caught.value.hint)
