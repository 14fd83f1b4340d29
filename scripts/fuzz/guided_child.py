"""A kind of file under atheris: `python -m scripts.fuzz.guided_child KIND OUT SCRATCH RUNS [FILE]`.

An input is a byte that chooses a seed, for its place and its name, and the file. Half of the
changes are those of the kind, which know its format, the other half libFuzzer's.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import atheris
import attrs

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from scripts.fuzz.guided import SEED, SUFFIX
from scripts.fuzz.kept import Book, commit
from scripts.fuzz.warm import Tried, bound, measured, own_folders

if TYPE_CHECKING:
    from scripts.fuzz.files import FileKind

_BATCH = 250
_HANGS_SECONDS = 120  # of the clock, as where nothing guides


@attrs.define
class Inputs:
    """Reads each input and counts it; what fails is kept beside the counts."""

    kind: FileKind
    book: Book
    scratch: Path
    first: int
    runs: int
    code: str
    _names: list[str] = attrs.field(init=False)
    _tried: list[Tried] = attrs.field(factory=list)
    _done: int = 0

    @_names.default
    def _sorted_names(self) -> list[str]:
        return sorted(self.kind.seeds)

    def seeds(self) -> Iterator[bytes]:
        """The sound files, as inputs."""
        for number, name in enumerate(self._names):
            yield bytes([number]) + self.kind.seeds[name]

    def read(self, data: bytes) -> Tried:
        """Have one read; who reads it is decided by its bytes."""
        name = self._names[(data[0] if data else 0) % len(self._names)]
        rng, number = random.Random(data), self.first + self._done
        return measured(number, partial(self.kind.read, rng, self.scratch, name, data[1:]))

    def take(self, data: bytes) -> None:
        """Read one and count it."""
        if self._done == self.runs:  # the fuzzer gives its own seeds on top
            return
        faulthandler.dump_traceback_later(_HANGS_SECONDS, exit=True)
        tried = self.read(data)
        faulthandler.cancel_dump_traceback_later()
        self._done += 1
        self._tried.append(tried)
        if tried.why:
            path = self.book.folder / "guided" / self.kind.name / f"failed-{tried.number}"
            path.write_bytes(data)
            print(f"{self.kind.name} --again {path}: {tried.why}", file=sys.stderr, flush=True)
        if len(self._tried) == _BATCH or self._done == self.runs:
            self.book.keep(self.kind.name + SUFFIX, SEED, self.code, self._tried)
            self._tried.clear()

    def changed(self, data: bytes, most_bytes: int, seed: int) -> bytes:
        """Change an input: by what the file means, where it does, or as the fuzzer does."""
        rng = random.Random(seed)
        if len(data) > 1 and rng.random() < 0.5:
            with suppress(Exception):
                return (data[:1] + self.kind.mutate(rng, data[1:]))[:most_bytes]
        return bytes(atheris.Mutate(data, most_bytes))


def main(words: list[str]) -> int:
    """Read inputs, as many as were asked for; libFuzzer ends the process."""
    name, out, scratch, runs, *again = words
    own_folders(Path(scratch))
    with atheris.instrument_imports(include=["wanflow"]):
        from scripts.all_of_wanflow import import_all
        from scripts.fuzz.files import FILES

        import_all()  # each is told on stderr, which an attempt looks at

        kind = next(kind for kind in FILES if kind.name == name)
        kind.warm(Path(out) / "seeds", Path(scratch))
    book = Book(Path(out))
    first = book.next_number(name + SUFFIX, SEED)
    inputs = Inputs(kind, book, Path(scratch), first, int(runs), commit())
    if again:
        tried = inputs.read(Path(again[0]).read_bytes())
        print(f"{name}: {tried}")
        return int(bool(tried.why))
    _fuzz(inputs, Path(out) / "guided" / name, Path(scratch))
    return 0


def _fuzz(inputs: Inputs, folder: Path, scratch: Path) -> None:
    corpus, seeds = folder / "corpus", scratch / "sound"
    for path in (corpus, seeds):
        path.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs.seeds()):
        (seeds / str(number)).write_bytes(data)
    most = 2 * max(map(len, inputs.seeds()))
    options = [
        f"-runs={inputs.runs}", f"-max_len={most}", "-timeout=3600",  # 0 is a second
        "-rss_limit_mb=0", f"-artifact_prefix={folder}/", "-print_final_stats=1",
    ]  # fmt: skip
    bound()
    words = [sys.argv[0], *options, str(corpus), str(seeds)]
    atheris.Setup(words, inputs.take, custom_mutator=inputs.changed)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
