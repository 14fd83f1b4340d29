"""What weights on disk are said to be, and to lack."""

import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.folders import make_model
from tests.jobs import TINY
from tests.official import DIT, T5, VAE, official_state, write_official
from wanflow.errors import WeightsError
from wanflow.graph.configs import known_config
from wanflow.graph.load import load, shipped_graphs
from wanflow.models.segments.build import build
from wanflow.session.weights.inspect import Misshapen, ModelPart, Served, inspect

PARTS = ["text_encoder", "transformer", "vae"]


@pytest.fixture
def official(tmp_path):
    return write_official(tmp_path / "Wan2.1-T2V-tiny")


def resaved(path, name, tensor=None):
    """Save a `.pth` with a tensor changed, or without it."""
    state = torch.load(path)
    del state[name]
    torch.save(state if tensor is None else state | {name: tensor}, path)


class TestWhole:
    def test_official_folder(self, official):
        """Every part with its files, bytes and dtype, and the one graph that it serves."""
        found = inspect(official)
        assert found.is_whole
        assert [part.part for part in found.parts] == PARTS
        assert {part.layout for part in found.parts} == {"official"}
        assert all("wan-tiny" in part.fits for part in found.parts)
        assert found.parts[0].files == {T5: (official / T5).stat().st_size}
        assert list(found.parts[1].files) == DIT
        assert found.parts[2].dtypes == {"float32": found.parts[2].nbytes}
        assert Served("t2v-tiny", []) in found.graphs
        assert Served("t2v-14b", PARTS) in found.graphs
        assert found.tokenizer.endswith("google/umt5-xxl/tokenizer.json")

    def test_twin(self, official):
        """The diffusers folder has the same tensors and bytes."""
        twins = zip(inspect(official).parts, inspect(TINY).parts, strict=True)
        for one, other in twins:
            assert other.layout == "diffusers"
            assert (one.tensors, one.nbytes, one.fits) == (other.tensors, other.nbytes, other.fits)

    @pytest.mark.parametrize(("file", "part"), [(T5, "text_encoder"), (VAE, "vae")])
    def test_file(self, official, file, part):
        """A file is known by its tensors, whatever its name."""
        path = (official / file).rename(official / "any.bin")
        (found,) = inspect(path).parts
        assert (found.part, found.layout) == (part, "official")
        assert "wan-tiny" in found.fits

    def test_full_size_text_encoder(self, official_text, tmp_path):
        """A text encoder that several models share fits all of them."""
        (found,) = inspect(official_text).parts
        models = [m for path in shipped_graphs().values() for m in load(path).spec.models.values()]
        texts = {m.config for m in models if m.part == "text_encoder"}
        assert set(found.fits) == {name for name in texts if not name.startswith("wan-tiny")}
        assert found.nbytes == 11_361_820_672

    def test_prefix(self, tmp_path):
        """What stands before every key is told, and the part is whole."""
        (file,) = (TINY / "vae").glob("*.safetensors")
        state = {f"first_stage_model.{name}": tensor for name, tensor in load_file(file).items()}
        save_file(state | {"step": torch.ones(1)}, tmp_path / "vae.sft")
        (found,) = inspect(tmp_path / "vae.sft").parts
        assert (found.part, found.prefix, found.over) == ("vae", "first_stage_model.", ["step"])
        assert "wan-tiny" in found.fits

    @pytest.mark.parametrize("layout", ["official", "diffusers"])
    def test_two_experts(self, tmp_path, layout):
        """Both are told, each with its own files; no graph of one transformer is served."""
        folder = make_model("wan-tiny", tmp_path / "made", experts=True)
        if layout == "official":
            folder = write_official(tmp_path / "official", folder)
        found = inspect(folder)
        assert found.is_whole
        pair = found.parts[1:3]
        assert [part.expert for part in pair] == ["high_noise", "low_noise"]
        assert [part.fits for part in pair] == [["wan-tiny"]] * 2
        assert [len(part.files) for part in pair] == ([2, 3] if layout == "official" else [1, 1])
        assert Served("t2v-tiny", ["transformer"]) in found.graphs

    def test_vace(self, tmp_path):
        """The blocks beside the layers are told, in a whole model and in its part alone."""
        folder = make_model("wan-tiny-vace", tmp_path / "made")
        told = ["has VACE's blocks beside layers 0, 2, 4, 6"]
        assert inspect(folder).parts[1].notes == told
        assert "wan-tiny" not in inspect(folder).parts[1].fits
        state = official_state("transformer", folder)
        own = {name: tensor for name, tensor in state.items() if name.startswith("vace_")}
        save_file(own, tmp_path / "vace.safetensors")
        (part,) = inspect(tmp_path / "vace.safetensors").parts
        assert part.part == "transformer"
        assert part.notes == ["has VACE's blocks, and is VACE's part alone"]

    @pytest.mark.parametrize("config", ["wan-tiny", "wan-tiny-ti2v"])
    def test_autoencoder(self, tmp_path, config):
        """Wan 2.2's is told."""
        notes = inspect(make_model(config, tmp_path / "made")).parts[2].notes
        assert ["48 channels" in note for note in notes] == [True] * (config == "wan-tiny-ti2v")

    def test_hub_cache(self, tmp_path):
        """A repository of the hub's cache is its snapshot; the cache names what to give."""
        snapshots = tmp_path / "hub" / "models--a--b" / "snapshots"
        snapshots.mkdir(parents=True)
        (snapshots / "0123").symlink_to(TINY)
        assert inspect(snapshots.parent).is_whole
        with pytest.raises(WeightsError, match="no part of a model") as caught:
            inspect(tmp_path)
        assert caught.value.hint.endswith("hub/models--a--b")

    @pytest.fixture
    def official_text(self, tmp_path):
        """The full text encoder, with holes for data."""
        module = build("text_encoder", known_config("wan2.1-t2v-14b", "text_encoder"))
        with (
            torch._subclasses.FakeTensorMode(),
            torch.serialization.skip_data(materialize_fake_tensors=True),
        ):
            state = {
                name: torch.empty(parameter.shape, dtype=torch.bfloat16)
                for name, parameter in module.named_parameters()
            }
            torch.save(state, tmp_path / "umt5.pth")
        return tmp_path / "umt5.pth"


