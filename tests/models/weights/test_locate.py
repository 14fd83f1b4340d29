"""Weights are found in the stated order, and what is named but not there is never passed over."""

import shutil

import pytest

from wanflow.errors import InputError, WeightsError
from wanflow.models.weights.locate import laid_over, locate, missing, parse_weights


@pytest.fixture
def weights(tiny, tmp_path):
    """Make a folder of weights with the given parts."""

    def make(name, *parts):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            shutil.copytree(tiny / part, folder / part)
        return folder

    return make


@pytest.fixture
def graph_file(tmp_path):
    return tmp_path / "graph.yaml"


def options(*texts):
    return parse_weights(texts, ("text", "dit"))


class TestOrder:
    """`--weights`, WANFLOW_MODELS, the graph's path, the bundled model."""

    @pytest.fixture
    def everywhere(self, weights, spec, monkeypatch):
        """Weights in every place; a model that names all of them."""
        monkeypatch.setenv("WANFLOW_MODELS", str(weights("models", "transformer")))
        weights("option", "transformer")
        weights("beside", "transformer")
        return spec(path="beside", config="wan-tiny")

    def test_option_first(self, everywhere, graph_file, tmp_path):
        """`--weights` comes before everything."""
        found = locate(everywhere, options(f"{tmp_path}/option"), graph_file)
        assert found == tmp_path / "option" / "transformer"

    def test_then_environment(self, everywhere, graph_file, tmp_path):
        """WANFLOW_MODELS comes before the graph's path."""
        assert locate(everywhere, (), graph_file) == tmp_path / "models" / "transformer"

    def test_environment_with_path_first(self, everywhere, graph_file, tmp_path, weights):
        """The graph's path inside WANFLOW_MODELS comes before WANFLOW_MODELS itself."""
        inside = weights("models/beside", "transformer")
        assert locate(everywhere, (), graph_file) == inside / "transformer"

    def test_then_path(self, everywhere, graph_file, tmp_path, monkeypatch):
        """The graph's path is relative to the graph file."""
        monkeypatch.delenv("WANFLOW_MODELS")
        assert locate(everywhere, (), graph_file) == tmp_path / "beside" / "transformer"

    def test_then_bundled(self, spec, graph_file, tiny):
        """The bundled model is last."""
        found = locate(spec(path="nowhere", config="wan-tiny"), (), graph_file)
        assert found == tiny / "transformer"

    def test_nowhere(self, spec, graph_file):
        """None when it is nowhere: a plan needs no weights."""
        assert locate(spec(path="nowhere", config="wan2.1-t2v-1.3b"), (), graph_file) is None

    def test_the_part_itself(self, spec, graph_file, weights):
        """A folder that is the part, and not the folder above it, is meant too."""
        folder = weights("option", "transformer") / "transformer"
        assert locate(spec(), options(str(folder)), graph_file) == folder

    def test_then_downloads(self, spec, graph_file, weights, tmp_path, monkeypatch):
        """The user's downloads come before the bundled model, under the graph's name for them."""
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        folder = weights("data/wanflow/models/mine", "transformer")
        found = locate(spec(path="mine", config="wan-tiny"), (), graph_file)
        assert found == folder / "transformer"

    def test_missing_says_where(self, spec, graph_file, tmp_path, monkeypatch):
        """The error for weights that are nowhere names each place in order, exit 4."""
        monkeypatch.setenv("WANFLOW_MODELS", "/models")
        monkeypatch.setenv("XDG_DATA_HOME", "/data")
        error = missing(spec(path="beside"), graph_file)
        downloads = "/data/wanflow/models/beside"
        places = ("/models/beside", "/models", f"{tmp_path}/beside", downloads)
        assert error.exit_code == 4
        assert error.message.endswith(", ".join(f"{place}/transformer" for place in places))
        assert "download" not in error.hint

    def test_missing_names_the_download(self, spec, graph_file):
        """Where the weights are published under the graph's name, the hint is the command."""
        error = missing(spec(path="Wan2.1-I2V-14B-720P"), graph_file)
        assert error.hint.endswith("wanflow models download Wan-AI/Wan2.1-I2V-14B-720P")

    def test_missing_expert(self, spec, graph_file):
        """Of an expert, which one, by its official folder."""
        error = missing(spec(path="Wan2.2-T2V-A14B", expert="low_noise"), graph_file)
        assert "(transformer, low-noise expert)" in error.message
        assert "Wan2.2-T2V-A14B/low_noise_model" in error.message
        assert error.hint.endswith("wanflow models download Wan-AI/Wan2.2-T2V-A14B")


