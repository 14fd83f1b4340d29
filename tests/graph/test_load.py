"""Finding graphs by path and by name."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from wanflow.errors import InputError
from wanflow.graph import load, load_text, shipped_graphs


def refusal(graph: str | Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load(graph)
    assert caught.value.exit_code == 2
    return caught.value


def test_shipped_graphs_are_found_by_name() -> None:
    """From a checkout they lie in `graphs/`."""
    assert {"t2v-tiny", "t2v-1.3b", "t2v-14b"} <= set(shipped_graphs())
    assert load("t2v-tiny").spec.name == "t2v-tiny"


def test_installed_package_carries_its_own_copy(tmp_path: Path, monkeypatch) -> None:
    """In a wheel there is no `graphs/` beside the package, but one inside it."""
    module = importlib.import_module("wanflow.graph.load")
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "wanflow")
    (tmp_path / "wanflow/_graphs").mkdir(parents=True)
    (tmp_path / "wanflow/_graphs/mine.yaml").touch()
    assert shipped_graphs() == {"mine": tmp_path / "wanflow/_graphs/mine.yaml"}


@pytest.mark.parametrize("name", shipped_graphs())
def test_shipped_graph_is_called_like_its_file(name: str) -> None:
    """A name that isn't the file's would be a trap."""
    assert load(name).spec.name == name


def test_path_may_be_text_or_a_path(small: str, tmp_path: Path) -> None:
    """And the graph knows where it was read from."""
    path = tmp_path / "g.yaml"
    path.write_text(small)
    assert load(str(path)).source.path == path
    assert load(path).source.text == small


def test_path_is_shown_relative_to_here(small: str, tmp_path: Path, monkeypatch) -> None:
    """Messages name files as the user does."""
    (tmp_path / "g.yaml").write_text(small)
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path / "g.yaml").source.file == "g.yaml"


def test_shipped_name_wins_over_a_folder(tmp_path: Path, monkeypatch) -> None:
    """A run folder called like a graph doesn't hide it."""
    (tmp_path / "t2v-tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("t2v-tiny").spec.name == "t2v-tiny"


def test_unknown_name_lists_the_shipped_ones() -> None:
    """With the nearest first."""
    error = refusal("t2v-tinny")
    assert error.message == "no graph 't2v-tinny'"
    assert error.hint.startswith("did you mean 't2v-tiny'?")
    assert "t2v-14b" in error.hint


@pytest.mark.parametrize("name", ["nowhere/graph.yaml", "graph.yaml", "./graph", "a/b\nc.yml"])
def test_missing_file(name: str) -> None:
    """A path is told as a path."""
    error = refusal(name)
    assert error.code == "no-file"
    assert "\n" not in error.message


def test_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    """`file/graph.yaml` does not exist either."""
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "graph.yaml").code == "no-file"


def test_folder_names_a_file_in_it(tmp_path: Path) -> None:
    """What was probably meant."""
    (tmp_path / "g.yaml").touch()
    error = refusal(tmp_path)
    assert error.code == "not-a-file"
    assert error.hint.endswith("g.yaml")


def test_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    """Opening one waits for a writer, for ever."""
    os.mkfifo(tmp_path / "pipe.yaml")
    assert refusal(tmp_path / "pipe.yaml").code == "not-a-file"


@pytest.mark.parametrize("name", ["a\0b.yaml", "x" * 5000 + ".yaml", ""])
def test_name_that_no_file_can_have(name: str) -> None:
    """The system's own refusal becomes a message."""
    assert refusal(name).code in {"no-file", "unknown-graph", "not-a-file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    """One line with the system's reason."""
    path = tmp_path / "g.yaml"
    path.touch(mode=0)
    assert refusal(path).code == "unreadable"


def test_read_that_fails(tmp_path: Path, monkeypatch) -> None:
    """A disk that errs is told like a file that may not be read."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "g.yaml"
    path.touch()
    monkeypatch.setattr(Path, "open", fail)
    assert refusal(path).message.endswith("Input/output error")


def test_text_has_a_name_in_messages() -> None:
    """For graphs that are no file."""
    with pytest.raises(InputError, match="from memory:1:1"):
        load_text("[]", "from memory")
