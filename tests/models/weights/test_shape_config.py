"""The tensors of official files tell the sizes that no `config.json` of theirs does."""

import attrs
import pytest
import torch

from tests.official import write_official
from wanflow.errors import WeightsError
from wanflow.graph import load
from wanflow.graph.configs import known_config
from wanflow.models.bound import bind_model
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.layouts import find_part, open_part
from wanflow.models.weights.official_names import renamed
from wanflow.models.weights.shape_config import fitted

FULL = {
    "umt5-xxl": ("text_encoder", "wan2.1-t2v-14b", "wan-tiny"),
    "vae": ("vae", "wan2.1-t2v-14b", "wan-tiny"),
    "vae-2.2": ("vae", "wan2.2-ti2v-5b", "wan2.1-t2v-14b"),
    "t2v-1.3b": ("transformer", "wan2.1-t2v-1.3b", "wan2.1-t2v-1.3b"),
    "i2v-14b": ("transformer", "wan2.1-i2v-14b", "wan2.1-t2v-14b"),
    "flf2v-14b": ("transformer", "wan2.1-flf2v-14b", "wan2.1-t2v-14b"),
}
# What the tensors don't tell of it: the folder's `config.json` does.
TOLD = ("in_channels",)


def entries(part, keys):
    """The tensors of an official file under diffusers' names, without a file."""
    found = {name: Entry("official", 0, torch.float32, shape) for name, shape in keys.items()}
    return renamed(part, found)


class TestFullModels:
    @pytest.mark.parametrize("name", FULL)
    def test_are_told_from_another_size(self, name, official_keys):
        """Another model's configuration, fitted to the full model's tensors, is the full one's."""
        part, wanted, base = FULL[name]
        found = fitted(part, known_config(base, part), entries(part, official_keys(name)))
        expected = known_config(wanted, part)
        told = {field: expected[field] for field in TOLD if field in expected and part != "vae"}
        assert expected == found | told

    def test_clip(self, official_keys):
        """All of the vision tower but its heads."""
        small = {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "image_size": 28,
            "patch_size": 7,
        }  # fmt: skip
        wanted = known_config("wan2.1-i2v-14b", "image_encoder")
        named = entries("image_encoder", official_keys("clip"))
        assert wanted == fitted("image_encoder", wanted | small, named)


class TestTiny:
    @pytest.mark.parametrize(
        ("model", "part"), [("text", "text_encoder"), ("dit", "transformer"), ("vae", "vae")]
    )
    def test_own_configuration_before_the_graphs(self, model, part, tmp_path):
        """A folder of another size than the graph says: as it is, where that was asked for."""
        folder = find_part(write_official(tmp_path / "tiny"), part)
        checked = load("t2v-1.3b")
        spec = checked.spec.models[model]
        bound = bind_model(spec, "fp32", folder, checked.source.path, own_config=True)
        tiny = known_config("wan-tiny", part)
        assert tiny == {field: bound.config[field] for field in tiny}
        with pytest.raises(WeightsError):
            bind_model(spec, "fp32", folder, checked.source.path)

    def test_a_folder_that_says_nothing_is_the_graphs(self, tmp_path):
        """Without a `config.json` there is the graph's."""
        folder = write_official(tmp_path / "tiny")
        (folder / "config.json").unlink()
        checked = load("t2v-tiny")
        bound = bind_model(
            checked.spec.models["dit"], "fp32", folder, checked.source.path, own_config=True
        )
        assert known_config("wan-tiny", "transformer") == bound.config


class TestStrange:
    @pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae", "image_encoder"])
    def test_no_tensor_tells_nothing(self, part):
        """What is not there, or has no such side, leaves the configuration alone."""
        base = known_config("wan2.1-i2v-14b", part)
        assert base == fitted(part, base, {})

    def test_no_heads(self, tmp_path):
        """A table without columns divides nothing, and is refused with its file."""
        folder = write_official(tmp_path / "tiny")
        checkpoint = open_part("text_encoder", find_part(folder, "text_encoder"))
        name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        empty = attrs.evolve(checkpoint.entries[name], shape=(32, 0))
        found = fitted(
            "text_encoder",
            known_config("wan-tiny", "text_encoder"),
            {**checkpoint.entries, name: empty},
        )
        assert found["num_heads"] == 0
