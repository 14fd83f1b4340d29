"""Change files at random and have wanflow read them; draw graphs at random and run them.

    python -m scripts.fuzz [KIND ..] [--goal 20000] [--minutes 10] [--seed 1] [--out runs/fuzz]
    python -m scripts.fuzz --report [--json]
    python -m scripts.fuzz KIND --again NUMBER [--seed 1]

A file is read by what a user's command reaches, in forks of one warm process, and must be taken or
refused with one message and the right exit code, in 5 processor seconds and 256 MiB. Kinds take
turns, and a later call goes on where the one before it stopped: counts and failures are JSON lines
in the folder. No input is kept: its seed and number make it again. Exit 1 where something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from scripts.fuzz.attempt import Kind
from scripts.fuzz.drawn import DRAWN
from scripts.fuzz.files import FILES
from scripts.fuzz.kept import Book, commit, table
from scripts.fuzz.warm import Tried, own_folders, tried

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*FILES, *DRAWN)}
_GOALS = {"plans": 10_000, "runs": 1_000}  # others: --goal
_BATCH = 250
_TURN_SECONDS = 60.0  # what a kill may cost, where inputs take long


def main(words: list[str]) -> int:
    """Go on with a campaign, or tell of it."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; else all")
    parser.add_argument("--goal", type=int, help="inputs a kind [20000; plans 10000, runs 1000]")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--out", type=Path, default=Path("runs") / "fuzz")
    parser.add_argument("--again", type=int, metavar="NUMBER", help="this one alone, told in full")
    parser.add_argument("--report", action="store_true", help="say what there is so far")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    unknown = [name for name in given.kinds if name not in KINDS]
    if unknown:
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    book, kinds = Book(given.out), [KINDS[name] for name in given.kinds or KINDS]
    if given.report:
        return _tell(book, as_json=given.json)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        own_folders(Path(scratch))
        warmed = _Warmed(given.out / "seeds", Path(scratch))
        if given.again is not None:
            return _again([warmed(kind) for kind in kinds], given.seed, given.again)
        _campaign(book, kinds, warmed, given)
    return _tell(book, as_json=given.json)


class _Warmed:
    """Warms each kind when it is first its turn."""

    def __init__(self, seeds: Path, scratch: Path) -> None:
        self._folders, self._names = (seeds, scratch), set[str]()

    def __call__(self, kind: Kind) -> Kind:
        if kind.name not in self._names:
            kind.warm(*self._folders)
            self._names.add(kind.name)
        return kind


def _campaign(book: Book, kinds: list[Kind], warmed: _Warmed, given: argparse.Namespace) -> None:
    """Give each kind a batch in turn until the goals or the time are reached."""
    until, code = time.monotonic() + 60 * given.minutes, commit()
    left = list(kinds)
    while left and time.monotonic() < until:
        for kind in list(left):
            goal = given.goal or _GOALS.get(kind.name, 20_000)
            first = book.next_number(kind.name, given.seed)
            if first >= goal:
                left.remove(kind)
                continue
            if time.monotonic() >= until:
                break
            numbers = range(first, min(first + _BATCH, goal))
            turn = min(until, time.monotonic() + _TURN_SECONDS)
            book.keep(kind.name, given.seed, code, _batch(warmed(kind), given.seed, numbers, turn))


def _batch(kind: Kind, seed: str, numbers: range, until: float) -> list[Tried]:
    """Attempt numbers until the time is up; whatever came of the first is told."""
    results: list[Tried] = []
    with closing(tried(kind, seed, numbers)) as attempts:
        for result in attempts:
            results.append(result)
            if result.why:
                _say(kind.name, seed, result.number, result.why)
            if time.monotonic() >= until:
                break
    return results


def _say(kind: str, seed: str, number: int, why: str) -> None:
    print(f"{kind} --seed {seed} --again {number}: {why}", file=sys.stderr, flush=True)


def _again(kinds: list[Kind], seed: str, number: int) -> int:
    failed = False
    for kind in kinds:
        for result in tried(kind, seed, range(number, number + 1)):
            print(f"{kind.name} {number}: {result}")
            failed = failed or bool(result.why)
    return int(failed)


def _tell(book: Book, *, as_json: bool) -> int:
    rows, failures = book.report(), book.failures()
    if as_json:
        print(json.dumps({"kinds": rows, "failures": failures}, indent=1))
        return int(bool(failures))
    print(table(rows))
    for row in failures:
        place = f"{row['kind']} --seed {row['seed']} --again {row['number']}"
        print(f"{row['times']} x {row['why']}\n    {place}   (code of {row['code']})")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
