"""A download from a hub on this computer: pinned, whole, gone on after every kind of stop."""

import errno
import json
import os
import resource
import shutil
from contextlib import contextmanager

import attrs
import pytest
from huggingface_hub import constants

from tests.folders import make_model
from tests.hub import COMMIT, REPO, TAGGED, point_at, serving
from tests.official import VAE, VAE_2_2, write_official
from wanflow.errors import InputError, Interrupted, StageFailed, WeightsError
from wanflow.files.lock import locked
from wanflow.session.weights import download as downloading
from wanflow.session.weights.download import download


@attrs.define
class Watch:
    """Remembers what it was told; a test may stop it."""

    task: object = None
    files: list = attrs.field(factory=list)
    came: int = 0
    stop_after: int | None = None

    def start(self, task):
        self.task = task

    def begin(self, file):
        self.files.append(file.path)

    def advance(self, nbytes):
        self.came += nbytes
        if self.stop_after is not None and self.came >= self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A repository in Wan2.1's layout, with what no graph needs beside it."""
    folder = write_official(tmp_path_factory.mktemp("hub") / "repository")
    (folder / "README.md").write_text("a picture says more")
    (folder / "assets").mkdir()
    (folder / "assets" / "logo.png").write_bytes(b"\x89PNG" * 2000)
    return folder


@pytest.fixture
def hub(official, monkeypatch):
    """Serve it; what comes is handed on in small pieces, since the files are small."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 14)
    with serving(official) as hub:
        point_at(hub.url, monkeypatch)
        yield hub


@pytest.fixture
def to(tmp_path):
    return tmp_path / "weights"


def got(folder):
    """The files that a folder has, state aside."""
    files = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {path.as_posix() for path in files if path.parts[0] != ".wanflow"}


def record(folder):
    return json.loads((folder / ".wanflow" / "download.json").read_text())


@contextmanager
def largest_file(nbytes):
    """Let the kernel refuse what makes a file larger, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestNotWhole:
    """What would be half of a model is refused before anything of it comes."""

    @pytest.mark.parametrize(
        ("file", "kind", "words"),
        [
            ("model_index.json", "WanAnimatePipeline", f"{REPO}: is a WanAnimatePipeline .* poses"),
            ("config.json", "WanModel_S2V", f"{REPO}/config.json: is of a WanModel_S2V.* sound"),
        ],
    )
    def test_by_what_it_says(self, official, to, tmp_path, monkeypatch, file, kind, words):
        """By its model_index.json, or by its transformer's configuration."""
        repository = shutil.copytree(official, tmp_path / "repository")
        (repository / file).write_text(json.dumps({"_class_name": kind}))
        self.refused(repository, to, monkeypatch, words)

    def test_by_its_autoencoder(self, official, to, tmp_path, monkeypatch):
        """By the name of one that is not known."""
        repository = shutil.copytree(official, tmp_path / "repository")
        (repository / VAE).rename(repository / "Wan3.0_VAE.pth")
        self.refused(repository, to, monkeypatch, "its autoencoder is Wan3.0_VAE.pth")

    def refused(self, repository, to, monkeypatch, words):
        with serving(repository) as hub:
            point_at(hub.url, monkeypatch)
            with pytest.raises(WeightsError, match=words) as caught:
                download(REPO, None, to, Watch())
            assert caught.value.exit_code == 4
            assert set(hub.sent) <= {"model_index.json", "config.json"}
        assert not to.exists()


