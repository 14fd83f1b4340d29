"""The n-th file operation of a command fails, n from 1 until the command completes."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from scripts.campaign.cases import fill
from scripts.campaign.fault_jobs import FAULTS, JOBS, Job, Walk
from scripts.campaign.forks import TINY, WORK, Disk, Ended, command, new_disk, warm_models
from scripts.campaign.judged import error_of, products_of, read_json
from scripts.campaign.kills import fresh
from scripts.campaign.results import Results
from scripts.campaign.seam import KINDS, REPLACE, Fault, Shim

_CODES = {0, 1, 2, 4}
_OF_STEPS = ("preview.png", "preview.webp")  # a run that is made anew need not have them
_KEPT = ("model", "picture.png", "clip.mp4", "rows.jsonl", "done")  # what commands only read


def _is_told(ended: Ended) -> bool:
    """Whether a command that failed said why: in one error, by row of a batch, by part."""
    if error_of(ended) is not None:
        return True
    try:
        told = json.loads(ended.out)
    except ValueError:
        return False
    rows = told.get("failures", []) + told.get("inspected", {}).get("parts", [])
    return any(row.get("error") or row.get("problem") for row in rows)


def digests(path: Path) -> dict[str, str]:
    """Digest a file, or all files of a folder."""
    files = [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]
    return {
        str(file.relative_to(path.parent)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if ".wanflow" not in file.parts and file.name != "lock"
    }


@attrs.frozen
class Base:
    """What a command begins on, what it makes, and its operations by kind."""

    template: Disk
    whole: dict[str, str]
    seen: dict[str, int]


@attrs.define
class Faults:
    """All faults of all commands, on disks below a folder."""

    folder: Path
    shim: Shim
    _hub: str = attrs.field(default="", init=False)
    _cpu_seconds: float = attrs.field(default=0.0, init=False)
    _bases: dict[str, Base] = attrs.field(factory=dict, init=False)

    def run(self, pairs: list[tuple[str, str]], walk: Walk) -> int:
        """Fail the operations of a walk in each pair of command and fault; how many are wrong."""
        if any(JOBS[job].words.startswith("models") for job, _ in pairs):
            warm_models()
        with self._serving():
            return sum(self._all(job, fault, walk) for job, fault in pairs)

    def _all(self, name: str, fault: str, walk: Walk) -> int:
        results = Results(self.folder / "faults.jsonl")
        rows = {row["key"]: row for row in results.rows()}
        wrong = 0
        seen = self._base(name).seen if walk.spread else {}
        for number in walk.numbers(sum(seen.get(kind, 0) for kind in FAULTS[fault].kinds)):
            key = f"faults {name} {fault} {number}"
            row = rows.get(key) or self._one(name, fault, number, key)
            if key not in rows:
                results.add(row)
                wrong += bool(row["problems"])
            if not row["stops"]:
                break  # it completed: there is no such operation
        return wrong

    def _one(self, name: str, fault: str, number: int, key: str) -> dict[str, object]:
        base, job = self._base(name), JOBS[name]
        template, whole = base.template, base.whole
        disk = template.copy(self.folder / "disks" / "fault")
        self.shim.reset()
        self._cpu_seconds = 0.0
        ended = self._command(
            job.words.split(), disk, lambda: self.shim.arm([disk.root], FAULTS[fault], number)
        )
        hits, last = self.shim.hits, self.shim.last
        replaced = last.split(" ", 1)[-1] if FAULTS[fault].action == REPLACE else ""
        problems = self._judge(job, disk, ended, whole, Path(replaced).name)
        if replaced and _asks_nothing(replaced, job, number):
            problems = problems[: ended.code not in _CODES]
        elif hits:
            if "/config/" in replaced:  # what is read is put back; what is kept must be seen
                _put_back(template.root / "config", disk.root / "config")
            problems += self._go_on(job, disk, template, whole, bool(replaced))
        if problems:
            disk.copy(self.folder / "wrong" / key.replace(" ", "-"))
        return {
            "key": key, "kind": "faults", "case": f"{name} {fault}", "n": number,
            "at": last.replace(str(disk.root.resolve()), ""), "codes": [str(ended.code)],
            "said": (error_of(ended) or {}).get("message", ""), "stops": int(bool(hits)),
            "cpu_seconds": round(self._cpu_seconds, 2),
            "problems": problems,
            "again": f"python -m scripts.campaign faults --only {name} --fault {fault}"
            f" --first {number} --count 1 --out ANOTHER",
        }  # fmt: skip

    def _judge(
        self, job: Job, disk: Disk, ended: Ended, whole: dict[str, str], replaced: str
    ) -> list[str]:
        """One message, a code of ours, and nothing half-visible."""
        problems = []
        if ended.code not in _CODES:
            problems.append(f"exit {ended.code}: {ended.err[-400:]}")
        elif ended.code and not _is_told(ended):
            problems.append(f"exit {ended.code} without one message: {ended.err[-400:]!r}")
        made, brought = self._made(job, disk), f"/{replaced}" if replaced else "*"
        other = {name for name in {*made, *whole} if made.get(name) != whole.get(name)}
        if ended.code == 0 and any(not f"/{name}".endswith(brought) for name in other):
            # A file beside weights is brought as it is, a damaged one too.
            problems.append("exit 0, and what was made is not what is made without the fault")
        if ended.code:
            halves = self._half(job, disk, whole)
            problems += [f"{name} is half there" for name in halves if name != replaced]
        return problems

    def _half(self, job: Job, disk: Disk, whole: dict[str, str]) -> list[str]:
        """What of a command that failed can be taken for whole and isn't, by name."""
        products = [
            n for n, digest in self._made(job, disk).items() if whole.get(n, digest) != digest
        ]
        reports = (disk.work / job.makes).rglob("*.json") if job.folder else ()
        return products + [path.name for path in reports if read_json(path) is None]

    def _go_on(
        self, job: Job, disk: Disk, template: Disk, whole: dict[str, str], replaced: bool
    ) -> list[str]:
        """Do what one would do next, with the fault gone and what was read as it was."""
        for name in _KEPT:
            _put_back(template.work / name, disk.work / name)
        ended = self._command(job.next(disk), disk, lambda: None)
        if ended.code and job.folder and replaced:
            # A file that the run goes on from is another one: that is told, and it is run anew.
            base = JOBS["run"] if job is JOBS["resume"] else job
            ended = self._command([*base.words.split(), "--force"], disk, lambda: None)
        if ended.code:
            return [f"going on: exit {ended.code}: {ended.err[-400:]}"]
        made = self._made(job, disk)
        wanted = {n: d for n, d in whole.items() if not (job.folder and n.endswith(_OF_STEPS))}
        if {**made, **wanted} != made or (made != whole and not job.folder):
            return ["going on made something else"]
        left = [p.name for p in disk.work.rglob("*") if ".part" in p.name and "got" not in p.parts]
        return [f"left over: {left}"] if left else []

    def _made(self, job: Job, disk: Disk) -> dict[str, str]:
        path = disk.work / job.makes
        return products_of(path) if job.folder else digests(path)

    def _base(self, name: str) -> Base:
        """Make the disk that a command begins on, its caches warm, and see what it makes."""
        if name not in self._bases:
            disk = self._begun(name)
            job, run = JOBS[name], JOBS["run"].words.split()
            self._prepare(name, disk, run)
            template = disk.copy(self.folder / "disks" / f"template-{name}")
            self.shim.reset()
            count = lambda: self.shim.arm([disk.root], Fault(KINDS, 0), 0)  # noqa: E731
            ended = self._command(job.words.split(), disk, count)
            if ended.code:
                raise SystemExit(f"{job.words}: exit {ended.code}: {ended.err}")
            for folder in ("config", "cache"):
                _put_back(disk.root / folder, template.root / folder)
            self._bases[name] = Base(template, self._made(job, disk), self.shim.seen())
        return self._bases[name]

    def _begun(self, name: str) -> Disk:
        """Make a disk with what commands read; the caches of others than `run` are warm by it."""
        root = fresh(self.folder / "disks" / f"base-{name}")
        if name != "run":
            return self._base("run").template.copy(root)
        disk = new_disk(root)
        fill(disk)
        shutil.copytree(TINY, disk.work / "model")
        return disk

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

        ended = command(words, disk, point_and_arm)
        self._cpu_seconds += ended.cpu_seconds
        return ended

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


def _asks_nothing(replaced: str, job: Job, number: int) -> bool:
    """Whether nothing can be asked of what was made where operation *number* met a replaced file.

    That is what was made, whole until then; a name that only the command has; a trace that nobody
    had opened yet: what is made is of the one that is there.
    """
    made = f"/{WORK}/{job.makes}/" in replaced and not job.folder
    unread = number == 1 and replaced.endswith("/trace.msgpack") and not job.folder
    return made or unread or replaced.endswith(".part")


def _put_back(source: Path, to: Path) -> None:
    if to.is_dir():
        shutil.rmtree(to)
    if source.is_dir():
        shutil.copytree(source, to)
    elif source.exists():
        shutil.copy2(source, to)
