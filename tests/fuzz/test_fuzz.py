"""A campaign in small: changed files are refused well, and the harness sees what is not so."""

import json
import os
import signal
import time

import attrs
import pytest

from scripts.fuzz.attempt import Ended, Said, command, judged
from scripts.fuzz.damage import damaged
from scripts.fuzz.drawn import DRAWN
from scripts.fuzz.files import FILES
from scripts.fuzz.kept import Book
from scripts.fuzz.trees import changed
from scripts.fuzz.warm import chance, tried
from wanflow.errors import InputError

LIGHT = ["graph", "tokenizer", "picture", "video", "machine", "rows", "scenarios", "preview"]
HEAVY = ["trace", "safetensors", "pth", "gguf", "lora", "config"]
KINDS = {kind.name: kind for kind in (*FILES, *DRAWN)}


@pytest.fixture
def warmed(tmp_path, monkeypatch):
    """Make a kind ready, in folders of this test."""
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))

    def make(name):
        KINDS[name].warm(tmp_path / "seeds", tmp_path)
        return KINDS[name]

    return make


def failures(kind, seed, count):
    """What is wrong with attempts from the first on; each is one line of a message."""
    results = list(tried(kind, seed, range(count)))
    assert [result.number for result in results] == list(range(count))
    return [f"{kind.name} --seed {seed} --again {r.number}: {r.why}" for r in results if r.why]


class TestKinds:
    """Every kind of file, changed a few times; the campaign does it thousands of times."""

    @pytest.mark.parametrize("name", LIGHT)
    def test_light(self, name, warmed) -> None:
        """Taken, or refused with a message and the right exit code."""
        assert failures(warmed(name), "suite", 25) == []

    @pytest.mark.wide
    @pytest.mark.parametrize("name", HEAVY)
    def test_heavy(self, name, warmed) -> None:
        """Those whose seeds take a while to make, or that every shipped graph is held against."""
        assert failures(warmed(name), "suite", 25) == []

    @pytest.mark.parametrize(("name", "count"), [("plans", 25), ("runs", 6)])
    def test_drawn(self, name, count, warmed) -> None:
        """Plans of up to twelve stages; graphs of toys against their twins."""
        assert failures(warmed(name), "suite", count) == []


@attrs.frozen
class Bad:
    """A kind whose attempt number 1 does something that must be seen."""

    does: object
    name: str = "bad"

    def warm(self, seeds, scratch):
        """Nothing."""

    def attempt(self, rng, scratch):
        if rng.random() == chance("seed", "bad", 1).random():
            self.does()
        return Ended("0")


def spin():
    began = time.process_time()
    while time.process_time() - began < 0.3:
        pass


