"""Runs that are killed at a random moment, and again while they go on; power cuts with it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs

from scripts.campaign.cases import CASES, OUT, Case, fill, make_model
from scripts.campaign.forks import Disk, Ended, command, new_disk
from scripts.campaign.judged import (
    Whole,
    differences,
    error_of,
    is_done,
    unread_traces,
    whole_of,
)
from scripts.campaign.results import Results
from scripts.campaign.seam import KILL, KINDS, Fault, Shim, kill_after
from scripts.campaign.unsynced import Synced

_AGAIN = 0.35  # how often what goes on is killed too
_MOST = 6  # commands of one trial
_COUNTED = Fault(KINDS, 0)
_KILLED = Fault(("write", "rename", "fsync", "create"), KILL)


@attrs.define
class Trial:
    """One run and all its kills, decided by a seed."""

    case: Case
    seed: int
    disk: Disk
    whole: Whole
    models: Path
    shim: Shim
    power: bool
    problems: list[str] = attrs.field(factory=list)
    codes: list[str] = attrs.field(factory=list)
    stops: int = 0

    def make(self) -> None:
        """Kill and go on until all is made."""
        choice = random.Random(f"{self.case.name} {self.seed}")  # noqa: S311 - moments, not secrets
        synced = Synced(self.disk)
        if self.power:
            synced.begin()
        words = self.case.command(self.models)
        for number in range(_MOST):
            is_last = number == _MOST - 1 or (number > 0 and choice.random() > _AGAIN)
            ended = command(words, self.disk, self._arm(choice, synced, kills=not is_last))
            self.codes.append(str(ended.code))
            if ended.code == KILL:
                self.stops += 1
                if self.power:
                    synced.cut(choice)
            problems = unread_traces(self.disk.work / OUT, cut=self.power)
            self.problems += problems
            if ended.code == 0 and is_done(self.disk.work / OUT):
                break
            words = self._next(ended)
        self.problems += self._missing() or differences(self.disk, self.whole)
        synced.remove()

    def _missing(self) -> list[str]:
        return [] if is_done(self.disk.work / OUT) else [f"not done after {self.codes}"]

    def _next(self, ended: Ended) -> list[str]:
        """What a person would type now."""
        if ended.code not in (0, KILL):
            error = error_of(ended)
            said = str(error["message"]) if error else ended.err[:400]
            self.problems.append(f"exit {ended.code}: {said}")
            return [*self.case.command(self.models), "--force"]
        folder = self.disk.work / OUT
        if any((folder / name).exists() for name in ("request.json", "batch-request.json")):
            return ["resume", OUT, "--json"]
        return [*self.case.command(self.models), "--force"]

    def _arm(self, choice: random.Random, synced: Synced, *, kills: bool) -> Callable[[], None]:
        at_operation = choice.random() < 0.4
        operation = choice.randint(1, max(1, self.whole.operations))
        seconds = choice.uniform(0.0, self.whole.cpu_seconds)

        def before() -> None:
            if self.power:
                synced.listen()
            if not kills:
                return
            if at_operation:
                self.shim.arm([self.disk.root], _KILLED, operation)
            else:
                kill_after(seconds)

        self.shim.reset()
        return before


@attrs.define
class Kills:
    """Trials of all cases in turn, on disks below a folder."""

    folder: Path
    shim: Shim
    power: bool
    _whole: dict[str, tuple[Disk, Whole]]  # by case: what nobody stopped

    @property
    def kind(self) -> str:
        """What the lines of these trials are of."""
        return "cuts" if self.power else "kills"

    def run(self, names: list[str], first: int, count: int) -> int:
        """Make the trials that are missing of seeds *first* on; how many are wrong."""
        results = Results(self.folder / f"{self.kind}.jsonl")
        done, wrong = results.done(), 0
        for seed in range(first, first + count):
            case = CASES[names[seed % len(names)]]
            key = f"{self.kind} {case.name} {seed}"
            if key not in done:
                wrong += self._one(case, seed, key, results)
        return wrong

    def _one(self, case: Case, seed: int, key: str, results: Results) -> bool:
        template, whole = self.whole(case)
        disk = template.copy(self.folder / "disks" / self.kind)
        trial = Trial(case, seed, disk, whole, self.folder / "models", self.shim, self.power)
        trial.make()
        results.add({
            "key": key, "kind": self.kind, "case": case.name, "seed": seed,
            "codes": trial.codes, "stops": trial.stops, "problems": trial.problems,
            "again": f"python -m scripts.campaign {self.kind} --only {case.name} --seed {seed}"
            " --count 1 --out ANOTHER",
        })  # fmt: skip
        if not trial.problems:
            disk.remove()
        else:
            disk.copy(self.folder / "wrong" / key.replace(" ", "-"))
        return bool(trial.problems)

    def whole(self, case: Case) -> tuple[Disk, Whole]:
        """Run a case that nobody stops, once; the disk that its trials begin on."""
        if case.name not in self._whole:
            if case.model is not None:
                make_model(self.folder / "models", case.model[0], experts=case.model[1])
            disk = new_disk(fresh(self.folder / "disks" / case.name))
            fill(disk)
            template = disk
            for number in range(2):  # the second finds caches and what was learned
                template = disk.copy(fresh(self.folder / "disks" / f"{case.name}-{number}"))
                self.shim.reset()
                words = attrs.evolve(case, until="").command(self.folder / "models")
                ended = command(words, disk, self._counting(disk))
                seen = self.shim.seen()
                whole = whole_of(disk, ended, sum(seen[kind] for kind in _KILLED.kinds))
                if number == 0:
                    _forget_run(disk)
            self._whole[case.name] = template, whole
        return self._whole[case.name]

    def _counting(self, disk: Disk) -> Callable[[], None]:
        return lambda: self.shim.arm([disk.root], _COUNTED, 0)


def fresh(root: Path) -> Path:
    """Give a place for a disk where none is."""
    Disk(root).remove()
    return root


def _forget_run(disk: Disk) -> None:
    shutil.rmtree(disk.work / OUT)
