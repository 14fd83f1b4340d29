"""Every command of docs/tutorial.md runs, in the page's order, and prints what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hub import point_at, serving
from tests.tutorial import (
    PAGE,
    REPO,
    ROOT,
    Command,
    commands,
    furnish,
    prepared_venv,
    stand_in,
)
from wanflow.cli import main
from wanflow.errors import WanflowError
from wanflow.trace import read
from wanflow.trace.events import Step

NUMBER = re.compile(r"\d[\d.,:]*")
OF_THE_PLAN = re.compile(r"plan [0-9a-f]{8}")  # a hash of everything, so of each small change


def code_of(command: Command) -> int:
    """The exit code that the page says; 0 where it says none."""
    found = re.search(r"exit (\d+)", command.remark)
    return int(found[1]) if found else 130 if command.remark == "Ctrl-C" else 0


def amount(text: str) -> float:
    """A number as it is printed; a time `1:58:31` is seconds."""
    total = 0.0
    for part in text.rstrip(".,:").replace(",", "").split(":"):
        total = total * 60 + float(part)
    return total


def is_near(shown: str, printed: str) -> bool:
    """Within a tenth; a count within two, and what is rounded to nothing within a third."""
    least = 0.3 if "." in shown else 2
    return amount(printed) == pytest.approx(amount(shown), rel=0.1, abs=least)


def is_like(shown: str, printed: str) -> bool:
    """The same words, and numbers that are near."""
    shown, printed = OF_THE_PLAN.sub("", shown), OF_THE_PLAN.sub("", printed)
    if NUMBER.sub("0", shown).split() != NUMBER.sub("0", printed).split():
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(is_near(*pair) for pair in pairs)


@contextmanager
def interrupted(run: Path) -> Iterator[None]:
    """Send this process SIGINT when the run in *run* has finished its second step."""
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            time.sleep(0.01)
            try:
                events = read(run / "trace.msgpack")
                steps = sum(isinstance(e, Step) and e.stage == "denoise" for e in events)
            except (OSError, WanflowError):
                continue
            if steps >= 2:
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=wait)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def execute(text: str) -> int:
    """Run a line as a shell would; what it prints goes where pytest reads."""
    if text.startswith("export "):
        name, _, value = text.removeprefix("export ").partition("=")
        os.environ[name] = value.replace("$PWD", str(Path.cwd()))
        return 0
    if text.startswith("wanflow "):
        return main.run(shlex.split(text)[1:])
    return subprocess.run(["sh", "-c", text], check=False).returncode


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder with what the page has ready, on a computer whose hub has the tiny model."""
    place = tmp_path / "tutorial"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("WANFLOW_MODELS", "")
    monkeypatch.setenv("WANFLOW_DEVICE", "cpu")
    with serving(furnish(place), REPO) as hub:
        point_at(hub.url, monkeypatch)
        yield place


@pytest.mark.wide
@pytest.mark.timeout(1800)  # one test, since each command rests on those before
def test_commands_run(folder, capfd) -> None:
    """One after the other, each with the exit code that the page says."""
    ran = []
    for command in commands():
        if command.is_planned or command.text == ". .venv/bin/activate":
            continue
        text = stand_in(command.text)
        if text == "make demo":
            venv = prepared_venv(folder / ".venv", sys.executable)
            text = f"make -C {ROOT} demo VENV={venv} DEMO_OUT={folder}/runs/demo"
        if command.remark == "Ctrl-C":
            with interrupted(folder / "runs" / "kite"):
                code = execute(text)
        else:
            code = execute(text)
        said = capfd.readouterr()
        assert code == code_of(command), f"{text}\n{said.err}"
        ran.append(text)
    assert {text.split()[1] for text in ran if text.startswith("wanflow ")} == {
        "doctor", "models", "run", "resume", "trace", "plan", "batch",
    }  # fmt: skip
    for video in ("demo", "kite", "int8", "style", "four"):
        assert (folder / "runs" / video / "video.mp4").is_file(), video
    assert (folder / "films" / "0002" / "video.mp4").is_file()


def test_the_environment_is_where_make_puts_it() -> None:
    """`. .venv/bin/activate` follows `make demo`."""
    texts = [command.text for command in commands()]
    assert texts[:2] == ["make demo", ". .venv/bin/activate"]
    assert re.search(r"^VENV +\?= \.venv$", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.wide
@pytest.mark.parametrize("command", [c for c in commands() if c.is_planned], ids=lambda c: c.text)
def test_plans_are_those_shown(command, capfd, tmp_path, monkeypatch) -> None:
    """As it stands, for the large model: every line that the page shows is printed."""
    monkeypatch.chdir(tmp_path)
    assert execute(command.text) == code_of(command)
    said = capfd.readouterr()
    printed = [line.rstrip() for line in (said.out + said.err).splitlines()]
    for line in command.shown:
        assert any(is_like(line, other) for other in printed), line


def test_what_is_shown_belongs_to_plans() -> None:
    """No printout of the page is of a command whose output a test does not compare."""
    assert all(command.is_planned for command in commands() if command.shown)
    assert sum(bool(command.shown) for command in commands()) >= 4


def test_the_replacements_are_those_that_the_page_says() -> None:
    """Each of `stand_in`'s and of the remarks has its row."""
    told = PAGE.read_text().partition("## How this page is tested")[2]
    for word in ("--vram 12MiB", "-i size=832*480", "wan-tiny", "64*64", REPO, "Ctrl-C"):
        assert word in told, word


class TestIsLike:
    """The comparison itself."""

    def test_numbers_within_a_tenth(self) -> None:
        """A time is one number."""
        assert is_like("peak 6.98 GiB, 7:08:41", "peak 7.10 GiB,  7:20:00")
        assert not is_like("peak 6.98 GiB", "peak 8.10 GiB")
        assert not is_like("2:00:00", "3:00:00")

    def test_words(self) -> None:
        """Another word is another line; the hash of a plan is none."""
        assert not is_like("4% kept", "4% streamed")
        assert is_like("estimate 1:00, plan 01234567", "estimate 1:01, plan 89abcdef")
