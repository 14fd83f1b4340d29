"""Every naming and every kind of a LoRA: applied as it says, or refused by name."""

import json

import pytest
import torch

from tests.loras import KINDS, RANK, bound, effective, located, random, save, shapes, weights
from wanflow.errors import WeightsError
from wanflow.models.adapters.names import known_in
from wanflow.models.segments.build import build

Q, OFFICIAL = "blocks.1.attn1.to_q", "blocks.1.self_attn.q"
SHAPE = (24, 24)


def low_rank(stem, shape=SHAPE, ends=("lora_A.weight", "lora_B.weight")):
    """A pair of matrices."""
    (out, *inside), (down, up) = shape, ends
    sides = (1,) * (len(inside) - 1)
    return {f"{stem}.{down}": random(RANK, *inside), f"{stem}.{up}": random(out, RANK, *sides)}


def product(shape=SHAPE):
    """What `low_rank` of a shape adds."""
    down, up = low_rank("", shape).values()
    return (up.flatten(1) @ down.flatten(1)).view(shape)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders and weights by kind, made once."""
    made = {}

    def of(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = folder, weights(kind, folder)
        return made[kind]

    return of


def check(models, tmp_path, kind, tensors, wanted, weight=1.0, **options):
    """The model is its own weights and *wanted*, at every parameter; to the rounding of fp32."""
    folder, own = models(kind)
    file = save(tensors, tmp_path / "lora.safetensors")
    found = located(kind, folder, [(file, weight)], **options)
    module = bound(found)
    used = [n for n in own if not n.startswith("condition_embedder.image")] + [
        n for n in wanted if n.startswith("condition_embedder.image")
    ]
    for name, there in effective(module, used).items():
        expected = own[name] + weight * wanted[name] if name in wanted else own[name]
        assert torch.allclose(there, expected, atol=3e-6), name
    return found


NAMINGS = {
    "diffusers": low_rank(f"transformer.{Q}"),
    "peft": low_rank(f"base_model.model.{Q}"),
    "ComfyUI": low_rank(f"diffusion_model.{OFFICIAL}"),
    "lora_down": low_rank(
        f"diffusion_model.{OFFICIAL}", ends=("lora_down.weight", "lora_up.weight")
    ),
    "kohya": low_rank(
        "lora_unet_blocks_1_self_attn_q", ends=("lora_down.weight", "lora_up.weight")
    ),
    "Wan-Fun": low_rank(
        "lora_unet__blocks_1_self_attn_q", ends=("lora_down.weight", "lora_up.weight")
    ),
    "bare": low_rank(OFFICIAL, ends=("lora_A.default.weight", "lora_B.default.weight")),
    "default": low_rank(
        f"diffusion_model.{OFFICIAL}", ends=("lora_A.default.weight", "lora_B.default.weight")
    ),
    "no weight": low_rank(f"model.diffusion_model.{OFFICIAL}", ends=("lora_A", "lora_B")),
}


class TestNamings:
    @pytest.mark.parametrize("naming", NAMINGS)
    def test_is_the_same_change(self, models, tmp_path, naming) -> None:
        """Under every name that there is for a module."""
        check(models, tmp_path, "t2v", NAMINGS[naming], {f"{Q}.weight": product()})


PLACES = {
    "head.head": ("proj_out", (64, 24), "t2v"),
    "time_projection.1": ("condition_embedder.time_proj", (144, 24), "t2v"),
    "text_embedding.0": ("condition_embedder.text_embedder.linear_1", (24, 32), "t2v"),
    "time_embedding.2": ("condition_embedder.time_embedder.linear_2", (24, 24), "t2v"),
    "blocks.0.ffn.2": ("blocks.0.ffn.net.2", (24, 64), "t2v"),
    "patch_embedding": ("patch_embedding", (24, 16, 1, 2, 2), "t2v"),
    "vace_blocks.1.cross_attn.o": ("vace_blocks.1.attn2.to_out.0", (24, 24), "vace"),
    "vace_blocks.0.before_proj": ("vace_blocks.0.proj_in", (24, 24), "vace"),
    "blocks.0.cross_attn.k_img": ("blocks.0.attn2.add_k_proj", (24, 24), "i2v"),
    "img_emb.proj.1": ("condition_embedder.image_embedder.ff.net.0.proj", (20, 20), "i2v"),
}


class TestLowRank:
    @pytest.mark.parametrize("official", PLACES)
    @pytest.mark.parametrize("alpha", [None, 1.0])
    def test_of_a_module(self, models, tmp_path, official, alpha) -> None:
        """With alpha it is scaled by alpha over rank, without one by 1."""
        path, shape, kind = PLACES[official]
        tensors = low_rank(f"diffusion_model.{official}", shape)
        if alpha is not None:
            tensors[f"diffusion_model.{official}.alpha"] = torch.tensor(alpha)
        scale = 1.0 if alpha is None else alpha / RANK
        check(models, tmp_path, kind, tensors, {f"{path}.weight": scale * product(shape)}, 0.5)

    def test_peft_s_configuration(self, models, tmp_path) -> None:
        """What diffusers writes into metadata scales it too."""
        folder, own = models("t2v")
        config = '{"transformer.lora_alpha": 8, "transformer.r": 4}'
        file = save(
            NAMINGS["diffusers"], tmp_path / "lora.safetensors", lora_adapter_metadata=config
        )
        module = bound(located("t2v", folder, [(file, 1.0)]))
        (there,) = effective(module, [f"{Q}.weight"]).values()
        assert torch.allclose(there, own[f"{Q}.weight"] + 2 * product(), atol=3e-6)

    def test_an_alpha_that_no_float_holds(self, models, tmp_path) -> None:
        """Metadata is anybody's; what is no number there scales nothing."""
        folder, own = models("t2v")
        config = json.dumps({"transformer.lora_alpha": 10**400})
        file = save(
            NAMINGS["diffusers"], tmp_path / "lora.safetensors", lora_adapter_metadata=config
        )
        module = bound(located("t2v", folder, [(file, 1.0)]))
        (there,) = effective(module, [f"{Q}.weight"]).values()
        assert torch.allclose(there, own[f"{Q}.weight"] + product(), atol=3e-6)


