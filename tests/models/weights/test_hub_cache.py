"""The hub's cache: the folder of a repository means the snapshot that its main branch names."""

import pytest

from wanflow.errors import WeightsError
from wanflow.models.weights.hub_cache import cached, repositories, snapshot_of
from wanflow.models.weights.locate import locate, parse_weights

FIRST, SECOND = "0123456789abcdef" * 2, "fedcba9876543210" * 2


@pytest.fixture
def repository(tmp_path, tiny):
    """A repository with two snapshots, of which main names the second."""
    folder = tmp_path / "hub" / "models--Wan-AI--X-Diffusers"
    for commit in (FIRST, SECOND):
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for part in tiny.iterdir():
            (snapshot / part.name).symlink_to(part)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(SECOND)
    return folder


class TestSnapshot:
    def test_main(self, repository):
        """Given by its own folder or by that of its snapshots."""
        assert snapshot_of(repository) == repository / "snapshots" / SECOND
        assert snapshot_of(repository / "snapshots") == repository / "snapshots" / SECOND

    def test_the_only_one(self, repository):
        """Without a main branch, as after a download of one commit."""
        (repository / "refs" / "main").unlink()
        (repository / "snapshots" / SECOND).rename(repository.parent / "aside")
        assert snapshot_of(repository) == repository / "snapshots" / FIRST

    @pytest.mark.parametrize("main", [None, "deadbeef"])
    def test_several(self, repository, main):
        """Of several none is taken by chance: the hint names them."""
        (repository / "refs" / "main").unlink()
        if main:
            (repository / "refs" / "main").write_text(main)
        with pytest.raises(WeightsError, match="has 2 snapshots") as caught:
            snapshot_of(repository)
        assert str(repository / "snapshots" / FIRST) in caught.value.hint

    def test_none(self, tmp_path):
        """Nothing came."""
        (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
        with pytest.raises(WeightsError, match="has no snapshots"):
            snapshot_of(tmp_path / "models--a--b")

    @pytest.mark.parametrize("name", ["", "snapshots", f"snapshots/{FIRST}", "file"])
    def test_anything_else(self, tmp_path, name):
        """Another folder, the snapshot itself and a file are what they are."""
        (tmp_path / "snapshots" / FIRST).mkdir(parents=True)
        (tmp_path / "file").touch()
        assert snapshot_of(tmp_path / name) == tmp_path / name


class TestWeights:
    def test_option(self, repository, spec, tmp_path):
        """`--weights` takes the repository's folder."""
        options = parse_weights((str(repository),), ("text", "dit"))
        place = locate(spec(), options, tmp_path / "graph.yaml")
        assert place == repository / "snapshots" / SECOND / "transformer"

    def test_cache(self, repository, spec, tmp_path):
        """The cache of all, and the folder above it, are told, with the folders to give."""
        for folder in (repository.parent, tmp_path):
            options = parse_weights((str(folder),), ("text", "dit"))
            with pytest.raises(WeightsError, match="it is the hub's cache") as caught:
                locate(spec(), options, tmp_path / "graph.yaml")
            assert str(repository) in caught.value.hint
            assert repositories(folder) == str(repository)

    def test_in_the_environment(self, repository, spec, tmp_path, monkeypatch):
        """WANFLOW_MODELS may be the hub's cache: models are found in it by the graph's path."""
        monkeypatch.setenv("WANFLOW_MODELS", str(repository.parent))
        place = locate(spec(path="X"), (), tmp_path / "graph.yaml")
        assert place == repository / "snapshots" / SECOND / "transformer"
        assert cached(repository.parent, "X") == [repository]
