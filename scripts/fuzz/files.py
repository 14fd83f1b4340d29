"""Kinds of files: where one lies, who reads it, and which exit codes are right for a bad one."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from scripts.fuzz import formats, readers
from scripts.fuzz.attempt import Ended, command, judged
from scripts.fuzz.damage import damaged
from scripts.fuzz.formats import Mutate, mixed
from scripts.fuzz.seeds import REFUSED, seeds_of

Put = Callable[[Path, str], Path]
_INSPECTED = 0.2


@attrs.frozen
class Asked:
    """A command line; where there is a `reader` it takes the place of the command.

    A command that `answers` says on stdout what is wrong with a file.
    """

    words: list[str]
    reader: Callable[[list[str]], int] | None = None
    answers: bool = False


@attrs.frozen
class FileKind:
    """A kind of file. `put` says where one lies in a scratch folder, by its seed's name.

    `ask` chooses who reads it; `codes` are right of a bad one.
    """

    name: str
    mutate: Mutate
    ask: Callable[[random.Random, Path], Asked]
    codes: tuple[int, ...]
    put: Put = lambda scratch, seed: scratch / seed
    _seeds: dict[str, bytes] = attrs.field(factory=dict)

    def warm(self, seeds: Path, scratch: Path) -> None:
        """Read every seed as it is: what is changed must have been sound."""
        for name, data in seeds_of(self.name, seeds).items():
            self._seeds[name] = data
            for number in range(2):  # of those who may read it: chance has either come first
                ended = self.read(random.Random(number), scratch, name, data)
                taken = ended.label in ("0", "4 answered") or name in REFUSED
                assert taken, f"{self.name} {name}: {ended}"
                assert not ended.why, f"{self.name} {name}: {ended}"

    def attempt(self, rng: random.Random, scratch: Path) -> Ended:
        """Change a seed and read it."""
        name = rng.choice(sorted(self._seeds))
        data = self.mutate(rng, self._seeds[name])
        return self.read(rng, scratch, name, data, as_json=rng.random() < 0.5)

    @property
    def seeds(self) -> Mapping[str, bytes]:
        """What was sound, once it is warm."""
        return self._seeds

    def read(
        self, rng: random.Random, scratch: Path, name: str, data: bytes, *, as_json: bool = False
    ) -> Ended:
        """Have *data* read in the place of a seed, by one that *rng* chooses, and judge it."""
        path = self.put(scratch, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        asked = self.ask(rng, path)
        said = command([*asked.words, *(["--json"] if as_json else [])], asked.reader)
        return judged(said, self.codes, as_json=as_json, answers=asked.answers)


Ask = Callable[[random.Random, Path], Asked]


def _inspected(reader: Callable[[list[str]], int]) -> Ask:
    """By a reader mostly: `models inspect` goes through every shipped graph."""

    def ask(rng: random.Random, path: Path) -> Asked:
        if rng.random() < _INSPECTED:
            return Asked(["models", "inspect", str(path)], answers=True)
        return Asked([str(path)], reader)

    return ask


def _by(reader: Callable[[list[str]], int]) -> Ask:
    return lambda _rng, path: Asked([str(path)], reader)


def _graph(rng: random.Random, path: Path) -> Asked:
    return Asked(["graph", rng.choice(("check", "show")), str(path)])


_VIEWS = ("check", "summary", "events", "stages", "timeline", "peak", "replay")


def _trace(rng: random.Random, path: Path) -> Asked:
    view = rng.choice(_VIEWS)
    return Asked(["trace", view, str(path)], answers=view == "check")


def _config(rng: random.Random, path: Path) -> Asked:
    if rng.random() < _INSPECTED:
        return Asked(["models", "inspect", str(readers.model_of(path))], answers=True)
    return Asked([str(path)], readers.config)


def _machine(_rng: random.Random, path: Path) -> Asked:
    return Asked(["machine", "show", path.stem])


_weights, _preview = _inspected(readers.weights), _by(readers.preview)
FILES: tuple[FileKind, ...] = (
    FileKind("graph", mixed(formats.yaml_tree), _graph, (0, 2)),
    FileKind("trace", mixed(formats.trace_frames), _trace, (0, 2, 3, 4)),
    FileKind("safetensors", mixed(formats.safetensors_header), _weights, (0, 4)),
    FileKind("pth", mixed(formats.torch_archive), _weights, (0, 4)),
    FileKind("gguf", mixed(formats.gguf_head), _weights, (0, 4)),
    FileKind("lora", mixed(formats.safetensors_header), _inspected(readers.lora), (0, 4)),
    FileKind("config", mixed(formats.json_tree), _config, (0, 2, 4), readers.put_config),
    FileKind("tokenizer", mixed(formats.json_tree), _by(readers.tokenizer), (0, 4)),
    FileKind("picture", damaged, _by(readers.picture), (0, 2)),
    FileKind("video", damaged, _by(readers.video), (0, 2)),
    FileKind("machine", mixed(formats.json_tree), _machine, (0, 2), readers.put_machine),
    FileKind("rows", mixed(formats.rows), _by(readers.rows), (0, 2)),
    FileKind("scenarios", mixed(formats.yaml_tree), _by(readers.scenarios), (0, 2)),
    FileKind(
        "preview", mixed(formats.json_tree), _by(readers.preview), (0, 2), readers.put_preview
    ),
)
