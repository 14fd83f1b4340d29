"""VACE's transformer with each of its blocks beside the one that it hints: upstream's bits."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanVACETransformer3DModel

from wanflow.models.wan import dit, dit_vace
from wanflow.models.wan.dit_rows import Rows

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def transformer(precision: str, layers: list[int]) -> WanVACETransformer3DModel:
    """A small one with weights from a seed, and the dtypes that upstream loads it in."""
    torch.manual_seed(3)
    module = WanVACETransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, text_dim=32, freq_dim=32, ffn_dim=64,
        num_layers=4, vace_layers=layers,
    )  # fmt: skip
    for name, parameter in module.named_parameters():
        if not any(part in name for part in ("time_embedder", "scale_shift_table", "norm2")):
            parameter.data = parameter.data.to(DTYPES[precision])
    return module.eval().requires_grad_(requires_grad=False)


def given(frames: int = 3) -> dict[str, torch.Tensor]:
    """Latents, a timestep, text and a control."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "hidden_states": noise(1, 16, frames, 6, 8),
        "timestep": torch.tensor([731]),
        "encoder_hidden_states": noise(1, 512, 32),
        "control_hidden_states": noise(1, 96, frames, 6, 8),
    }


def interleaved(module: WanVACETransformer3DModel, inputs: dict[str, torch.Tensor], scale: float):
    """Our order of the same forward."""
    latents = inputs["hidden_states"]
    rotary = dit.rotary_tables(module, latents, latents.device)
    embedded = dit.embed(module, latents, inputs["timestep"], inputs["encoder_hidden_states"])
    hidden, context, modulation = embedded.hidden, embedded.context, embedded.modulation
    state = dit_vace.begin(module, inputs["control_hidden_states"], hidden)
    for index, block in enumerate(module.blocks):
        hidden = dit.block(block, hidden, context, modulation, rotary)
        number = dit_vace.number_at(module, index)
        if number is not None:
            beside = module.vace_blocks[number]
            state = dit.in_parts(beside, state, context, modulation, rotary)
            hidden = dit_vace.hinted(beside, hidden, state, scale)
    return dit.head(module, hidden, embedded.time, tuple(latents.shape))


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize(
    ("layers", "scale"), [([0, 2], 1.0), ([0, 1, 3], 0.5), ([0], 1.0), ([0, 1, 2, 3], 0.0)]
)
def test_interleaved_is_all_first(precision: str, layers: list[int], scale: float) -> None:
    """Blocks beside each other make the bits of upstream's forward, which holds every hint."""
    module, inputs = transformer(precision, layers), given()
    cast = {name: t.to(DTYPES[precision]) for name, t in inputs.items() if t.is_floating_point()}
    scales = torch.full((len(layers),), scale, dtype=DTYPES[precision])
    expected = module(
        **inputs | cast, control_hidden_states_scale=scales, return_dict=False
    )[0]  # fmt: skip
    assert torch.equal(interleaved(module, inputs | cast, scale), expected)


def test_begin_by_rows() -> None:
    """Chunk by chunk the state begins as it does at once."""
    module, inputs = transformer("fp32", [0, 2]), given()
    hidden = dit.embed(
        module, inputs["hidden_states"], inputs["timestep"], inputs["encoder_hidden_states"]
    ).hidden
    control = inputs["control_hidden_states"]
    whole = dit_vace.begin(module, control, hidden)
    assert torch.allclose(
        dit_vace.begin_by_rows(module, control, hidden, Rows(12)), whole, rtol=0, atol=1e-6
    )


class TestSegmentation:
    """What moves as one."""

    @pytest.fixture
    def module(self) -> torch.nn.Module:
        """On meta, as it is built."""
        with torch.device("meta"):
            return transformer("fp32", [0, 2])

    def test_order(self, module: torch.nn.Module) -> None:
        """Each of VACE's stands behind the block that it hints."""
        names = list(dit_vace.segmentation(module).segments)
        assert names == [
            "in", "block.0", "vace.0", "block.1", "block.2", "vace.1", "block.3", "head"
        ]  # fmt: skip

    def test_every_weight_once(self, module: torch.nn.Module) -> None:
        """In a segment and, of those that are cut further, in a part of the same one."""
        made = dit_vace.segmentation(module)
        names = sorted(name for names in made.segments.values() for name in names)
        assert names == sorted(name for name, _ in module.named_parameters())
        assert sorted(n for names in made.finest.values() for n in names) == names
        for segment, parts in made.parts.items():
            pieces = [name for part in parts.values() for name in part]
            assert sorted(pieces) == sorted(made.segments[segment])

    def test_blocks_are_alike(self, module: torch.nn.Module) -> None:
        """What begins the control lies with the embeddings, so that no block is larger."""
        made = dit_vace.segmentation(module).segments
        assert len(made["vace.0"]) == len(made["vace.1"])
        assert "vace_blocks.0.proj_in.weight" in made["in"]