class TestWhole:
    def test_what_a_graph_needs(self, hub, to, official):
        """Weights, config and tokenizer come as they are; pictures and prose stay there."""
        done = download(REPO, None, to, Watch())
        assert got(official) - {"README.md", "assets/logo.png"} == got(to)
        assert all((official / name).read_bytes() == (to / name).read_bytes() for name in got(to))
        assert done.fetched_bytes == sum(hub.sent.values()) == done.task.total_bytes
        assert done.inspected.is_whole
        assert "t2v-tiny" in [each.graph for each in done.inspected.graphs if not each.lacks]

    @pytest.mark.parametrize("layout", ["official", "diffusers"])
    def test_two_experts(self, to, tmp_path, monkeypatch, layout):
        """Both transformers come, each with as many files as it has, and its configuration."""
        folder = make_model("wan-tiny", tmp_path / "made", experts=True)
        if layout == "official":
            folder = write_official(tmp_path / "repository", folder)
        with serving(folder) as hub:
            point_at(hub.url, monkeypatch)
            done = download(REPO, None, to, Watch())
        assert got(folder) - {"scheduler/scheduler_config.json"} == got(to)
        assert done.inspected.is_whole
        experts = [part.expert for part in done.inspected.parts if part.part == "transformer"]
        assert experts == ["high_noise", "low_noise"]

    def test_autoencoder_of_2_2(self, to, tmp_path, monkeypatch):
        """The one that belongs to the model."""
        folder = make_model("wan-tiny-ti2v", tmp_path / "made")
        repository = write_official(tmp_path / "repository", folder)
        with serving(repository) as hub:
            point_at(hub.url, monkeypatch)
            download(REPO, None, to, Watch())
        assert got(repository) == got(to)
        assert (to / VAE_2_2).is_file()

    def test_pinned(self, hub, to):
        """The commit is found out first, files are asked for by it, and it is kept on record."""
        done = download(REPO, "v1", to, Watch())
        assert done.task.snapshot.commit == TAGGED
        assert hub.asked[0] == f"/api/models/{REPO}/revision/v1"
        assert all(path.startswith(f"/{REPO}/resolve/{TAGGED}/") for path in hub.asked[1:])
        about = record(to)
        assert (about["repo"], about["revision"], about["commit"]) == (REPO, "v1", TAGGED)

    @pytest.mark.parametrize("name", ["WANFLOW_MODELS", "XDG_DATA_HOME"])
    def test_where_graphs_look(self, hub, tmp_path, monkeypatch, name):
        """Without a folder it goes to where the graph's `path` is looked for, layout aside."""
        monkeypatch.setenv(name, str(tmp_path / "models"))
        base = tmp_path / "models" / ("" if name == "WANFLOW_MODELS" else "wanflow/models")
        task = download(REPO, None, None, Watch()).task
        assert task.folder == base / "Wan2.1-Tiny"

    def test_progress(self, hub, to):
        """Whoever watches hears of the task, of each file, and of every byte."""
        watch = Watch()
        done = download(REPO, None, to, watch)
        assert watch.task == done.task
        assert set(watch.files) == got(to)
        assert watch.came == done.task.total_bytes


class TestAgain:
    def test_nothing_twice(self, hub, to):
        """What is there is not fetched again."""
        download(REPO, None, to, Watch())
        hub.sent.clear()
        done = download(REPO, None, to, Watch())
        assert (done.fetched_bytes, sum(hub.sent.values())) == (0, 0)
        assert done.inspected.is_whole

    def test_files_of_before(self, hub, to, official):
        """Files that somebody copied there are known by their digests."""
        shutil.copytree(official, to)
        assert download(REPO, None, to, Watch()).fetched_bytes == 0

    def test_cut(self, hub, to):
        """After a lost line the same call fetches the rest, and of the cut file its end only."""
        hub.cut_after = 1_500_000
        with pytest.raises(WeightsError) as caught:
            download(REPO, None, to, Watch())
        assert caught.value.code == "hub-answer"
        assert "goes on" in caught.value.hint
        hub.cut_after = hub.refusal = None
        hub.sent.clear()
        watch = Watch()
        done = download(REPO, None, to, watch)
        kept = done.task.total_bytes - watch.task.missing_bytes
        assert 1_400_000 <= kept <= 1_500_000
        assert done.task.total_bytes - kept == done.fetched_bytes == sum(hub.sent.values())
        assert hub.ranges
        assert done.inspected.is_whole

    def test_interrupted(self, hub, to):
        """Ctrl-C says that the same command goes on, which it does."""
        with pytest.raises(Interrupted) as caught:
            download(REPO, None, to, Watch(stop_after=1_000_000))
        assert caught.value.exit_code == 130
        assert "goes on" in caught.value.hint
        done = download(REPO, None, to, Watch())
        assert done.fetched_bytes < done.task.total_bytes - 900_000
        assert done.inspected.is_whole

    def test_damaged(self, hub, to):
        """A file that came damaged is not taken, and fetched whole by the next call."""
        hub.damaged = VAE
        with pytest.raises(WeightsError) as caught:
            download(REPO, None, to, Watch())
        assert caught.value.code == "damaged-download"
        assert VAE not in got(to)
        hub.damaged = ""
        assert download(REPO, None, to, Watch()).inspected.is_whole

    def test_another_commit(self, hub, to, official, tmp_path):
        """Of a new commit only what changed is fetched; what it dropped does not stay."""
        newer = shutil.copytree(official, tmp_path / "newer")
        (newer / "config.json").write_text((newer / "config.json").read_text() + "\n")
        (newer / "google" / "umt5-xxl" / "tokenizer_config.json").unlink()
        download(REPO, None, to, Watch())
        mine = to / "mine.txt"
        mine.write_text("not of a download")
        hub.folders[TAGGED] = newer
        watch = Watch()
        download(REPO, "v1", to, watch)
        assert watch.files == ["config.json"]
        assert not (to / "google" / "umt5-xxl" / "tokenizer_config.json").exists()
        assert mine.exists()
        assert got(to) - {"mine.txt"} == set(record(to)["files"])


