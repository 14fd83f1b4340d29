"""The attention backend of a transformer."""

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from wanflow.errors import InputError
from wanflow.graph.configs import known_config
from wanflow.graph.ops import ATTENTION_BACKENDS
from wanflow.models import backends
from wanflow.models.backends import attending
from wanflow.models.segments.build import build

CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def module():
    return build("transformer", known_config("wan-tiny", "transformer"))


def test_all_are_diffusers() -> None:
    """Every name that a graph may give is one there."""
    assert set(ATTENTION_BACKENDS) <= {each.value for each in AttentionBackendName}


def chosen(module) -> set[object]:
    """The backends of all self- and cross-attention."""
    blocks = module.blocks
    return {a.backend for b in blocks for a in (b.attn1, b.attn2)}


def test_is_chosen_when_built(module) -> None:
    """Native on every attention, so that no variable of the environment decides."""
    assert chosen(module) == {AttentionBackendName.NATIVE.value}


def test_only_inside(module) -> None:
    """Another one while it computes; after a failure, too, native again."""

    def fails() -> None:
        with attending(module, "_native_cudnn", CARD, "stage denoise"):
            assert chosen(module) == {AttentionBackendName._NATIVE_CUDNN.value}
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert chosen(module) == {AttentionBackendName.NATIVE.value}


def test_leaves_the_process_alone(module) -> None:
    """Other modules of diffusers go on with the default that was there."""
    before = _AttentionBackendRegistry.get_active_backend()

    with attending(module, "_native_efficient", CARD, "stage denoise"):
        assert _AttentionBackendRegistry.get_active_backend() == before
    assert _AttentionBackendRegistry.get_active_backend() == before


def test_needs_a_card(module) -> None:
    """On a CPU there is one."""
    with (
        pytest.raises(InputError, match="stage denoise: attention=sage needs a CUDA device"),
        attending(module, "sage", CPU, "stage denoise"),
    ):
        pass


def test_needs_its_package(module) -> None:
    """What is missing is said by name, with the way out."""
    with (
        pytest.raises(InputError, match="sageattention") as caught,
        attending(module, "sage", CARD, "stage denoise"),
    ):
        pass
    assert (caught.value.code, caught.value.exit_code) == ("attention-backend", 2)
    assert backends.NATIVE in str(caught.value.hint)