DIFFERENCES = {
    "diffusion_model.blocks.0.norm3.diff": ("blocks.0.norm2.weight", (24,)),
    "diffusion_model.blocks.0.norm3.diff_b": ("blocks.0.norm2.bias", (24,)),
    "diffusion_model.blocks.0.self_attn.norm_q.diff": ("blocks.0.attn1.norm_q.weight", (24,)),
    "diffusion_model.blocks.0.norm3.w_norm": ("blocks.0.norm2.weight", (24,)),
    "diffusion_model.blocks.0.norm3.b_norm": ("blocks.0.norm2.bias", (24,)),
    "diffusion_model.blocks.1.diff_m": ("blocks.1.scale_shift_table", (1, 6, 24)),
    "diffusion_model.blocks.1.modulation.diff": ("blocks.1.scale_shift_table", (1, 6, 24)),
    "diffusion_model.head.diff_m": ("scale_shift_table", (1, 2, 24)),
    "diffusion_model.patch_embedding.diff": ("patch_embedding.weight", (24, 16, 1, 2, 2)),
    "diffusion_model.patch_embedding.diff_b": ("patch_embedding.bias", (24,)),
    "diffusion_model.head.head.diff": ("proj_out.weight", (64, 24)),
    "diffusion_model.blocks.0.ffn.0.diff_b": ("blocks.0.ffn.net.0.proj.bias", (64,)),
    "diffusion_model.time_projection.1.diff_b": ("condition_embedder.time_proj.bias", (144,)),
    "diffusion_model.text_embedding.0.diff_b": (
        "condition_embedder.text_embedder.linear_1.bias", (24,)
    ),
}  # fmt: skip


class TestDifferences:
    @pytest.mark.parametrize("name", DIFFERENCES)
    def test_is_added(self, models, tmp_path, name) -> None:
        """To norms, tables, convolutions, heads and biases, alone too."""
        target, shape = DIFFERENCES[name]
        check(models, tmp_path, "t2v", {name: random(*shape)}, {target: random(*shape)}, 0.5)

    def test_of_a_bias_beside_a_low_rank(self, models, tmp_path) -> None:
        """Is a bias of its second matrix."""
        tensors = low_rank(f"diffusion_model.{OFFICIAL}")
        tensors[f"diffusion_model.{OFFICIAL}.diff_b"] = random(24)
        wanted = {f"{Q}.weight": product(), f"{Q}.bias": random(24)}
        check(models, tmp_path, "t2v", tensors, wanted, 0.5)


