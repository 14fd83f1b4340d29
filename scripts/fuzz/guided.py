"""The same files, changed where that reaches new code: coverage guides the changes, by atheris.

    python -m scripts.fuzz.guided [KIND ..] [--count 20000] [--out runs/fuzz]
    python -m scripts.fuzz.guided KIND --again FILE

A process a kind (`guided_child.py`), and another one where it died. Inputs that reached new code
are kept in the folder, so that a later call goes on from them; one that failed is kept there too,
until it is understood. Exit 1 where something failed, 2 where atheris is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.lib.environment import ROOT
from scripts.fuzz.kept import Book, commit, table
from scripts.fuzz.warm import Tried

SUFFIX = "-guided"  # of a kind's name where it is counted
SEED = "coverage"
_DEATHS = 20  # of one kind in a call, and then it is another's turn
_LINES = 5


def main(words: list[str]) -> int:
    """Go on with each kind until it has been given so many inputs."""
    from scripts.fuzz.files import FILES

    names = [kind.name for kind in FILES]
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(names)}; else all")
    parser.add_argument("--count", type=int, default=20_000, help="inputs a kind")
    parser.add_argument("--out", type=Path, default=Path("runs") / "fuzz")
    parser.add_argument("--again", type=Path, metavar="FILE", help="one that failed, by itself")
    given = parser.parse_args(words)
    if unknown := [name for name in given.kinds if name not in names]:
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(names)}")
    if importlib.util.find_spec("atheris") is None:
        print("error: atheris is not installed; it comes with `make dev` on Linux", file=sys.stderr)
        return 2
    if given.again is not None:
        if len(given.kinds) != 1:
            parser.error("--again wants one KIND")
        return _child(given.kinds[0], given.out, 1, given.again).returncode
    book = Book(given.out)
    for name in given.kinds or names:
        _go_on(book, name, given.count)
    rows = [row for row in book.report() if row["kind"].endswith(SUFFIX)]
    print(table(rows))
    return int(any(row["failures"] for row in rows))


def _go_on(book: Book, name: str, count: int) -> None:
    """Have a kind tried until *count* inputs are counted; a death counts as one."""
    counted = name + SUFFIX
    for _ in range(_DEATHS):
        first = book.next_number(counted, SEED)
        if first >= count:
            return
        done = _child(name, book.folder, count - first)
        if done.returncode:
            at = book.next_number(counted, SEED)
            why = f"died with {done.returncode}: {_last(done.stderr)}"
            print(f"{name}: {why}", file=sys.stderr, flush=True)
            book.keep(counted, SEED, commit(), [Tried(at, "death", why, 0.0, 0)])


def _child(
    name: str, out: Path, runs: int, again: Path | None = None
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as scratch:
        words = [sys.executable, "-m", "scripts.fuzz.guided_child", name, str(out.resolve())]
        words += [scratch, str(runs), *([str(again.resolve())] if again else [])]
        pipe = None if again else subprocess.PIPE
        return subprocess.run(
            words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, errors="replace", check=False
        )


def _last(text: str) -> str:
    """The lines that say why, without the fuzzer's own of its progress."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return " | ".join(lines[-_LINES:])[:500]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
