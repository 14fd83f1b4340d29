"""`wanflow generate`: the seed, and where the video and the log of memory are put."""

import json
from pathlib import Path

import pytest

from tests.generating import line
from wanflow.cli import saving
from wanflow.errors import InputError, StageFailed


@pytest.fixture
def fake(session, tmp_path, monkeypatch):
    """Let a run leave a video of five bytes; what was asked for is kept."""
    monkeypatch.chdir(tmp_path)

    def run(request, *, sink):
        session.request = request
        folder = tmp_path / "runs" / "one"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "video.mp4").write_bytes(b"video")
        return {
            "video": "runs/one/video.mp4", "trace": "runs/one/trace.msgpack", "out": "runs/one",
            "frames": 5, "seconds": 1.0, "device": "cpu", "seed": request.inputs["seed"],
            "notes": [],
        }  # fmt: skip

    session.run = run
    return session


class TestSeed:
    def test_is_drawn_anew_each_time(self, fake, wanflow_here):
        """Two runs differ; the seed that was drawn is said, and makes the run again."""
        wanflow_here("generate", *line(frame_num=5))
        first = fake.request.inputs["seed"]
        code, _, err = wanflow_here("generate", *line(base_seed=-1))
        assert code == 0
        assert first != fake.request.inputs["seed"]
        assert f"--base_seed {fake.request.inputs['seed']}" in err

    def test_a_given_one_is_kept(self, fake, wanflow_here):
        """And nothing is said about it."""
        _, _, err = wanflow_here("generate", *line(base_seed=0))
        assert fake.request.inputs["seed"] == 0
        assert err == ""


class TestSaving:
    def test_replaces_a_file(self, fake, wanflow_here, tmp_path):
        """As the official code does."""
        (tmp_path / "a.mp4").write_bytes(b"old, and longer")
        assert wanflow_here("generate", *line(save_file="a.mp4"))[0] == 0
        assert (tmp_path / "a.mp4").read_bytes() == b"video"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "runs"]

    def test_json_says_where(self, fake, wanflow_here, tmp_path):
        """What the run returns, the place and the notes; nothing on stderr."""
        code, out, err = wanflow_here("generate", *line(), "--json")
        said = json.loads(out)
        assert (code, err) == (0, "")
        assert said["save_file"] == str(tmp_path / "output.mp4")
        assert said["video"] == "runs/one/video.mp4"
        assert [note for note in said["notes"] if str(said["seed"]) in note]

    def test_writes_through_a_link(self, fake, wanflow_here, tmp_path):
        """The link stays, what it leads to is replaced."""
        (tmp_path / "real.mp4").write_bytes(b"old")
        (tmp_path / "link.mp4").symlink_to("real.mp4")
        wanflow_here("generate", *line(save_file="link.mp4"))
        assert (tmp_path / "link.mp4").is_symlink()
        assert (tmp_path / "real.mp4").read_bytes() == b"video"

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("absent/a.mp4", "there is no folder"),
            (".", "is a folder"),
            ("/dev/null", "is no regular file"),
            ("/proc/self/a.mp4", "--save_file /proc/self/a.mp4: "),
            ("a.avi", "end it in .mp4"),
            ("a", "end it in .mp4"),
            ("loop.mp4", "--save_file loop.mp4: "),
            ("x" * 300 + ".mp4", "file name too long"),
        ],
    )
    def test_is_refused_before_the_run(self, path, words, fake, wanflow_here, tmp_path):
        """Exit 2, and no run folder is made."""
        (tmp_path / "loop.mp4").symlink_to("loop.mp4")
        code, _, err = wanflow_here("generate", *line(save_file=path))
        assert code == 2
        assert words in err
        assert not (tmp_path / "runs").exists()

    def test_a_file_that_may_not_be_written(self, monkeypatch, tmp_path):
        """A file that is write-protected is not replaced behind its owner's back."""
        (tmp_path / "a.mp4").touch(0o444)
        monkeypatch.setattr(saving.os, "access", lambda *_: False)  # root may write anything
        with pytest.raises(InputError, match="may not be written over"):
            saving.check_target(str(tmp_path / "a.mp4"))

    def test_a_failing_copy_leaves_the_old_file(self, tmp_path):
        """The error says where the video is; nothing half-written stays."""
        (tmp_path / "a.mp4").write_bytes(b"old")
        with pytest.raises(StageFailed, match="no such file") as caught:
            saving.put(tmp_path / "absent.mp4", tmp_path / "a.mp4")
        assert caught.value.hint == f"the file is done: {tmp_path / 'absent.mp4'}"
        assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
        assert (tmp_path / "a.mp4").read_bytes() == b"old"


@pytest.fixture
def exporting(monkeypatch):
    """Write down what is exported: the run that stands in has no trace."""
    from wanflow.trace import exports

    def export(trace, wanted, output):
        output.write_text(json.dumps([str(trace), wanted]))

    monkeypatch.setattr(exports, "export", export)


class TestProfileMemory:
    @pytest.mark.parametrize(
        ("more", "folder"),
        [("", "runs/one"), ("--log_path profiler_logs/quick_start", "profiler_logs/quick_start")],
    )
    def test_goes_into_the_log_path(self, more, folder, fake, exporting, wanflow_here, tmp_path):
        """By the command that exports traces; a folder that is missing is made."""
        words = f"--profile_memory true --json {more}".split()
        code, out, _ = wanflow_here("generate", *line(), *words)
        path = tmp_path / folder / "memory_events.json"
        assert code == 0
        assert Path(json.loads(out)["memory_events"]).resolve() == path
        assert json.loads(path.read_text()) == ["runs/one/trace.msgpack", "json"]

    def test_a_log_path_that_is_a_file(self, fake, exporting, wanflow_here, tmp_path):
        """Exit 2 before anything runs."""
        (tmp_path / "log").touch()
        code, _, err = wanflow_here("generate", *line(log_path="log"), "--profile_memory", "yes")
        assert (code, err) == (2, "error: --log_path log: file exists\n")
        assert not (tmp_path / "runs").exists()

    def test_a_log_path_alone(self, fake, wanflow_here, tmp_path):
        """Nothing is written there, which is said."""
        code, _, err = wanflow_here("generate", *line(log_path="log", base_seed=1))
        assert code == 0
        assert err == "--log_path without --profile_memory true: nothing is written there\n"
        assert not (tmp_path / "log").exists()