class TestOptions:
    """`--weights [MODEL=]PATH`."""

    def test_for_one_model(self, spec, graph_file, weights):
        """`MODEL=PATH` counts for that model only."""
        chosen = options(f"dit={weights('option', 'transformer')}")
        assert locate(spec(name="dit"), chosen, graph_file).parent.name == "option"
        assert locate(spec(name="text"), chosen, graph_file) is None

    def test_one_before_all(self, spec, graph_file, weights):
        """A model's own folder comes before the one for all, whichever is given first."""
        every, own = weights("every", "transformer"), weights("own", "transformer")
        for given in ((f"{every}", f"dit={own}"), (f"dit={own}", f"{every}")):
            assert locate(spec(), options(*given), graph_file) == own / "transformer"

    def test_experts_of_one_folder(self, spec, graph_file, tiny_model):
        """One folder serves both, as each says which it is."""
        folder = tiny_model("wan-tiny", experts=True, official=True)
        chosen = parse_weights((str(folder),), ("high", "low"))
        for expert in ("high_noise", "low_noise"):
            place = locate(spec(name=expert[:-6], expert=expert), chosen, graph_file)
            assert place == folder / f"{expert}_model"

    def test_an_expert_by_itself(self, spec, graph_file, tiny_model):
        """`MODEL=PATH` takes the folder of both, an expert's own, and a file."""
        folder = tiny_model("wan-tiny", experts=True)
        (file,) = (folder / "transformer_2").glob("*.safetensors")
        places = {folder: folder / "transformer_2", folder / "transformer_2": None, file: None}
        for path, place in places.items():
            chosen = parse_weights((f"low={path}",), ("high", "low"))
            found = locate(spec(name="low", expert="low_noise"), chosen, graph_file)
            assert found == (place or path)

    def test_an_expert_that_is_not_there(self, spec, graph_file, tiny_model, tmp_path):
        """Which one, and where it would be."""
        folder = tiny_model("wan-tiny", experts=True, official=True)
        half = shutil.copytree(folder / "low_noise_model", tmp_path / "W" / "low_noise_model")
        with pytest.raises(WeightsError, match="has no high-noise expert for model 'h'") as caught:
            locate(
                spec(name="h", expert="high_noise"),
                parse_weights((f"{half.parent}",), ("h", "l")),
                graph_file,
            )
        assert f"{half.parent / 'high_noise_model'}/" in caught.value.hint

    def test_bundled_is_either_expert(self, spec, graph_file, tiny):
        """The tiny graphs of two experts run with the model of one that is there."""
        for expert in ("high_noise", "low_noise"):
            place = locate(spec(config="wan-tiny", expert=expert), (), graph_file)
            assert place == tiny / "transformer"

    def test_laid_over(self, spec, graph_file, weights):
        """Of several for one model, and only for it, the further ones come on top."""
        first, second = weights("first", "transformer"), weights("second", "transformer")
        chosen = options(str(first), f"dit={second}", f"dit={first}")
        assert locate(spec(), chosen, graph_file) == second / "transformer"
        assert laid_over(spec(), chosen) == (first / "transformer",)
        assert laid_over(spec("text_encoder", "text"), chosen) == ()

    def test_without_the_part(self, spec, graph_file, weights):
        """A folder that is there but lacks the part is an error, though the part is bundled."""
        folder = weights("option", "vae")
        with pytest.raises(WeightsError, match="has no transformer for model 'dit'"):
            locate(spec(config="wan-tiny"), options(str(folder)), graph_file)

    def test_no_folder(self, tmp_path):
        """A path that isn't there is missing weights, exit 4."""
        with pytest.raises(WeightsError, match="no such file or folder") as caught:
            options(f"dit={tmp_path}/none")
        assert caught.value.exit_code == 4

    def test_unknown_model(self, tmp_path):
        """A model that the graph doesn't have is a wrong option, exit 2, with the names it has."""
        with pytest.raises(InputError, match="no model 'vae'") as caught:
            options(f"vae={tmp_path}")
        assert caught.value.hint == "its models are text, dit"

    def test_equals_sign_in_a_path(self, weights):
        """A path may have an equals sign."""
        folder = weights("size=14b")
        assert options(str(folder))[0].path == folder
        assert options(f"dit={folder}")[0].path == folder