class TestWhatIsSeen:
    """A harness that sees nothing would find nothing."""

    def results(self, does):
        """Three attempts, the second of which does it."""
        return list(tried(Bad(does), "seed", range(3)))

    def test_exception(self) -> None:
        """It is told, and the next attempt is made."""
        results = self.results(lambda: 1 // 0)
        assert [bool(result.why) for result in results] == [False, True, False]
        assert "ZeroDivisionError" in results[1].why

    def test_death(self) -> None:
        """A process that is killed is told by its signal; another one goes on."""
        results = self.results(lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert [result.why for result in results] == ["", "died: SIGKILL", ""]

    def test_time(self, monkeypatch) -> None:
        """Past the limit of processor time."""
        monkeypatch.setattr("scripts.fuzz.warm.MOST_SECONDS", 0.2)
        assert "took 0." in self.results(spin)[1].why

    def test_hang(self, monkeypatch) -> None:
        """Without an end it is ended."""
        monkeypatch.setattr("scripts.fuzz.warm._HANGS_SECONDS", 0.5)
        assert [r.label for r in self.results(lambda: time.sleep(60))] == ["0", "hang", "0"]

    def test_enough(self) -> None:
        """Who asks for no more waits for nobody."""
        results = tried(Bad(lambda: time.sleep(60)), "seed", range(3))
        assert next(results).number == 0
        began = time.monotonic()
        results.close()
        assert time.monotonic() - began < 30

    def test_memory(self, monkeypatch) -> None:
        """Past the limit beyond what was there, though it is let go of again."""
        monkeypatch.setattr("scripts.fuzz.warm.MOST_BYTES", 16 << 20)
        assert "bytes" in self.results(lambda: bytearray(b"x") * (64 << 20))[1].why

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            (Said(0, ""), ""),
            (Said(2, "error: no file\nhint: make one\n"), ""),
            (Said(4, "error: no weights\n"), "exit code 4"),
            (Said(70, "error: internal error (KeyError: x)\n"), "our own fault"),
            (Said(2, ""), "no message"),
            (Said(2, "error: a\nb\nc\nd\n"), "4 lines"),
            (Said(2, "error: \x1b[31m\n"), "control characters"),
            (Said(2, f"error: {'x' * 3000}\n"), "a line of 3007 letters"),
        ],
    )
    def test_judged(self, said, why) -> None:
        """Whether a command kept its promise."""
        found = judged(said, (0, 2), as_json=False).why
        assert found.startswith(why)
        assert bool(found) == bool(why)

    @pytest.mark.parametrize(
        ("answer", "as_json", "why"),
        [
            ("file: is cut\n", False, ""),
            ('{"whole": false}', True, ""),
            ("file: \x1b[31m", False, "control characters"),
            ("file: is cut", True, "no JSON"),
            ("", False, "no message"),
        ],
    )
    def test_judged_answer(self, answer, as_json, why) -> None:
        """A command that was asked what is wrong says it on stdout."""
        ended = judged(Said(4, "", answer), (0, 4), as_json=as_json, answers=True)
        assert ended.why.startswith(why)
        assert bool(ended.why) == bool(why)

    def test_judged_json(self) -> None:
        """With --json an error is an object, whose code is counted."""
        error = json.dumps({"error": {"code": "bad-row", "message": "no row"}})
        assert judged(Said(2, error), (0, 2), as_json=True) == Ended("2 bad-row")
        assert judged(Said(2, "error: no row"), (0, 2), as_json=True).why.startswith("no JSON")

    def test_what_is_written_past_python(self) -> None:
        """A library in C writes before our message: whoever reads JSON finds that first."""

        def noisy(_words: list[str]) -> int:
            os.write(2, b"strip 0 is damaged\n")
            raise InputError("a picture is damaged", code="bad-image")

        said = command([], noisy)
        assert said.text.startswith("strip 0 is damaged\n")
        assert judged(said, {2}, as_json=True).why.startswith("no JSON error: strip 0")


class TestCampaign:
    """What is kept of it."""

    def test_goes_on(self, tmp_path) -> None:
        """From behind the last batch of the same seed; a line that was cut counts not."""
        book, kind = Book(tmp_path), Bad(lambda: 1 // 0)
        assert book.next_number("bad", "seed") == 0
        book.keep("bad", "seed", "code", list(tried(kind, "seed", range(3))))
        with (tmp_path / "counts.jsonl").open("a") as file:
            file.write('{"kind": "bad", "se')

        assert book.next_number("bad", "seed") == 3
        assert book.next_number("bad", "other") == 0
        (row,) = book.report()
        assert (row["count"], row["failures"]) == (3, 1)
        (failure,) = book.failures()
        assert (failure["number"], failure["times"]) == (1, 1)
        assert "ZeroDivisionError" in failure["why"]

    def test_same_number_same_input(self) -> None:
        """A seed and a number make an input again."""
        data = chance("0", "video", 0).randbytes(500)
        first, second = (damaged(chance("1", "video", 7), data) for _ in range(2))
        assert first == second != damaged(chance("1", "video", 8), data)

    def test_every_number_can_be_changed(self) -> None:
        """An int that no float holds too: it came of an earlier change, and ended the campaign."""
        for number in range(400):
            changed(chance("1", "huge", number), {"dim": 10**400, "ffn_dim": [-(10**400)]})
