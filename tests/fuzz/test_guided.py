"""Changes that coverage guides: they go on where they stopped, and what fails is seen and kept."""

import subprocess
import sys

import attrs
import pytest

from scripts.fuzz import guided
from scripts.fuzz.attempt import Ended
from scripts.fuzz.kept import Book

atheris = pytest.importorskip("atheris", reason="has no wheel for this computer")


@attrs.frozen
class Reader:
    """A kind with two seeds, of which the second is refused wrongly where it begins with an x."""

    name: str = "rows"

    @property
    def seeds(self):
        return {"b.txt": b"bb", "a.txt": b"aa"}

    def mutate(self, rng, data):
        return data + b"!"

    def read(self, rng, scratch, name, data):
        if data.startswith(b"x"):
            return Ended("70", f"{name} is our own fault")
        return Ended("0")


@pytest.fixture
def inputs(tmp_path):
    from scripts.fuzz.guided_child import Inputs

    (tmp_path / "guided" / "rows").mkdir(parents=True)
    return Inputs(Reader(), Book(tmp_path), tmp_path, 40, 3, "now")


class TestInputs:
    """What a process does with what the fuzzer gives it."""

    def test_seeds_come_back_as_they_are(self, inputs, tmp_path) -> None:
        """Each with the byte that says whose place it takes."""
        assert list(inputs.seeds()) == [b"\x00aa", b"\x01bb"]

    def test_failure_is_counted_and_kept(self, inputs, tmp_path) -> None:
        """With its number; after the last one nothing is counted."""
        for data in (b"\x00aa", b"\x01xy", b"", b"\x00xx"):
            inputs.take(data)
        book = Book(tmp_path)
        (row,) = book.report()
        assert (row["kind"], row["count"], row["failures"]) == ("rows-guided", 3, 1)
        (failure,) = book.failures()
        assert (failure["number"], failure["why"]) == (41, "b.txt is our own fault")
        assert (tmp_path / "guided" / "rows" / "failed-41").read_bytes() == b"\x01xy"
        assert book.next_number("rows-guided", guided.SEED) == 43

    def test_changed_by_its_kind(self, inputs) -> None:
        """About half of the time, and never longer than the fuzzer wants it."""
        changed = [inputs.changed(b"\x01abc", 5, seed) for seed in range(40) if _is_ours(seed)]
        assert set(changed) == {b"\x01abc!"}
        assert {inputs.changed(b"\x01abc", 4, seed) for seed in range(40) if _is_ours(seed)} == {
            b"\x01abc"
        }


def _is_ours(seed):
    import random

    return random.Random(seed).random() < 0.5  # noqa: S311


class TestProcesses:
    """A kind has as many processes as it takes."""

    def test_death_counts_and_the_next_goes_on(self, tmp_path, monkeypatch, capsys) -> None:
        """One input is taken for what killed it."""
        book, asked = Book(tmp_path), []

        def child(name, out, runs):
            asked.append(runs)
            if len(asked) == 1:
                said = "#12 pulse\nSegmentation fault\n"
                return subprocess.CompletedProcess([], -11, "", said)
            tried = [guided.Tried(n, "0", "", 0.0, 0) for n in range(10 - runs, 10)]
            book.keep("rows-guided", guided.SEED, "now", tried)
            return subprocess.CompletedProcess([], 0, "", "")

        monkeypatch.setattr(guided, "_child", child)
        guided._go_on(book, "rows", 10)
        assert asked == [10, 9]
        (row,) = book.report()
        assert (row["count"], row["failures"]) == (10, 1)
        assert "died with -11: Segmentation fault" in capsys.readouterr().err

    def test_unknown_kind(self, capsys) -> None:
        """The message has the known ones."""
        with pytest.raises(SystemExit):
            guided.main(["films"])
        assert "no kind films; there are graph, trace" in capsys.readouterr().err

    @pytest.mark.wide
    def test_real_one(self, tmp_path) -> None:
        """Forty inputs of a kind, the fuzzer's own finds kept; no more the second time."""
        words = [sys.executable, "-m", "scripts.fuzz.guided", "rows", "--count", "40"]
        done = [
            subprocess.run([*words, "--out", tmp_path], capture_output=True, text=True, check=False)
            for _ in range(2)
        ]
        assert [each.returncode for each in done] == [0, 0], done[0].stderr
        assert done[0].stdout == done[1].stdout
        assert Book(tmp_path).next_number("rows-guided", guided.SEED) == 40
        assert len(list((tmp_path / "guided" / "rows" / "corpus").iterdir())) > 3
