"""Official names: the full models' tensors are those of diffusers and transformers, one to one."""

import json

import attrs
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from wanflow.errors import WeightsError
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import build
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.official_names import is_official, renamed

# huggingface.co/Wan-AI/Wan2.1-T2V-1.3B, revision 37ec512624d6: a safetensors file of so many bytes
DIT_BYTES = 5_676_070_424
COUNTS = {
    "umt5-xxl": 242, "vae": 194, "clip": 784, "t2v-1.3b": 825, "t2v-14b": 1095, "i2v-14b": 1303,
    "flf2v-14b": 1304, "vace-1.3b": 1264, "vace-14b": 1331, "t2v-a14b": 1095, "i2v-a14b": 1095,
    "ti2v-5b": 825, "vae-2.2": 196,
}  # fmt: skip
IMAGE = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}


def entries_of(shapes, path="official.pth", dtype=torch.float32):
    """Lay tensors of these shapes one behind the other."""
    found, offset = {}, 0
    for name, shape in shapes.items():
        found[name] = Entry(path, offset, dtype, shape)
        offset += found[name].nbytes
    return found


def clip():
    """CLIP's vision tower as the I2V folders of diffusers have it."""
    config = CLIPVisionConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
        image_size=224, patch_size=14, hidden_act="gelu", projection_dim=1024,
    )  # fmt: skip
    with torch.device("meta"):
        return CLIPVisionModel(config)


def dit(config="wan2.1-t2v-14b", **fields):
    return build("transformer", {**known_config(config, "transformer"), **fields})


MODULES = {
    "umt5-xxl": (
        "text_encoder",
        lambda: build("text_encoder", known_config("wan2.1-t2v-1.3b", "text_encoder")),
    ),
    "vae": ("vae", lambda: build("vae", known_config("wan2.1-t2v-1.3b", "vae"))),
    "t2v-1.3b": ("transformer", lambda: dit("wan2.1-t2v-1.3b")),
    "t2v-14b": ("transformer", dit),
    "i2v-14b": ("transformer", lambda: dit(**IMAGE)),
    "flf2v-14b": ("transformer", lambda: dit(**IMAGE, pos_embed_seq_len=514)),
    "vace-1.3b": ("transformer", lambda: dit("wan2.1-vace-1.3b")),
    "vace-14b": ("transformer", lambda: dit("wan2.1-vace-14b")),
    "t2v-a14b": ("transformer", lambda: dit("wan2.2-t2v-a14b")),
    "i2v-a14b": ("transformer", lambda: dit("wan2.2-i2v-a14b")),
    "ti2v-5b": ("transformer", lambda: dit("wan2.2-ti2v-5b")),
    "vae-2.2": ("vae", lambda: build("vae", known_config("wan2.2-ti2v-5b", "vae"))),
}


class TestFullModels:
    """The lists of `official/`, made by scripts/official_keys.py from the official code."""

    @pytest.mark.parametrize("name", COUNTS)
    def test_counts(self, official_keys, name):
        """A list has as many tensors as the published file."""
        assert COUNTS[name] == len(official_keys(name))

    def test_the_published_file(self, official_keys):
        """The list of the 1.3B model makes a header and data of exactly the published size."""
        header, end = {"__metadata__": {"format": "pt"}}, 0
        for name, entry in entries_of(dict(sorted(official_keys("t2v-1.3b").items()))).items():
            end = entry.offset + entry.nbytes
            header[name] = {
                "dtype": "F32", "shape": list(entry.shape), "data_offsets": [entry.offset, end],
            }  # fmt: skip
        text = json.dumps(header, separators=(",", ":"))
        assert 8 + len(text) + -len(text) % 8 + end == DIT_BYTES

    @pytest.mark.parametrize("name", MODULES)
    def test_one_to_one(self, official_keys, name):
        """Every parameter of the module has one official tensor of its shape, and none is over."""
        part, make = MODULES[name]
        parameters = {n: tuple(p.shape) for n, p in make().named_parameters()}
        found = renamed(part, entries_of(official_keys(name)))
        assert parameters == {n: entry.shape for n, entry in found.items()}
        assert sorted(official_keys(name)) == sorted(e.stored_as for e in found.values())

    def test_clip(self, official_keys):
        """Every parameter of the vision tower is there; the text tower and the head are over."""
        parameters = {n: tuple(p.shape) for n, p in clip().named_parameters()}
        found = renamed("image_encoder", entries_of(official_keys("clip")))
        assert parameters == {n: found[n].shape for n in parameters}
        over = found.keys() - parameters.keys()
        assert all(name.startswith("textual.") for name in over - {"log_scale", "visual.head"})

    def test_module_names_are_left_alone(self):
        """What already has diffusers' names keeps them and their places."""
        for part, make in MODULES.values():
            own = entries_of({n: tuple(p.shape) for n, p in make().named_parameters()})
            assert not is_official(part, own)
            assert own == renamed(part, own)