class TestRefused:
    def test_too_little_disk(self, hub, to, monkeypatch):
        """Nothing is fetched where not all of it has room; both numbers are told."""
        total = download(REPO, None, to, Watch()).task.total_bytes
        (to / VAE).unlink()
        need = (hub.folders[COMMIT] / VAE).stat().st_size
        hub.sent.clear()
        monkeypatch.setattr(downloading, "free_bytes", lambda _: need - 1)
        with pytest.raises(StageFailed) as caught:
            download(REPO, None, to, Watch())
        assert (caught.value.code, caught.value.exit_code) == ("disk-full", 1)
        assert caught.value.detail == {"needed_bytes": need, "free_bytes": need - 1}
        assert not hub.sent
        monkeypatch.setattr(downloading, "free_bytes", lambda _: need)
        assert download(REPO, None, to, Watch()).task.total_bytes == total

    def test_disk_full_meanwhile(self, hub, to):
        """A disk that fills up while files come is told, and the same call goes on."""
        with largest_file(1_000_000), pytest.raises(StageFailed) as caught:
            download(REPO, None, to, Watch())
        assert (caught.value.code, caught.value.exit_code) == ("disk-full", 1)
        assert "goes on" in caught.value.hint
        done = download(REPO, None, to, Watch())
        assert done.fetched_bytes < done.task.total_bytes
        assert done.inspected.is_whole

    def test_a_write_that_fails_names_its_file(self, hub, to, monkeypatch):
        """A handle's error names no file, and a repository has several."""
        fetch = downloading.fetch

        def broken(snapshot, file, part, advance):
            fetch(snapshot, file, part, advance)
            if to in part.parents:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(downloading, "fetch", broken)
        with pytest.raises(StageFailed, match=r"\.wanflow/\w+\.part: Input/output error"):
            download(REPO, None, to, Watch())

    def test_file_of_the_user(self, hub, to):
        """A file of somebody's own in a place that is wanted stays as it is."""
        to.mkdir()
        (to / VAE).write_text("mine")
        with pytest.raises(InputError) as caught:
            download(REPO, None, to, Watch())
        assert caught.value.code == "other-download"
        assert str(to / VAE) in caught.value.message
        assert (to / VAE).read_text() == "mine"
        assert set(hub.sent) == {"config.json"}  # which says what it is a model of

    def test_folder_of_another(self, hub, to):
        """A folder holds one repository."""
        download(REPO, None, to, Watch())
        about = record(to) | {"repo": "somebody/else"}
        (to / ".wanflow" / "download.json").write_text(json.dumps(about))
        with pytest.raises(InputError, match="holds somebody/else"):
            download(REPO, None, to, Watch())

    def test_two_at_once(self, hub, to):
        """One process a folder."""
        (to / ".wanflow").mkdir(parents=True)
        with (
            locked(to / ".wanflow"),
            pytest.raises(InputError, match="is running there") as caught,
        ):
            download(REPO, None, to, Watch())
        assert "--to" in caught.value.hint

    def test_no_model(self, hub, to, tmp_path):
        """A repository without a part of a model is not fetched from."""
        hub.folders[COMMIT] = tmp_path / "empty"
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "config.json").write_text("{}")
        with pytest.raises(WeightsError, match="no part of a model"):
            download(REPO, None, to, Watch())
        assert not hub.sent
        assert not to.exists()

    def test_file_in_the_way(self, hub, to):
        """A folder that can't be made is told with its path."""
        to.write_text("")
        with pytest.raises(StageFailed, match=str(to)):
            download(REPO, None, to, Watch())