class TestFactors:
    """LoKr, LoHa and DoRA, by the formulas of their papers."""

    @pytest.mark.parametrize("weight", [1.0, 0.5])
    def test_lokr(self, models, tmp_path, weight) -> None:
        stem = f"diffusion_model.{OFFICIAL}"
        tensors = {
            f"{stem}.lokr_w1": random(4, 6), f"{stem}.lokr_w2_a": random(6, 2),
            f"{stem}.lokr_w2_b": random(2, 4), f"{stem}.alpha": torch.tensor(1.0),
        }  # fmt: skip
        wanted = torch.kron(random(4, 6), random(6, 2) @ random(2, 4)) / 2
        check(models, tmp_path, "t2v", tensors, {f"{Q}.weight": wanted}, weight)

    def test_lokr_of_whole_factors(self, models, tmp_path) -> None:
        """Has no rank, so that alpha says nothing."""
        stem = "lora_unet_blocks_1_self_attn_q"
        tensors = {
            f"{stem}.lokr_w1": random(4, 6), f"{stem}.lokr_w2": random(6, 4),
            f"{stem}.alpha": torch.tensor(9.0),
        }  # fmt: skip
        wanted = torch.kron(random(4, 6), random(6, 4))
        check(models, tmp_path, "t2v", tensors, {f"{Q}.weight": wanted})

    def test_loha(self, models, tmp_path) -> None:
        stem = f"diffusion_model.{OFFICIAL}"
        sides = {"w1_a": (24, 3), "w1_b": (3, 24), "w2_a": (24, 2), "w2_b": (2, 24)}
        pairs = {f"{stem}.hada_{name}": random(*shape) for name, shape in sides.items()}
        pairs[f"{stem}.alpha"] = torch.tensor(1.0)
        wanted = (random(24, 3) @ random(3, 24)) * (random(24, 2) @ random(2, 24)) / 2
        check(models, tmp_path, "t2v", pairs, {f"{Q}.weight": wanted}, 0.5)

    @pytest.mark.parametrize("shape", [(24,), (24, 1), (1, 24)])
    @pytest.mark.parametrize("weight", [1.0, 0.5])
    @pytest.mark.parametrize("end", ["dora_scale", "lora_magnitude_vector"])
    def test_dora(self, models, tmp_path, end, weight, shape) -> None:
        own = models("t2v")[1][f"{Q}.weight"]
        tensors = low_rank(f"transformer.{Q}") | {f"transformer.{Q}.{end}": random(*shape).abs()}
        moved = own + product()
        dim = 0 if shape == (1, 24) else 1
        magnitude = random(*shape).abs()
        magnitude = magnitude if dim == 0 else magnitude.view(24, 1)
        wanted = magnitude * moved / moved.norm(dim=dim, keepdim=True) - own
        check(models, tmp_path, "t2v", tensors, {f"{Q}.weight": wanted}, weight)


REFUSED = {
    "text encoder": (low_rank("lora_te_layers_0_q"), "lora_te_layers_N_q.lora_A.weight"),
    "an I2V LoRA on T2V": (low_rank("diffusion_model.blocks.0.cross_attn.k_img"), "k_img"),
    "other width": (low_rank(f"transformer.{Q}", (32, 32)), r"\[4, 32\] and \[32, 4\]"),
    "half": ({f"transformer.{Q}.lora_A.weight": random(4, 24)}, "no up matrix"),
    "Tucker": ({f"transformer.{Q}.lora_mid.weight": random(4, 4)}, "of no kind that is known"),
    "OFT": ({f"transformer.{Q}.oft_blocks": random(4, 4)}, "of no kind that is known"),
    "alone": ({f"transformer.{Q}.alpha": torch.tensor(1.0)}, "stands alone"),
    "LoKr of a norm": (
        {"blocks.0.norm3.lokr_w1": random(4, 1), "blocks.0.norm3.lokr_w2": random(6, 1)},
        "no Linear",
    ),
    "LoKr of other sizes": (
        {f"{OFFICIAL}.lokr_w1": random(4, 4), f"{OFFICIAL}.lokr_w2": random(5, 6)}, "makes"
    ),
    "diff of another shape": ({"diffusion_model.patch_embedding.diff": random(24, 36, 1, 2, 2)},
                              r"\[24, 36, 1, 2, 2\]"),
    "DoRA of another shape": (
        low_rank(f"transformer.{Q}") | {f"transformer.{Q}.dora_scale": random(7)}, "magnitude"
    ),
    "layer that is not there": (low_rank("diffusion_model.blocks.40.self_attn.q"), "blocks.N"),
}  # fmt: skip


class TestRefused:
    @pytest.mark.parametrize("case", REFUSED)
    def test_by_name(self, tmp_path, case) -> None:
        """Beside what is taken: nothing is dropped; with leave for it the rest is, and is told."""
        tensors, told = REFUSED[case]
        good = {"diffusion_model.head.diff_m": random(1, 2, 24)}
        file = save(good | tensors, tmp_path / "lora.safetensors")
        with pytest.raises(WeightsError, match=told) as raised:
            _ = located("t2v", None, [(file, 1.0)]).model
        assert raised.value.exit_code == 4
        left = located("t2v", None, [(file, 1.0)], partial=True)
        assert list(left.adapters.read) == ["scale_shift_table"]
        assert "left out" in left.notes[0]

    def test_all_of_it(self, tmp_path) -> None:
        """What fits nothing is refused with leave too; many names are one line."""
        tensors = {}
        for number in range(40):
            tensors |= low_rank(f"diffusion_model.double_blocks.{number}.img_attn.proj")
        file = save(tensors, tmp_path / "lora.safetensors")
        with pytest.raises(WeightsError, match=r"double_blocks\.N.*40 times") as raised:
            _ = located("t2v", None, [(file, 1.0)], partial=True).model
        assert len(raised.value.message) < 600


def test_every_parameter_has_an_official_name() -> None:
    """So that the table above is of names that others give."""
    for kind in KINDS:
        known = known_in(build("transformer", KINDS[kind]))
        named = {theirs for ours, theirs in known.modules.items() if ours != theirs}
        same = {"patch_embedding", "vace_patch_embedding"}
        for name in shapes(kind):
            assert {name, name.rpartition(".")[0]} & (named | same), name
