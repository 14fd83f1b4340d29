"""A folder of another kind of model, or of half of one, is never run in silence."""

import json
import shutil

import pytest

from tests.official import shards, write_official
from wanflow.errors import WeightsError
from wanflow.models.weights.layouts import find_part, open_part
from wanflow.models.weights.pipeline import experts, said_of_expert

PAIR = {"boundary_ratio": 0.875, "transformer_2": ["diffusers", "WanTransformer3DModel"]}


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "W")


def index_says(folder, **fields):
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


FOLDERS = {
    False: {"high_noise": "transformer", "low_noise": "transformer_2"},
    True: {"high_noise": "high_noise_model", "low_noise": "low_noise_model"},
}


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("expert", ["high_noise", "low_noise"])
class TestOneOfTwo:
    """Which of two transformers a model is."""

    def test_of_a_folder(self, tiny_model, expert, official):
        """By its folder; what they share is beside them."""
        folder = tiny_model("wan-tiny", experts=True, official=official)
        assert find_part(folder, "transformer", expert) == folder / FOLDERS[official][expert]
        assert find_part(folder, "vae").parent == folder

    def test_its_own_folder(self, tiny_model, expert, official):
        """The expert's folder itself."""
        place = tiny_model("wan-tiny", experts=True, official=official) / FOLDERS[official][expert]
        assert find_part(place, "transformer", expert) == place
        assert said_of_expert(place, expert) == ""

    def test_the_other_ones_folder(self, tiny_model, expert, official):
        """Is refused, and the right one is named."""
        folder = tiny_model("wan-tiny", experts=True, official=official)
        other = next(name for e, name in FOLDERS[official].items() if e != expert)
        with pytest.raises(WeightsError, match=r"is the .* expert by its name") as caught:
            find_part(folder / other, "transformer", expert)
        assert caught.value.hint == f"take {folder / FOLDERS[official][expert]}"

    def test_half_fetched(self, tiny_model, tmp_path, expert, official):
        """One expert is found where the other is not, which is not there."""
        folder = tiny_model("wan-tiny", experts=True, official=official)
        half = tmp_path / "half"
        shutil.copytree(folder / FOLDERS[official][expert], half / FOLDERS[official][expert])
        if not official:
            shutil.copy(folder / "model_index.json", half)
        assert find_part(half, "transformer", expert) == half / FOLDERS[official][expert]
        other = next(e for e in FOLDERS[official] if e != expert)
        assert find_part(half, "transformer", other) is None

    def test_of_one_transformer(self, tiny_model, expert, official):
        """A whole model of one transformer has no expert."""
        folder = tiny_model("wan-tiny-i2v", official=official)
        with pytest.raises(WeightsError, match=f"one transformer .* {expert[:3]}") as caught:
            find_part(folder, "transformer", expert)
        assert caught.value.exit_code == 4
        assert "t2v-14b" in caught.value.hint

    def test_a_lone_transformer(self, tiny_model, expert, official, tmp_path):
        """The folder of a transformer may stand in an expert's place, if it is asked for."""
        folder = tiny_model("wan-tiny-i2v", official=official)
        place = folder / "transformer"
        if official:
            place = tmp_path / "alone"
            place.mkdir()
            for file in folder.glob("*.json"):
                shutil.copy(file, place)
            for file in folder.glob("*.safetensors"):
                shutil.copy(file, place)
        assert find_part(place, "transformer", expert) == place


def test_one_file_an_expert(tiny_model, tmp_path):
    """As LightX2V has it, of any name."""
    folder = tiny_model("wan-tiny", experts=True)
    for name in FOLDERS[True].values():
        (tmp_path / name).mkdir()
        (file,) = (folder / "transformer").glob("*.safetensors")
        shutil.copy(file, tmp_path / name / f"wan22_{name}_lightx2v.safetensors")
    for expert, name in FOLDERS[True].items():
        place = find_part(tmp_path, "transformer", expert)
        assert place == tmp_path / name
        assert len(open_part("transformer", place).entries) == 231
        assert find_part(place, "transformer") == place


def test_a_shard_that_is_missing(tiny_model, tmp_path):
    """How many there are, the index says."""
    folder = shutil.copytree(tiny_model("wan-tiny", experts=True, official=True), tmp_path / "W")
    (folder / "low_noise_model" / shards(3)[1]).unlink()
    assert open_part("transformer", find_part(folder, "transformer", "high_noise"))
    with pytest.raises(WeightsError, match=r"00002-of-00003\.safetensors' is missing"):
        open_part("transformer", find_part(folder, "transformer", "low_noise"))


class TestExperts:
    def refused(self, folder, *names):
        with pytest.raises(WeightsError, match="has two transformers") as caught:
            find_part(folder, "transformer")
        assert caught.value.exit_code == 4
        assert all(name in caught.value.message for name in names)
        assert "t2v-a14b, i2v-a14b" in caught.value.hint
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

    @pytest.mark.parametrize("expert", ["high_noise", "low_noise"])
    @pytest.mark.parametrize("name", ["high", "low"])
    def test_a_file_as_an_expert(self, tmp_path, expert, name):
        """What is by its name the other one is said."""
        path = tmp_path / f"wan2.2_i2v_{name}_noise_14B.safetensors"
        path.touch()
        assert ("is by its name not the" in said_of_expert(path, expert)) is (name != expert[:-6])


class TestPipeline:
    @pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
    def test_another(self, folder, part):
        """None of its parts is taken by the folder, though each may be by its own."""
        index_says(folder, _class_name="CogVideoXPipeline")
        with pytest.raises(WeightsError, match="is a CogVideoXPipeline"):
            find_part(folder, part)
        assert find_part(folder / part, part) == folder / part

    @pytest.mark.parametrize(
        "kind", ["WanImageToVideoPipeline", "WanVideoToVideoPipeline", "WanVACEPipeline"]
    )
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
