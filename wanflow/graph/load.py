"""Finding a graph: a path, or the name of one that comes with wanflow."""

from __future__ import annotations

import stat
from pathlib import Path

from wanflow.errors import InputError
from wanflow.files.folders import PACKAGE
from wanflow.graph.check import CheckedGraph, check
from wanflow.graph.problems import ProblemList
from wanflow.graph.source import LARGEST_FILE, Fault, Source, decode
from wanflow.graph.wording import did_you_mean, quoted
from wanflow.terminal.safe import printable

_SUFFIXES = (".yaml", ".yml")


def shipped_graphs() -> dict[str, Path]:
    """Give the graphs that come with wanflow, by name."""
    in_wheel = PACKAGE / "_graphs"
    folder = in_wheel if in_wheel.is_dir() else PACKAGE.parent / "graphs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(graph: str | Path) -> CheckedGraph:
    """Read and check a graph, given by path or by the name of a shipped one."""
    return check(read_source(find_graph(graph), "graph"))


def read_source(path: Path, what: str) -> Source:
    """Read the text of a file of ours; *what* names its kind in messages."""
    return Source(_shown(path), _decoded(path, what), path)


def load_text(text: str, name: str = "<text>") -> CheckedGraph:
    """Check a graph given as text; a relative `path` in it has no folder to start from."""
    data = text.encode("utf-8", errors="surrogatepass")
    return check(Source(name, _text(name, data)))


def find_graph(graph: str | Path) -> Path:
    """Give the path of a graph file; a bare name is a shipped graph before it is a file."""
    text = str(graph)
    shipped = shipped_graphs()
    if not isinstance(graph, Path) and text in shipped:
        return shipped[text]
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _not_found(text, shipped) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"can't open graph {quoted(text)}: {reason}", code="no-file") from None
    if stat.S_ISDIR(mode):
        inside = sorted(str(p) for suffix in _SUFFIXES for p in path.glob(f"*{suffix}"))
        hint = f"name a file in it, such as {printable(inside[0])}" if inside else ""
        raise InputError(f"{quoted(text)} is a folder, not a graph", hint=hint, code="not-a-file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{quoted(text)} is not a regular file", code="not-a-file")
    return path


def _not_found(text: str, shipped: dict[str, Path]) -> InputError:
    names = ", ".join(shipped)
    if "/" in text or "\\" in text or text.endswith(_SUFFIXES):
        hint = f"shipped graphs: {names}"
        return InputError(f"no graph file {quoted(text)}", hint=hint, code="no-file")
    hint = did_you_mean(text, shipped)
    hint = hint if hint.startswith("allowed") else f"{hint} (shipped graphs: {names})"
    return InputError(f"no graph {quoted(text)}", hint=hint, code="unknown-graph")


def _decoded(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        message = f"can't read {what} {quoted(str(path))}: {error.strerror}"
        raise InputError(message, code="unreadable") from None
    return _text(_shown(path), data)


def _text(name: str, data: bytes) -> str:
    """Decode, or raise the file's one problem."""
    text = decode(data)
    if isinstance(text, Fault):
        ProblemList(Source(name, "")).refuse(text)
    return text


def _shown(path: Path) -> str:
    """Give a path as the user would write it: relative where the file is below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
