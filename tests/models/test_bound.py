"""A model is bound once its config can be trusted and every tensor it will read is there."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.official import official_state
from wanflow.errors import WeightsError
from wanflow.graph.configs import known_config
from wanflow.models.bound import bind_model
from wanflow.models.weights.checkpoint import STAGING_BYTES
from wanflow.models.weights.identity import identity
from wanflow.models.weights.layouts import find_part

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


class TestVace:
    """A model with VACE's blocks and one without are never taken for each other."""

    @pytest.fixture
    def pieces(self, tiny_model, tmp_path):
        """A VACE model cut into the plain transformer, with diffusers' names, and VACE's part."""
        folder = tiny_model("wan-tiny-vace")
        (file,) = (folder / "transformer").glob("*.safetensors")
        plain = {n: t for n, t in load_file(file).items() if not n.startswith("vace_")}
        save_file(plain, tmp_path / "plain.safetensors")
        state = official_state("transformer", folder)
        # As others save it, with what stands before all names in files of theirs.
        prefix = "model.diffusion_model."
        part = {f"{prefix}{n}": t for n, t in state.items() if n.startswith("vace_")}
        save_file(part, tmp_path / "part.safetensors")
        return tmp_path / "plain.safetensors", tmp_path / "part.safetensors"

    @pytest.fixture
    def vace(self, spec):
        """A model of a VACE graph."""
        return spec(fields=known_config("wan-tiny-vace", "transformer"))

    @pytest.mark.parametrize("order", [1, -1])
    def test_laid_over(self, vace, pieces, tiny_model, order):
        """VACE's part over plain weights, or these over it, is the model that it was cut of."""
        base, over = pieces[::order]
        bound = bind_model(vace, "fp32", base, None, over=(over,))
        one = bind_model(vace, "fp32", tiny_model("wan-tiny-vace") / "transformer", None)
        assert identity(bound.checkpoint) == identity(one.checkpoint)
        assert bound.notes == ()

    def test_shards_by_name(self, vace, tiny_model):
        """The files of one model may be given one by one."""
        folder = tiny_model("wan-tiny-vace", official=True)
        first, second = sorted(folder.glob("*.safetensors"))
        bound = bind_model(vace, "fp32", first, None, over=(second,))
        one = bind_model(vace, "fp32", folder, None)
        assert identity(bound.checkpoint) == identity(one.checkpoint)

    @pytest.mark.parametrize("order", [1, -1])
    def test_config_of_the_one_that_tells(self, spec, pieces, tiny_model, tmp_path, order):
        """Without a configuration in the graph it comes from VACE's place, or else the other."""
        config = tiny_model("wan-tiny-vace") / "transformer" / "config.json"
        own = tmp_path / "own"
        own.mkdir()
        shutil.copy(config, own)
        shutil.copy(pieces[1], own)
        base, over = (own / "part.safetensors", pieces[0])[::order]
        bound = bind_model(spec(), "fp32", base, None, over=(over,))
        assert bound.config["vace_layers"] == [0, 2, 4, 6]

    def test_the_same_tensor_twice(self, vace, pieces, tiny_model):
        """Is in both files, which are named."""
        folder = tiny_model("wan-tiny-vace") / "transformer"
        with pytest.raises(WeightsError, match="which it is laid over") as caught:
            bind_model(vace, "fp32", folder, None, over=(pieces[1],))
        assert str(pieces[1]) in caught.value.message
        assert str(folder) in caught.value.message

    def test_alone(self, vace, pieces):
        """VACE's part by itself is half of a model."""
        with pytest.raises(WeightsError, match="is VACE's part alone") as caught:
            bind_model(vace, "fp32", pieces[1], None)
        assert caught.value.exit_code == 4
        assert f"--weights dit=TRANSFORMER --weights dit={pieces[1]}" in caught.value.hint

    @pytest.mark.parametrize("own", [True, False])
    def test_plain_weights(self, vace, tiny, own):
        """Are none of a VACE graph, whoever says the sizes."""
        with pytest.raises(WeightsError, match="without VACE's blocks, which model 'dit' wants"):
            bind_model(vace, "fp32", tiny / "transformer", None, own_config=own)

    @pytest.mark.parametrize("own", [True, False])
    @pytest.mark.parametrize("official", [True, False])
    def test_vace_weights(self, spec, tiny_model, own, official):
        """Are none of a plain graph, though every tensor of its own is there."""
        folder = find_part(tiny_model("wan-tiny-vace", official=official), "transformer")
        plain = spec(fields=known_config("wan-tiny", "transformer"))
        with pytest.raises(WeightsError, match="is a VACE model, and model 'dit' of this graph"):
            bind_model(plain, "fp32", folder, None, own_config=own)

    @pytest.mark.parametrize("official", [True, False])
    def test_as_it_is(self, vace, spec, tiny_model, official):
        """Its own configuration is the one it was made with."""
        folder = find_part(tiny_model("wan-tiny-vace", official=official), "transformer")
        bound = bind_model(vace, "fp32", folder, None, own_config=True)
        assert vace.fields == {name: bound.config[name] for name in vace.fields}


@pytest.mark.parametrize("official", [True, False])
def test_a_transformer_of_other_latents(spec, tiny_model, official):
    """Is not run as it is by a graph whose VAE has another number of channels."""
    place = find_part(tiny_model("wan-tiny-ti2v", official=official), "transformer")
    model = spec(fields=known_config("wan-tiny", "transformer"))
    with pytest.raises(WeightsError, match=r"its latents have 48 channels, those .* graph 16"):
        bind_model(model, "fp32", place, None, own_config=True)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("official", [True, False])
@pytest.mark.parametrize("pair", [("wan-tiny", "wan-tiny-ti2v"), ("wan-tiny-ti2v", "wan-tiny")])
def test_the_other_autoencoder(spec, tiny_model, pair, official, own):
    """Is told by its kind, whoever says the sizes."""
    wanted, there = pair
    place = find_part(tiny_model(there, official=official), "vae")
    model = spec("vae", fields=known_config(wanted, "vae"))
    with pytest.raises(WeightsError, match="is the autoencoder Wan 2") as caught:
        bind_model(model, "fp32", place, None, own_config=own)
    assert caught.value.code == "other-autoencoder"


@pytest.mark.parametrize(
    ("config", "part", "official"),
    [
        (config, part, official)
        for config in ("wan-tiny-ti2v", "wan-tiny-i2v")
        for part in ("transformer", "vae")
        for official in (True, False)
    ],
)
def test_own_configuration(spec, tiny_model, config, part, official):
    """A folder without a graph's word for it is what it was made as, in either layout."""
    place = find_part(tiny_model(config, official=official), part)
    bound = bind_model(spec(part), "fp32", place, None)
    fields = known_config(config, part)
    assert fields == {name: bound.config[name] for name in fields}
    assert bound.notes == ()


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
