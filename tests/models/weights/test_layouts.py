"""Where the weights of a part are, in each layout that people have."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from wanflow.errors import InputError, WeightsError
from wanflow.models.weights.layouts import find_part, open_part
from wanflow.models.weights.locate import locate, parse_weights

DEEP = "[" * sys.getrecursionlimit()  # nested just deeper than Python's parser goes
T5 = "models_t5_umt5-xxl-enc-bf16.pth"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
OFFICIAL = {"text_encoder": T5, "vae": "Wan2.1_VAE.pth", "image_encoder": CLIP}


@pytest.fixture
def official(tmp_path):
    """An official folder by its names alone."""
    folder = tmp_path / "Wan2.1-I2V-14B-480P"
    folder.mkdir()
    for name in (T5, CLIP, "Wan2.1_VAE.pth", "diffusion_pytorch_model.safetensors", "config.json"):
        (folder / name).touch()
    return folder


class TestFindPart:
    @pytest.mark.parametrize("part", OFFICIAL)
    def test_official_file(self, official, part):
        """A part that has a file of its own is that file."""
        assert official / OFFICIAL[part] == find_part(official, part)

    def test_official_transformer(self, official):
        """The DiT is the folder, since it may lie in several files."""
        assert official == find_part(official, "transformer")

    def test_shards_alone(self, tmp_path):
        """Numbered files are a DiT too."""
        (tmp_path / "diffusion_pytorch_model-00001-of-00006.safetensors").touch()
        assert tmp_path == find_part(tmp_path, "transformer")

    @pytest.mark.parametrize("part", [*OFFICIAL, "transformer"])
    def test_nothing(self, tmp_path, part):
        """A folder with nothing of it is not its place."""
        assert find_part(tmp_path, part) is None

    def test_another_part(self, tiny):
        """The folder of one part is not taken for another's, though files have the same names."""
        assert find_part(tiny / "vae", "transformer") is None

    def test_safetensors_first(self, official):
        """A safetensors twin of an official file comes first."""
        (official / "Wan2.1_VAE.safetensors").touch()
        assert find_part(official, "vae").suffix == ".safetensors"

    def test_two_text_encoders(self, official):
        """Of two that could be meant, none is taken by chance."""
        (official / "models_t5_umt5-xxl-enc-fp8.pth").touch()
        with pytest.raises(
            WeightsError, match=r"enc-bf16.pth, models_t5.*are all the text_encoder"
        ):
            find_part(official, "text_encoder")

    def test_diffusers_first(self, official, tiny):
        """A diffusers part inside of the folder comes before official files."""
        (official / "vae").symlink_to(tiny / "vae")
        assert official / "vae" == find_part(official, "vae")


class TestOptions:
    """`--weights` with official folders and with files."""

    def test_folder(self, official, spec, tmp_path):
        """An official folder serves every model."""
        options = parse_weights((str(official),), ("text", "dit"))
        found = locate(spec("text_encoder", "text"), options, tmp_path / "graph.yaml")
        assert official / T5 == found

    def test_file(self, official, spec, tmp_path):
        """`MODEL=FILE` is that file."""
        path = official / "diffusion_pytorch_model.safetensors"
        options = parse_weights((f"dit={path}",), ("text", "dit"))
        assert path == locate(spec(), options, tmp_path / "graph.yaml")

    def test_file_for_nobody(self, official):
        """A file that could be any model's is asked about, exit 2."""
        with pytest.raises(InputError, match="is a file; say which model it is") as caught:
            parse_weights((str(official / T5),), ("text", "dit"))
        assert caught.value.hint.endswith("of text, dit")

    def test_in_the_environment(self, official, spec, tmp_path, monkeypatch):
        """WANFLOW_MODELS may hold official folders by the graph's path."""
        monkeypatch.setenv("WANFLOW_MODELS", str(official.parent))
        found = locate(spec("vae", "vae", path=official.name), (), tmp_path / "graph.yaml")
        assert official / "Wan2.1_VAE.pth" == found


class TestOpenPart:
    @pytest.fixture
    def shards(self, tmp_path):
        """A DiT in two files, an index that names both, and a file of another part."""
        weights = {}
        for number in (1, 2):
            name = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
            save_file({f"blocks.{number}": torch.ones(number)}, tmp_path / name)
            weights[f"blocks.{number}"] = name
        index = {"metadata": {}, "weight_map": weights}
        (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
        save_file({"other": torch.ones(1)}, tmp_path / "Wan2.1_VAE.safetensors")
        return tmp_path

    def test_shards(self, shards):
        """The files of the DiT are one checkpoint, and nothing else of the folder is in it."""
        assert sorted(open_part("transformer", shards).entries) == ["blocks.1", "blocks.2"]

    def test_missing_shard(self, shards):
        """A shard that the index names and that is not there is named, with a tensor of it."""
        (shards / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
        with pytest.raises(
            WeightsError, match=r"00002-of-00002.safetensors' is missing.*'blocks.2'"
        ):
            open_part("transformer", shards)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"weight_map": [1]}',
            '{"weight_map": {"a": ["x"]}}',
            "[" * sys.getrecursionlimit(),
        ],
    )
    def test_damaged_index(self, shards, text):
        """An index that is none is refused."""
        (shards / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
        with pytest.raises(WeightsError):
            open_part("transformer", shards)

    def test_file(self, shards):
        """A file is read by itself, whatever lies beside it."""
        assert list(open_part("vae", shards / "Wan2.1_VAE.safetensors").entries) == ["other"]

    def test_official_name_in_the_error(self, tmp_path):
        """A misshapen tensor is named as the file names it."""
        torch.save({"token_embedding.weight": torch.ones(3, 4)}, tmp_path / T5)
        checkpoint = open_part("text_encoder", tmp_path / T5)
        with pytest.raises(WeightsError, match=r"'token_embedding.weight' is \[3, 4\]"):
            checkpoint.check("shared.weight", (5, 4))