class TestFused:
    """A fused tensor becomes ranges of its rows."""

    @pytest.mark.parametrize("kind", ["weight", "bias"])
    def test_query_key_value(self, kind):
        """In this order, each a third of the rows, one behind the other."""
        shape = (12, 4) if kind == "weight" else (12,)
        name = f"visual.transformer.7.attn.to_qkv.{kind}"
        entries = entries_of({"visual.cls_embedding": (1, 1, 4), name: shape})
        found = renamed("image_encoder", entries)
        start, nbytes = entries[name].offset, entries[name].nbytes // 3
        for number, letter in enumerate("qkv"):
            piece = found[f"encoder.layers.7.self_attn.{letter}_proj.{kind}"]
            assert (start + number * nbytes, (4, *shape[1:])) == (piece.offset, piece.shape)
            assert name == piece.stored_as

    @pytest.mark.parametrize("shape", [(), (13, 4), (0, 4), (2,)])
    def test_wrong_rows(self, shape):
        """Rows that are not three times the width never become what the module wants."""
        name = "visual.transformer.0.attn.to_qkv.weight"
        found = renamed(
            "image_encoder", entries_of({"visual.cls_embedding": (1, 1, 4), name: shape})
        )
        assert found["encoder.layers.0.self_attn.q_proj.weight"].shape != (4, 4)

    def test_a_batch_that_is_none(self):
        """Only leading sides of one are dropped."""
        found = renamed("image_encoder", entries_of({"visual.cls_embedding": (2, 1, 4)}))
        assert found["embeddings.class_embedding"].shape == (2, 1, 4)


class TestNames:
    """What is not as the maps want it."""

    def test_prefix(self, official_keys):
        """A single file that keeps the DiT under `model.diffusion_model.` has the same names."""
        plain = entries_of(official_keys("t2v-1.3b"))
        prefixed = {f"model.diffusion_model.{name}": entry for name, entry in plain.items()}
        assert renamed("transformer", plain).keys() == renamed("transformer", prefixed).keys()

    @pytest.mark.parametrize("official", [True, False])
    def test_a_part_of_it(self, official_keys, official):
        """VACE's part by itself is known by its own names."""
        keys = official_keys("vace-1.3b")
        if not official:
            keys = {n: e.shape for n, e in renamed("transformer", entries_of(keys)).items()}
        own = entries_of({name: shape for name, shape in keys.items() if name.startswith("vace_")})
        assert official is is_official("transformer", own)
        parameters = {n for n, _ in dit("wan2.1-vace-1.3b").named_parameters()}
        assert {n for n in parameters if n.startswith("vace_")} == set(renamed("transformer", own))

    @pytest.mark.parametrize("name", MODULES)
    def test_misnamed(self, official_keys, name):
        """A tensor under a wrong name is missing under the right one."""
        part, make = MODULES[name]
        entries = entries_of(official_keys(name))
        for old in list(entries)[3:60:7]:
            wrong = {f"{n}_" if n == old else n: entry for n, entry in entries.items()}
            missing = {n for n, _ in make().named_parameters()} - renamed(part, wrong).keys()
            assert len(missing) == 1

    def test_two_of_one_name(self):
        """Two tensors that would be the same one are told."""
        entries = entries_of({"token_embedding.weight": (4, 4), "shared.weight": (4, 4)})
        with pytest.raises(WeightsError, match=r"'token_embedding.weight' and 'shared.weight'"):
            renamed("text_encoder", entries)

    def test_two_of_one_name_for_diffusers(self):
        """A file with a tensor under both of its names is refused."""
        entries = entries_of({"head.modulation": (1, 2, 4), "scale_shift_table": (1, 2, 4)})
        with pytest.raises(WeightsError, match="cannot tell the names of this transformer apart"):
            renamed("transformer", entries)

    def test_another_kind_of_wan(self, official_keys):
        """A model whose tensors diffusers would cut is refused, not read wrongly."""
        entries = entries_of(
            {**official_keys("t2v-1.3b"), "face_adapter.fuser_blocks.0.linear1_kv.weight": (8, 4)}
        )
        with pytest.raises(WeightsError, match="cannot tell the names") as caught:
            renamed("transformer", entries)
        assert caught.value.exit_code == 4

    def test_the_place_stays(self, official_keys):
        """A renamed tensor keeps its file, place, dtype and shape."""
        entries = entries_of(official_keys("vae"))
        for entry in renamed("vae", entries).values():
            assert entries[entry.stored_as] == attrs.evolve(entry, stored_as="")
