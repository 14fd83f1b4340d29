"""What a repository holds, and a file of it that comes in pieces; the hub is on this computer."""

import hashlib

import numpy as np
import pytest
from huggingface_hub import constants

from tests.hub import COMMIT, REPO, TAGGED, point_at, serving
from wanflow.errors import InputError, WeightsError
from wanflow.models.weights.hub import HubFile, fetch, is_same, look

LARGE_BYTES = 24_000_000  # more than two of the library's chunks


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "large.pth").write_bytes(np.random.default_rng(1).bytes(LARGE_BYTES))
    (folder / "config.json").write_text("{}")
    with serving(folder) as hub:
        point_at(hub.url, monkeypatch)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield hub


def large(snapshot):
    return next(file for file in snapshot.files if file.path == "large.pth")


class TestLook:
    def test_main(self, hub):
        """Without a revision it is main's commit; sizes and digests are those of the data."""
        snapshot = look(REPO, None)
        assert (snapshot.revision, snapshot.commit) == ("main", COMMIT)
        data = (hub.folders[COMMIT] / "large.pth").read_bytes()
        assert HubFile("large.pth", LARGE_BYTES, hashlib.sha256(data).hexdigest()) == large(
            snapshot
        )

    def test_tag(self, hub):
        """A tag is resolved to its commit."""
        assert look(REPO, "v1").commit == TAGGED

    def test_tells_nothing(self, hub):
        """One question, and no other to anybody."""
        look(REPO, None)
        assert hub.asked == [f"/api/models/{REPO}/revision/main"]

    @pytest.mark.parametrize(
        ("refusal", "error", "code"),
        [
            ((404, "RepoNotFound"), InputError, "unknown-repository"),
            ((401, "RepoNotFound"), InputError, "unknown-repository"),
            ((404, "RevisionNotFound"), InputError, "unknown-revision"),
            ((401, "GatedRepo"), WeightsError, "gated"),
            ((403, "GatedRepo"), WeightsError, "gated"),
            ((403, ""), WeightsError, "gated"),
            ((400, ""), WeightsError, "hub-answer"),
        ],
    )
    def test_refused(self, hub, refusal, error, code):
        """Each refusal has an error and a code of its own, and a hint."""
        hub.refusal = refusal
        with pytest.raises(error) as caught:
            look(REPO, "v9")
        assert caught.value.code == code
        assert caught.value.message.startswith(f"{REPO}: ")
        assert caught.value.hint

    def test_no_name(self, hub):
        """What can be no repository is not asked for."""
        with pytest.raises(InputError) as caught:
            look("../secrets", None)
        assert caught.value.code == "unknown-repository"
        assert hub.asked == []

    def test_offline(self, hub, monkeypatch):
        """HF_HUB_OFFLINE keeps the hub unasked."""
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError) as caught:
            look(REPO, None)
        assert caught.value.code == "offline"
        assert hub.asked == []

    def test_out_of_reach(self, hub, monkeypatch):
        """Where nobody listens is no fault of ours."""
        point_at("http://127.0.0.1:9", monkeypatch)
        with pytest.raises(WeightsError) as caught:
            look(REPO, None)
        assert caught.value.code == "unreachable"

    def test_path_that_climbs(self, hub, monkeypatch):
        """A hub can't name a file outside the folder."""
        files = {"../vae.pth": hub.folders[COMMIT] / "config.json"}
        monkeypatch.setattr(hub, "files", lambda _: files)
        with pytest.raises(WeightsError) as caught:
            look(REPO, None)
        assert caught.value.code == "hub-answer"


class TestFetch:
    def test_whole(self, hub, tmp_path):
        """Every byte comes once, and is told of."""
        snapshot, came = look(REPO, None), []
        fetch(snapshot, large(snapshot), tmp_path / "part", came.append)
        assert LARGE_BYTES == sum(came) == hub.sent["large.pth"]
        assert is_same(tmp_path / "part", large(snapshot))

    def test_cut_and_gone_on(self, hub, tmp_path):
        """What came before a cut is kept, and only the rest is asked for."""
        snapshot, came = look(REPO, None), []
        hub.cut_after = 22_000_000
        with pytest.raises(WeightsError) as caught:
            fetch(snapshot, large(snapshot), tmp_path / "part", came.append)
        kept = (tmp_path / "part").stat().st_size
        assert (caught.value.code, sum(came)) == ("hub-answer", kept)
        assert 20_000_000 <= kept <= 22_000_000
        hub.cut_after = hub.refusal = None
        hub.sent.clear()
        fetch(snapshot, large(snapshot), tmp_path / "part", came.append)
        assert hub.ranges[-1] == f"large.pth from {kept}"
        assert hub.sent["large.pth"] == LARGE_BYTES - kept
        assert is_same(tmp_path / "part", large(snapshot))

    def test_ranges_ignored(self, hub, tmp_path):
        """A server that sends the whole again gives the whole, not more."""
        snapshot, came = look(REPO, None), []
        hub.ignores_ranges = True
        (tmp_path / "part").write_bytes(b"x" * 1000)
        fetch(snapshot, large(snapshot), tmp_path / "part", came.append)
        assert is_same(tmp_path / "part", large(snapshot))

    def test_token_stays_with_the_hub(self, hub, tmp_path):
        """The hub is told the token, the server that its files lie with is not."""
        hub.elsewhere = True
        snapshot = look(REPO, None)
        fetch(snapshot, large(snapshot), tmp_path / "part", lambda _: None)
        asked = f"/{REPO}/resolve/{COMMIT}/large.pth"
        assert hub.tokens[asked] == "Bearer hf_of_a_test"
        assert hub.tokens[f"/storage{asked}"] is None
        assert is_same(tmp_path / "part", large(snapshot))

    def test_nothing_left(self, hub, tmp_path):
        """A file that came whole is not asked for."""
        snapshot = look(REPO, None)
        (tmp_path / "part").write_bytes((hub.folders[COMMIT] / "large.pth").read_bytes())
        fetch(snapshot, large(snapshot), tmp_path / "part", lambda _: None)
        assert hub.sent["large.pth"] == 0


class TestIsSame:
    @pytest.mark.parametrize("name", ["large.pth", "config.json"])
    def test_one_bit(self, hub, tmp_path, name):
        """The digest is that of Git or of its large files, and sees a single bit."""
        file = next(file for file in look(REPO, None).files if file.path == name)
        data = (hub.folders[COMMIT] / name).read_bytes()
        (tmp_path / "same").write_bytes(data)
        (tmp_path / "other").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        (tmp_path / "shorter").write_bytes(data[:-1])
        assert is_same(tmp_path / "same", file)
        assert not is_same(tmp_path / "other", file)
        assert not is_same(tmp_path / "shorter", file)
