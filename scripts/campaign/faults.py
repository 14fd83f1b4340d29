"""The n-th file operation of a command fails, n from 1 until the command completes."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from scripts.campaign.cases import OUT, TINY, fill
from scripts.campaign.forks import Disk, Ended, command, new_disk
from scripts.campaign.judged import error_of, products_of, read_json
from scripts.campaign.kills import fresh
from scripts.campaign.results import Results
from scripts.campaign.seam import REPLACE, Fault, Shim

_SMALL = "-i steps=2 -i size=32*32 -i frames=5 --device cpu --vram 64MiB --exact --json"
_MODEL = "--weights model"
FAULTS = {
    "write-full": Fault(("write",), errno.ENOSPC),
    "write-full-on": Fault(("write",), errno.ENOSPC, stays=True),
    "write-broken": Fault(("write",), errno.EIO),
    "rename-broken": Fault(("rename",), errno.EIO),
    "fsync-broken": Fault(("fsync",), errno.EIO),
    "create-full": Fault(("create",), errno.ENOSPC),
    "create-denied": Fault(("create",), errno.EACCES),
    "open-denied": Fault(("open",), errno.EACCES),
    "open-broken": Fault(("open",), errno.EIO),
    "open-replaced": Fault(("open",), REPLACE),
    "read-broken": Fault(("read",), errno.EIO),
    "mmap-broken": Fault(("mmap",), errno.EIO),
    "mmap-full": Fault(("mmap",), errno.ENOMEM),
}
_CODES = {0, 1, 2, 4}
_KEPT = ("model", "picture.png", "clip.mp4", "rows.jsonl", "done")  # what commands only read


@attrs.frozen
class Job:
    """A command; `makes` is what it is for, and `folder` says that this is a run folder."""

    words: str
    makes: str
    folder: bool = False
    repeats: bool = True  # the same bytes each time

    def next(self, disk: Disk) -> list[str]:
        """What a person would type after it failed."""
        there = disk.work / self.makes
        begun = any((there / name).exists() for name in ("request.json", "batch-request.json"))
        if self.folder and begun:
            return ["resume", self.makes, "--json"]
        return [*self.words.split(), *(["--force"] if self.folder else [])]


JOBS = {
    "run": Job(f"run t2v-tiny {_SMALL} {_MODEL} --out {OUT}", OUT, folder=True),
    "resume": Job(f"resume {OUT} --json", OUT, folder=True),
    "batch": Job(f"batch t2v-tiny rows.jsonl {_SMALL} {_MODEL} --out {OUT}", OUT, folder=True),
    "shrink": Job("models shrink model --to int8 --output small --json", "small"),
    "download": Job("models download Wan-AI/Wan2.1-Tiny --to got --json", "got"),
    "report": Job("trace report done -o report.html --no-advice --json", "report.html"),
    "export": Job("trace export done --to perfetto -o out.json --json", "out.json"),
}


def digests(path: Path) -> dict[str, str]:
    """Digest a file, or all files of a folder."""
    files = [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]
    return {
        str(file.relative_to(path.parent)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if ".cache" not in file.parts and file.name != "lock"
    }


@attrs.define
class Faults:
    """All faults of all commands, on disks below a folder."""

    folder: Path
    shim: Shim
    _hub: str = attrs.field(default="", init=False)
    _bases: dict[str, tuple[Disk, dict[str, str]]] = attrs.field(factory=dict, init=False)

    def run(self, pairs: list[tuple[str, str]], first: int, step: int, most: int) -> int:
        """Fail operation *first*, then every *step*-th, *most* of them; how many are wrong."""
        with self._serving():
            return sum(self._all(job, fault, first, step, most) for job, fault in pairs)

    def _all(self, name: str, fault: str, first: int, step: int, most: int) -> int:
        results = Results(self.folder / "faults.jsonl")
        rows = {row["key"]: row for row in results.rows()}
        wrong = 0
        for number in range(first, first + step * most, step):
            key = f"faults {name} {fault} {number}"
            row = rows.get(key) or self._one(name, fault, number, key)
            if key not in rows:
                results.add(row)
                wrong += bool(row["problems"])
            if not row["stops"]:
                break  # it completed: there is no such operation
        return wrong

    def _one(self, name: str, fault: str, number: int, key: str) -> dict[str, object]:
        template, whole = self._base(name)
        disk = template.copy(self.folder / "disks" / "fault")
        job = JOBS[name]
        self.shim.reset()
        ended = self._command(
            job.words.split(), disk, lambda: self.shim.arm([disk.root], FAULTS[fault], number)
        )
        hits, last = self.shim.hits, self.shim.last
        problems = self._judge(job, disk, ended, whole)
        if hits:
            problems += self._go_on(job, disk, template, whole, ended)
        if problems:
            disk.copy(self.folder / "wrong" / key.replace(" ", "-"))
        return {
            "key": key, "kind": "faults", "case": f"{name} {fault}", "n": number,
            "at": last.replace(str(disk.root.resolve()), ""), "codes": [str(ended.code)],
            "said": (error_of(ended) or {}).get("message", ""), "stops": int(bool(hits)),
            "problems": problems,
            "again": f"python -m scripts.campaign faults --only {name} --fault {fault}"
            f" --first {number} --count 1 --out ANOTHER",
        }  # fmt: skip

    def _judge(self, job: Job, disk: Disk, ended: Ended, whole: dict[str, str]) -> list[str]:
        """One message, a code of ours, and nothing half-visible."""
        problems = []
        if ended.code not in _CODES:
            problems.append(f"exit {ended.code}: {ended.err[-400:]}")
        elif ended.code and error_of(ended) is None:
            problems.append(f"exit {ended.code} without one message: {ended.err[-400:]!r}")
        if ended.code == 0 and self._made(job, disk) != whole:
            problems.append("exit 0, and what was made is not what is made without the fault")
        if ended.code:
            problems += self._half(job, disk, whole)
        return problems

    def _half(self, job: Job, disk: Disk, whole: dict[str, str]) -> list[str]:
        """What of a command that failed can be taken for whole and isn't."""
        made = self._made(job, disk)
        problems = [f"{n} is half there" for n, d in made.items() if whole.get(n, d) != d]
        reports = (disk.work / job.makes).rglob("*.json") if job.folder else ()
        return problems + [f"{p.name} is half there" for p in reports if read_json(p) is None]

    def _go_on(
        self, job: Job, disk: Disk, template: Disk, whole: dict[str, str], before: Ended
    ) -> list[str]:
        """Do what one would do next, with the fault gone and what was read as it was."""
        for name in _KEPT:
            _put_back(template.work / name, disk.work / name)
        ended = self._command(job.next(disk), disk, lambda: None)
        if ended.code == 2 and job.folder and before.code in (0, 2):
            # A file of the run itself was replaced: that is refused, and it is run anew.
            base = JOBS["run"] if job is JOBS["resume"] else job
            ended = self._command([*base.words.split(), "--force"], disk, lambda: None)
        if ended.code:
            return [f"going on: exit {ended.code}: {ended.err[-400:]}"]
        if self._made(job, disk) != whole:
            return ["going on made something else"]
        left = [p.name for p in disk.work.rglob("*") if ".part" in p.name and "got" not in p.parts]
        return [f"left over: {left}"] if left else []

    def _made(self, job: Job, disk: Disk) -> dict[str, str]:
        path = disk.work / job.makes
        return products_of(path) if job.folder else digests(path)

    def _base(self, name: str) -> tuple[Disk, dict[str, str]]:
        """Make the disk that a command begins on, its caches warm, and see what it makes."""
        if name not in self._bases:
            disk = new_disk(fresh(self.folder / "disks" / f"base-{name}"))
            fill(disk)
            shutil.copytree(TINY, disk.work / "model")
            job, run = JOBS[name], JOBS["run"].words.split()
            self._prepare(name, disk, run)
            template = disk.copy(self.folder / "disks" / f"template-{name}")
            ended = self._command(job.words.split(), disk, lambda: None)
            if ended.code:
                raise SystemExit(f"{job.words}: exit {ended.code}: {ended.err}")
            for folder in ("config", "cache"):
                _put_back(disk.root / folder, template.root / folder)
            self._bases[name] = template, self._made(job, disk)
        return self._bases[name]

    def _prepare(self, name: str, disk: Disk, run: list[str]) -> None:
        if name == "resume":
            self._command([*run, "--until", "denoise:1"], disk, lambda: None)
        if name in {"report", "export"}:
            self._command([*run[:-1], "done"], disk, lambda: None)

    def _command(self, words: list[str], disk: Disk, before: Callable[[], None]) -> Ended:
        def point_and_arm() -> None:
            if words[:2] == ["models", "download"]:
                _point_at(self._hub)
            before()

        return command(words, disk, point_and_arm)

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """Serve the tiny model as the hub would, in a process of its own."""
        hub = importlib.import_module("tests.hub")
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            with hub.serving(TINY) as served:
                os.write(writer, served.url.encode())
                os.close(writer)
                signal.pause()
            os._exit(0)
        os.close(writer)
        try:
            self._hub = os.read(reader, 200).decode()
            yield
        finally:
            os.close(reader)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _point_at(url: str) -> None:
    from huggingface_hub import constants

    constants.ENDPOINT = url
    constants.HUGGINGFACE_CO_URL_TEMPLATE = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"


def _put_back(source: Path, to: Path) -> None:
    if to.is_dir():
        shutil.rmtree(to)
    if source.is_dir():
        shutil.copytree(source, to)
    elif source.exists():
        shutil.copy2(source, to)
