"""The official `config.json` says the same as the known configurations."""

import json

import pytest
import torch

from wanflow.errors import WeightsError
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import allowed
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.layout_config import config_of
from wanflow.models.weights.official_names import renamed

# config.json of huggingface.co/Wan-AI/Wan2.1-T2V-1.3B
T2V = {
    "_class_name": "WanModel", "_diffusers_version": "0.30.0", "dim": 1536, "eps": 1e-06,
    "ffn_dim": 8960, "freq_dim": 256, "in_dim": 16, "model_type": "t2v", "num_heads": 12,
    "num_layers": 30, "out_dim": 16, "text_len": 512,
}  # fmt: skip
_14B = {**T2V, "dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}


TI2V = {
    **T2V, "model_type": "ti2v", "dim": 3072, "ffn_dim": 14336, "num_heads": 24, "in_dim": 48,
    "out_dim": 48,
}  # fmt: skip
VACE = {
    **T2V, "_class_name": "VaceWanModel", "model_type": "vace", "vace_in_dim": 96,
    "vace_layers": list(range(0, 30, 2)),
}  # fmt: skip


@pytest.fixture
def named(official_keys):
    """The tensors of an official transformer under diffusers' names."""

    def read(name):
        entries = {
            key: Entry("official", 0, torch.float32, shape)
            for key, shape in official_keys(name).items()
        }
        return renamed("transformer", entries)

    return read


@pytest.fixture
def folder(tmp_path):
    """Make an official folder with a `config.json`."""

    def make(**fields):
        (tmp_path / "config.json").write_text(json.dumps(fields))
        return tmp_path

    return make


class TestTransformer:
    @pytest.mark.parametrize(("fields", "name"), [(T2V, "1.3b"), (_14B, "14b")])
    def test_text_to_video(self, folder, fields, name):
        """Field for field the known configuration."""
        config, where = config_of("transformer", folder(**fields), {})
        assert known_config(f"wan2.1-t2v-{name}", "transformer") == config
        assert where.endswith("config.json")

    @pytest.mark.parametrize(("kind", "tokens"), [("i2v", None), ("flf2v", 514)])
    def test_from_images(self, folder, named, kind, tokens):
        """Image models have the fields that diffusers' own configurations have for them."""
        config, where = config_of(
            "transformer", folder(**_14B | {"model_type": kind, "in_dim": 36}), named(f"{kind}-14b")
        )
        wanted = {
            **known_config("wan2.1-t2v-14b", "transformer"),
            "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120,
            **({"pos_embed_seq_len": tokens} if tokens else {}),
        }  # fmt: skip
        assert wanted == config == allowed("transformer", config, where)

    @pytest.mark.parametrize(
        ("name", "known", "fields"),
        [
            ("t2v-a14b", "wan2.2-t2v-a14b", _14B),
            ("i2v-a14b", "wan2.2-i2v-a14b", {**_14B, "model_type": "i2v", "in_dim": 36}),
            ("ti2v-5b", "wan2.2-ti2v-5b", TI2V),
            ("vace-1.3b", "wan2.1-vace-1.3b", VACE),
        ],
    )
    def test_later_models(self, folder, named, name, known, fields):
        """Wan 2.2's and VACE's, which take no picture beside the latents."""
        config, where = config_of("transformer", folder(**fields), named(name))
        assert known_config(known, "transformer") == config == allowed("transformer", config, where)

    def test_layers_that_are_not_said(self, folder, named):
        """VACE's every second layer, as the official code has it."""
        config, _ = config_of("transformer", folder(**VACE | {"vace_layers": None}), {})
        assert config["vace_layers"] == list(range(0, 30, 2))

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"model_type": "s2v"}, "model_type 's2v' is not served: it is led by a sound track"),
            ({"model_type": "animate"}, "model_type 'animate' is not served: .* poses and faces"),
            ({"model_type": None}, "model_type None is not served"),
            ({"num_heads": 0}, "not a multiple of num_heads 0"),
            ({"num_heads": 7}, "not a multiple of num_heads 7"),
            ({"dim": "1536"}, "dim '1536' is not a multiple"),
        ],
    )
    def test_what_is_not_served(self, folder, fields, words):
        """A field that makes no sense is told with its value, exit 4."""
        with pytest.raises(WeightsError, match=words) as caught:
            config_of("transformer", folder(**T2V | fields), {})
        assert caught.value.exit_code == 4

    @pytest.mark.parametrize("count", ["x", None, 1.5, 10**12])
    def test_layers_that_cannot_be(self, folder, count):
        """How many VACE has is told of them; what is wrong is left to who looks at each field."""
        config, _ = config_of(
            "transformer", folder(**VACE | {"vace_layers": None, "num_layers": count}), {}
        )
        assert config["num_layers"] == count
        with pytest.raises(WeightsError, match="num_layers wants an int of 1 to 256"):
            allowed("transformer", config, "config.json")

    def test_diffusers_folder(self, tiny):
        """A diffusers folder's own `config.json` is taken as it is."""
        config, _ = config_of("transformer", tiny / "transformer", {})
        assert config["num_attention_heads"] == 4

    def test_beside_a_file(self, folder):
        """A file by itself is described by the `config.json` beside it."""
        path = folder(**T2V) / "diffusion_pytorch_model.safetensors"
        path.touch()
        assert config_of("transformer", path, {})[0]["ffn_dim"] == 8960

    def test_nothing_beside_a_file(self, tmp_path):
        """Without one the graph has to say what the file is."""
        (tmp_path / "wan.safetensors").touch()
        with pytest.raises(WeightsError, match=r"no config.json beside it"):
            config_of("transformer", tmp_path / "wan.safetensors", {})


class TestOtherParts:
    @pytest.mark.parametrize("part", ["vae", "text_encoder", "image_encoder"])
    def test_a_transformers_in_their_folder(self, folder, part):
        """The official one is a transformer's alone; theirs has not their fields, which is told."""
        config, where = config_of(part, folder(**VACE), {})
        assert config["model_type"] == "vace"  # as it stands
        with pytest.raises(WeightsError) as caught:
            allowed(part, config, where)
        assert caught.value.code == "bad-config"

    @pytest.mark.parametrize("part", ["text_encoder", "vae"])
    def test_official_file(self, tmp_path, part):
        """Text encoder and VAE are what the official code builds, whatever lies beside them."""
        (tmp_path / "any.pth").touch()
        assert known_config("wan2.1-t2v-1.3b", part) == config_of(part, tmp_path / "any.pth", {})[0]
