"""A model is bound once its config can be trusted and every tensor it will read is there."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from wanflow.errors import WeightsError
from wanflow.graph.configs import known_config
from wanflow.models.bound import bind_model
from wanflow.models.weights.checkpoint import STAGING_BYTES

FILES = {"text_encoder": "model.safetensors"}


@pytest.fixture
def copy(tiny, tmp_path):
    """Copy a part of the bundled model with some tensors changed; None removes one."""

    def make(part, **tensors):
        folder = tmp_path / part
        shutil.copytree(tiny / part, folder)
        path = folder / FILES.get(part, "diffusion_pytorch_model.safetensors")
        found = load_file(path)
        for name, tensor in tensors.items():
            found[name] = tensor
        save_file({n: t for n, t in found.items() if t is not None}, path)
        return folder

    return make


class TestConfig:
    """The graph's config comes first, the folder's own is used where there is none."""

    def test_from_folder(self, spec, copy):
        """Without a config in the graph `config.json` shapes the module."""
        found = bind_model(spec(), "fp32", copy("transformer"), None)
        assert len(found.model.module.blocks) == 8

    def test_wrong_in_folder(self, spec, copy):
        """A fault in `config.json` names that file."""
        folder = copy("transformer")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_layers": "many"}))
        with pytest.raises(WeightsError, match=r"transformer/config\.json: num_layers"):
            bind_model(spec(), "fp32", folder, None)

    def test_graph_and_weights_disagree(self, spec, copy):
        """Weights of another shape than the graph's config are refused by tensor."""
        fields = {**known_config("wan-tiny", "transformer"), "ffn_dim": 512}
        with pytest.raises(WeightsError, match=r"'blocks.0.ffn.net.0.proj.weight' is \[256, 128\]"):
            bind_model(spec(fields=fields), "fp32", copy("transformer"), None)

    def test_neither(self, spec, tmp_path):
        """Without config and without weights there is nothing to plan."""
        with pytest.raises(WeightsError, match="no weights for model 'dit'"):
            bind_model(spec(), "fp32", None, tmp_path / "graph.yaml")


class TestTensors:
    """Every tensor is checked before anything runs."""

    @pytest.mark.parametrize(
        ("part", "tensor"),
        [
            ("transformer", "blocks.7.ffn.net.2.bias"),
            ("text_encoder", "shared.weight"),
            ("text_encoder", "encoder.final_layer_norm.weight"),
            ("vae", "decoder.conv_out.weight"),
        ],
    )
    def test_missing(self, spec, copy, part, tensor):
        """A missing tensor is named with its folder."""
        folder = copy(part, **{tensor: None})
        with pytest.raises(WeightsError, match=f"{folder}: tensor '{tensor}' is missing"):
            bind_model(spec(part), "fp32", folder, None)

    def test_unused_may_be_missing(self, spec, copy):
        """A decoder doesn't need the encoder's weights."""
        folder = copy("vae", **{"encoder.conv_in.weight": None})
        assert bind_model(spec("vae"), "fp32", folder, None).checkpoint is not None

    def test_other_tensors_may_be_there(self, spec, copy):
        """Tensors that nobody asks for are left alone."""
        folder = copy("transformer", surplus=torch.zeros(3))
        assert "surplus" in bind_model(spec(), "fp32", folder, None).checkpoint.entries


class TestStaging:
    """Room for reading is planned exactly where a dtype changes on the way in."""

    @pytest.mark.parametrize(("precision", "nbytes"), [("fp32", 0), ("bf16", STAGING_BYTES)])
    def test_by_precision(self, located, precision, nbytes):
        """fp32 files need none for fp32, some for bf16."""
        assert located("vae", precision).model.staging_bytes == nbytes

    def test_embedding_alone_differs(self, spec, copy, located):
        """The gathered table counts too, though it is in no segment."""
        checkpoint = located("text_encoder").checkpoint
        table = torch.zeros(checkpoint.entries["shared.weight"].shape, dtype=torch.bfloat16)
        folder = copy("text_encoder", **{"shared.weight": table})
        found = bind_model(spec("text_encoder"), "fp32", folder, None)
        assert found.model.staging_bytes == STAGING_BYTES

    def test_without_weights(self, spec):
        """Where no file can say, room is assumed."""
        fields = known_config("wan-tiny", "vae")
        assert bind_model(spec("vae", fields=fields), "fp32", None, None).model.staging_bytes > 0
