"""Every broken graph in tests/graphs/bad is refused with the message that lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wanflow.errors import InputError
from wanflow.graph import GraphError, load

ROOT = Path(__file__).parents[2]
BAD = sorted((ROOT / "tests" / "graphs" / "bad").glob("*.yaml"))
SEVERAL = "many"


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def refusal(path: Path) -> GraphError:
    with pytest.raises(GraphError) as caught:
        load(path)
    return caught.value


def test_there_are_many_of_them() -> None:
    """The collection covers every code with a file."""
    assert len(BAD) >= 90


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_message_is_the_expected_one(path: Path) -> None:
    """The whole rendering, with file, line, column, caret and suggestion."""
    assert path.with_suffix(".expected").read_text() == f"{refusal(path)}\n"


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_exit_code_is_that_of_wrong_input(path: Path) -> None:
    """A wrong graph is the user's to fix."""
    error = refusal(path)
    assert isinstance(error, InputError)
    assert error.exit_code == 2
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_one_fault_gives_one_problem(path: Path) -> None:
    """A mistake brings no follow-up noise."""
    problems = refusal(path).problems
    assert (len(problems) == 1) is (path.stem != SEVERAL)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_place_is_in_the_file(path: Path) -> None:
    """Line and column point at a character of the file, or just past a line's end."""
    lines = path.read_bytes().decode().split("\n")
    for problem in refusal(path).problems:
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


def test_all_problems_are_told_at_once() -> None:
    """Five mistakes in five places, in the file's order."""
    problems = refusal(ROOT / "tests/graphs/bad/many.yaml").problems
    codes = [problem.code for problem in problems]
    expected = ["bad-name", "unknown-part", "unknown-input", "unknown-op", "out-of-range"]
    assert codes == expected