class TestFaults:
    """What is wrong is told against the nearest configuration."""

    def test_missing(self, official):
        """A tensor that is not there, by the module's name for it."""
        resaved(official / T5, "blocks.1.ffn.fc2.weight")
        found = inspect(official)
        assert not found.is_whole
        assert found.parts[0].missing == ["encoder.block.1.layer.1.DenseReluDense.wo.weight"]
        assert found.parts[0].nearest == "wan-tiny"
        assert Served("t2v-tiny", ["text_encoder"]) in found.graphs

    def test_misshapen(self, official):
        """A tensor of another shape, by the file's name for it."""
        resaved(official / VAE, "conv2.bias", torch.ones(15))
        assert inspect(official).parts[2].misshapen == [Misshapen("conv2.bias", (15,), (16,))]

    def test_not_floats(self, official):
        """Integers in the place of weights are of no use, though every shape fits."""
        resaved(official / VAE, "conv2.bias", torch.ones(16, dtype=torch.int8))
        found = inspect(official)
        assert not found.is_whole
        assert found.parts[2].fits == []
        assert "'post_quant_conv.bias'" in found.parts[2].problem

    def test_over(self, official):
        """A tensor that nothing takes does no harm, and is named."""
        state = torch.load(official / VAE)
        torch.save(state | {"loss": torch.ones(1)}, official / VAE)
        found = inspect(official)
        assert found.is_whole
        assert found.parts[2].over == ["loss"]

    def test_odd_dtype(self, official):
        """It is no matter where nothing takes the tensor, and told where something does."""
        state = torch.load(official / VAE)
        torch.save(state | {"meta": torch.ones(4).to(torch.uint16)}, official / VAE)
        assert inspect(official).is_whole
        resaved(official / VAE, "conv2.bias", torch.ones(16).to(torch.complex64))
        part = inspect(official).parts[2]
        assert part.problem.endswith("'post_quant_conv.bias' (complex64)")
        assert part.misshapen == []

    def test_half_of_two_experts(self, tmp_path):
        """No graph of one transformer is served; one expert by itself is said to be one."""
        folder = shutil.copytree(TINY, tmp_path / "W")
        shutil.copytree(folder / "transformer", folder / "transformer_2")
        shutil.rmtree(folder / "transformer")
        found = inspect(folder)
        assert not found.is_whole
        assert "lacks the high-noise expert" in found.parts[1].problem
        assert found.parts[2].fits == ["wan-tiny"]
        assert Served("t2v-tiny", ["transformer"]) in found.graphs
        (one,) = inspect(folder / "transformer_2").parts
        assert "is one of two experts" in one.notes[0]

    def test_another_pipeline(self, tmp_path):
        """A folder of another kind of model is called what it is."""
        (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
        with pytest.raises(WeightsError, match="is a FluxPipeline"):
            inspect(tmp_path)

    def test_damaged(self, official):
        """A part that cannot be read has its problem; the others are told."""
        os.truncate(official / VAE, 90_000)
        found = inspect(official)
        assert not found.is_whole
        assert "is not whole" in found.parts[2].problem
        assert "wan-tiny" in found.parts[1].fits

    def test_no_tokenizer(self, official):
        """Without a tokenizer no graph with text is served, though every part is whole."""
        shutil.rmtree(official / "google")
        found = inspect(official)
        assert found.is_whole
        assert found.tokenizer is None
        assert Served("t2v-tiny", ["tokenizer"]) in found.graphs

    def test_unknown_tensors(self, tmp_path):
        """A file of something else is of no part."""
        torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pth")
        (found,) = inspect(tmp_path / "other.pth").parts
        assert found == ModelPart(
            "", found.place, problem="its tensors are of no part that is known"
        )

    @pytest.mark.parametrize(("name", "words"), [("", "no part of a model"), ("x", "no such file")])
    def test_nothing(self, tmp_path, name, words):
        """An empty folder and a path that is not there are exit 4."""
        with pytest.raises(WeightsError, match=words) as caught:
            inspect(tmp_path / name)
        assert caught.value.exit_code == 4
