"""A folder of another kind of model, or of half of one, is never run in silence."""

import json
import shutil

import pytest

from tests.official import write_official
from wanflow.errors import WeightsError
from wanflow.models.weights.layouts import find_part
from wanflow.models.weights.pipeline import experts, said_of_expert

PAIR = {"boundary_ratio": 0.875, "transformer_2": ["diffusers", "WanTransformer3DModel"]}


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "W")


def index_says(folder, **fields):
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


class TestExperts:
    def refused(self, folder, *names):
        with pytest.raises(WeightsError, match="has two transformers") as caught:
            find_part(folder, "transformer")
        assert caught.value.exit_code == 4
        assert all(name in caught.value.message for name in names)
        assert str(folder / names[0]) in caught.value.hint

    @pytest.mark.parametrize("fetched", [True, False])
    def test_diffusers(self, folder, fetched):
        """By the index, whether or not the second one came."""
        index_says(folder, **PAIR)
        if fetched:
            shutil.copytree(folder / "transformer", folder / "transformer_2")
        self.refused(folder, "transformer", "transformer_2")
        assert find_part(folder, "vae") == folder / "vae"  # which is the same in both

    def test_without_an_index(self, folder):
        """By the folder beside it."""
        (folder / "model_index.json").unlink()
        shutil.copytree(folder / "transformer", folder / "transformer_2")
        self.refused(folder, "transformer", "transformer_2")

    @pytest.mark.parametrize(
        "names", [["high_noise_model", "low_noise_model"], ["low_noise_model"]]
    )
    def test_official(self, tmp_path, names):
        """In Wan 2.2's own layout, whole or half fetched."""
        folder = write_official(tmp_path / "Wan2.2-T2V-A14B")
        for name in names:
            (folder / name).mkdir()
            for file in folder.glob("diffusion_pytorch_model*"):
                shutil.copy(file, folder / name)
        for file in folder.glob("diffusion_pytorch_model*"):
            file.unlink()
        self.refused(folder, "high_noise_model", "low_noise_model")
        assert find_part(folder, "text_encoder").is_file()

    @pytest.mark.parametrize("second", [None, [None, None], []])
    def test_one_of_them(self, folder, second):
        """A boundary without a second transformer is one model, as in Wan 2.2's TI2V."""
        index_says(folder, boundary_ratio=0.9, transformer_2=second, expand_timesteps=True)
        assert experts(folder) is None
        assert find_part(folder, "transformer") == folder / "transformer"

    def test_chosen(self, folder):
        """One expert that is asked for by its folder is run, and it is said that it is one."""
        index_says(folder, **PAIR)
        place = shutil.copytree(folder / "transformer", folder / "transformer_2")
        assert find_part(place, "transformer") == place
        assert "transformer beside it is left out" in said_of_expert(place)
        assert "transformer_2 beside it is left out" in said_of_expert(folder / "transformer")

    @pytest.mark.parametrize(
        ("name", "is_one"),
        [
            ("wan2.2_t2v_high_noise_14B_fp16.safetensors", True),
            ("Wan2_2-T2V-A14B-LOW_noise.sft", True),
            ("wan2.1_t2v_14B_fp16.safetensors", False),
        ],
    )
    def test_a_file(self, tmp_path, name, is_one):
        """Tensors don't tell, and a name proves nothing: it is run, and said."""
        (tmp_path / name).touch()
        assert bool(said_of_expert(tmp_path / name)) == is_one


class TestPipeline:
    @pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
    def test_another(self, folder, part):
        """None of its parts is taken by the folder, though each may be by its own."""
        index_says(folder, _class_name="CogVideoXPipeline")
        with pytest.raises(WeightsError, match="is a CogVideoXPipeline"):
            find_part(folder, part)
        assert find_part(folder / part, part) == folder / part

    @pytest.mark.parametrize("kind", ["WanImageToVideoPipeline", "WanVideoToVideoPipeline"])
    def test_of_wan(self, folder, kind):
        """Pipelines that have the same parts are."""
        index_says(folder, _class_name=kind)
        assert find_part(folder, "transformer") == folder / "transformer"

    @pytest.mark.parametrize("text", ["", "[]", "{", "[" * 5000, '{"_class_name": 3}'])
    def test_an_index_that_is_none(self, folder, text):
        """It says nothing."""
        (folder / "model_index.json").write_text(text)
        assert find_part(folder, "transformer") == folder / "transformer"

    def test_another_class(self, folder):
        """A transformer with more to it than the one that would be built of its fields."""
        path = folder / "transformer" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "_class_name": "WanAnimateTransformer3DModel"}))
        with pytest.raises(WeightsError, match=r"is of a WanAnimateTransformer3DModel.* poses"):
            find_part(folder, "transformer")

    @pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
    def test_a_folder_of_another_name(self, folder, part):
        """A part's folder is known by its config.json."""
        place = (folder / part).rename(folder / "mine")
        assert find_part(place, part) == place
        assert find_part(place, "image_encoder") is None
